"""Quiet windows: how long nothing may happen before we believe that nothing happens, in seconds.

Constants per kind of guest, in this one file, never scaled with the timeouts: a slow host must not turn silence
into evidence, nor make every run longer. Waits of one case overlap.

On wine they are shorter: what Wine completes at all it completes when the Linux socket says so, not by a timer, and
it has no event callbacks that could come late.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wsklab.deadline import pause

__all__ = [
    "BLOCKED_S",
    "GRACE_S",
    "NO_CALLBACK_S",
    "NO_SECOND_COMPLETION_S",
    "PATIENCE_S",
    "STILL_PENDING_S",
    "UNCHANGED_S",
    "pause_for",
    "quiet_s",
]

#: A callback that is off stays away (WSK-SOCK-010).
NO_CALLBACK_S: Mapping[str, float] = MappingProxyType({"windows": 1.0, "wine": 0.3, "shim": 0.05})

#: No second completion comes (WSK-SOCK-004), nobody writes to a completed IRP (WSK-SOCK-007).
NO_SECOND_COMPLETION_S: Mapping[str, float] = MappingProxyType({"windows": 0.5, "wine": 0.3, "shim": 0.05})

#: A request that waits for a peer is still pending (WSK-ACC-001, WSK-DATA-002).
STILL_PENDING_S: Mapping[str, float] = MappingProxyType({"windows": 0.3, "wine": 0.3, "shim": 0.05})

#: A call that waits is still inside, a request that nothing ends is still queued (WSK-DET-002, WSK-CTL-003).
BLOCKED_S: Mapping[str, float] = MappingProxyType({"windows": 2.0, "wine": 0.5, "shim": 0.1})

#: After a failing return no completion comes: the operation is lost (WSK-IRP-003). 0.5 s is the driver's most.
GRACE_S: Mapping[str, float] = MappingProxyType({"windows": 0.5, "wine": 0.05, "shim": 0.05})

#: Kept data stays what it is (WSK-DATA-015, WSK-DGRAM-010).
UNCHANGED_S: Mapping[str, float] = MappingProxyType({"windows": 1.0, "wine": 0.3, "shim": 0.05})

#: How long the transport's own end of a request is waited for where it is not WSK's (WSK-CONN-007): on wine the timer
#: is Linux's, which Wine 10 sets to half a minute. Kinds that are not here wait as long as the rule says.
PATIENCE_S: Mapping[str, float] = MappingProxyType({"wine": 6.0})


def quiet_s(window: Mapping[str, float], kind: str, build: str) -> float:
    """The window for a kind of guest; next to nothing for the model, where nothing can come late."""
    return 0.01 if build == "model" else window[kind]


def pause_for(window: Mapping[str, float], kind: str, build: str) -> None:
    """Let a window pass."""
    pause(quiet_s(window, kind, build))
