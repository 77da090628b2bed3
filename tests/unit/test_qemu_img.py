"""Facts about disk images (real `qemu-img`, tiny files)."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab import qemu_img
from wsklab.deadline import Deadline
from wsklab.errors import ImageError
from wsklab.process import run


def _soon() -> Deadline:
    return Deadline.after(20)


def test_an_overlay_knows_its_backing_image_and_format(tmp_path: Path) -> None:
    """An overlay is as large as what is under it, and records path and format of that."""
    base, over = tmp_path / "base.qcow2", tmp_path / "over.qcow2"
    qemu_img.create_empty(base, 1 << 30, _soon())
    qemu_img.create_overlay(base, over, _soon())
    found = qemu_img.info(over, _soon())
    assert (found.format, found.virtual_size, found.backing) == ("qcow2", 1 << 30, base)
    assert found.actual_size < 1 << 20
    qemu_img.check(over, _soon())


def test_an_overlay_is_never_made_twice(tmp_path: Path) -> None:
    """An existing file is not overwritten."""
    base = tmp_path / "base.qcow2"
    qemu_img.create_empty(base, 1 << 20, _soon())
    with pytest.raises(ImageError, match="exists"):
        qemu_img.create_overlay(base, base, _soon())


def test_a_missing_image_is_an_image_error(tmp_path: Path) -> None:
    """The file is named, and the reason is qemu-img's."""
    with pytest.raises(ImageError, match="absent") as caught:
        qemu_img.info(tmp_path / "absent", _soon())
    assert "No such file" in caught.value.why


def test_damage_is_found(tmp_path: Path) -> None:
    """A qcow2 whose tables point nowhere fails the check."""
    image = tmp_path / "i.qcow2"
    qemu_img.create_empty(image, 1 << 30, _soon())
    data = bytearray(image.read_bytes())
    data[40:48] = (1 << 40).to_bytes(8, "big")  # offset of the L1 table: far behind the end
    image.write_bytes(data)
    with pytest.raises(ImageError):
        qemu_img.check(image, _soon())


def test_bytes_are_put_into_an_overlay_only(tmp_path: Path) -> None:
    """What the guest reads there is changed, the image under it is not."""
    base, overlay, flat = tmp_path / "base", tmp_path / "overlay.qcow2", tmp_path / "flat.qcow2"
    base.write_bytes(b"A" * 8192)
    qemu_img.create_overlay(base, overlay, _soon())
    qemu_img.patch(overlay, 2048, b"B" * 1024, _soon())
    qemu_img.compress(overlay, flat, _soon())
    raw = tmp_path / "raw"
    run(["qemu-img", "convert", "-O", "raw", str(flat), str(raw)], deadline=_soon())
    assert raw.read_bytes() == b"A" * 2048 + b"B" * 1024 + b"A" * 5120
    assert base.read_bytes() == b"A" * 8192
    assert qemu_img.info(flat, _soon()).backing is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "flat.qcow2", "overlay.qcow2", "raw"]


def test_bytes_that_cannot_be_put(tmp_path: Path) -> None:
    """Beyond the end: an error, and nothing is left behind."""
    path = tmp_path / "small.qcow2"
    qemu_img.create_empty(path, 4096, _soon())
    with pytest.raises(ImageError, match="cannot write into"):
        qemu_img.patch(path, 8192, b"B" * 512, _soon())
    assert [path.name for path in tmp_path.iterdir()] == ["small.qcow2"]
