"""Facts about the acceleration probe (a script plays QEMU)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsklab.deadline import Deadline
from wsklab.domain_xml import Acceleration
from wsklab.errors import HostError
from wsklab.hypervisor.probe import ProbeResult, probe_acceleration

_PANIC = "echo '[1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)'"


class _Stage:
    """A directory with a QEMU that does what it is told, a kernel and a device."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin = root / "bin"
        self.bin.mkdir()
        self.kernel = root / "vmlinuz"
        self.kernel.write_bytes(b"kernel")
        self.device = root / "kvm"
        self.device.touch()
        self.cache = root / "cache"
        self.calls = root / "calls"
        self.calls.touch()
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")

    def qemu(self, *, tcg: str = _PANIC, kvm: str = _PANIC, version: str = "1") -> None:
        text = f"""#!/bin/sh
            case "$*" in
            *--version*) echo "QEMU emulator version {version}" ;;
            *"-accel kvm"*) echo kvm >> {self.calls}; {kvm} ;;
            *) echo tcg >> {self.calls}; {tcg} ;;
            esac
        """
        program = self.bin / "qemu-system-x86_64"
        program.write_text(text)
        program.chmod(0o755)

    def probe(self, *, reprobe: bool = False) -> ProbeResult:
        return probe_acceleration(
            self.kernel, self.cache, reprobe=reprobe, deadline=Deadline.after(20), device=self.device
        )

    def boots(self) -> list[str]:
        return self.calls.read_text().split()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Stage:
    return _Stage(tmp_path, monkeypatch)


def test_kvm_is_used_when_the_kernel_starts_on_it(stage: _Stage) -> None:
    """The panic for want of a root is the success."""
    stage.qemu()
    result = stage.probe()
    assert result.acceleration is Acceleration.KVM
    assert stage.boots() == ["tcg", "kvm"]


def test_a_kvm_that_hangs_costs_five_times_the_emulation(stage: _Stage) -> None:
    """No panic line within the limit: emulation, and the detail says so in one line."""
    stage.qemu(tcg=f"sleep 0.1; {_PANIC}", kvm="echo 'Probing EDD'; sleep 60")
    result = stage.probe()
    assert result.acceleration is Acceleration.TCG
    assert "Probing EDD" in result.detail
    assert "\n" not in result.detail
    assert result.seconds < 5


def test_a_qemu_that_aborts_on_kvm_is_told_apart_from_a_hang(stage: _Stage) -> None:
    """The status and the last line of QEMU are in the detail."""
    stage.qemu(kvm="echo 'Assertion failed' >&2; exit 134")
    result = stage.probe()
    assert result.acceleration is Acceleration.TCG
    assert "status 134, last line: Assertion failed" in result.detail


def test_without_a_device_nothing_is_booted(stage: _Stage) -> None:
    """No /dev/kvm: emulation at once."""
    stage.qemu()
    stage.device.unlink()
    assert stage.probe().acceleration is Acceleration.TCG
    assert stage.boots() == []


def test_a_kernel_that_never_boots_is_a_host_error(stage: _Stage) -> None:
    """When even emulation does not get there, the kernel or QEMU is broken, not KVM."""
    stage.qemu(tcg="echo rubbish; exit 1")
    with pytest.raises(HostError, match="vmlinuz") as caught:
        stage.probe()
    assert "rubbish" in caught.value.why


def test_the_answer_is_remembered_until_something_changes(stage: _Stage) -> None:
    """Same host boot, kernel, QEMU and device: no boot; another kernel, QEMU, device or a request: again."""
    stage.qemu()
    first = stage.probe()
    again = stage.probe()
    assert again.cached
    assert (again.acceleration, again.detail) == (first.acceleration, first.detail)
    assert len(stage.boots()) == 2
    stage.kernel.write_bytes(b"another")
    assert not stage.probe().cached
    stage.qemu(version="2")
    assert not stage.probe().cached
    stage.device.chmod(0o600)
    assert not stage.probe().cached
    assert stage.probe().cached
    assert not stage.probe(reprobe=True).cached


def test_a_damaged_cache_is_no_answer(stage: _Stage) -> None:
    """Half a file leads to a new probe, not to an error."""
    stage.qemu()
    stage.probe()
    (stage.cache / "acceleration.json").write_text("{")
    assert not stage.probe().cached
