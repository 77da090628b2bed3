"""The command line: usage errors, exit codes, documents, start time. Fakes stand for the lab."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsklab.channel.fake import FakeChannel
from wsklab.cli import exits
from wsklab.cli.app import build_app
from wsklab.cli.main import main
from wsklab.cli.output import Output, plain
from wsklab.cli.runtime import Runtime
from wsklab.cli.services import Services
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Deadline, NotYet, Timeouts, wait_until
from wsklab.errors import (
    BootError,
    BugcheckError,
    ChannelLost,
    ConfigError,
    DeadlineExceeded,
    DomainGone,
    DriverLoadError,
    GuestCommandError,
    HostCommandError,
    HostFull,
    ImageError,
    LabError,
)
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


@pytest.fixture
def services(tmp_path: Path) -> FakeServices:
    """No guests."""
    return FakeServices(tmp_path)


# -- exit codes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((0, 3), 3), ((3, 4), 4), ((4, 1), 1), ((1, 2), 2), ((2, 130), 130), ((0, 3, 4, 1), 1), ((), 0)],
)
def test_precedence_of_exit_codes(codes: tuple[int, ...], expected: int) -> None:
    """130 > 2 > 1 > 4 > 3 > 0: a finding is not hidden by a fault of the lab."""
    assert exits.worst(codes) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigError("x"), 2),
        (HostCommandError("x", argv=["x"], exit_code=1), 3),
        (HostFull("x"), 3),
        (BootError("x"), 4),
        (ChannelLost("x"), 4),
        (DriverLoadError("x", service="s", win32=31), 1),
        (BugcheckError("x", code=1, parameters=(0, 0, 0, 0)), 1),
        (GuestCommandError("x", command="x", exit_code=1), 1),
        (DeadlineExceeded("x", waited_s=1.0), 3),
    ],
)
def test_exit_code_of_an_error(error: LabError, expected: int) -> None:
    """Whose fault it is decides the exit code."""
    assert exits.error_exit_code(error) == expected


# -- usage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["nope"],
        ["up"],
        ["up", "wine-bookworm", "--count", "0"],
        ["up", "wine-bookworm", "--cuont", "2"],
        ["up", "wine-bookwrm"],
        ["up", "wine-bookworm", "--ttl", "soon"],
        ["up", "wine-bookworm", "--driver", "/nonexistent/x.sys"],
        ["up", "wine-bookworm", "--name", "a", "--count", "2"],
        ["up", "wine-bookworm", "--service", "x"],
        ["up", "wine-bookworm", "--trace", "Microsoft-Windows-Winsock-AFD"],
        ["up", "wine-bookworm", "--trace", "{no-guid}"],
        ["run", "--guest", "wine-bookworm", "--trace", "Microsoft-Windows-Winsock-AFD"],
        ["list", "nobody"],
        ["extend", "nobody"],
        ["screenshot", "nobody"],
        ["logs", "nobody"],
        ["down", "nobody"],
        ["ssh", "nobody"],
        ["run", "--guest", "win95"],
        ["run", "--driver", "/nonexistent/x.sys"],
        ["driver", "check", "/nonexistent/x.sys"],
        ["results", "show"],
        ["results", "import", "/nonexistent/kit.json"],
        ["list", "--config", "/nonexistent/wsklab.toml"],
        ["deploy", "nobody", "/nonexistent/x.sys"],
        ["put", "/nonexistent/file", "nobody"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("mode", [[], ["--json"]], ids=["human", "json"])
def test_mistakes_of_the_user(services: FakeServices, argv: list[str], mode: list[str]) -> None:
    """A mistake is exit code 2 with what, why and fix; with --json as one document on standard output."""
    answer = call(services, *argv, *mode)

    assert answer.code == exits.USAGE
    assert "  why: " in answer.err
    assert "  fix: " in answer.err
    assert "Traceback" not in answer.err
    if mode:
        error = answer.document["error"]
        assert [bool(error[key]) for key in ("class", "message", "why", "fix")] == [True] * 4
    else:
        assert answer.out == ""


def test_nearest_name_is_offered(services: FakeServices) -> None:
    """An unknown profile names the nearest one."""
    answer = call(services, "up", "wine-bookwrm", "--json")

    assert answer.document["error"]["evidence"]["nearest"] == "wine-bookworm"


@pytest.mark.parametrize("argv", [[], ["image"], ["driver"], ["results"]])
def test_no_command_shows_the_help(services: FakeServices, argv: list[str]) -> None:
    """A group without a command is a usage error whose message is the help."""
    answer = call(services, *argv)

    assert (answer.code, "Usage: wsklab" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        *("run", "doctor", "guests", "up", "list", "down", "ssh", "proxy", "exec", "put", "get", "console"),
        *(
            "extend",
            "deploy",
            "gc",
            "image build",
            "image list",
            "image verify",
            "driver build",
            "driver check",
            "driver kit",
        ),
        *("results list", "results show", "results import"),
    ],
)
def test_every_command_has_the_shared_options(
    services: FakeServices, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command explains itself and takes --json, --config and -v."""
    answer = call(services, *command.split(), "--help")
    text = capsys.readouterr().out

    assert answer.code == 0
    assert [option for option in ("--json", "--config", "--verbose") if option not in text] == []


def test_commands_page_names_every_command() -> None:
    """docs/commands.md has each command that is listed, and no other."""
    page = (SOURCE.parent / "docs/commands.md").read_text()
    app = build_app()
    names = [str(info.name) for info in app.registered_commands]
    for group in app.registered_groups:
        if not group.hidden and group.typer_instance is not None and group.name not in {"config", "internal"}:
            names += [f"{group.name} {info.name}" for info in group.typer_instance.registered_commands]
    documented = set(re.findall(r"`(?:\./)?wsklab ((?:image |driver |results )?[a-z]+)", page)) - {"selftest"}

    assert documented - {"--install"} == set(names)


# -- documents -----------------------------------------------------------------------------------------------------


def test_guests_document(services: FakeServices) -> None:
    """`guests --json` has the fields of the format."""
    answer = call(services, "guests", "--json")

    assert answer.document == {
        "schema": 1,
        "guests": [
            {
                "profile": name,
                "kind": "wine",
                "release": "Debian 12",
                "build": "wine-8.0",
                "image": state,
                "capabilities": ["output_clamped"],
            }
            for name, state in (("wine-bookworm", "present"), ("wine-trixie", "absent"))
        ],
    }


def test_images_are_removed_unless_a_guest_is_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their templates; a guest on one of them stops it before anything is deleted."""
    services = FakeServices(tmp_path, ["g1"])
    services.known[0].record.image = "0123"
    gone: list[str] = []
    images = [
        SimpleNamespace(profile=name, digest=digest, directory=tmp_path, manifest={})
        for name, digest in (("wine-bookworm", "0123"), ("wine-trixie", "4567"))
    ]
    templates = [
        SimpleNamespace(manifest=SimpleNamespace(image=digest), directory=Path(f"/t/{digest}"))
        for digest in ("0123", "4567")
    ]
    store = SimpleNamespace(list=lambda **_: images, remove=lambda image: gone.append(image.digest))
    monkeypatch.setattr(services, "store", lambda _: store)
    kept = SimpleNamespace(list=lambda: templates, discard=lambda path: gone.append(str(path)))
    monkeypatch.setattr(services, "templates", lambda _: kept)
    refused = call(services, "image", "remove", "*", "--json")
    assert refused.code == 2
    assert refused.document["error"]["evidence"]["guests"] == ["g1"]
    assert gone == []
    assert call(services, "image", "remove", "wine-trixie", "--json").code == 0
    assert gone == ["/t/4567", "4567"]


def test_up_document(services: FakeServices) -> None:
    """`up --json` tells name, address, how to log in, how it was made and until when."""
    answer = call(services, "up", "wine-bookworm", "--json")

    (guest,) = answer.document["guests"]
    assert set(guest) == {
        "name", "profile", "kind", "address", "host", "via", "ssh", "method", "why", "ready_s", "dirty", "expires",
    }  # fmt: skip
    assert (guest["via"], guest["ssh"][0], guest["ssh"][-1]) == (None, "ssh", "Administrator@192.168.213.10")


def test_ssh_goes_through_the_proxy_into_a_namespace(tmp_path: Path) -> None:
    """An address that exists only in a namespace is reached by `wsklab proxy`, with home and mode spelled out."""
    services = FakeServices(tmp_path)
    services.known = [FakeGuest("g1", tmp_path, netns=Path("/proc/7/ns/net"))]

    answer = call(services, "list", "--json", environ={"WSKLAB_INTERNAL_LAUNCHER": "/x y/wsk%lab"})

    (guest,) = answer.document["guests"]
    assert guest["via"] == {"netns": "/proc/7/ns/net"}
    expected = f"ProxyCommand=env WSKLAB_HOME={tmp_path} WSKLAB_MODE=private '/x y/wsk%%lab' proxy g1 %p"
    assert expected in guest["ssh"]
    assert (tmp_path / "known_hosts").read_text() == "g1 ssh-ed25519 AAAA\n"


@pytest.mark.parametrize("folder", ["plain", "with blank", "per%cent", "quo'te", 'two"quotes"'])
def test_ssh_config_is_read_by_openssh_as_it_is_meant(tmp_path: Path, folder: str) -> None:
    """`ssh -G` sees the same in the printed configuration and in the printed command line, odd paths included."""
    place = tmp_path / folder
    place.mkdir()
    services = FakeServices(place)
    services.known = [FakeGuest("g1", place, netns=Path("/proc/7/ns/net")), FakeGuest("g2", place)]
    environ = {"WSKLAB_INTERNAL_LAUNCHER": str(place / "wsklab")}

    file = tmp_path / "config"
    file.write_text(call(services, "list", "--ssh-config", environ=environ).out)
    rows = call(services, "list", "--json", environ=environ).document["guests"]
    for row in rows:
        by_file = _openssh_reads("-F", str(file), row["name"])
        by_line = _openssh_reads("-F", "none", *row["ssh"][1:])
        wanted = ("user", "hostname", "identityfile", "userknownhostsfile", "hostkeyalias", "identitiesonly")
        assert {key: by_file[key] for key in wanted} == {key: by_line[key] for key in wanted}
        assert by_file.get("proxycommand") == by_line.get("proxycommand")
        assert by_file["user"] == "Administrator"
        # percent signs are doubled up to the moment of use
        assert by_file["identityfile"] == str(place / "key").replace("%", "%%")


def _openssh_reads(*words: str) -> dict[str, str]:
    """Keyword to value, as OpenSSH prints what it would do."""
    result = subprocess.run(["ssh", "-G", *words], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in result.stdout.splitlines() if " " in line)


def test_list_document_has_state_owner_purpose(tmp_path: Path) -> None:
    """`list` is `up` plus state, owner and purpose."""
    answer = call(FakeServices(tmp_path, ["a"]), "list", "--json")

    (guest,) = answer.document["guests"]
    assert (guest["state"], guest["owner"], guest["purpose"]) == ("running", "me", "user")


def test_down_takes_patterns(tmp_path: Path) -> None:
    """`down 'wine-*'` removes what fits, and nothing else."""
    services = FakeServices(tmp_path, ["wine-10", "other", "wine-11"])

    answer = call(services, "down", "wine-*", "--json")

    assert (answer.document["removed"], sorted(services.destroyed)) == (["wine-10", "wine-11"], ["wine-10", "wine-11"])


def test_a_pattern_means_one_s_own_guests(tmp_path: Path) -> None:
    """Somebody else's guest and one that a living run uses are kept and told; their full name removes them."""
    services = FakeServices(tmp_path, ["mine", "run", "dead", "others"])
    services.known[1].metadata.run = "alive"
    services.known[2].metadata.run = "gone"
    services.known[3].metadata.owner = "you"

    answer = call(services, "down", "*", "--json")

    assert answer.document["removed"] == ["mine", "dead"]
    assert [row["name"] for row in answer.document["kept"]] == ["run", "others"]
    assert call(services, "down", "run", "others", "--json").document["removed"] == ["run", "others"]


def test_down_goes_on_after_a_failure(tmp_path: Path) -> None:
    """A guest that cannot be removed does not keep the others alive; the error names those that are gone."""

    class Stubborn(FakeServices):
        def destroy(self, lab: Any, guest: Any) -> None:
            if guest.name == "a":
                raise HostCommandError("stuck", argv=["x"], exit_code=1)
            super().destroy(lab, guest)

    services = Stubborn(tmp_path, ["a", "b"])
    answer = call(services, "down", "a", "b", "--json")

    assert (answer.code, services.destroyed) == (exits.LAB, ["b"])
    assert answer.document["error"]["evidence"]["removed"] == ["b"]


def test_extend_says_until_when(tmp_path: Path) -> None:
    """The new end, or the old one when that is later."""
    services = FakeServices(tmp_path, ["a", "b"])

    answer = call(services, "extend", "a", "b", "--ttl", "2h", "--json")

    assert answer.document["guests"] == [{"name": name, "expires": "2030-01-01T00:00:00Z"} for name in ("a", "b")]
    assert "which is later than" in call(services, "extend", "a").out


@pytest.mark.parametrize("ttl", ["", "soon", "4", "h", "0h", "-1h", "1.5h", "4 h", "1h30m", "9999999d"])
def test_spans_that_are_none(tmp_path: Path, ttl: str) -> None:
    """A span is one number and one unit; the error shows good ones."""
    for words in (("extend", "a"), ("up", "wine-bookworm")):
        answer = call(FakeServices(tmp_path, ["a"]), *words, f"--ttl={ttl}", "--json")
        assert (answer.code, "30m" in answer.document["error"]["fix"]) == (exits.USAGE, True)


def test_list_leaves_out_a_guest_that_goes_away(tmp_path: Path) -> None:
    """Between two looks a guest is removed: the others are listed."""
    services = FakeServices(tmp_path, ["gone", "here"])

    def gone() -> Any:
        raise DomainGone("cannot look at gone")

    services.known[0].domain.state = gone

    assert [row["name"] for row in call(services, "list", "--json").document["guests"]] == ["here"]


def test_list_takes_patterns_and_says_when_there_is_nothing(tmp_path: Path) -> None:
    """Only the guests that fit; an empty home tells how to get a guest."""
    services = FakeServices(tmp_path, ["a1", "a2", "b"])

    assert [row["name"] for row in call(services, "list", "a*", "--json").document["guests"]] == ["a1", "a2"]
    assert "wsklab up PROFILE" in call(FakeServices(tmp_path), "list").out


@pytest.mark.parametrize("dry_run", [False, True])
def test_gc_document(services: FakeServices, dry_run: bool) -> None:
    """`gc` lists what is removed and counts what is kept; --dry-run has the same form."""
    answer = call(services, "gc", "--json", *(["--dry-run"] if dry_run else []))

    assert answer.document == {
        "schema": 1,
        "removed": [{"kind": "guest", "name": "g", "why": "orphan"}],
        "kept": 1,
    }


class FakeSystemd(FakeServices):
    """A host with or without systemd; what would be run is noted."""

    def __init__(self, tmp_path: Path, *, there: bool) -> None:
        super().__init__(tmp_path)
        self.there = there
        self.ran: list[list[str]] = []

    def has_service_manager(self) -> bool:
        """As the test says."""
        return self.there

    def run_host_command(self, argv: Sequence[str], timeout_s: float) -> None:
        """Remember it."""
        self.ran.append(list(argv))


def test_the_timer_is_written_and_started(tmp_path: Path) -> None:
    """--dry-run shows units and commands and changes nothing; without it both happen."""
    services = FakeSystemd(tmp_path, there=True)

    shown = call(services, "gc", "--install-timer", "--dry-run", environ={"WSKLAB_INTERNAL_LAUNCHER": "/opt/wsklab"})
    assert "ExecStart=/opt/wsklab gc" in shown.out
    assert (services.ran, list(tmp_path.iterdir())) == ([], [])
    document = call(services, "gc", "--install-timer", "--json").document
    assert [unit["text"] == Path(unit["path"]).read_text() for unit in document["units"]] == [True, True]
    assert services.ran == document["commands"]
    assert services.ran[1][-3:] == ["enable", "--now", "wsklab-gc-1a2b3c4d.timer"]


def test_without_systemd_the_timer_is_a_line_for_cron(tmp_path: Path) -> None:
    """The error says what to let another service run."""
    answer = call(FakeSystemd(tmp_path, there=False), "gc", "--install-timer")

    assert answer.code == exits.LAB
    assert f"*/5 * * * * env WSKLAB_HOME={tmp_path} WSKLAB_MODE=private /usr/bin/env PYTHONPATH=" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_half_of_several_guests_is_taken_back(tmp_path: Path) -> None:
    """When the second guest cannot be started the first is removed; document and remarks say what became of each."""
    services = FakeServices(tmp_path, error=HostFull("no room", why="memory", fix="wait"))

    answer = call(services, "up", "wine-bookworm", "--count", "2", "--json")

    assert (answer.code, services.destroyed) == (exits.LAB, ["wine-bookworm-10"])
    assert answer.document["guests"] == []
    assert answer.document["error"]["class"] == "HostFull"
    (row,) = answer.document["error"]["evidence"]["guests"]
    assert row["name"] == "wine-bookworm-10"
    assert "wine-bookworm-10: " in answer.err
    assert "removed again" in answer.err


def test_the_first_failure_does_not_wait_for_slow_guests(tmp_path: Path) -> None:
    """A guest that fails ends the waiting for one that would boot for ever; the failed one is named."""
    slow = threading.Event()

    class OneFails(FakeServices):
        def wait_ready(self, lab: Any, guest: Any, profile: Any, *, fresh: bool) -> None:
            if guest.name.endswith("-10"):
                assert slow.wait(20), "nobody stopped it"
                raise BootError("taken away")
            raise BootError(f"guest {guest.name} did not become ready", why="its kernel panicked", fix="look")

        def destroy(self, lab: Any, guest: Any) -> None:
            super().destroy(lab, guest)
            slow.set()

    services = OneFails(tmp_path)
    answer = call(services, "up", "wine-bookworm", "--count", "2", "--json")

    assert (answer.code, sorted(services.destroyed)) == (exits.GUEST, ["wine-bookworm-10", "wine-bookworm-11"])
    assert answer.document["error"]["message"] == "guest wine-bookworm-11 did not become ready"
    states = {row["name"]: row["state"] for row in answer.document["error"]["evidence"]["guests"]}
    assert states["wine-bookworm-10"] == "booting"
    assert states["wine-bookworm-11"].startswith("failed: ")


def test_several_guests_boot_at_the_same_time(tmp_path: Path) -> None:
    """Three boots wait for each other: only possible when none waits for its turn."""
    barrier = threading.Barrier(3, timeout=20)

    class Together(FakeServices):
        def wait_ready(self, lab: Any, guest: Any, profile: Any, *, fresh: bool) -> None:
            barrier.wait()

    answer = call(Together(tmp_path), "up", "wine-bookworm", "--count", "3", "--json")

    assert [guest["name"] for guest in answer.document["guests"]] == [f"wine-bookworm-{n}" for n in (10, 11, 12)]


def test_up_says_what_to_expect_and_who_ends_it(tmp_path: Path) -> None:
    """Expected time from earlier guests, end of the lease with what is left, who ends it, how to get in."""
    answer = call(FakeServices(tmp_path), "up", "wine-bookworm")

    assert "guest wine-bookworm ... expected 7 s" in answer.err
    assert "ready after 4.5 s (boot), yours until 2030-01-01" in answer.out
    assert "  wsklab ssh wine-bookworm-10 " in answer.out
    assert "then the lab's daemon ends it" in answer.out
    assert "expected" not in call(FakeServices(tmp_path), "up", "wine-bookworm", "--fresh").err


@pytest.mark.parametrize("name", ["taken", "a b", "*", "-x", "x" * 41, "a/b", "\x1b[31m"])
def test_names_that_no_guest_can_get(tmp_path: Path, name: str) -> None:
    """A taken name and an impossible one are usage errors before anything is started."""
    services = FakeServices(tmp_path, ["taken"])

    answer = call(services, "up", "wine-bookworm", f"--name={name}", "--json")

    assert (answer.code, len(services.known)) == (exits.USAGE, 1)
    assert answer.document["error"]["fix"]


def test_interrupt_says_what_was_cleaned(tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and names what was put away."""
    services = FakeServices(tmp_path, error=KeyboardInterrupt())

    answer = call(services, "up", "wine-bookworm", "--count", "2")

    assert (answer.code, "guest wine-bookworm-10" in answer.err) == (exits.INTERRUPTED, True)


def test_guests_are_the_user_s_only_when_all_are_ready(services: FakeServices) -> None:
    """Until then they are of a run that dies with the command, so that a killed `up` leaves work for gc only."""
    assert call(services, "up", "wine-bookworm", "--count", "2").code == exits.OK
    assert services.handed_over == ["wine-bookworm-10", "wine-bookworm-11"]

    services.boot_error = KeyboardInterrupt()
    call(services, "up", "wine-bookworm")
    assert len(services.handed_over) == 2


def test_interrupt_while_the_first_guest_boots(services: FakeServices) -> None:
    """A guest that was only booting is taken back and named, too."""
    services.boot_error = KeyboardInterrupt()

    answer = call(services, "up", "wine-bookworm")

    assert (answer.code, services.destroyed) == (exits.INTERRUPTED, ["wine-bookworm-10"])
    assert "cleaned up: guest wine-bookworm-10" in answer.err


def test_interrupted_run_prints_its_document(tmp_path: Path) -> None:
    """`run --json` prints its document even when it is cut short, with what is known and the error."""

    class Interrupted(FakeServices):
        def ensure_image(self, *arguments: object, **named: object) -> None:
            raise KeyboardInterrupt

    answer = call(Interrupted(tmp_path), "run", "--json")

    document = answer.document
    assert (answer.code, document["exit_code"], document["error"]["class"]) == (130, 130, "Interrupted")
    assert {"run_id", "wall_s", "results_dir", "guests", "results", "totals"} <= set(document)


# -- other hosts ---------------------------------------------------------------------------------------------------


def test_a_guest_on_another_host_is_reached_through_it(tmp_path: Path) -> None:
    """The printed command line jumps; `list` shows the host."""
    services = FakeServices(tmp_path, ["near"])
    far = FakeGuest("far", tmp_path)
    far.via = SimpleNamespace(netns=None, jump=("ssh", "-F", "/a b", "me@rack1"), host="rack1")
    services.known.append(far)

    rows = {row["name"]: row for row in call(services, "list", "--json").document["guests"]}
    assert (rows["near"]["host"], rows["far"]["host"]) == ("local", "rack1")
    assert "ProxyCommand=ssh -F '/a b' -W [%h]:%p me@rack1" in rows["far"]["ssh"]
    assert _openssh_reads("-F", "none", *rows["far"]["ssh"][1:])["hostname"] == "192.168.213.10"
    assert "rack1" in call(services, "list").out
    assert "rack1" not in call(services, "list", "near").out


def test_a_host_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    """Its guests are missing in the list; a name that nobody has may be one of them."""

    class Absent(FakeServices):
        @contextlib.contextmanager
        def lab(self, config: LabConfig) -> Iterator[Any]:  # type: ignore[override]
            with super().lab(config) as lab:
                lab.absent_hosts = {"rack1": "no route"}
                yield lab

    listed = call(Absent(tmp_path, ["a"]), "list", "--json")
    assert listed.document["absent_hosts"] == {"rack1": "no route"}
    assert "host rack1 is not reachable" in listed.err
    missing = call(Absent(tmp_path, ["a"]), "down", "far")
    assert (missing.code, "rack1 is not reachable" in missing.err) == (exits.LAB, True)


# -- screenshots and logs ------------------------------------------------------------------------------------------

SCREEN = b"P6\n2 1\n255\nabcdef"


def windows_guest(services: FakeServices, name: str) -> None:
    """Add a guest that has a screen."""
    guest = FakeGuest(name, services.tmp_path)
    guest.record.kind = "windows"
    guest.domain.screenshot = lambda: SCREEN
    services.known.append(guest)


def test_a_screenshot_is_a_png_named_after_the_guest(tmp_path: Path) -> None:
    """Written to the current folder, another folder, or a file."""
    services = FakeServices(tmp_path)
    windows_guest(services, "w1")
    (tmp_path / "pictures").mkdir()

    (row,) = call(services, "screenshot", "w1", "--json", folder=tmp_path).document["pictures"]
    assert (row["file"], row["width"], row["height"]) == (str(tmp_path / "w1.png"), 2, 1)
    assert (tmp_path / "w1.png").read_bytes()[:4] == b"\x89PNG"
    for where, file in (("pictures", "pictures/w1.png"), ("x.png", "x.png")):
        assert call(services, "screenshot", "w1", "-o", where, folder=tmp_path).code == exits.OK
        assert (tmp_path / file).exists()


def test_a_wine_guest_says_that_it_has_no_screen(tmp_path: Path) -> None:
    """Alone it is a mistake with the way out named; among others it is left out and told; --force takes it anyway."""
    services = FakeServices(tmp_path, ["a"])
    services.known[0].domain.screenshot = lambda: SCREEN

    alone = call(services, "screenshot", "a", folder=tmp_path)
    assert (alone.code, "wsklab console a" in alone.err) == (exits.USAGE, True)
    windows_guest(services, "w1")
    both = call(services, "screenshot", "*", "--json", folder=tmp_path)
    assert [row["name"] for row in both.document["pictures"]] == ["w1"]
    assert (both.document["skipped"], "a: no screen" in both.err) == (["a"], True)
    assert call(services, "screenshot", "a", "--force", folder=tmp_path).code == exits.OK


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    """Two pictures do not go into one file, and a folder that is not there is named."""
    services = FakeServices(tmp_path)
    windows_guest(services, "w1")
    windows_guest(services, "w2")

    assert call(services, "screenshot", "w*", "-o", "x.png", folder=tmp_path).code == exits.USAGE
    missing = call(services, "screenshot", "w1", "-o", "no/x.png", folder=tmp_path)
    assert (missing.code, "No such file" in missing.err) == (exits.USAGE, True)


def guest_with_logs(tmp_path: Path) -> FakeServices:
    """A wine guest that answers the two log commands."""
    services = FakeServices(tmp_path, ["a"])
    texts = {"wine.log": "7\nwsklab: loaded\n", "qemu-ga.log": "0\n"}

    class Channel(FakeChannel):
        def run(self, command: str, deadline: Any, *, check: bool = True) -> Any:
            text = next(text for file, text in texts.items() if file in command)
            return SimpleNamespace(stdout=text)

    services.known[0].open_channel = lambda _deadline: Channel()
    return services


def test_logs_show_every_source(tmp_path: Path) -> None:
    """Console, driver and agent with their places; escapes are shown, an empty log is said."""
    answer = call(guest_with_logs(tmp_path), "logs", "a", "-n", "5")

    assert "== console: " in answer.out
    assert "last 5\\x1b[31m" in answer.out
    assert "== driver: /var/log/wsklab/wine.log\nwsklab: loaded" in answer.out
    assert "(empty)" in answer.out
    document = call(guest_with_logs(tmp_path), "logs", "a", "-s", "driver", "--json").document
    assert [(row["source"], row["text"]) for row in document["logs"]] == [("driver", "wsklab: loaded")]


def test_a_guest_that_cannot_be_entered_still_has_a_console(tmp_path: Path) -> None:
    """What cannot be read is said; asked for alone it is the error, with the guest's exit code."""
    services = guest_with_logs(tmp_path)

    def lost(_deadline: Any) -> Any:
        raise ChannelLost("cannot connect", why="no route")

    def deaf(_command: Any, _deadline: Any) -> Any:
        raise DeadlineExceeded("the guest agent", waited_s=0.0)

    services.known[0].open_channel = lost
    services.known[0].domain.agent_command = deaf
    answer = call(services, "logs", "a")
    assert (answer.code, "driver: cannot connect: no route" in answer.err) == (exits.OK, True)
    assert call(services, "logs", "a", "-s", "driver").code == exits.GUEST


@pytest.mark.parametrize("words", [["-f", "--json"], ["--for", "3s"], ["-f", "--for", "soon"], ["-s", "nothing"]])
def test_log_options_that_do_not_fit(tmp_path: Path, words: list[str]) -> None:
    """A document has an end, following has not; a limit needs something to limit."""
    assert call(guest_with_logs(tmp_path), "logs", "a", *words).code == exits.USAGE


# -- debuggers -----------------------------------------------------------------------------------------------------


def test_debug_says_the_ways_for_a_wine_guest(tmp_path: Path) -> None:
    """gdb and winedbg at a driver, the second serial port; every line names the guest."""
    answer = call(FakeServices(tmp_path, ["a"]), "debug", "a")

    for line in ("wsklab debug a --attach SERVICE", "wsklab ssh a winedbg", "wsklab debug a --serial a.com2"):
        assert f"  {line} " in answer.out
    assert "bcdedit" not in answer.out


def test_debug_says_the_ways_for_a_windows_guest(tmp_path: Path) -> None:
    """KDNET by the rules of bcdedit's page: a port from 49152 on, a key of four words of a-z and 0-9."""
    services = FakeServices(tmp_path)
    windows_guest(services, "w1")
    services.known[0].record.uuid = "11111111-2222-3333-4444-555555555555"

    out = call(services, "debug", "w1").out
    found = re.search(r"wsklab exec w1 -- bcdedit /dbgsettings net hostip:(\S+) port:(\d+) key:(\S+)\n", out)
    assert found is not None
    host, port, key = found.groups()
    assert (host, int(port) >= 49152) == ("192.168.213.1", True)
    assert re.fullmatch(r"([a-z0-9]+\.){3}[a-z0-9]+", key)
    assert f"windbg -k net:port={port},key={key}" in out
    assert "debugport:2 baudrate:115200" in out
    assert "nobody of this project has run these lines on Windows yet" in out
    assert call(services, "debug", "w1").out == out  # the same key again


@pytest.mark.parametrize(
    "words",
    [
        ["w1", "--attach", "x"],
        ["a", "--attach", "x", "--serial", "y"],
        ["a", "--symbols", __file__],
        ["a", "--attach", "x", "--symbols", "/nonexistent"],
        ["nobody"],
    ],
    ids=" ".join,
)
def test_debug_options_that_do_not_fit(tmp_path: Path, words: list[str]) -> None:
    """Each is told before anything is stopped."""
    services = FakeServices(tmp_path, ["a"])
    windows_guest(services, "w1")

    answer = call(services, "debug", *words)
    assert (answer.code, "  fix: " in answer.err) == (exits.USAGE, True)


def test_the_serial_port_is_a_socket_until_the_guest_ends(tmp_path: Path) -> None:
    """A client's bytes reach the guest and the guest's the client; the next client finds the port free again."""
    services = FakeServices(tmp_path, ["a"])
    lines: list[socket.socket] = []
    opened = threading.Semaphore(0)

    def open_serial(port: int) -> socket.socket:
        assert port == 1
        ours, theirs = socket.socketpair()
        lines.append(ours)
        opened.release()
        return theirs

    services.known[0].domain.open_serial = open_serial
    answers: list[Answer] = []
    worker = threading.Thread(target=lambda: answers.append(_call_off_main(services, "debug", "a", "--serial", "x")))
    worker.start()
    assert opened.acquire(timeout=10)  # the trial at the start
    for number in (1, 2):
        with socket.socket(socket.AF_UNIX) as client:
            wait_until(
                lambda c=client: _connected(c, tmp_path / "x"),
                Deadline.after(10),
                what="the socket",  # type: ignore[misc]
            )
            assert opened.acquire(timeout=10)
            lines[number].sendall(b"from the guest")
            client.settimeout(10)
            assert client.recv(100) == b"from the guest"
            client.sendall(b"to the guest")
            assert lines[number].recv(100) == b"to the guest"
    services.known[0].domain.state = lambda: "off"
    worker.join(20)
    assert (answers[0].code, "a is off" in answers[0].err) == (exits.OK, True)
    assert not (tmp_path / "x").exists()
    for line in lines:
        line.close()


def _connected(client: socket.socket, path: Path) -> bool | NotYet:
    try:
        client.connect(str(path))
    except OSError as error:
        return NotYet(str(error))
    return True


def _call_off_main(services: FakeServices, *argv: str) -> Answer:
    """Run a command in this thread, where no signal handler can be set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["wsklab.cli.main"], "_polite_signals", lambda _runtime: contextlib.nullcontext())
        return call(services, *argv, folder=services.tmp_path)


# -- output --------------------------------------------------------------------------------------------------------


def test_no_colour_when_not_a_terminal(tmp_path: Path) -> None:
    """Tables and texts for a pipe contain no escape sequences, whatever a guest said."""
    services = FakeServices(tmp_path, ["a"])

    texts = [call(services, "list").out, call(services, "console", "a").out]

    assert [("\x1b" in text) for text in texts] == [False, False]
    assert "last 40\\x1b[31m" in texts[1]


def test_a_dirty_guest_is_shown_as_such(tmp_path: Path) -> None:
    """`list` says that a guest runs and is dirty; its document says why."""
    services = FakeServices(tmp_path, ["a"])
    services.known[0].record.dirty = "a driver is stuck"

    assert "running, dirty" in call(services, "list").out
    assert call(services, "list", "--json").document["guests"][0]["dirty"] == "a driver is stuck"


@pytest.mark.parametrize(("text", "shown"), [("a\x07b", "a\\x07b"), ("a\x9bb", "a\\x9bb"), ("a\tb\nc", "a\tb\nc")])
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    """Only tabulator and line end reach the terminal raw."""
    assert plain(text) == shown


def test_progress_is_plain_lines_for_a_pipe() -> None:
    """Long work says start and end in lines when nobody looks at a terminal."""
    err = io.StringIO()
    output = Output(stdout=io.StringIO(), stderr=err, clock=iter([0.0, 2.5]).__next__)

    with output.progress("image x", expected_s=3) as step:
        step("hidden without -v")

    assert err.getvalue().splitlines() == ["image x ... expected 3 s", "image x: done in 2.5 s"]


# -- the process ---------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """The environment of a child that imports the checkout."""
    return {**os.environ, "PYTHONPATH": str(SOURCE)}


def test_start_imports_nothing_heavy() -> None:
    """Building the application imports neither libvirt nor paramiko, lxml, pytest, rich tables or the lab."""
    code = (
        "import sys; from wsklab.cli.app import build_app; build_app(); "
        "print([m for m in ('libvirt', 'paramiko', 'lxml', 'pytest', 'rich.table', 'jinja2', 'wsklab.assemble') "
        "if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_termination_signal_is_an_interrupt(tmp_path: Path) -> None:
    """SIGTERM unwinds like Ctrl-C: context managers run, the exit code is 130."""

    class Terminated(FakeServices):
        def start_guest(self, *arguments: Any, **named: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().start_guest(*arguments, **named)

    before = signal.getsignal(signal.SIGTERM)
    answer = call(Terminated(tmp_path), "up", "wine-bookworm")

    assert (answer.code, signal.getsignal(signal.SIGTERM)) == (exits.INTERRUPTED, before)


# -- images for users who are not root -----------------------------------------------------------------------------


class Baker(Services):
    """A user's services: sudo is noted, and makes the image or not."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.asked: list[Sequence[str]] = []

    def as_root(self, argv: Sequence[str]) -> int:
        """What sudo would run."""
        self.asked.append(argv)
        return self.code


@pytest.mark.parametrize("code", [0, 1])
def test_a_user_bakes_by_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Without root the bake runs by sudo into the same home; an image that is not there afterwards is an error."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    baker = Baker(code)
    lab: Any = SimpleNamespace(
        home=SimpleNamespace(root=tmp_path),
        choice=SimpleNamespace(mode="system"),
        profile=lambda name: name,
        store=SimpleNamespace(find=lambda _profile: "image" if baker.asked and code == 0 else None),
    )
    profile: Any = SimpleNamespace(name="wine-bookworm", kind="wine")
    with contextlib.nullcontext() if code == 0 else pytest.raises(ImageError, match="was not made"):
        baker.ensure_image(lab, profile, Output(stdout=io.StringIO(), stderr=io.StringIO()))
    (argv,) = baker.asked
    assert f"WSKLAB_HOME={tmp_path}" in argv
    assert list(argv)[-3:] == ["image", "build", "wine-bookworm"]
