"""Lab homes for tests: ids of their own, images from a home that is baked already, commands as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wsklab
from wsklab.config import ModeSetting, default_home
from wsklab.deadline import Deadline
from wsklab.home import Home
from wsklab.image.store import ImageStore
from wsklab.process import run
from wsklab.profile import load_profiles
from wsklab.resources import driver_source_root, images_root
from wsklab.toolchain import BuildResult, build_package

PROFILE = "wine-bookworm"
#: Where the package is; commands run elsewhere find it by PYTHONPATH.
SOURCE = Path(wsklab.__file__).resolve().parents[1]


def baked_home(*profiles: str) -> Home:
    """A home with the images of profiles for today's inputs: the user's own if it has them, else one kept for tests."""
    known = load_profiles(images_root())
    wanted = [known[name] for name in profiles or (PROFILE,)]
    own = default_home(ModeSetting.PRIVATE, os.environ, Path.home())
    kept = Path(tempfile.gettempdir()) / "wsklab-test-images"
    for root in (own, kept):
        if (root / "home.json").exists() and all(ImageStore(root / "images").find(profile) for profile in wanted):
            return Home.open(root)
    home = Home.open(kept)
    for profile in wanted:
        ImageStore(home.images).build(profile, deadline=Deadline.after(900))
    return home


def build_driver(*profiles: str) -> BuildResult:
    """Driver and wskctl, signed, in the home of the profiles' images; what it has built already is found again."""
    home = baked_home(*profiles)
    return build_package(driver_source_root(), home.driver, home.keys, Deadline.after(240))


def furnish(target: Path, *profiles: str) -> None:
    """Give a new home the keys, the images and the driver of the baked one, but not its id.

    The keys belong to the images' digests. Image files are linked: they are never written.
    """
    build_driver(*profiles)
    source = baked_home(*profiles)
    for name in profiles or (PROFILE,):
        image = ImageStore(source.images).find(load_profiles(images_root())[name])
        assert image is not None
        folder = target / "images" / name
        folder.mkdir(parents=True)
        shutil.copytree(image.directory, folder / image.digest, copy_function=_link)
    shutil.copytree(source.keys, target / "keys")
    (target / "keys").chmod(0o700)
    shutil.copytree(source.driver, target / "driver")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command of the lab gave."""

    code: int
    document: dict[str, Any]
    errors: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.errors, self.errors


class LabCommand:
    """`wsklab` in private mode on one home."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder

    @property
    def environ(self) -> Mapping[str, str]:
        """What a user would have exported."""
        variables = {"PYTHONPATH": str(SOURCE), "WSKLAB_HOME": str(self.home), "WSKLAB_MODE": "private"}
        return {**os.environ, **variables}

    def argv(self, *words: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "wsklab", *words]

    def run(self, *words: str, seconds: float = 120.0, env: Mapping[str, str] | None = None) -> Answer:
        """Run a command that was given `--json`."""
        result = run(
            self.argv(*words),
            deadline=Deadline.after(seconds), check=False, env={**self.environ, **(env or {})}, cwd=self.folder,
        )  # fmt: skip
        return Answer(result.exit_code, json.loads(result.stdout), result.stderr)

    def ok(self, *words: str, seconds: float = 120.0) -> dict[str, Any]:
        """Run a command that must succeed; its document."""
        answer = self.run(*words, seconds=seconds)
        assert answer.code == 0, answer
        return answer.document

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command at work, in a session of its own; output goes to files in the folder."""
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return subprocess.Popen(
                self.argv(*words),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(self.environ), cwd=self.folder,
                start_new_session=True,
            )  # fmt: skip

    def start_another(self, *words: str) -> subprocess.Popen[bytes]:
        """One more command at work beside that of `start`; its output is for `communicate`."""
        return subprocess.Popen(
            self.argv(*words),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(self.environ),
            cwd=self.folder, start_new_session=True,
        )  # fmt: skip

    def processes(self, program: str = "qemu-system") -> list[int]:
        """Processes of that program which have this home's guests on their command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if program.encode() in line and os.fsencode(self.home / "guests") in line:
                found.append(int(path.parent.name))
        return found

    def holder(self) -> int | None:
        """The process id of the home's private daemon, or None."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            ours = b"wsklab.hypervisor.holder" in words and os.fsencode(self.home / "private") in b" ".join(words)
            if ours and not words[0].endswith((b"unshare", b"setsid")):
                return int(path.parent.name)
        return None
