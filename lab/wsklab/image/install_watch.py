"""What an unattended installation is doing, from what can be seen outside. Pure: samples in, stage and end out.

Signs, strongest first: what our own scripts write to the first serial port, the machine's restarts and its end, the
growth of the disk, the picture on the screen. A real Setup has not been watched yet; the limits are the fact
sheet's (open question 7), and each end says what it was concluded from.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from wsklab.windows_recipe import WindowsStage

__all__ = ["STAGES", "End", "InstallationWatch", "KeyPresses", "Limits", "Sample", "marker"]

STAGES: Final[tuple[WindowsStage, ...]] = get_args(WindowsStage)

_MARKER: Final = re.compile(r"wsklab: (stage|failed|sealed) ([^\r\n]{1,200})")
#: The firmware starts from the optical drive: at first as wanted, later a sign that the disk does not boot.
_FROM_DISC: Final = re.compile(r"BdsDxe: starting Boot\w+ \"[^\"]*(DVD|CD-?ROM)[^\"]*\"", re.IGNORECASE)
_FIRMWARE: Final = re.compile(r"BdsDxe: ")
#: The boot loader of a medium waits five seconds for a key; Setup's own windows are not there before this is over.
_PROMPT_S: Final = 8.0
#: Where the firmware does not tell what it starts: the first seconds of a start from an empty disk.
_BLIND_S: Final = (3.0, 25.0)
_START: Final = re.compile(r"BdsDxe: starting Boot\w+ \"[^\"]*\"")
#: The disk holds at least so much when Setup is copying, in bytes.
_COPYING: Final = 200 << 20


class End(enum.StrEnum):
    """How an installation ended. Everything but `SEALED` is a failure."""

    SEALED = "sealed"
    FAILED = "a step in the guest failed"
    WAITS = "it waits for somebody"
    HANGS = "it hangs"
    LOOPS = "it restarts again and again"
    NOT_FROM_DISK = "it does not start from the disk"
    STOPPED = "the machine stopped before it was ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When waiting is over, in seconds and counts; scaled by whoever makes them.

    Attributes:
        dialog_s: nothing changes on the screen and on the disk before Windows runs: a dialog is open.
        hang_s: no sign of life at all.
        restarts: more of them than any installation needs.
        prompt_s: how long after the firmware's word a medium's loader may still ask for a key.
    """

    dialog_s: float = 300
    hang_s: float = 900
    restarts: int = 12
    prompt_s: float = _PROMPT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was seen at one moment.

    Attributes:
        at_s: seconds since the start.
        console: everything on the first serial port so far.
        disk_bytes: how much the disk's file holds.
        screen: a digest of the picture, or "" when there was none.
        restarts: how often the machine has started anew.
        running: whether it runs.
    """

    at_s: float
    console: str
    disk_bytes: int
    screen: str
    restarts: int
    running: bool


def marker(kind: str, text: str) -> str:
    """A line for the serial port that the watch understands; `kind` is `stage`, `failed` or `sealed`."""
    return f"wsklab: {kind} {text}"


@dataclass(slots=True)
class InstallationWatch:
    """Follows one installation.

    Attributes:
        token: what the guest has to write when it is sealed: a sign that this installation, not another, is done.
        expected: seconds per stage, for the expected time.
        stage: where it is.
        reason: why it ended, in words; "" while it runs.
    """

    token: str
    expected: Mapping[WindowsStage, float]
    limits: Limits = field(default_factory=Limits)
    stage: WindowsStage = "winpe"
    reason: str = ""
    _sealed: bool = False
    _alive_at: float = 0.0
    _picture_at: float = 0.0
    _last: Sample | None = None

    @property
    def expected_s(self) -> float:
        """Seconds that the whole installation usually takes."""
        return sum(self.expected.values())

    def feed(self, sample: Sample) -> End | None:
        """Look at a sample; how the installation ended, or None while it goes on."""
        last, self._last = self._last, sample
        new = sample.console[len(last.console) if last else 0 :]
        if last is None or sample.screen != last.screen:
            self._picture_at = sample.at_s
        if last is None or new or sample.disk_bytes > last.disk_bytes or sample.restarts > last.restarts:
            self._alive_at = self._picture_at = sample.at_s
        for kind, text in _MARKER.findall(new):
            end = self._hear(kind, text.strip())
            if end is not None:
                return end
        self._advance(sample)
        return self._end(sample, new)

    def _hear(self, kind: str, text: str) -> End | None:
        if kind == "failed":
            self.reason = f"{text} (said by the guest in the stage {self.stage})"
            return End.FAILED
        if kind == "sealed":
            self._sealed = text == self.token
        elif text in STAGES:
            self._enter(STAGES[STAGES.index(text)])
        return None

    def _enter(self, stage: WindowsStage) -> None:
        """Stages only go forward: a script that runs twice does not turn the clock back."""
        if STAGES.index(stage) > STAGES.index(self.stage):
            self.stage = stage

    def _advance(self, sample: Sample) -> None:
        """Stages that nobody announces: copying is seen on the disk, OOBE comes after the restart of specialise."""
        if self.stage == "winpe" and sample.disk_bytes >= _COPYING:
            self._enter("copy")
        if self.stage == "specialise" and sample.restarts >= 2:
            self._enter("oobe")

    def _end(self, sample: Sample, new: str) -> End | None:
        if not sample.running:
            if not self._sealed:
                self.reason = f"it went off in the stage {self.stage} and the guest had not said that it is sealed"
            return End.SEALED if self._sealed else End.STOPPED
        return self._wrong_start(sample, new) or self._silence(sample)

    def _wrong_start(self, sample: Sample, new: str) -> End | None:
        if sample.restarts > self.limits.restarts:
            self.reason = f"{sample.restarts} restarts, and still in the stage {self.stage}"
            return End.LOOPS
        starts = _START.findall(new)  # a watch that begins late hears several at once: the last one counts
        from_disc = bool(starts) and _FROM_DISC.search(starts[-1])
        if sample.restarts and from_disc and self.stage != "winpe":
            self.reason = f"after restart {sample.restarts} the firmware took the installation disc again"
            return End.NOT_FROM_DISK
        return None

    def _silence(self, sample: Sample) -> End | None:
        silent = sample.at_s - self._alive_at
        still = sample.at_s - self._picture_at
        if self.stage in {"winpe", "copy"} and still >= self.limits.dialog_s:
            self.reason = f"the screen and the disk have not changed for {still:.0f} s in the stage {self.stage}"
            return End.WAITS
        if silent >= self.limits.hang_s:
            self.reason = f"no sign of life for {silent:.0f} s in the stage {self.stage}"
            return End.HANGS
        return None


@dataclass(slots=True)
class KeyPresses:
    """When Enter is pressed for the boot loader's "Press any key to boot from CD or DVD".

    Only UEFI media ask on an empty disk (sheet b.9), only before the first restart, and never for long: a key that
    comes late could press a button of Setup.

    Attributes:
        firmware: the guest's.
        scale: how much slower than KVM the guest is.
        prompt_s: see `Limits`; for KVM.
    """

    firmware: str
    scale: float = 1.0
    prompt_s: float = _PROMPT_S
    _seen_at: float | None = None

    def due(self, sample: Sample) -> bool:
        """Whether a key is to be pressed now."""
        if self.firmware != "uefi" or sample.restarts or not sample.running:
            return False
        if self._seen_at is None and _FROM_DISC.search(sample.console):
            self._seen_at = sample.at_s
        if self._seen_at is not None:
            return sample.at_s <= self._seen_at + self.prompt_s * self.scale
        first, last = _BLIND_S
        return not _FIRMWARE.search(sample.console) and first * self.scale <= sample.at_s <= last * self.scale
