"""A lab of fakes behind the real command line: commands are called as the program calls them, and answer."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from wsklab.cli.main import main
from wsklab.cli.output import Output
from wsklab.cli.runtime import Runtime
from wsklab.cli.services import Services
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Timeouts
from wsklab.gc_timer import GcTimer
from wsklab.mode import ModeChoice

SOURCE = Path(__file__).parents[2] / "lab"


@dataclasses.dataclass
class FakeProfile:
    """The few facts of a profile that commands read."""

    name: str
    kind: str = "wine"
    release: str = "Debian 12"
    build: str = "wine-8.0"
    boot_budget_s: float = 5.0
    ready_check: str = "ver"
    has_image: bool = True
    static: bool = False

    @property
    def facts(self) -> SimpleNamespace:
        """One true fact, one false, one text."""
        facts = {"event_callbacks": False, "output_clamped": True, "wine_version": "8.0"}
        return SimpleNamespace(model_dump=lambda: facts)


class FakeGuest:
    """A guest that exists only as a record."""

    def __init__(self, name: str, directory: Path, netns: Path | None = None) -> None:
        self.name = name
        self.directory = directory
        self.record = SimpleNamespace(
            profile="wine-bookworm", kind="wine", user="Administrator", host_key="ssh-ed25519 AAAA", method="boot",
            why="", ready_s=4.5, dirty="",
        )  # fmt: skip
        self.key = directory / "key"
        self.via = SimpleNamespace(netns=netns, jump=(), host="")
        self.address = ("192.168.213.10", 22)
        self.metadata = SimpleNamespace(expires="2030-01-01T00:00:00Z", owner="me", purpose="user", run="")
        self.domain = SimpleNamespace(metadata=lambda: self.metadata, state=lambda: "running")
        self.open_channel: Any = None
        self.console = SimpleNamespace(tail=lambda lines: f"last {lines}\x1b[31m", path=directory / "console.log")


class FakeLab:
    """A lab with two profiles and the guests that it is given."""

    def __init__(self, config: LabConfig, guests: list[FakeGuest], home: Path) -> None:
        self.config = config
        self.profiles = self.sources = {name: FakeProfile(name) for name in ("wine-bookworm", "wine-trixie")}
        self._guests = guests
        self.home = SimpleNamespace(root=home, run_is_alive=lambda run: run == "alive")
        self.owner = "me"
        self.absent_hosts: dict[str, str] = {}
        self.lease_ender = SimpleNamespace(kind="daemon", words="the lab's daemon ends it")
        self.choice = ModeChoice(mode=ModeSetting.PRIVATE, why="a test says so")
        self.timeouts = Timeouts(scale=1.0)
        self.acceleration = "tcg"
        self.swept: list[bool] = []
        self.gc_timer = GcTimer(home_id="1a2b3c4d", root=False, user_units=home / "units", system_units=home / "sys")

    #: every image is there
    store = SimpleNamespace(find=lambda profile: profile)

    def stop_starting(self) -> None:
        """Starts are over at once here."""

    def guests(self) -> list[FakeGuest]:
        """The guests."""
        return list(self._guests)

    def sweep(self, *, dry_run: bool) -> SimpleNamespace:
        """One removal."""
        self.swept.append(dry_run)
        return SimpleNamespace(removed=[SimpleNamespace(kind="guest", name="g", why="orphan")], kept=1)


class FakeServices(Services):
    """Answers without a lab; `error` is raised wherever a guest is started."""

    def __init__(self, tmp_path: Path, guests: Sequence[str] = (), error: BaseException | None = None) -> None:
        self.tmp_path = tmp_path
        self.known = [FakeGuest(name, tmp_path) for name in guests]
        self.error = error
        self.boot_error: BaseException | None = None
        self.destroyed: list[str] = []
        self.handed_over: list[str] = []
        self.images: dict[str, str] = {"wine-bookworm": "present"}
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def lab(self, config: LabConfig) -> Iterator[Any]:  # type: ignore[override]
        """The fake lab."""
        yield FakeLab(config, self.known, self.tmp_path)

    def profiles(self) -> Mapping[str, Any]:
        """Two profiles."""
        return {name: FakeProfile(name) for name in ("wine-bookworm", "wine-trixie")}

    def store(self, config: LabConfig) -> Any:
        """A store that knows states only."""
        return SimpleNamespace(state=lambda profile: self.images.get(profile.name, "absent"), list=list)

    def unfinished(self, lab: Any) -> contextlib.AbstractContextManager[str]:
        """A run that nobody keeps."""
        return contextlib.nullcontext("up-1")

    def refill_spares(self, lab: Any, profile: str) -> None:
        """Nothing to fill."""

    def hand_over(self, guest: Any) -> None:
        """Remember the name."""
        self.handed_over.append(guest.name)

    def expected_ready_s(self, lab: Any, profile: Any, *, fresh: bool) -> float | None:
        """Seven seconds; a fresh boot is not known."""
        return None if fresh else 7.0

    def start_guest(self, lab: Any, profile: Any, *, name: str, expires: str, run: str, fresh: bool, host: str) -> Any:
        """Start, or fail from the second guest on."""
        with self.lock:
            if self.error is not None and len(self.known) >= 1:
                raise self.error
            guest = FakeGuest(name or f"{profile.name}-{10 + len(self.known)}", self.tmp_path)
            self.known.append(guest)
        return guest

    def wait_ready(self, lab: Any, guest: Any, profile: Any, *, fresh: bool) -> None:
        """Ready at once, unless the test interrupts the boot."""
        if self.boot_error is not None:
            raise self.boot_error

    def destroy(self, lab: Any, guest: Any) -> None:
        """Remember the name."""
        self.destroyed.append(guest.name)

    def extend(self, guest: Any, expires: str) -> str:
        """The later end."""
        return max(expires, guest.metadata.expires)


@dataclasses.dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as JSON."""
        return dict(json.loads(self.out))


def call(
    services: Services, *argv: str, environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> Answer:
    """Run one command with fakes."""
    out, err = io.StringIO(), io.StringIO()
    runtime = Runtime(
        output=Output(stdout=out, stderr=err),
        services=services,
        environ=environ or {},
        folder=folder or Path("/nonexistent"),
        user_home=Path("/nonexistent"),
    )
    code = main(argv, runtime)
    return Answer(code, out.getvalue(), err.getvalue())
