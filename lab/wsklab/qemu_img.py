"""Disk images, by way of `qemu-img` and `qemu-io`. The only caller of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from wsklab.deadline import Deadline
from wsklab.errors import HostCommandError, ImageError
from wsklab.process import run

__all__ = ["ImageInfo", "check", "compress", "create_empty", "create_overlay", "flatten", "info", "patch"]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image is.

    Attributes:
        format: `qcow2`, `raw`, ...
        virtual_size: bytes that the guest sees.
        actual_size: bytes that it takes on the host's disk.
        backing: the image under it, as it is written in the file, or None.
    """

    format: str
    virtual_size: int
    actual_size: int
    backing: Path | None


def info(path: Path, deadline: Deadline) -> ImageInfo:
    """Describe an image; works while a guest uses it.

    Raises:
        ImageError: it is missing or not an image. HostCommandError: `qemu-img` is missing or hangs.
    """
    text = _qemu_img("info", path, ["info", "--force-share", "--output=json", str(path)], deadline)
    document = json.loads(text)
    backing = document.get("full-backing-filename") or document.get("backing-filename")
    return ImageInfo(
        format=str(document["format"]),
        virtual_size=int(document["virtual-size"]),
        actual_size=int(document.get("actual-size", 0)),
        backing=Path(backing) if backing else None,
    )


def create_overlay(backing: Path, target: Path, deadline: Deadline) -> None:
    """Make a qcow2 overlay on an image, which is never written afterwards.

    Raises:
        ImageError: the backing image is missing, or `target` exists or cannot be made.
    """
    if target.exists():
        raise ImageError(f"{target} exists already", why="an overlay is made once, for one guest")
    under = info(backing, deadline)
    # the format is recorded: guessing it from a guest's first bytes is a known security hole
    options = ["create", "-q", "-f", "qcow2", "-b", str(backing.absolute()), "-F", under.format, str(target)]
    _qemu_img("create an overlay on", backing, options, deadline)


def flatten(source: Path, base: Path, target: Path, deadline: Deadline) -> None:
    """Copy an overlay, whatever lies between it and `base`, into one new overlay directly on `base`.

    Raises:
        ImageError: `source` or `base` cannot be read, `target` exists or cannot be made.
    """
    if target.exists():
        raise ImageError(f"{target} exists already")
    options = ["convert", "-f", "qcow2", "-O", "qcow2", "-B", str(base.absolute()), "-F", "qcow2"]
    _qemu_img("flatten", source, [*options, str(source), str(target)], deadline)


def create_empty(target: Path, size_bytes: int, deadline: Deadline) -> None:
    """Make an empty qcow2 image of `size_bytes`.

    Raises:
        ImageError: it exists or cannot be made.
    """
    if target.exists():
        raise ImageError(f"{target} exists already")
    _qemu_img("create", target, ["create", "-q", "-f", "qcow2", str(target), str(size_bytes)], deadline)


def compress(source: Path, target: Path, deadline: Deadline) -> None:
    """Copy an image into a compressed qcow2 of its own.

    Raises:
        ImageError: `source` cannot be read, `target` cannot be made. DeadlineExceeded: it takes too long.
    """
    options = ["convert", "-c", "-o", "compression_type=zstd", "-O", "qcow2", str(source), str(target)]
    _qemu_img("compress", source, options, deadline)


def patch(path: Path, offset: int, content: bytes, deadline: Deadline) -> None:
    """Write bytes into a qcow2 image, as a guest would; offset and length are multiples of 512.

    Raises:
        ImageError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.patch")
    part.write_bytes(content)
    try:
        command = f"write -s {part} {offset} {len(content)}"
        result = run(["qemu-io", "-f", "qcow2", "-c", command, str(path)], deadline=deadline, check=False)
    finally:
        part.unlink()
    # qemu-io ends with 0 or 1, and says what it wrote
    if result.exit_code != 0 or f"wrote {len(content)}/{len(content)} bytes" not in result.stdout:
        raise ImageError(f"cannot write into {path}", why=(result.stderr or result.stdout).strip()[-300:])


def check(path: Path, deadline: Deadline) -> None:
    """Check an image's structure. Leaked clusters are no damage.

    Raises:
        ImageError: it is damaged, missing, or in use.
    """
    # 0: clean; 2: corrupt; 3: leaks only; 63: the format knows no checks (qemu-img(1), "check")
    result = run(["qemu-img", "check", "--output=json", str(path)], deadline=deadline, check=False)
    if result.exit_code in {0, 3, 63}:
        return
    raise ImageError(
        f"the image {path} is damaged" if result.exit_code == 2 else f"cannot check {path}",
        why=(result.stderr.strip() or result.stdout.strip() or f"exit status {result.exit_code}").splitlines()[0],
        fix="build it again",
        evidence={"stdout": result.stdout, "stderr": result.stderr},
    )


def _qemu_img(verb: str, path: Path, arguments: list[str], deadline: Deadline) -> str:
    try:
        return run(["qemu-img", *arguments], deadline=deadline).stdout
    except HostCommandError as error:
        if error.exit_code is None:
            raise
        raise ImageError(f"cannot {verb} {path}", why=error.why, evidence=error.evidence) from error
