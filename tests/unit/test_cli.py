"""The command line: usage errors, exit codes, output, start time. Fakes stand for the lab."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_bench import SOURCE, FakeServices, call

from wsklab.cli import exits
from wsklab.cli.app import build_app
from wsklab.cli.output import Output, plain
from wsklab.cli.services import Services
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
