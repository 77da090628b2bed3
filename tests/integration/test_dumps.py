"""The chain of crash dumps: a real NTFS volume in a real overlay, synthetic dumps on it, real tools to read both."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypervisor_contract import spec_maker
from synthetic_dump import SyntheticDump

from wsklab import network, process, qemu_img
from wsklab.crash import Cause, CrashReport
from wsklab.deadline import Deadline, Timeouts
from wsklab.dumps import take_dump
from wsklab.errors import ChannelLost
from wsklab.evidence import Collector
from wsklab.guest import Guest, GuestRecord
from wsklab.hypervisor.fake import FakeHypervisor
from wsklab.hypervisor.protocol import DomainState

MIB = 1 << 20
FIRST = 2048
KERNEL, DRIVER = 0xFFFFF804_00000000, 0xFFFFF804_20000000
MACHINE = SyntheticDump(
    code=0xD1,
    parameters=(0x28, 2, 0, DRIVER + 0x1234),
    modules=[(KERNEL, 0x1000000, "ntoskrnl.exe"), (DRIVER, 0x8000, "wsklab.sys")],
    stack=[1, DRIVER + 0x2222],
    rip=KERNEL + 0x400,
)


def soon() -> Deadline:
    return Deadline.after(60)


def gone(*_: Any, **__: Any) -> Any:
    """A guest whose kernel stopped lets nobody in."""
    raise ChannelLost("cannot connect", why="refused")


def disk(folder: Path, files: Mapping[str, bytes]) -> None:
    """`overlay.qcow2` of a guest with these files on its one NTFS partition."""
    volume, mounted = folder / "volume", folder / "mounted"
    volume.write_bytes(bytes(24 * MIB))
    mounted.mkdir()
    process.run(["mkntfs", "--force", "--fast", "--quiet", volume], deadline=soon())
    process.run(["ntfs-3g", volume, mounted], deadline=soon())
    try:
        for name, data in files.items():
            (mounted / name).parent.mkdir(parents=True, exist_ok=True)
            (mounted / name).write_bytes(data)
    finally:
        process.run(["umount", mounted], deadline=soon())
    content = volume.read_bytes()
    raw = bytearray(FIRST * 512) + content
    struct.pack_into("<II", raw, 446 + 8, FIRST, len(content) // 512)
    raw[510:512] = b"\x55\xaa"
    (folder / "disk.raw").write_bytes(raw)
    process.run(["qemu-img", "convert", "-O", "qcow2", folder / "disk.raw", folder / "disk.qcow2"], deadline=soon())
    qemu_img.create_overlay(folder / "disk.qcow2", folder / "overlay.qcow2", soon())


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """A windows guest that has stopped and stands there."""
    folder = tmp_path / "guest"
    folder.mkdir()
    (folder / "console.log").touch()
    hypervisor = FakeHypervisor()
    spec = spec_maker("0123", tmp_path, None)()
    domain = hypervisor.define(spec)
    domain.start()
    hypervisor.panic(spec.uuid)
    record = GuestRecord(
        name="ws-1", profile="ws2022", kind="windows", uuid=spec.uuid, slot=10, mac="", address="192.0.2.1", image="",
        created="",
    )  # fmt: skip
    return Guest(
        record=record, directory=folder, domain=domain, via=network.Via(), key=folder / "key", opener=gone,
        timeouts=Timeouts(scale=1.0),
    )  # fmt: skip


def test_the_dump_that_says_most_is_taken(guest: Guest, tmp_path: Path) -> None:
    """The small dump has a stop code, MEMORY.DMP the modules as well; both are kept, every source is told."""
    disk(guest.directory, {"Windows/Minidump/112626-1.dmp": MACHINE.small(), "Windows/MEMORY.DMP": MACHINE.complete()})
    told: list[str] = []
    taken = take_dump(guest, tmp_path, soon(), tell=told.append)
    assert taken is not None
    assert taken.source == "MEMORY.DMP"
    assert str(taken.report.culprit) == "wsklab.sys+0x1234"
    assert [line.split(":")[0] for line in told] == ["host dump", "minidump", "MEMORY.DMP"]
    assert guest.domain.state() is DomainState.OFF
    assert {"minidump.dmp", "MEMORY.DMP"} <= {path.name for path in tmp_path.iterdir()}


def test_a_small_dump_is_better_than_none(guest: Guest, tmp_path: Path) -> None:
    """The guest had no room for the large one."""
    disk(guest.directory, {"Windows/Minidump/112626-1.dmp": MACHINE.small()})
    taken = take_dump(guest, tmp_path, soon(), tell=lambda _line: None)
    assert taken is not None
    assert taken.source == "minidump"
    assert taken.report.bugcheck.code == 0xD1


@pytest.mark.parametrize("files", [{}, {"Windows/MEMORY.DMP": b"PAGEDU64 and then nothing"}], ids=["none", "cut"])
def test_without_a_dump_every_reason_is_told(guest: Guest, tmp_path: Path, files: dict[str, bytes]) -> None:
    """The crash stays a crash; what was tried stands in the evidence."""
    disk(guest.directory, {"Windows/notepad.exe": b"", **files})
    told: list[str] = []
    assert take_dump(guest, tmp_path, soon(), tell=told.append) is None
    assert len(told) >= 3, told


def test_the_final_verdict_has_the_stop_and_its_place(guest: Guest, tmp_path: Path) -> None:
    """What the provisional verdict knew from an event alone, the evidence names: code, module, offset, bucket."""
    disk(guest.directory, {"Windows/MEMORY.DMP": MACHINE.complete()})
    first = CrashReport(cause=Cause.KERNEL_CRASH, reason="the guest's kernel died (the hypervisor reported a panic)")
    final = Collector(Timeouts(scale=0.2)).collect(guest, first, tmp_path / "evidence", capture=None)
    assert final is not None
    assert "0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL" in final.reason
    assert "in wsklab.sys+0x1234" in final.reason
    assert final.bucket == "0xD1 wsklab.sys+0x1200"
    assert final.final
    assert '"source": "MEMORY.DMP"' in (tmp_path / "evidence" / "dump.json").read_text()
