"""Guests that several people and runs want at once: nobody gets what is another's, and a refusal is one line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lab_home import PROFILE, LabCommand

from wsklab.assemble import Lab
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.guest import Guest
from wsklab.lease import GRACE, expiry_after

_RUN = ("run", "--guest", PROFILE, "--allow-unimplemented", "--json")
_CASES = ("--", "-k", "test_bind or (test_accept and not second_guest)")
_UP = ("up", PROFILE, "--ttl", "30m", "--json")


class Patient(LabCommand):
    """The lab on a host that is busy with the other commands of a test: nothing here is about time."""

    @property
    def environ(self) -> Mapping[str, str]:
        """What a user of a slow host would have exported."""
        return {**super().environ, "WSKLAB_TIMEOUT_SCALE": "10"}


class Started:
    """A command at work, with output of its own."""

    def __init__(self, lab: LabCommand, *words: str) -> None:
        self.child = lab.start(*words)
        self._folder = lab.folder

    def end(self, seconds: float = 400.0) -> int:
        """Its exit code."""
        return self.child.wait(seconds)

    @property
    def errors(self) -> str:
        """What it has said on standard error so far, and the problems of its run."""
        said = (self._folder / "err").read_text()
        printed = (self._folder / "out").read_text()
        return said + (f"\n{json.loads(printed).get('problems')}" if printed else "")

    @property
    def document(self) -> dict[str, Any]:
        """What it printed."""
        assert "Traceback" not in self.errors, self.errors
        return dict(json.loads((self._folder / "out").read_text()))


@pytest.fixture
def begin(lab: LabCommand, tmp_path: Path) -> Iterator[Any]:
    """Start a command in a folder of its own; none outlives the test."""
    started: list[Started] = []

    def make(*words: str) -> Started:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Started(Patient(lab.home, folder), *words))
        return started[-1]

    yield make
    for one in started:
        if one.child.poll() is None:
            one.child.kill()
        one.child.wait(30)


@pytest.fixture(autouse=True)
def alone(lab: LabCommand) -> Iterator[None]:
    """A test that failed leaves nothing to the next one."""
    yield
    for row in lab.ok("list", "--json")["guests"]:
        lab.run("down", row["name"], "--json")
    for mark in (lab.home / "guests").glob("*/expired"):
        os.utime(mark, (0, 0))
    lab.ok("gc", "--json")


def _nothing_is_left(lab: LabCommand) -> None:
    """No guest, process, file, slot or run; and the lab itself sees nothing to remove."""
    assert lab.ok("gc", "--dry-run", "--json") == {"schema": 1, "removed": [], "kept": 0}
    assert lab.processes() == []
    assert list((lab.home / "guests").iterdir()) == []
    assert list((lab.home / "runs").iterdir()) == []
    slots = Path("/run/lock/wsklab-slots")
    assert [slot.name for slot in slots.glob("[0-9]*") if str(lab.home) in slot.read_text()] == []


@contextlib.contextmanager
def _guest(lab: LabCommand, name: str) -> Iterator[Guest]:
    with Lab(LabConfig(home=lab.home, mode=ModeSetting.PRIVATE)) as opened:
        yield next(found for found in opened.guests() if found.name == name)


def _verdicts(document: dict[str, Any]) -> dict[str, int]:
    return {row["verdict"]: row["cases"] for row in document["totals"]}


# -- several at the same time --------------------------------------------------------------------


def test_two_runs_and_a_sweep_do_not_disturb_each_other(lab: LabCommand, begin: Any) -> None:
    """Both runs decide every case, `gc` in between takes nothing, and afterwards nothing is left of either."""
    first = begin(*_RUN, "--workers", "2", *_CASES)
    second = begin(*_RUN, "--workers", "0", *_CASES)
    sweeps = 0
    while first.child.poll() is None or second.child.poll() is None:
        removed = lab.ok("gc", "--json", seconds=200)["removed"]
        # a run that ends beside a sweep leaves the network to it
        over = first.child.poll() is not None and second.child.poll() is not None
        assert [row for row in removed if not over or row["kind"] != "network"] == [], "a living run was swept"
        sweeps += 1
    assert sweeps > 3
    assert first.end() == 0, first.errors
    assert second.end() == 0, second.errors
    assert _verdicts(first.document) == _verdicts(second.document)
    assert set(_verdicts(first.document)) == {"passed"}
    names = [{guest["name"] for guest in one.document["guests"]} for one in (first, second)]
    assert names[0].isdisjoint(names[1])
    assert first.document["results_dir"] != second.document["results_dir"]
    _nothing_is_left(lab)


def test_a_name_is_given_once(lab: LabCommand, begin: Any) -> None:
    """Two `up --name` at the same moment: one has the guest, the other is a usage error that names it."""
    both = [begin(*_UP, "--name", "mine") for _ in range(2)]
    codes = sorted(one.end() for one in both)
    assert codes == [0, 2], [one.errors for one in both]
    error = next(one.document["error"] for one in both if one.end() == 2)
    assert error["message"] == "the name mine is taken"
    assert "wsklab down mine" in error["fix"]
    assert [row["name"] for row in lab.ok("list", "--json")["guests"]] == ["mine"]
    assert lab.run("exec", "mine", "--json", "--", "sc", "query", "nsiproxy").code == 0
    lab.ok("down", "mine", "--json")
    _nothing_is_left(lab)


# -- no room -------------------------------------------------------------------------------------


def test_no_memory_for_one_more_guest(lab: LabCommand) -> None:
    """A run on a full host: every case a lab error, one problem says what is missing, exit code 3, nothing left."""
    answer = lab.run(*_RUN, *_CASES, env={"WSKLAB_MEMORY_RESERVE_MIB": "100000000"}, seconds=300)
    assert answer.code == 3
    assert set(_verdicts(answer.document)) == {"lab_error"}
    (problem,) = answer.document["problems"]
    assert problem["class"] == "HostFull"
    assert problem["message"].startswith("not enough memory for one more guest: it needs ")
    assert "100000000 MiB reserved" in problem["why"]
    assert "wsklab down" in problem["fix"]
    assert answer.document["guests"] == []
    _nothing_is_left(lab)


def test_up_on_a_full_host(lab: LabCommand) -> None:
    """The same for `up`: exit code 3 and the same line."""
    answer = lab.run(*_UP, env={"WSKLAB_MEMORY_RESERVE_MIB": "100000000"})
    assert answer.code == 3
    assert answer.document["error"]["class"] == "HostFull"
    _nothing_is_left(lab)


def test_a_user_s_quota(lab: LabCommand) -> None:
    """With as many guests as allowed the next one is refused, whether `up` or a run asks; the first one lives on."""
    mine = lab.ok(*_UP)["guests"][0]["name"]
    quota = {"WSKLAB_QUOTA": "1"}
    answer = lab.run(*_UP, env=quota)
    assert answer.code == 3
    assert "no more than 1 are allowed" in answer.document["error"]["message"]
    run = lab.run(*_RUN, *_CASES, env=quota, seconds=300)
    assert run.code == 3
    assert [problem["class"] for problem in run.document["problems"]] == ["HostFull"]
    assert [row["name"] for row in lab.ok("list", "--json")["guests"]] == [mine]
    lab.ok("down", mine, "--json")
    _nothing_is_left(lab)


# -- leases that end -----------------------------------------------------------------------------


def test_a_lease_that_ends_while_it_is_used(lab: LabCommand, begin: Any) -> None:
    """The command that is at work in the guest learns that the lease is over, not that a channel broke: exit code 3."""
    name = lab.ok(*_UP)["guests"][0]["name"]
    using = begin("exec", name, "--timeout", "2", "--json", "--", "linux: sleep 1000")
    with _guest(lab, name) as guest:
        with guest.open_channel(Deadline.after(60)) as channel:
            look = "linux: pgrep -f '[s]leep 1000'"
            wait_until(
                lambda: channel.run(look, Deadline.after(30), check=False).exit_code == 0 or NotYet(using.errors),
                Deadline.after(100),
                what="the command in the guest",
            )
        metadata = guest.domain.metadata()
        assert metadata is not None
        over = expiry_after(-(GRACE + timedelta(minutes=1)))
        guest.domain.set_metadata(dataclasses.replace(metadata, expires=over))
    assert lab.ok("list", "--json")["guests"] == []
    assert using.end() == 3, using.errors
    error = using.document["error"]
    assert error["class"] == "LeaseExpired"
    assert error["message"] == f"the lease of {name} ended while it was in use"
    assert "wsklab extend" in error["fix"]
    assert Path(error["evidence"]["disk"]).is_file()
    os.utime(guest.directory / "expired", (0, 0))
    lab.ok("gc", "--json")
    _nothing_is_left(lab)


def test_the_guest_of_a_failed_case_stays(lab: LabCommand, tmp_path: Path) -> None:
    """`run --keep-failed`: the guest is the user's until it expires, and the printed command enters it."""
    plugin = tmp_path / "always_wrong.py"
    plugin.write_text(
        "import pytest\n\nWRONG = []\n\n\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_runtest_call(item):\n"
        "    WRONG.append(item)\n"
        "    assert len(WRONG) > 1, 'wrong on purpose'\n"
    )
    answer = Patient(lab.home, lab.folder).run(
        *_RUN, "--keep-failed", "--workers", "0", "--", "-k", "test_accept", "-p", plugin.stem,
        env={"PYTHONPATH": f"{lab.environ['PYTHONPATH']}:{tmp_path}"}, seconds=400,
    )  # fmt: skip
    assert answer.code == 1, answer
    (kept,) = answer.document["kept"]
    assert "wrong on purpose" in kept["why"]
    rows = {row["name"]: row for row in lab.ok("list", "--json")["guests"]}
    assert rows[kept["name"]]["purpose"] == "user"
    assert rows[kept["name"]]["expires"] == kept["expires"]
    assert "wrong on purpose" in rows[kept["name"]]["dirty"]
    assert kept["enter"] == f"wsklab ssh {kept['name']}"
    assert "RUNNING" in lab.ok("exec", kept["name"], "--json", "--", "sc", "query", "wsklab")["result"]["stdout"]
    assert lab.ok("gc", "--json")["removed"] == []
    lab.ok("down", *rows, "--json")
    _nothing_is_left(lab)


def test_a_case_is_debugged_on_a_guest_that_stays(lab: LabCommand) -> None:
    """`debug CASE`: run once, told live; the guest is the user's, with the driver in it, although the case passed."""
    case = "test_irp.py::test_ordinary_life_of_a_listener"
    answer = Patient(lab.home, lab.folder).run("debug", case, "--guest", PROFILE, "--json", seconds=400)
    assert answer.code == 0, answer
    lines = (Path(answer.document["results_dir"]) / "results.jsonl").read_text().splitlines()
    assert [(line["verdict"], line["second"]) for line in map(json.loads, lines)] == [("passed", None)]
    (kept,) = answer.document["kept"]
    assert lab.ok("list", "--json")["guests"][0]["name"] == kept["name"]
    hello = lab.ok("exec", kept["name"], "--json", "--", r"C:\wsklab\wskctl.exe op hello")
    assert hello["result"]["exit_code"] == 0
    lab.ok("down", kept["name"], "--json")
    _nothing_is_left(lab)


# -- the daemon ----------------------------------------------------------------------------------


def _libvirtd(lab: LabCommand) -> int:
    """The process id of the home's own libvirtd."""
    holder = lab.holder()
    assert holder is not None
    for child in Path(f"/proc/{holder}/task/{holder}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().strip() == "libvirtd":
            return int(child)
    raise AssertionError("no libvirtd")


def _until(what: str, check: Any) -> None:
    wait_until(check, Deadline.after(200), what=what)


def test_libvirtd_restarts_while_cases_run(lab: LabCommand, begin: Any) -> None:
    """Guests go on without it, and so does the run: every case decided, exit code 0, nothing left."""
    running = begin(*_RUN, "--workers", "2", *_CASES)
    results = running._folder / "results"
    _until("a case that has ended", lambda: any(results.glob("*/results.jsonl")) or NotYet(running.errors[-200:]))
    os.kill(_libvirtd(lab), signal.SIGKILL)
    assert running.end() == 0, running.errors
    assert set(_verdicts(running.document)) == {"passed"}
    assert running.document["problems"] == []
    _nothing_is_left(lab)


def test_libvirtd_restarts_while_a_guest_is_made(lab: LabCommand, begin: Any) -> None:
    """Either the guest came into being and the run is whole, or it is one lab error; nothing is left in any case."""
    running = begin(*_RUN, "--workers", "0", *_CASES)
    _until("a guest's directory", lambda: any((lab.home / "guests").iterdir()) or NotYet(running.errors[-200:]))
    os.kill(_libvirtd(lab), signal.SIGKILL)
    code = running.end()
    assert code in {0, 3}, running.errors
    verdicts = set(_verdicts(running.document))
    assert verdicts == ({"passed"} if code == 0 else {"lab_error"})
    problems = running.document["problems"]
    assert [problem["class"] for problem in problems] == ([] if code == 0 else ["HypervisorError"]), problems
    _nothing_is_left(lab)


def test_a_run_that_is_killed_is_swept_beside_a_living_one(lab: LabCommand, begin: Any) -> None:
    """kill -9 of one run: the sweep takes its guest and leaves the other run's alone, which ends well."""
    dead = begin(*_RUN, "--workers", "0", *_CASES)
    _until("the first guest", lambda: any((lab.home / "guests").iterdir()) or NotYet(dead.errors[-200:]))
    living = begin(*_RUN, "--workers", "0", *_CASES)
    _until("both guests", lambda: len(lab.processes()) == 2 or NotYet(f"{lab.processes()} {living.errors[-200:]}"))
    dead.child.send_signal(signal.SIGKILL)
    assert dead.child.wait(30) == -signal.SIGKILL
    removed = lab.ok("gc", "--json", seconds=200)["removed"]
    assert sorted(row["kind"] for row in removed) == ["guest", "run"], removed
    assert living.end() == 0, living.errors
    assert set(_verdicts(living.document)) == {"passed"}
    _nothing_is_left(lab)
