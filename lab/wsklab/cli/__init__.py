"""What the user types and reads.

Layer 4: the only place that parses arguments, prints, and turns errors into exit codes. Importing it is
cheap; a command imports what it needs when it runs.
"""

from wsklab.cli.main import main

__all__ = ["main"]
