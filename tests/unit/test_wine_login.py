"""The login shell of wine guests: it splits a command line as Windows does and finds the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.deadline import Deadline
from wsklab.process import run
from wsklab.resources import images_root

_ROOTFS = images_root() / "common" / "wine" / "rootfs"


class Login:
    """The login with a loader that prints its arguments, one per line."""

    def __init__(self, place: Path) -> None:
        system32 = place / "drive_c" / "windows" / "system32"
        system32.mkdir(parents=True)
        for name in ("sc.exe", "cmd.exe", "chcp.com", "reg.exe"):
            (system32 / name).touch()
        (place / "drive_c" / "wsklab").mkdir()
        (place / "drive_c" / "wsklab" / "wskctl.exe").touch()
        (place / "drive_c" / "a b").mkdir()
        (place / "drive_c" / "a b" / "x.exe").touch()
        (place / "wine-up").touch()
        loader = place / "loader"
        loader.write_text('#!/bin/sh\nfor word; do printf "<%s>\\n" "$word"; done\nexit 7\n')
        loader.chmod(0o755)
        script = (_ROOTFS / "usr/local/bin/wsklab-login").read_text()
        settings = ". /usr/local/lib/wsklab/settings"
        assert settings in script
        self._script = place / "login"
        self._script.write_text(script.replace(settings, f"WINEPREFIX={place} RUN={place} WINE_LOADER={loader}"))

    def words(self, line: str) -> list[str]:
        """What Wine's loader is started with for a command line."""
        result = run(["sh", self._script, "-c", line], deadline=Deadline.after(10), check=False)
        assert result.stderr == ""
        assert result.exit_code == 7, "the program's exit code passes through"
        return [word[1:-1] for word in result.stdout.splitlines()]


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """A login over a small prefix."""
    return Login(tmp_path)


_SC = r"C:\windows\system32\sc.exe"
_CMD = r"C:\windows\system32\cmd.exe"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            r"sc create wsklab type= kernel start= demand binPath= C:\wsklab\wsklab.sys",
            [_SC, "create", "wsklab", "type=", "kernel", "start=", "demand", "binPath=", r"C:\wsklab\wsklab.sys"],
        ),
        ('sc create x binPath= "C:\\a b\\x.sys"', [_SC, "create", "x", "binPath=", r"C:\a b\x.sys"]),
        (r"C:\wsklab\wskctl.exe stdio", [r"C:\wsklab\wskctl.exe", "stdio"]),
        (r"C:\wsklab\wskctl stdio", [r"C:\wsklab\wskctl.exe", "stdio"]),
        ("C:/wsklab/wskctl.exe stdio", ["C:/wsklab/wskctl.exe", "stdio"]),
        (r'"C:\a b\x.exe" 1', [r"C:\a b\x.exe", "1"]),
        ("SC.EXE query", [_SC, "query"]),
        ("chcp 65001", [r"C:\windows\system32\chcp.com", "65001"]),
        (r'sc a\"b "c\\" "" "d""e" f\g\ h', [_SC, 'a"b', "c\\", "", 'd"e', "f\\g\\", "h"]),
        ('cmd /c "echo a & echo b"', [_CMD, "/c", "echo a & echo b"]),
    ],
)
def test_a_plain_command_is_executed_directly(login: Login, line: str, words: list[str]) -> None:
    """The program is found as Windows finds it; arguments are those of CommandLineToArgvW."""
    assert login.words(line) == words


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("echo a & echo b", "echo a & echo b"),
        ("dir", "dir"),
        ("sc query > x.txt", "sc query > x.txt"),
        ('echo "a b" %OS%', "echo %WSKLAB_QUOTE%a b%WSKLAB_QUOTE% %OS%"),
        ("nosuch program", "nosuch program"),
        (r"C:\wsklab\run.cmd 1", r"C:\wsklab\run.cmd 1"),
        (r"C:\wsklab\absent.exe", r"C:\wsklab\absent.exe"),
    ],
)
def test_the_rest_goes_through_the_command_processor(login: Login, line: str, command: str) -> None:
    """Operators, variables, built-ins, batch files and unknown names are cmd's business, quotes unharmed."""
    assert login.words(line) == [_CMD, "/s", "/c", command]


def test_patterns_of_the_shell_are_not_expanded(login: Login) -> None:
    """`*` and `$HOME` mean nothing on Windows and reach the program as they are."""
    assert login.words("sc * $HOME ~ `x` 'y'") == [_SC, "*", "$HOME", "~", "`x`", "'y'"]


def test_the_linux_escape_runs_a_linux_command(tmp_path: Path) -> None:
    """Evidence below Windows: `linux:` and nothing else reaches the shell."""
    Login(tmp_path)
    result = run(["sh", tmp_path / "login", "-c", "linux: echo $((1+1)) | cat"], deadline=Deadline.after(10))
    assert result.stdout == "2\n"


def test_every_script_of_the_guest_is_valid_shell() -> None:
    """A slip in a script would show as a guest that never boots."""
    scripts = [path for path in (_ROOTFS.parent).rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")]
    assert len(scripts) >= 10
    for script in scripts:
        run(["sh", "-n", script], deadline=Deadline.after(5))
