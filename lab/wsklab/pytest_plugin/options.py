"""The options of a run: `--wsklab-*` on pytest's command line, the same in the controller and in every worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from wsklab.errors import UsageError

__all__ = ["Profile", "RunOptions", "add_options", "read_options"]


#: Behind the kind of a profile that stands for one machine which exists already.
_STATIC = "+static"


class Profile(BaseModel):
    """A guest profile of the run: its name and its kind, known before any guest is ready.

    Attributes:
        static: it is one machine that exists already: there is never a second guest of it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    static: bool = False

    @property
    def words(self) -> str:
        """As `--wsklab-profiles` has it."""
        return f"{self.name}={self.kind}{_STATIC if self.static else ''}"


class RunOptions(BaseModel):
    """What a run is asked to do.

    Attributes:
        profiles: the guest profiles; empty when this pytest run has nothing to do with guests.
        run_id, results: the run's name and the folder of all runs.
        history: the file that says how long cases took in earlier runs; None: nobody knows.
        buckets: the file of all crashes that this home has seen; None: they are not counted.
        broker: the broker's socket; set in workers only.
        allow_unimplemented: rules that wait for the driver do not make the run undecided.
        foreign: the driver is not ours: cases need to name no rule, and none is asked for.
        hazard: also run cases that can crash the guest.
        rules: `core`, a rule id, or a glob; empty for all cases.
        each: guests of each profile; `workers`: how many cases run at the same time (for the document only).
        keep_failed: leave the guest of a failed case alive for a person.
        require: capabilities whose absence is an error instead of a skip.
        scale: factor on every timeout (not on quiet windows).
        cases: names of cases, or patterns with `*`; empty for all.
        keep_all: leave the guest of every case alive, however that ended.
        live: tell each operation as it ends, on the terminal.
        again: run a case that crashed or hung once more, alone on a fresh guest.
        reproduce: the command line that started the run, for the scripts that run one case again.
        lease_s: how long a case waits for a guest, in seconds before scaling.
    """

    model_config = ConfigDict(frozen=True)

    profiles: tuple[Profile, ...] = ()
    run_id: str = ""
    results: Path = Path("results")
    history: Path | None = None
    buckets: Path | None = None
    broker: Path | None = None
    allow_unimplemented: bool = False
    foreign: bool = False
    hazard: bool = False
    rules: str = ""
    each: int = 1
    workers: int = 1
    keep_failed: bool = False
    require: tuple[str, ...] = ()
    scale: float = 1.0
    lease_s: float = 600.0
    cases: tuple[str, ...] = ()
    keep_all: bool = False
    live: bool = False
    again: bool = True
    reproduce: tuple[str, ...] = ()

    def kind(self, profile: str) -> str:
        """The kind of a profile of this run."""
        return next((own.kind for own in self.profiles if own.name == profile), "")

    def most(self, profile: str) -> int:
        """How many guests of a profile the run has."""
        return 1 if profile in self.machines else self.each

    @property
    def machines(self) -> frozenset[str]:
        """The profiles that stand for static machines."""
        return frozenset(profile.name for profile in self.profiles if profile.static)


def add_options(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("wsklab", "guests, rules and results of wsklab")
    group.addoption(
        "--wsklab-profiles",
        default="",
        metavar="NAME=KIND,...",
        help="guest profiles that every conformance case runs on, each with its kind (windows, wine, shim)",
    )
    group.addoption("--wsklab-run", default="", metavar="ID", help="the run's id")
    group.addoption("--wsklab-results", default="results", metavar="DIR", help="folder of all runs")
    group.addoption("--wsklab-history", default="", metavar="FILE", help="how long cases took in earlier runs")
    group.addoption("--wsklab-buckets", default="", metavar="FILE", help="the crashes that this home has seen")
    group.addoption("--wsklab-broker", default="", metavar="PATH", help="the lease broker's socket (set for workers)")
    group.addoption(
        "--wsklab-allow-unimplemented", action="store_true", help="rules that wait for the driver count as success"
    )
    group.addoption("--wsklab-foreign", action="store_true", help="the driver is not wsklab's own")
    group.addoption("--wsklab-hazard", action="store_true", help="also run cases that can crash the guest")
    group.addoption("--wsklab-rules", default="", metavar="GLOB", help="`core`, a rule id or a glob")
    group.addoption("--wsklab-guests-each", type=int, default=1, metavar="K", help="guests of each profile")
    group.addoption("--wsklab-workers", type=int, default=1, metavar="N", help="workers, for the run's document")
    group.addoption("--wsklab-keep-failed", action="store_true", help="leave the guest of a failed case alive")
    group.addoption("--wsklab-require", default="", metavar="WORD,...", help="turn skips for lack of these into errors")
    group.addoption("--wsklab-scale", type=float, default=1.0, metavar="F", help="factor on every timeout")
    group.addoption("--wsklab-case", action="append", default=[], metavar="NAME", help="a case, or a pattern with *")
    group.addoption("--wsklab-keep-all", action="store_true", help="leave the guest of every case alive")
    group.addoption("--wsklab-live", action="store_true", help="tell each operation as it ends")
    group.addoption("--wsklab-no-again", action="store_true", help="run no case a second time that crashed or hung")
    group.addoption("--wsklab-reproduce", default="[]", metavar="JSON", help="the command line that started the run")
    group.addoption(
        "--wsklab-lease-timeout", type=float, default=600.0, metavar="S", help="seconds to wait for a guest"
    )


def read_options(config: pytest.Config) -> RunOptions:
    """The options as one frozen object.

    Raises:
        UsageError: a profile without a kind.
    """
    profiles: list[Profile] = []
    for item in filter(None, config.getoption("--wsklab-profiles").split(",")):
        name, _, kind = item.partition("=")
        if not kind:
            raise UsageError(f"--wsklab-profiles: {name} has no kind", fix=f"write {name}=wine or {name}=windows")
        profiles.append(Profile(name=name, kind=kind.removesuffix(_STATIC), static=kind.endswith(_STATIC)))
    worker = getattr(config, "workerinput", {})
    broker = worker.get("wsklab_broker", "") or config.getoption("--wsklab-broker")
    return RunOptions(
        profiles=tuple(profiles),
        run_id=worker.get("wsklab_run", "") or config.getoption("--wsklab-run"),
        results=Path(config.getoption("--wsklab-results")),
        history=Path(history) if (history := config.getoption("--wsklab-history")) else None,
        buckets=Path(buckets) if (buckets := config.getoption("--wsklab-buckets")) else None,
        broker=Path(broker) if broker else None,
        allow_unimplemented=config.getoption("--wsklab-allow-unimplemented"),
        foreign=config.getoption("--wsklab-foreign"),
        hazard=config.getoption("--wsklab-hazard"),
        rules=config.getoption("--wsklab-rules"),
        each=config.getoption("--wsklab-guests-each"),
        workers=config.getoption("--wsklab-workers"),
        keep_failed=config.getoption("--wsklab-keep-failed"),
        require=tuple(filter(None, config.getoption("--wsklab-require").split(","))),
        scale=config.getoption("--wsklab-scale"),
        lease_s=config.getoption("--wsklab-lease-timeout"),
        cases=tuple(config.getoption("--wsklab-case")),
        keep_all=config.getoption("--wsklab-keep-all"),
        live=config.getoption("--wsklab-live"),
        again=not config.getoption("--wsklab-no-again"),
        reproduce=tuple(json.loads(config.getoption("--wsklab-reproduce"))),
    )
