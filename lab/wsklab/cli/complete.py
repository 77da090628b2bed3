"""What the shell offers when a name is being typed. It starts nothing and never fails: at worst it offers nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from wsklab.errors import LabError

__all__ = ["guest_names", "profile_names"]


def guest_names(incomplete: str) -> list[str]:
    """Names of guests in the home, from their records: no libvirt is asked, for a key press cannot wait for it."""
    from wsklab.cli.services import Services
    from wsklab.config import default_home, load_config

    try:
        config = load_config(environ=dict(os.environ), folder=Path.cwd(), user_home=Path.home())
        root = (config.home or default_home(Services().mode(config).mode, os.environ, Path.home())).expanduser()
        records = [json.loads(path.read_text()) for path in sorted((root / "guests").glob("*/guest.json"))]
        return [record["name"] for record in records if record["name"].startswith(incomplete)]
    except (LabError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def profile_names(incomplete: str) -> list[str]:
    """Names of profiles."""
    from wsklab.cli.services import Services

    try:
        return [name for name in Services().profiles() if name.startswith(incomplete)]
    except (LabError, OSError):
        return []
