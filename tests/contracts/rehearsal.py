"""Rehearsals of `image build` for a Windows: everything is real but the installation medium. See standin_medium.py.

Orchestration only: what passes here says nothing about Windows.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from standin_medium import Firmware, fetch_parts, make_medium, parts_folder
from windows_iso import SERVER_2022, wim

from wsklab.assemble import Lab
from wsklab.cli.output import Output
from wsklab.cli.services import Services
from wsklab.cli.windows_images import InstallWishes
from wsklab.config import load_config
from wsklab.image.install import Installer
from wsklab.image.install_watch import Limits
from wsklab.image.store import Image
from wsklab.profile import GuestProfile, load_profiles
from wsklab.resources import images_root


class _Lab(Lab):
    """A lab whose patience is a test's."""

    patience: Limits | None = None

    def installer(self, *args: Any, **settings: Any) -> Installer:
        return replace(super().installer(*args, **settings), limits=self.patience)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A lab home, emulated.

    Attributes:
        root: the home.
        place: a folder for media.
    """

    root: Path
    place: Path

    def lab(self, *, dialog_s: float = 180, hang_s: float = 300, mode: str = "private") -> _Lab:
        """An assembled lab; seconds are scaled by four, as everything under emulation, and enough for a host that is
        ten times slower than it should be."""
        options = {"home": self.root, "mode": mode, "acceleration": "tcg", "vcpus_per_core": 64}
        config = load_config(options=options, environ={}, file=None, folder=self.place, user_home=self.place)
        made = _Lab(config)
        # the stand-in starts a kernel before it asks: minutes on a busy host; and a pressed key is life on the screen
        made.patience = Limits(dialog_s=dialog_s, hang_s=hang_s, prompt_s=min(dialog_s, 60))
        return made

    def profile(self, firmware: Firmware) -> GuestProfile:
        """Server 2022, but small."""
        real = load_profiles(images_root())["ws2022"]
        assert real.windows_recipe is not None
        changes = {
            "name": f"rehearsal-{firmware}",
            "firmware": firmware,
            "memory_mib": 512,
            "vcpus": 1,
            "disk_gib": 1,
            "boot_budget_s": 240.0,
            "recipe": real.windows_recipe.model_copy(update={"install_budget_s": 900.0}),
        }
        return real.model_copy(update=changes)

    def medium(self, firmware: Firmware, variant: str) -> Path:
        """The medium, made once."""
        path = self.place / f"{firmware}-{variant}.iso"
        if not path.exists():
            make_medium(path, fetch_parts(parts_folder()), firmware, wim(SERVER_2022), variant=variant)
        return path

    def build(
        self, lab: Lab, firmware: Firmware, variant: str = "good", *, virtio: Path | None = None
    ) -> tuple[Image, list[str]]:
        """What `image build PROFILE --iso FILE --emulated` does; the image, and the lines of progress."""
        package = self.place / "OpenSSH-Win64"
        package.mkdir(exist_ok=True)
        (package / "sshd.exe").write_bytes(b"MZ")
        wishes = InstallWishes(iso=self.medium(firmware, variant), openssh=package, virtio=virtio, emulated=True)
        output = Output(stderr=(said := io.StringIO()))
        output.verbose = 1
        with redirect_stderr(said):
            image = Services().install_windows(lab, self.profile(firmware), wishes, output)
        return image, said.getvalue().splitlines()
