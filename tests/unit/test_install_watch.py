"""The watch over an installation: every end has its signs, and none is concluded without them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wsklab.image.install_watch import STAGES, End, InstallationWatch, KeyPresses, Limits, Sample, marker

MIB = 1 << 20
START = Sample(at_s=0, console="", disk_bytes=MIB, screen="a", restarts=0, running=True)


def watch(**limits: float) -> InstallationWatch:
    return InstallationWatch("T0KEN", dict.fromkeys(STAGES, 10.0), Limits(**limits))  # type: ignore[arg-type]


def after(sample: Sample, seconds: float, said: str = "", **changes: object) -> Sample:
    """A later sample; `said` is appended to the console."""
    return replace(sample, at_s=sample.at_s + seconds, console=sample.console + said, **changes)  # type: ignore[arg-type]


def test_an_installation_that_goes_well() -> None:
    """Every stage is passed in order, and the end is the sealed machine going off, not before."""
    seen, w, s = [], watch(), START
    steps: list[tuple[str, dict[str, object]]] = [
        ("", {}),
        (marker("stage", "winpe"), {"screen": "b"}),
        ("", {"disk_bytes": 900 * MIB}),
        (marker("stage", "specialise") + "\r\n", {"restarts": 1}),
        ("", {"restarts": 2, "screen": "c"}),
        (marker("stage", "provisioning") + "\r\n", {}),
        (marker("stage", "seal") + "\r\n", {"restarts": 3}),
        (marker("sealed", "T0KEN") + "\r\n", {}),
    ]
    for said, changes in steps:
        s = after(s, 60, said, **changes)
        assert w.feed(s) is None
        seen.append(w.stage)
    assert seen == ["winpe", "winpe", "copy", "specialise", "oobe", "provisioning", "seal", "seal"]
    assert w.feed(after(s, 5, running=False)) is End.SEALED
    assert w.expected_s == 60


def test_another_machines_token_seals_nothing() -> None:
    """An old disk that boots by mistake says an old token."""
    w, s = watch(), after(START, 10, marker("sealed", "OLD"))
    assert w.feed(s) is None
    assert w.feed(after(s, 5, running=False)) is End.STOPPED


def test_a_step_that_failed_is_said_in_the_guests_words() -> None:
    """No waiting for a hang where the guest itself knows."""
    w = watch()
    assert w.feed(after(START, 10, marker("failed", "openssh: no package"))) is End.FAILED
    assert "openssh: no package" in w.reason


def test_a_dialog_is_a_still_picture_before_windows_runs() -> None:
    """Setup asks something: the screen stands still and the disk does not grow."""
    w, s = watch(dialog_s=100, hang_s=1000), START
    assert w.feed(s) is None
    assert w.feed(after(s, 99)) is None
    assert w.feed(after(s, 100)) is End.WAITS


def test_a_moving_picture_is_no_dialog_but_may_hang() -> None:
    """Dots turn for ever: nobody is asked, and nothing happens."""
    w, s = watch(dialog_s=100, hang_s=1000), START
    for number in range(19):
        s = after(s, 50, screen=str(number))
        assert w.feed(s) is None
    assert w.feed(after(s, 150, screen="x")) is End.HANGS


def test_a_growing_disk_is_life() -> None:
    """A still picture during the copy is normal."""
    w, s = watch(dialog_s=100, hang_s=200), START
    for number in range(20):
        s = after(s, 90, disk_bytes=MIB * (number + 2))
        assert w.feed(s) is None


def test_windows_may_show_one_picture_for_long() -> None:
    """After the copy a still picture means nothing; only the silence of everything does."""
    w, s = watch(dialog_s=100, hang_s=1000), after(START, 10, marker("stage", "specialise"), restarts=1)
    assert w.feed(s) is None
    assert w.feed(after(s, 900)) is None
    assert w.feed(after(s, 1000)) is End.HANGS


def test_a_disk_that_does_not_start_is_seen_on_the_console() -> None:
    """The firmware says where it starts from; the first time from the disc is right."""
    disc = 'BdsDxe: starting Boot0001 "UEFI QEMU DVD-ROM QM00003 "\r\n'
    w, s = watch(), after(START, 1, disc)
    assert w.feed(s) is None
    s = after(s, 60, disk_bytes=5000 * MIB)
    assert w.feed(s) is None
    assert w.feed(after(s, 60, disc, restarts=1)) is End.NOT_FROM_DISK


def test_a_disk_that_starts_after_the_disc_was_tried_is_right() -> None:
    """Both lines in one sample: the later choice counts."""
    text = (
        'BdsDxe: starting Boot0001 "UEFI QEMU DVD-ROM"\r\nBdsDxe: starting Boot0004 "Windows Boot Manager" from HD(\r\n'
    )
    w, s = watch(), after(START, 60, disk_bytes=5000 * MIB)
    assert w.feed(s) is None
    assert w.feed(after(s, 60, text, restarts=1)) is None


def test_restarts_without_end_are_a_loop() -> None:
    """A crash at each boot, a repair that never succeeds."""
    w, s, end = watch(restarts=5), START, None
    for number in range(1, 8):
        s = after(s, 30, restarts=number, disk_bytes=s.disk_bytes + MIB)
        end = end or w.feed(s)
    assert end is End.LOOPS


def test_a_stage_never_goes_back() -> None:
    """A script that runs once more does not turn the clock back."""
    w, s = watch(), after(START, 1, marker("stage", "provisioning"))
    w.feed(s)
    w.feed(after(s, 1, marker("stage", "winpe")))
    assert w.stage == "provisioning"


@pytest.mark.parametrize(
    "noise", ["wsklab: stage \x1b[2J", "wsklab: stage nonsense", "wsklab: " + "x" * 5000, "\x00\xff"]
)
def test_noise_on_the_serial_port_changes_nothing(noise: str) -> None:
    """The console is the guest's; only known words count."""
    w = watch()
    assert w.feed(after(START, 1, noise)) is None
    assert w.stage == "winpe"


DVD = 'BdsDxe: starting Boot0001 "UEFI QEMU DVD-ROM QM00003 " from PciRoot(0x0)/Pci(0x1F,0x2)/Sata(0x1,0xFFFF,0x0)\r\n'


def test_keys_are_pressed_while_the_medium_asks() -> None:
    """From the firmware's line on, for eight seconds, scaled, and never again."""
    keys = KeyPresses("uefi", scale=2)
    assert not keys.due(after(START, 1, "BdsDxe: failed to load Boot0003\r\n"))
    asked = after(START, 20, DVD)
    assert keys.due(asked)
    assert keys.due(after(asked, 16))
    assert not keys.due(after(asked, 17))


def test_no_key_is_pressed_that_could_be_a_button() -> None:
    """Not after the first restart, not for BIOS (which asks for nothing on an empty disk), not for one that is off."""
    for keys, sample in (
        (KeyPresses("uefi"), after(START, 5, DVD, restarts=1)),
        (KeyPresses("bios"), after(START, 5, DVD)),
        (KeyPresses("uefi"), after(START, 5, DVD, running=False)),
    ):
        assert not keys.due(sample)


def test_silent_firmware_gets_keys_blindly() -> None:
    """A firmware that prints nothing is one that does not print; keys stop before Setup's windows are there."""
    keys = KeyPresses("uefi")
    assert [at for at in range(0, 60, 4) if keys.due(after(START, at))] == [4, 8, 12, 16, 20, 24]


def test_a_watch_that_begins_late_hears_several_starts_at_once() -> None:
    """A build that continues another one reads the console from its beginning: first the disc, then the disk."""
    disk = 'BdsDxe: starting Boot0003 "UEFI QEMU HARDDISK QM00001 " from PciRoot(0x0)\r\n'
    late = after(START, 600, DVD + disk + marker("stage", "specialise") + "\r\n", restarts=1, disk_bytes=900 * MIB)
    w = watch()
    assert w.feed(late) is None
    assert w.stage == "specialise"
    assert w.feed(after(late, 60, DVD, restarts=2)) is End.NOT_FROM_DISK
