"""What is kept of a guest, by which way it came, and what it amends; with the shipped fakes."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypervisor_contract import spec_maker

from wsklab import network
from wsklab.channel.agent import GuestAgent
from wsklab.channel.fake import Ended, FakeChannel
from wsklab.crash import Cause, CrashReport
from wsklab.deadline import Deadline, NotYet, Timeouts, wait_until
from wsklab.errors import ChannelLost, ChannelProtocolError, HypervisorError
from wsklab.evidence import _WINE_LOG, Collector
from wsklab.guest import Guest, GuestRecord
from wsklab.hypervisor.fake import FakeHypervisor, FakeScript
from wsklab.lease_protocol import lost_mark
from wsklab.process import run
from wsklab.pytest_plugin.death_watch import DeathWatch
from wsklab.wine_crash import find_wine_crash

_LOG = (
    '0024:trace:loaddll:build_module Loaded L"C:\\\\wsklab\\\\wsklab-a4ac.sys" at 00000000021A0000: native\n'
    "wine: Unhandled page fault on write access to 0000000000000000 at address 00000000021A6ACD (thread 00bc) \x1b[3m\n"
)


class Agent:
    """A guest agent that reads the log in pieces, runs every program at once, and prints the log."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.gone = False
        self.reads = True
        self.crashes: list[str] = []
        self.asked: list[str] = []
        self._open: list[tuple[bytes, int]] = []

    def __call__(self, command: Mapping[str, object]) -> object:
        if self.gone:
            raise HypervisorError("the agent does not answer")
        self.asked.append(str(command["execute"]))
        arguments = cast("Mapping[str, Any]", command.get("arguments", {}))
        if command["execute"] == "guest-file-open":
            self._open.append((self._file(arguments["path"]), 0))
            return len(self._open) - 1
        if command["execute"] == "guest-file-seek":
            content, _ = self._open[arguments["handle"]]
            place = arguments["offset"] + (len(content) if arguments["whence"] == 2 else 0)
            self._open[arguments["handle"]] = content, place
            return {"position": place, "eof": False}
        if command["execute"] == "guest-file-read":
            content, place = self._open[arguments["handle"]]
            piece = content[place : place + min(arguments["count"], 1000)]
            self._open[arguments["handle"]] = content, place + len(piece)
            return {"buf-b64": base64.b64encode(piece).decode(), "count": len(piece), "eof": not piece}
        if command["execute"] == "guest-exec":
            return {"pid": 7}
        if command["execute"] == "guest-exec-status":
            return {"exited": True, "exitcode": 0, "out-data": base64.b64encode(self.log.encode()).decode()}
        return {}

    def _file(self, path: str) -> bytes:
        logs = {f"crash-{number}.log": log for number, log in enumerate(self.crashes, 1)}
        found = {"wine.log": self.log, **logs}.get(path.removeprefix("/var/log/wsklab/")) if self.reads else None
        if found is None:
            raise HypervisorError("cannot ask the agent", why=f"failed to open file '{path}'")
        return found.encode()


def refused(*_: Any, **__: Any) -> Any:
    """SSH that nobody gets through to."""
    raise ChannelLost("the connection to the guest broke", why="it is silent")


@pytest.fixture
def agent() -> Agent:
    return Agent(_LOG)


@pytest.fixture
def guest(tmp_path: Path, agent: Agent) -> Iterator[Guest]:
    """A wine guest whose SSH is gone and whose agent answers."""
    folder = tmp_path / "guest"
    folder.mkdir()
    (folder / "console.log").write_text("wsklab: ready\n\x1b]0;owned\x07wsklab: driver host died: x\n")
    (folder / "domain.xml").write_text("<domain/>")
    with FakeHypervisor(FakeScript(agent=agent)) as hypervisor:
        spec = spec_maker("0123", tmp_path, None)()
        domain = hypervisor.define(spec)
        domain.start()
        record = GuestRecord(
            name="w-1", profile="wine-bookworm", kind="wine", uuid=spec.uuid, slot=10, mac="", address="192.0.2.1",
            image="", created="",
        )  # fmt: skip
        made = Guest(
            record=record, directory=folder, domain=domain, via=network.Via(), key=folder / "key", opener=refused,
            timeouts=Timeouts(scale=1.0),
        )  # fmt: skip
        yield made


def report(cause: Cause) -> CrashReport:
    return CrashReport(cause=cause, reason="the driver's host process died", bucket="b")


def test_the_log_comes_by_the_agent(
    guest: Guest, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without SSH: the driver's log names the module and the fault; who brought it is written down."""
    monkeypatch.setattr(network, "connect", refused)
    folder = tmp_path / "evidence"
    final = Collector(Timeouts(scale=1.0)).collect(guest, report(Cause.DRIVER_CRASH), folder, capture=None)
    assert final is not None
    assert final.final
    assert "page fault on write access" in final.reason
    assert "wsklab-a4ac.sys+0x6acd" in final.reason
    assert final.bucket == "page fault on write access to N wsklab-a4ac.sys"
    sources = (folder / "sources.txt").read_text()
    assert "driver.log: by guest agent\n" in sources
    assert "packets: none" in sources
    assert "guest-exec" not in agent.asked, "no program was started in the guest"
    assert agent.asked.count("guest-file-close") == agent.asked.count("guest-file-open") - 1, "one is not there"
    assert (folder / "screen.png").read_bytes().startswith(b"\x89PNG")
    for name in ("console.log", "driver.log"):
        assert "\x1b" not in (folder / name).read_text(), "a guest's escapes reach no terminal"


def test_an_agent_that_reads_no_files_runs_a_command(guest: Guest, agent: Agent, tmp_path: Path) -> None:
    """Which files it opens is the distribution's decision."""
    agent.reads = False
    Collector(Timeouts(scale=1.0)).collect(guest, report(Cause.DRIVER_CRASH), tmp_path / "evidence", capture=None)
    assert "guest-exec" in agent.asked
    assert "driver.log: by guest agent\n" in (tmp_path / "evidence" / "sources.txt").read_text()


def test_of_a_long_log_what_matters_is_kept(guest: Guest, agent: Agent, tmp_path: Path) -> None:
    """Where the drivers are, the end of the newest crash, the end of the log; as the command brings it."""
    load, fault = _LOG.splitlines(keepends=True)
    traces = "00c4:trace:seh:dispatch_exception rax=0\n" * 2000
    agent.log = load + traces + fault + traces
    agent.crashes = [f"{traces}an old one\n", f"{traces}{fault}"]
    folder = tmp_path / "evidence"
    final = Collector(Timeouts(scale=1.0)).collect(guest, report(Cause.DRIVER_CRASH), folder, capture=None)
    assert final is not None
    assert "wsklab-a4ac.sys+0x6acd" in final.reason
    kept = (folder / "driver.log").read_text()
    assert len(kept) < 40000
    assert "an old one" not in kept
    assert "guest-exec" not in agent.asked
    agent.log = traces * 2 + load + traces + fault
    Collector(Timeouts(scale=1.0)).collect(guest, report(Cause.DRIVER_CRASH), folder, capture=None)
    assert "guest-exec" in agent.asked, "a driver that was loaded late is looked for in the guest"


def test_a_stop_names_no_module_and_none_is_looked_for(guest: Guest, agent: Agent, tmp_path: Path) -> None:
    """What KeBugCheckEx says is whole: no program is started for more."""
    agent.log = "00bc:err:ntoskrnl:KeBugCheckEx e2 1 2 3 4\n"
    folder = tmp_path / "evidence"
    final = Collector(Timeouts(scale=1.0)).collect(guest, report(Cause.DRIVER_CRASH), folder, capture=None)
    assert final is not None
    assert "0xE2 MANUALLY_INITIATED_CRASH" in final.reason
    assert "guest-exec" not in agent.asked


def test_an_agent_that_answers_nonsense_is_not_believed(agent: Agent) -> None:
    """Neither a file without a handle nor a piece that is none."""
    for nonsense in (
        {"guest-file-open": "7"},
        {"guest-file-read": {"buf-b64": "?"}},
        {"guest-file-read": []},
        {"guest-file-seek": {"position": None}},
    ):

        def send(command: Mapping[str, object], _deadline: Deadline, said: Mapping[str, object] = nonsense) -> Any:
            name = str(command["execute"])
            return {"return": said[name] if name in said else agent(command)}

        with pytest.raises(ChannelProtocolError):
            GuestAgent(send).read_file("/var/log/wsklab/wine.log", Deadline.after(5), limit=1 << 20, end=True)


def test_the_log_comes_by_ssh_when_the_agent_is_gone(
    guest: Guest, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way stands in for the other."""
    agent.gone = True
    monkeypatch.setattr(network, "connect", lambda *_words: None)
    monkeypatch.setattr(guest, "_opener", lambda **_words: FakeChannel({_WINE_LOG: Ended(stdout=_LOG)}))
    folder = tmp_path / "evidence"
    final = Collector(Timeouts(scale=1.0)).collect(guest, report(Cause.DRIVER_CRASH), folder, capture=None)
    assert final is not None
    assert "wsklab-a4ac.sys+0x6acd" in final.reason
    assert "driver.log: by SSH\n" in (folder / "sources.txt").read_text()


def test_the_log_of_windows_comes_by_the_agent_when_ssh_is_gone(
    guest: Guest, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSH is tried first there, and the reason is told."""
    monkeypatch.setattr(network, "connect", refused)
    monkeypatch.setattr(guest, "record", guest.record.model_copy(update={"kind": "windows"}))
    folder = tmp_path / "evidence"
    Collector(Timeouts(scale=1.0)).collect(guest, None, folder, capture=None)
    assert "events.txt: by guest agent, because SSH failed" in (folder / "sources.txt").read_text()
    assert "guest-exec" in agent.asked


def test_a_driver_that_was_loaded_long_ago_is_named(tmp_path: Path) -> None:
    """Its log has grown since; the command brings the line that tells where it is."""
    load, fault = _LOG.splitlines(keepends=True)
    traces = "00c4:trace:seh:dispatch_exception rax=0\n" * 20000
    (tmp_path / "wine.log").write_text(load + traces + fault)
    (tmp_path / "crash-1.log").write_text((traces + fault)[-131072:])
    command = _WINE_LOG.removeprefix("linux: ").replace("/var/log/wsklab", str(tmp_path))
    said = run(["sh", "-c", command], deadline=Deadline.after(30)).stdout
    assert len(said) < 1 << 16
    crash = find_wine_crash(said)
    assert crash is not None
    assert (crash.module, crash.offset) == ("wsklab-a4ac.sys", 0x6ACD)


def test_a_dead_kernel_is_asked_nothing(guest: Guest, agent: Agent, tmp_path: Path) -> None:
    """Its console is all there is; nobody waits for it."""
    folder = tmp_path / "evidence"
    final = Collector(Timeouts(scale=1.0)).collect(guest, report(Cause.KERNEL_CRASH), folder, capture=None)
    assert final == dataclasses.replace(report(Cause.KERNEL_CRASH), final=True)
    assert agent.asked == []
    assert "driver host died" in (folder / "console.log").read_text()


def test_a_source_that_fails_takes_no_other_with_it(
    guest: Guest, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither way leads in and the machine is off: the rest is kept, and what is missing has a reason."""
    monkeypatch.setattr(network, "connect", refused)
    monkeypatch.setattr(agent, "log", "")
    guest.domain.destroy()
    folder = tmp_path / "evidence"
    Collector(Timeouts(scale=0.05)).collect(guest, None, folder, capture=None)
    sources = (folder / "sources.txt").read_text()
    assert "driver.log: none" in sources
    assert (folder / "domain.xml").exists()


def test_a_death_is_noticed_on_a_silent_connection(tmp_path: Path) -> None:
    """By the words of a dying kernel, or by the lab's mark; once."""
    for number, die in enumerate((
        lambda console: console.write_text("Kernel panic - not syncing: x\n"),
        lambda console: lost_mark(console).touch(),
    )):  # fmt: skip
        console = tmp_path / str(number) / "console.log"
        console.parent.mkdir()
        console.touch()
        died = threading.Event()
        watch = DeathWatch(console, died.set)
        assert not died.wait(0.5)
        die(console)
        wait_until(lambda died=died: died.is_set() or NotYet("alive"), Deadline.after(5), what="the death")  # type: ignore[misc]
        watch.close()


def test_a_story_survives_the_border() -> None:
    """What the controller says is what the worker reads, signals included."""
    from wsklab.pytest_plugin.leases import Story

    told = Story("crashed", "it died", {"code": 10}, "driver_crash", "0xA")
    assert Story.read(json.loads(json.dumps(told.document()))) == told
