"""What Wine says when a driver's host process dies: why, and where in which module. Pure: text in.

A log comes from a guest: every number is bounded by the pattern that finds it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wsklab.bugcheck import Bugcheck, bucket_of

__all__ = ["WineCrash", "find_wine_crash"]

_UNHANDLED: Final = re.compile(
    r"wine: Unhandled (?P<what>[^\n]{1,160}?) at address (?:\S{1,40}:)?(?P<address>[0-9A-Fa-f]{8,16})\b"
)
_BUGCHECK: Final = re.compile(
    r"err:ntoskrnl:KeBugCheckEx ([0-9a-fA-F]{1,8})" + r" ([0-9a-fA-F]{1,16})" * 4 + r"\b",
)
_LOADED: Final = re.compile(
    r'trace:loaddll:\S+ Loaded L"(?P<path>[^"\n]{1,400})" at (?:0x)?(?P<base>[0-9A-Fa-f]{8,16})\b'
)
#: No image is larger; an address further behind a base is not in it.
_IMAGE_LIMIT: Final = 64 << 20
#: Addresses differ at each boot, and what a fault touched says little about where it was.
_NUMBER: Final = re.compile(r"\b(?:0x)?[0-9A-Fa-f]{6,16}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class WineCrash:
    """The last death that a log tells of.

    Attributes:
        what: in Wine's words: `page fault on write access to 0000000000000000`, or the stop code.
        bugcheck: the stop, where a driver asked for one.
        module: file name of the module that the fault was in; "" where none is known.
        offset: of the place from the module's base.
        path: the module's path in the guest.
    """

    what: str
    bugcheck: Bugcheck | None = None
    module: str = ""
    offset: int = 0
    path: str = ""

    def bucket(self, function: str = "") -> str:
        """The group of crashes that it belongs to; `function` is the one at the place, where it is known."""
        if self.bugcheck is not None:
            return bucket_of(self.bugcheck, module=self.module, function=function)
        place = f"{self.module}!{function}" if function else self.module
        return f"{_NUMBER.sub('N', self.what)} {place}".strip()


def find_wine_crash(log: str) -> WineCrash | None:
    """The last crash in a log of Wine's, or None."""
    stops = list(_BUGCHECK.finditer(log))
    faults = list(_UNHANDLED.finditer(log))
    if stops and (not faults or stops[-1].start() > faults[-1].start()):
        code, *given = (int(text, 16) for text in stops[-1].groups())
        bugcheck = Bugcheck(code, (given[0], given[1], given[2], given[3]))
        return WineCrash(what=str(bugcheck), bugcheck=bugcheck)
    if not faults:
        return None
    fault = faults[-1]
    address = int(fault["address"], 16)
    bases = {int(found["base"], 16): found["path"] for found in _LOADED.finditer(log[: fault.start()])}
    below = [base for base in bases if base <= address < base + _IMAGE_LIMIT]
    if not below:
        return WineCrash(what=fault["what"])
    path = bases[max(below)].replace("\\\\", "\\")
    return WineCrash(
        what=fault["what"], module=path.rpartition("\\")[2].lower(), offset=address - max(below), path=path
    )
