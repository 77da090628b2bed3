"""What a fork needs before anybody may use it: the time, randomness of its own and, on a shared wire, an identity.

A fork continues at the instruction where its template stopped. Its clock is as old as the template, and its
kernel's random numbers would be those of every other fork. Both are mended by one program over the guest agent;
the clock is then read back. What stays equal in all forks of a template (SSH host key, boot id, host name, process
ids) is written down in docs/guests.md.

Guests of kind windows need no agent: `wskctl clock` moves the clock over SSH, and the kernel takes the randomness from
the VM generation ID, which is another one in every guest (`DomainSpec.generation`).

Guests of kind wine have no program of the lab for this. Perl is there in every Debian, and can do system calls.
"""

from __future__ import annotations

import json
import os
import time
from typing import Final

from wsklab.channel.agent import GuestAgent
from wsklab.channel.protocol import Channel, Stream
from wsklab.deadline import Deadline
from wsklab.errors import BootError, ChannelLost, ChannelProtocolError, GuestCommandError
from wsklab.guest import Guest

__all__ = ["MAX_SKEW_S", "identify", "wake", "wake_guest", "wake_windows"]

#: A guest's clock is right when it is nearer than this to the host's.
MAX_SKEW_S: Final = 0.5

_PERL: Final = "/usr/bin/perl"
_SEED_BYTES: Final = 64

_CLOCK: Final = r"C:\wsklab\wskctl.exe clock"
_ANSWER_MAX: Final = 4096
# On a busy host a question may take long on one of its ways: such an answer may be wrong by half of that.
_TRIES: Final = 10

# Numbers of x86-64 Linux: clock_gettime 228, clock_settime 227; RNDRESEEDCRNG is _IO('R', 7). The clock is moved by a
# difference, not set to a time: so it does not matter how long this program took to start. No modules ("use strict"):
# to find and read each takes an emulated guest 0.02 s.
_WAKE: Final = """
my $time = pack("qq", 0, 0);
syscall(228, 0, $time) == 0 or die "clock_gettime: $!";
my ($s, $ns) = unpack("qq", $time);
($s, $ns) = ($s + $ARGV[0], $ns + $ARGV[1]);
($s, $ns) = ($s + 1, $ns - 1000000000) if $ns >= 1000000000;
syscall(227, 0, pack("qq", $s, $ns)) == 0 or die "clock_settime: $!";
read(STDIN, my $seed, 4096) > 0 or die "no seed";
open(my $pool, "+>", "/dev/urandom") or die "/dev/urandom: $!";
syswrite($pool, $seed) == length $seed or die "/dev/urandom: $!";
ioctl($pool, 0x5207, 0) or die "reseed: $!";
"""

# The cable is out while this runs, so nobody ever sees two guests with one address.
_IDENTIFY: Final = """
. /usr/local/lib/wsklab/settings
ip link set dev eth0 down && ip link set dev eth0 address "$1" && ip address flush dev eth0 &&
ip address add "$2" dev eth0 && ip link set dev eth0 up
"""


def wake_guest(guest: Guest, deadline: Deadline) -> None:
    """Wait until a guest that continues answers; give it the time and random numbers of its own.

    Raises:
        DeadlineExceeded, GuestError: it does not answer, or its clock cannot be set right.
    """
    if guest.record.kind == "windows":
        with guest.enter(deadline, ready_check="") as channel:
            wake_windows(channel, deadline)
    else:
        wake(GuestAgent(guest.domain.agent_command), deadline)


def wake(agent: GuestAgent, deadline: Deadline) -> float:
    """Wait for the agent, set the clock, reseed the kernel's random numbers; the clock's error that is left, in s.

    Raises:
        DeadlineExceeded: the guest does not answer.
        BootError: its clock cannot be set right. GuestCommandError: it refused.
    """
    agent.wait(deadline)
    behind = agent.offset_s(deadline)
    for _ in range(2):
        # the seed comes from the host's kernel, so no two forks ever have the same one
        seed = os.urandom(_SEED_BYTES)
        difference = map(str, divmod(round(behind * 1e9), 10**9))
        agent.run(_PERL, ["-e", _WAKE, "--", *difference], deadline, standard_input=seed)
        behind = agent.offset_s(deadline)
        if abs(behind) < MAX_SKEW_S:
            return behind
    raise _wrong(behind)


def wake_windows(channel: Channel, deadline: Deadline) -> float:
    """Set the clock of a guest of kind windows; the clock's error that is left, in s.

    Raises:
        DeadlineExceeded, ChannelLost: the guest does not answer; an image may have no `wskctl`, or an old one.
        BootError: the clock cannot be set right. ChannelProtocolError: it answered nonsense.
    """
    stream = channel.open_stream(_CLOCK, deadline)
    try:
        _move_clock(stream, 0.0, deadline)  # the first answer waits until the program has started
        behind, doubt = _move_clock(stream, 0.0, deadline)
        for _ in range(_TRIES):
            if abs(behind) + doubt < MAX_SKEW_S:
                return behind
            # an answer that says less than it leaves open moves nothing
            behind, doubt = _move_clock(stream, behind if abs(behind) > doubt else 0.0, deadline)
    finally:
        stream.close()
    raise _wrong(behind, doubt)


def _move_clock(stream: Stream, seconds: float, deadline: Deadline) -> tuple[float, float]:
    """Move the guest's clock; how far it is behind the host's afterwards, and by how much that may be wrong.

    The question's own time is halved out; how it was shared between the two ways is not known.
    """
    before = time.time()
    stream.send(b"%d\n" % round(seconds * 1e9), deadline)
    said = b""
    while not said.endswith(b"\n") and len(said) < _ANSWER_MAX:
        part = stream.receive(deadline, _ANSWER_MAX)
        if not part:
            raise ChannelLost(
                "`wskctl clock` ended in the guest", why=stream.stderr_tail().strip() or "it said nothing"
            )
        said += part
    after = time.time()
    try:
        answer = json.loads(said)
        code, now = answer.get("win32"), answer.get("unix_ns")
    except (ValueError, AttributeError):
        code = now = None
    if isinstance(code, int):
        raise BootError("the guest's clock cannot be set", why=f"Windows refuses with code {code}")
    if not isinstance(now, int):
        raise ChannelProtocolError("`wskctl clock` told no time", why=repr(said[:200]))
    return (before + after) / 2 - now / 1e9, (after - before) / 2


def _wrong(behind: float, doubt: float = 0.0) -> BootError:
    return BootError(
        f"the guest's clock is wrong by {behind:.1f} s and cannot be set",
        why=f"the limit is {MAX_SKEW_S} s" + (f", and answers took {2 * doubt:.1f} s" if doubt else ""),
        evidence={"behind_s": behind, "doubt_s": doubt},
    )


def identify(agent: GuestAgent, *, mac: str, address: str, deadline: Deadline) -> None:
    """Give the guest's only network card another address of each kind; its cable must be out.

    Args:
        mac: the card's.
        address: IPv4 with its length, `192.168.213.12/24`.

    Raises:
        BootError: the guest refused.
    """
    try:
        agent.run("/bin/sh", ["-c", _IDENTIFY, "identify", mac, address], deadline)
    except GuestCommandError as error:
        raise BootError("the guest did not take its new addresses", why=error.stderr.strip() or error.why) from error
