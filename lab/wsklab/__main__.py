"""`python -m wsklab`: the command line."""

from wsklab.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
