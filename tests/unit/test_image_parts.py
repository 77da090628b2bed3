"""Parts of the bake without root: package sources, the initial RAM disk, filters, stages."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from wsklab.image.bake_wine import _path_filters, _stage_of
from wsklab.image.debian import Source, find_mirror, parse_sources
from wsklab.image.initrd import InitrdError, cpio_archive, load_order, make_initrd
from wsklab.resources import images_root

_LINES = """\
# deb http://commented.invalid/debian bookworm main
deb http://one.invalid/debian bookworm main contrib # why
deb [arch=amd64 signed-by=/x] http://two.invalid/debian trixie main
deb-src http://one.invalid/debian bookworm main
deb http://sec.invalid/debian-security bookworm-security main
"""

_DEB822 = """\
Types: deb deb-src
# a comment between fields
URIs: http://one.invalid/debian
Suites: bookworm bookworm-updates
Components: main
 contrib

Types: deb
URIs: http://off.invalid/debian
Suites: bookworm
Components: main
Enabled: no
"""


def test_both_formats_of_package_sources_are_read() -> None:
    """Comments, options, disabled and source entries are left out."""
    lines = list(parse_sources(_LINES, deb822=False))
    assert lines[0] == Source("http://one.invalid/debian", "bookworm", ("main", "contrib"))
    assert [source.suite for source in lines] == ["bookworm", "trixie", "bookworm-security"]
    stanzas = list(parse_sources(_DEB822, deb822=True))
    assert [(source.suite, source.components) for source in stanzas] == [
        ("bookworm", ("main", "contrib")),
        ("bookworm-updates", ("main", "contrib")),
    ]


def test_the_mirror_is_the_hosts_own(tmp_path: Path) -> None:
    """A source of the wanted suite goes first; another suite of Debian will do; an Ubuntu host has none."""
    (tmp_path / "sources.list").write_text(_LINES)
    assert find_mirror("trixie", tmp_path) == "http://two.invalid/debian"
    assert find_mirror("bookworm", tmp_path) == "http://one.invalid/debian"
    assert find_mirror("forky", tmp_path) == "http://one.invalid/debian"
    (tmp_path / "sources.list").write_text("deb http://ubuntu.invalid/ubuntu noble main\n")
    assert find_mirror("bookworm", tmp_path) is None
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(_DEB822)
    assert find_mirror("bookworm", tmp_path) == "http://one.invalid/debian"


_DEP = """\
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
"""
_BUILTIN = "kernel/fs/ext4/ext4.ko\n"


def test_modules_come_after_what_they_need_and_once() -> None:
    """modules.dep lists the deepest need last; what is built in is left out."""
    order = load_order(_DEP, _BUILTIN, ["virtio_blk", "ext4", "virtio-net"], release="6")
    assert [Path(path).name for path in order] == [
        "virtio_ring.ko",
        "virtio.ko",
        "virtio_blk.ko",
        "virtio_net.ko.xz",
    ]


def test_a_module_that_does_not_exist_is_named() -> None:
    """A slip in a recipe stops the bake, not the guest's boot."""
    with pytest.raises(InitrdError, match="virtio_blob"):
        load_order(_DEP, _BUILTIN, ["virtio_blob"], release="6")


def test_the_archive_has_the_kernels_format() -> None:
    """newc: magic, hexadecimal sizes, name and content padded to four bytes, a trailer."""
    archive = cpio_archive([("init", 0o100755, b"hello")])
    assert archive[:6] == b"070701"
    assert int(archive[14:22], 16) == 0o100755
    assert int(archive[54:62], 16) == 5
    assert archive[110:116] == b"init\0\0"[:6]
    assert len(archive) % 4 == 0
    assert b"TRAILER!!!" in archive


def test_the_initial_ram_disk_holds_plain_modules_in_order(tmp_path: Path) -> None:
    """Compressed modules are unpacked; the same input gives the same bytes."""
    folder = tmp_path / "usr/lib/modules/6"
    for path in ("drivers/virtio/virtio.ko", "drivers/virtio/virtio_ring.ko", "drivers/block/virtio_blk.ko"):
        (folder / "kernel" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "kernel" / path).write_bytes(path.encode())
    (folder / "kernel/drivers/net").mkdir()
    (folder / "kernel/drivers/net/virtio_net.ko.xz").write_bytes(lzma.compress(b"plain net"))
    (folder / "modules.dep").write_text(_DEP)
    (folder / "modules.builtin").write_text(_BUILTIN)
    with pytest.raises(InitrdError, match="busybox"):
        make_initrd(tmp_path, "6", ["virtio_net"], b"init")
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "usr/bin/busybox").write_bytes(b"busybox")
    first = make_initrd(tmp_path, "6", ["virtio_net"], b"init")
    assert first == make_initrd(tmp_path, "6", ["virtio_net"], b"init")
    import gzip

    plain = gzip.decompress(first)
    assert b"plain net" in plain
    assert b"virtio_ring.ko\nvirtio.ko\nvirtio_net.ko\n" in plain
    with pytest.raises(InitrdError, match="kernel 7"):
        make_initrd(tmp_path, "7", [], b"init")


def test_the_windows_files_are_kept_by_name_after_all_are_excluded() -> None:
    """dpkg takes the last filter that fits: the kept names must come after the exclusion of the folder."""
    filters = _path_filters(images_root() / "common" / "wine")
    folder = "/usr/lib/x86_64-linux-gnu/wine/x86_64-windows"
    excluded = filters.index(f"path-exclude={folder}/*")
    for name in ("ntoskrnl.exe", "netio.sys", "hal.dll", "winedevice.exe", "services.exe", "sc.exe", "ws2_32.dll"):
        assert filters.index(f"path-include={folder}/{name}") > excluded


def test_the_stage_is_read_from_the_log(tmp_path: Path) -> None:
    """A user sees what a long bake does: mmdebstrap's words, then ours."""
    log = tmp_path / "log"
    assert _stage_of(log) == "package lists"
    log.write_text("I: downloading packages with apt...\nI: extracting archives...\nnoise\n")
    assert _stage_of(log) == "unpacking the base system"
    log.write_text(log.read_text() + "wsklab-stage: wine prefix\n")
    assert _stage_of(log) == "wine prefix"
