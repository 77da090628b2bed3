"""How the commands reach the rest of the lab: one method per thing, imported when it is asked for.

This is the seam of the command tests: they hand the commands a subclass that answers with fakes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.config import LabConfig
    from wsklab.home import Home
    from wsklab.image.store import ImageStore
    from wsklab.mode import ModeChoice
    from wsklab.profile import GuestProfile

__all__ = ["Services"]


class Services:
    """The real thing."""

    def lab(self, config: LabConfig) -> AbstractContextManager[Lab]:
        """The assembled lab: hypervisor connected, expired leases enforced."""
        from wsklab.assemble import Lab

        return Lab(config)

    def mode(self, config: LabConfig) -> ModeChoice:
        """Which libvirt daemon serves the guests, and why."""
        from wsklab.mode import choose_mode, observe_host

        return choose_mode(config.mode, observe_host())

    def home(self, config: LabConfig) -> Home:
        """The lab's home, made when it is missing; no hypervisor is touched."""
        from wsklab.config import default_home
        from wsklab.home import Home

        root = config.home or default_home(self.mode(config).mode, os.environ, Path.home())
        return Home.open(root.expanduser().absolute())

    def profiles(self) -> Mapping[str, GuestProfile]:
        """Every guest profile by name."""
        from wsklab.profile import load_profiles
        from wsklab.resources import images_root

        return load_profiles(images_root())

    def store(self, config: LabConfig) -> ImageStore:
        """The image store of the lab's home."""
        from wsklab.image.store import ImageStore

        return ImageStore(self.home(config).images)
