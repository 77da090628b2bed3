"""The initial RAM disk of a wine guest: busybox, a few kernel modules in load order, our `init`."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

__all__ = ["InitrdError", "cpio_archive", "load_order", "make_initrd"]


class InitrdError(ValueError):
    """The root file system lacks something that the initial RAM disk needs."""


def make_initrd(root: Path, release: str, modules: Sequence[str], init: bytes) -> bytes:
    """The archive, gzip-compressed.

    Args:
        root: the unpacked guest.
        release: the kernel's release, the name below `/lib/modules`.
        modules: modules to load, by name; dependencies come along, built-in ones are left out.
        init: the first program.

    Raises:
        InitrdError: a module or busybox is missing.
    """
    busybox = next((path for path in (root / "usr/bin/busybox", root / "bin/busybox") if path.is_file()), None)
    if busybox is None:
        raise InitrdError("busybox is not in the packages of the recipe")
    folder = root / "usr/lib/modules" / release
    if not folder.is_dir():
        raise InitrdError(f"there are no modules of kernel {release}")
    order = load_order(
        (folder / "modules.dep").read_text(), (folder / "modules.builtin").read_text(), modules, release=release
    )
    files: list[tuple[str, int, bytes]] = [
        (name, 0o40755, b"") for name in ("bin", "dev", "lib", "proc", "root", "sys")
    ]
    files.append(("bin/busybox", 0o100755, busybox.read_bytes()))
    files.append(("init", 0o100755, init))
    names = []
    for path in order:
        name = PurePosixPath(path).name.removesuffix(".xz")
        names.append(name)
        files.append((f"lib/{name}", 0o100644, _plain_module(folder / path)))
    files.append(("modules", 0o100644, "".join(f"{name}\n" for name in names).encode()))
    return gzip.compress(cpio_archive(files), compresslevel=6, mtime=0)


def load_order(dependencies: str, builtin: str, modules: Sequence[str], *, release: str) -> list[str]:
    """Paths of the modules to load, each after what it needs.

    Args:
        dependencies: content of `modules.dep` ("path: needed needed"; the last needed one is loaded first).
        builtin: content of `modules.builtin`.
        modules: wanted names.
        release: for the message.

    Raises:
        InitrdError: a wanted module does not exist.
    """
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    paths = {_module_name(path): path for path in needs}
    inside = {_module_name(path) for path in builtin.splitlines()}
    order: list[str] = []
    for module in modules:
        name = module.replace("-", "_")
        if name in inside:
            continue
        if name not in paths:
            raise InitrdError(f"kernel {release} has no module {module}")
        for path in [*reversed(needs[paths[name]]), paths[name]]:
            if path not in order:
                order.append(path)
    return order


def cpio_archive(files: Sequence[tuple[str, int, bytes]]) -> bytes:
    """A "newc" archive of (path, mode with type, content); the same input gives the same bytes."""
    archive = bytearray()
    for number, (name, mode, content) in enumerate([*files, ("TRAILER!!!", 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        archive += b"\0" * (-len(archive) % 4)
        archive += content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def _module_name(path: str) -> str:
    return PurePosixPath(path).name.split(".ko", 1)[0].replace("-", "_")


def _plain_module(path: Path) -> bytes:
    """A module's bytes; a compressed one is unpacked, because the loader in the RAM disk is simple."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InitrdError(f"the module {path.name} was not unpacked: {error}") from error
    return lzma.decompress(data) if path.name.endswith(".xz") else data
