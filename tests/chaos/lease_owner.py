"""An owner of leases that is made to be killed. `python lease_owner.py broker|home PLACE WITNESS SEED`

It takes a lease, proves that it is its own, holds it for a moment, gives it back, and says so, for ever. The proof is
a file for each guest (or slot) in WITNESS: locked while the lease is held, and for a guest of a run marked until it
was given back. A lock that somebody has is a double claim; a dead owner's mark is on a guest given on as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from wsklab.assemble import Lab
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Deadline, NotYet, pause, wait_until
from wsklab.errors import HostFull
from wsklab.guest import Claim, Guest
from wsklab.pytest_plugin.lease_client import LeaseClient

PROFILE = "wine-bookworm"
#: What is held until this process is killed.
_FOR_EVER = contextlib.ExitStack()


def say(word: str) -> None:
    """One line that reaches the parent whatever happens next."""
    os.write(1, f"{word}\n".encode())


@contextlib.contextmanager
def proven(witness: Path, name: str, *, exclusive: bool) -> Iterator[None]:
    """Hold the witness of a guest or slot."""
    descriptor = os.open(witness / name, os.O_RDWR | os.O_CREAT, 0o600)
    mark = witness / f"{name}.{os.getpid()}.held"
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"DOUBLE {name}")
        os._exit(3)
    for other in () if name.startswith("slot") else witness.glob(f"{name}.*.held"):
        if not Path(f"/proc/{other.name.split('.')[-2]}").exists():
            say(f"GIVEN-ON {name}")
            os._exit(3)
    mark.touch()
    yield
    mark.unlink()
    os.close(descriptor)


def from_broker(place: Path, witness: Path, rng: random.Random) -> Callable[[], None]:
    """Leases of a run."""
    client = LeaseClient(place)

    def once() -> None:
        exclusive = rng.random() < 0.4
        profiles = rng.choice([["a"], ["b"], ["a", "b"], ["a", "a"]])
        lease = client.acquire(profiles, exclusive=exclusive, deadline=Deadline.after(60))
        say("held")
        with contextlib.ExitStack() as stack:
            for guest in lease.guests:
                stack.enter_context(proven(witness, guest.name, exclusive=exclusive))
            pause(rng.uniform(0.0, 0.05))
        client.release(lease, dirty=rng.random() < 0.1, reason="chaos")

    return once


def from_home(place: Path, witness: Path, rng: random.Random) -> Callable[[], None]:
    """Guests of a home: the domain is the lease, its slot is what must not be given twice."""
    lab = _FOR_EVER.enter_context(Lab(LabConfig(home=place, mode=ModeSetting.PRIVATE)))
    run = f"chaos-{os.getpid()}-{rng.randrange(1 << 30)}"
    _FOR_EVER.enter_context(lab.home.run_alive(run))

    def start() -> Guest | NotYet:
        try:
            return lab.start_guest(lab.profile(PROFILE), Claim(owner="chaos", purpose="test", run=run))
        except HostFull as error:  # the guests of the dead count until the sweep has met them
            return NotYet(str(error))

    def once() -> None:
        guest = wait_until(start, Deadline.after(120), what="room for one more guest")
        say("held")
        with proven(witness, f"slot{guest.record.slot}", exclusive=True):
            pause(rng.uniform(0.0, 0.3))
        guest.destroy(lab.slots)

    return once


def main() -> None:
    """Until somebody ends it."""
    sort, place, witness, seed = sys.argv[1:]
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    once = {"broker": from_broker, "home": from_home}[sort](Path(place), Path(witness), rng)
    while True:
        once()
        say("back")


if __name__ == "__main__":
    main()
