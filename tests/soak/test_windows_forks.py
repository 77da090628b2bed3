"""Forks of a guest that starts by UEFI, on SATA and e1000e, as every Windows profile is; and of one with a TPM.

The guest is what the stand-in for Setup has installed: forks and their devices are real, Windows is not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from lab_home import furnish
from rehearsal import Rehearsal

from wsklab.assemble import Lab
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import LabError
from wsklab.guest import Claim, Guest
from wsklab.image.store import Image
from wsklab.profile import GuestProfile
from wsklab.waking import MAX_SKEW_S


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    root = tmp_path_factory.mktemp("lab") / "home"
    root.mkdir()
    furnish(root)
    return Rehearsal(root, tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def image(rehearsal: Rehearsal) -> Image:
    """What Setup's stand-in installs, made once."""
    with rehearsal.lab() as lab:
        return rehearsal.build(lab, "uefi")[0]


@pytest.fixture
def lab(rehearsal: Rehearsal, image: Image) -> Iterator[Lab]:
    """The lab of that home; at its end nothing of its guests is left."""
    with rehearsal.lab() as made:
        yield made
        assert made.guests() == []
        assert _servants(made) == []
        assert made.site().factory.wires.names() == []  # type: ignore[union-attr]


def _servants(lab: Lab) -> list[str]:
    """Programs beside QEMU that serve guests of this lab: those that run where its holder is."""
    wires = lab.site().factory.wires
    assert wires is not None
    place, found = Path(f"/proc/{wires.holder}/ns/pid").readlink(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
            if name in {"dnsmasq", "swtpm"} and (process / "ns/pid").readlink() == place:
                line = (process / "cmdline").read_bytes()
                if name == "swtpm" or b"--interface=wskw" in line:  # the lab's own network has a dnsmasq too
                    found.append(name)
        except OSError:
            continue
    return sorted(found)


def _start(lab: Lab, profile: GuestProfile, stack: ExitStack, *, fresh: bool = False) -> Guest:
    claim = Claim(owner=lab.owner, purpose="test", expires="2999-01-01T00:00:00Z", fresh=fresh)
    guest = lab.start_guest(profile, claim)
    stack.callback(guest.destroy, lab.slots)
    guest.wait_ready(lab.timeouts.after(profile.boot_budget_s), ready_check=profile.ready_check)
    return guest


def _ask(lab: Lab, guest: Guest, question: str) -> str:
    """What the Linux of the stand-in says."""
    with guest.open_channel(lab.timeouts.after(20)) as channel:
        return channel.run(f"standin: {question}", lab.timeouts.after(20)).stdout


def _boot_of(lab: Lab, guest: Guest) -> str:
    """Its boot's name; waits until it is ready."""
    guest.wait_ready(lab.timeouts.after(120), ready_check="")
    return _ask(lab, guest, "cat /proc/sys/kernel/random/boot_id")


def test_two_forks_at_once(rehearsal: Rehearsal, lab: Lab, image: Image) -> None:
    """Both continue one template, each on a wire, with firmware variables, a clock and random numbers of its own; one
    that is restarted boots by its own firmware and gets its address again."""
    profile = rehearsal.profile("uefi")
    with ExitStack() as stack:
        one, other = (_start(lab, profile, stack) for _ in range(2))
        assert [(guest.record.method, guest.record.why) for guest in (one, other)] == [("fork", "")] * 2
        assert one.record.template == other.record.template != ""
        assert one.via != other.via
        assert _servants(lab) == ["dnsmasq"] * 2

        randoms = [_ask(lab, guest, "hexdump -n 32 /dev/urandom") for guest in (one, other)]
        assert randoms[0] != randoms[1]
        for guest in (one, other):
            assert "reseeded due to virtual machine fork" in _ask(lab, guest, "dmesg")
            before = time.time()
            there = int(_ask(lab, guest, "date +%s"))
            assert before - 1 - MAX_SKEW_S < there < time.time() + MAX_SKEW_S

        variables = [guest.directory / "nvram.fd" for guest in (one, other)]
        assert variables[0].stat().st_ino != variables[1].stat().st_ino
        # what the template's firmware had written came along
        assert b"B\0o\0o\0t\0O\0r\0d\0e\0r\0" in variables[0].read_bytes()

        boot = _boot_of(lab, one)
        assert boot != _boot_of(lab, other)  # Linux draws it when it is asked for the first time: after the fork
        with suppress(LabError):  # the answer may be lost
            _ask(lab, one, "reboot -f")
        wait_until(
            lambda: _boot_of(lab, one) != boot or NotYet("the same boot answers"),
            lab.timeouts.after(profile.boot_budget_s), what="another boot of the fork",
        )  # fmt: skip


def test_forks_with_a_tpm(rehearsal: Rehearsal, lab: Lab, image: Image) -> None:
    """Each has an emulator of its own, which knows what the template's firmware measured; it ends with the guest."""
    profile = rehearsal.profile("uefi").model_copy(update={"tpm": True})
    with ExitStack() as stack:
        one, other = (_start(lab, profile, stack) for _ in range(2))
        assert [(guest.record.method, guest.record.why) for guest in (one, other)] == [("fork", "")] * 2
        assert _ask(lab, one, "cat /sys/class/tpm/tpm0/tpm_version_major").strip() == "2"
        measured = [_ask(lab, guest, "cat /sys/class/tpm/tpm0/pcr-sha256/0").strip() for guest in (one, other)]
        assert measured[0] == measured[1]
        assert len(measured[0]) == 64
        assert int(measured[0], 16) != 0
        assert _servants(lab) == ["dnsmasq"] * 2 + ["swtpm"] * 2
        os.kill(_qemu(one), signal.SIGKILL)  # nobody is there to end its emulator
        wait_until(
            lambda: _servants(lab).count("swtpm") == 1 or NotYet("it is still there"),
            Deadline.after(30), what="the end of the emulator",
        )  # fmt: skip
    holder = lab.site().factory.wires.holder  # type: ignore[union-attr]
    assert list(Path(f"/proc/{holder}/root/var/lib/libvirt/swtpm").iterdir()) == []


def _qemu(guest: Guest) -> int:
    """Its process."""
    name = os.fsencode(f"guest={guest.domain.name},")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if name in (process / "cmdline").read_bytes() and (process / "comm").read_text().startswith("qemu"):
                return int(process.name)
    raise AssertionError(f"{guest.name} has no process")
