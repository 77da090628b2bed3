"""Files out of a guest's disk that is off: a real NTFS volume behind a real partition table in a real overlay."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from wsklab import process, qemu_img
from wsklab.deadline import Deadline
from wsklab.errors import HostError
from wsklab.offline_disk import copy_out, find_volumes

MIB = 1 << 20
FIRST = 2048
LOG = b"setup did this\r\n" * 100


def soon() -> Deadline:
    return Deadline.after(60)


def partitioned(path: Path, volume: Path, *, gpt: bool) -> Path:
    """A raw disk with the volume as its only partition."""
    data = volume.read_bytes()
    sectors = len(data) // 512
    disk = bytearray(FIRST * 512) + data + bytes(MIB)
    if gpt:
        struct.pack_into("<8s", disk, 512, b"EFI PART")
        struct.pack_into("<QII", disk, 512 + 72, 2, 128, 128)
        struct.pack_into("<16s16sQQ", disk, 1024, b"\x01" * 16, b"\x02" * 16, FIRST, FIRST + sectors - 1)
    else:
        struct.pack_into("<II", disk, 446 + 8, FIRST, sectors)
    disk[510:512] = b"\x55\xaa"
    path.write_bytes(disk)
    return path


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NTFS volume with one file in its root, as `ntfscp` puts it there."""
    folder = tmp_path_factory.mktemp("ntfs")
    path, source = folder / "volume", folder / "source"
    path.write_bytes(bytes(16 * MIB))
    source.write_bytes(LOG)
    process.run(["mkntfs", "--force", "--fast", "--quiet", path], deadline=soon())
    process.run(["ntfscp", "--force", path, source, "setupact.log"], deadline=soon())
    return path


@pytest.mark.parametrize("gpt", [True, False], ids=["gpt", "mbr"])
def test_a_file_comes_out_of_an_overlay(tmp_path: Path, volume: Path, gpt: bool) -> None:
    """Through overlay, image, partition table and file system; the disk is not changed."""
    raw = partitioned(tmp_path / "disk.raw", volume, gpt=gpt)
    image, overlay = tmp_path / "disk.qcow2", tmp_path / "overlay.qcow2"
    process.run(["qemu-img", "convert", "-O", "qcow2", raw, image], deadline=soon())
    qemu_img.create_overlay(image, overlay, soon())
    before = overlay.read_bytes()
    target = tmp_path / "evidence" / "setupact.log"
    missing = copy_out(overlay, {"setupact.log": target, "Windows/MEMORY.DMP": tmp_path / "none"}, soon())
    assert target.read_bytes() == LOG
    assert list(missing) == ["Windows/MEMORY.DMP"]
    assert missing["Windows/MEMORY.DMP"]
    assert not (tmp_path / "none").exists()
    assert overlay.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["setupact.log"]


def test_a_file_over_the_limit_stays_where_it_is(tmp_path: Path, volume: Path) -> None:
    """A guest cannot fill the host's disk with a file of its own."""
    raw = partitioned(tmp_path / "disk.raw", volume, gpt=True)
    missing = copy_out(raw, {"setupact.log": tmp_path / "log"}, soon(), limit=100)
    assert missing == {"setupact.log": "it is larger than the limit"}
    assert not (tmp_path / "log").exists()


def test_a_disk_without_ntfs_says_so(tmp_path: Path) -> None:
    """An empty disk: Setup had not come so far."""
    path = tmp_path / "disk.qcow2"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], deadline=soon())
    assert find_volumes(path, soon()) == []
    with pytest.raises(HostError, match="no NTFS"):
        copy_out(path, {"x": tmp_path / "x"}, soon())


def test_tables_that_lie_are_bounded(tmp_path: Path) -> None:
    """A partition table from a guest: absurd numbers are no volume and no endless loop."""
    path = tmp_path / "disk.raw"
    disk = bytearray(4 * MIB)
    struct.pack_into("<8s", disk, 512, b"EFI PART")
    struct.pack_into("<QII", disk, 512 + 72, 2, 0xFFFFFFFF, 128)
    struct.pack_into("<16s16sQQ", disk, 1024, b"\x01" * 16, b"\x02" * 16, 0xFFFFFFFFFFFF, 0xFFFFFFFFFFFFFF)
    disk[510:512] = b"\x55\xaa"
    path.write_bytes(disk)
    assert find_volumes(path, soon()) == []
