"""The command line: usage errors, exit codes, documents, start time. Fakes stand for the lab."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsklab.cli import exits
from wsklab.cli.app import build_app
from wsklab.cli.main import main
from wsklab.cli.output import Output, plain
from wsklab.cli.runtime import Runtime
from wsklab.cli.services import Services
from wsklab.config import LabConfig, ModeSetting
from wsklab.deadline import Timeouts
from wsklab.errors import (
    BootError,
    BugcheckError,
    ChannelLost,
    ConfigError,
    DeadlineExceeded,
    DriverLoadError,
    GuestCommandError,
    HostCommandError,
    HostFull,
    ImageError,
    LabError,
)
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
        self.via = SimpleNamespace(netns=netns)
        self.address = ("192.168.213.10", 22)
        metadata = SimpleNamespace(expires="2030-01-01T00:00:00Z", owner="me", purpose="user")
        self.domain = SimpleNamespace(metadata=lambda: metadata, state=lambda: "running")
        self.console = SimpleNamespace(tail=lambda lines: f"last {lines}\x1b[31m", path=directory / "console.log")


class FakeLab:
    """A lab with two profiles and the guests that it is given."""

    def __init__(self, config: LabConfig, guests: list[FakeGuest], home: Path) -> None:
        self.config = config
        self.profiles = {name: FakeProfile(name) for name in ("wine-bookworm", "wine-trixie")}
        self._guests = guests
        self.home = SimpleNamespace(root=home)
        self.choice = ModeChoice(mode=ModeSetting.PRIVATE, why="a test says so")
        self.timeouts = Timeouts(scale=1.0)
        self.acceleration = "tcg"
        self.swept: list[bool] = []

    #: every image is there
    store = SimpleNamespace(find=lambda profile: profile)

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

    def hand_over(self, guest: Any) -> None:
        """Remember the name."""
        self.handed_over.append(guest.name)

    def start_guest(self, lab: Any, profile: Any, *, name: str, expires: str, run: str) -> Any:
        """Start, or fail from the second guest on."""
        if self.error is not None and len(self.known) >= 1:
            raise self.error
        guest = FakeGuest(name or f"{profile.name}-{10 + len(self.known)}", self.tmp_path)
        self.known.append(guest)
        return guest

    def wait_ready(self, lab: Any, guest: Any, profile: Any) -> None:
        """Ready at once, unless the test interrupts the boot."""
        if self.boot_error is not None:
            raise self.boot_error

    def destroy(self, lab: Any, guest: Any) -> None:
        """Remember the name."""
        self.destroyed.append(guest.name)


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
        *("deploy", "gc", "image build", "image list", "image verify", "driver build", "driver check", "driver kit"),
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
        if not group.hidden and group.typer_instance is not None and group.name != "config":
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


def test_up_document(services: FakeServices) -> None:
    """`up --json` tells name, address, how to log in, how it was made and until when."""
    answer = call(services, "up", "wine-bookworm", "--json")

    (guest,) = answer.document["guests"]
    assert set(guest) == {
        "name", "profile", "kind", "address", "via", "ssh", "method", "why", "ready_s", "dirty", "expires",
    }  # fmt: skip
    assert (guest["via"], guest["ssh"][0], guest["ssh"][-1]) == (None, "ssh", "Administrator@192.168.213.10")


def test_ssh_goes_through_the_proxy_into_a_namespace(tmp_path: Path) -> None:
    """An address that exists only in a namespace is reached by `wsklab proxy`, with home and mode spelled out."""
    services = FakeServices(tmp_path)
    services.known = [FakeGuest("g1", tmp_path, netns=Path("/proc/7/ns/net"))]

    answer = call(services, "list", "--json", environ={"WSKLAB_INTERNAL_LAUNCHER": "/x y/wsklab"})

    (guest,) = answer.document["guests"]
    assert guest["via"] == {"netns": "/proc/7/ns/net"}
    expected = f"ProxyCommand=env WSKLAB_HOME={tmp_path} WSKLAB_MODE=private '/x y/wsklab' proxy g1 %p"
    assert expected in guest["ssh"]
    assert (tmp_path / "known_hosts").read_text() == "g1 ssh-ed25519 AAAA\n"


def test_list_document_has_state_owner_purpose(tmp_path: Path) -> None:
    """`list` is `up` plus state, owner and purpose."""
    answer = call(FakeServices(tmp_path, ["a"]), "list", "--json")

    (guest,) = answer.document["guests"]
    assert (guest["state"], guest["owner"], guest["purpose"]) == ("running", "me", "user")


def test_down_takes_patterns(tmp_path: Path) -> None:
    """`down 'wine-*'` removes what fits, and nothing else."""
    services = FakeServices(tmp_path, ["wine-10", "other", "wine-11"])

    answer = call(services, "down", "wine-*", "--json")

    assert (answer.document["removed"], services.destroyed) == (["wine-10", "wine-11"], ["wine-10", "wine-11"])


@pytest.mark.parametrize("dry_run", [False, True])
def test_gc_document(services: FakeServices, dry_run: bool) -> None:
    """`gc` lists what is removed and counts what is kept; --dry-run has the same form."""
    answer = call(services, "gc", "--json", *(["--dry-run"] if dry_run else []))

    assert answer.document == {
        "schema": 1,
        "removed": [{"kind": "guest", "name": "g", "why": "orphan"}],
        "kept": 1,
    }


def test_half_of_several_guests_is_taken_back(tmp_path: Path) -> None:
    """When the second guest cannot be started the first is removed, and the error decides the exit code."""
    services = FakeServices(tmp_path, error=HostFull("no room", why="memory", fix="wait"))

    answer = call(services, "up", "wine-bookworm", "--count", "2", "--json")

    assert (answer.code, services.destroyed) == (exits.LAB, ["wine-bookworm-10"])


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
    profile: Any = SimpleNamespace(name="wine-bookworm")
    with contextlib.nullcontext() if code == 0 else pytest.raises(ImageError, match="was not made"):
        baker.ensure_image(lab, profile, Output(stdout=io.StringIO(), stderr=io.StringIO()))
    (argv,) = baker.asked
    assert f"WSKLAB_HOME={tmp_path}" in argv
    assert list(argv)[-3:] == ["image", "build", "wine-bookworm"]
