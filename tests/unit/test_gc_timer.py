"""The timer's units: systemd reads them without a complaint, and as they are meant."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsklab.gc_timer import GcTimer, render_units

WORDS = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


def _timer(folder: Path, *, root: bool = True) -> GcTimer:
    return GcTimer(home_id="1a2b3c4d", root=root, user_units=folder / "user", system_units=folder / "system")


def _units(folder: Path, environment: dict[str, str], argv: list[str]) -> tuple[str, str]:
    """The texts of service and timer."""
    service, timer = render_units(_timer(folder), Path("/var/lib/wsklab"), environment, argv).values()
    return service, timer


def _split(text: str, *, variables: bool) -> list[str]:
    """Words as systemd.syntax(7) splits them, specifiers and, in a command, dollar signs taken back."""
    words, at = [], 0
    while at < len(text):
        word, quoted = "", text[at] == '"'
        at += quoted
        while at < len(text) and text[at] != ('"' if quoted else " "):
            at += quoted and text[at] == "\\"
            word += text[at]
            at += 1
        at += 1 + quoted
        words.append(word.replace("%%", "%").replace("$$", "$") if variables else word.replace("%%", "%"))
    return words


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("home", ["/var/lib/wsklab", "/tmp/a b%c"])
def test_systemd_reads_the_units(tmp_path: Path, home: str) -> None:
    """`systemd-analyze verify` finds nothing to say, for odd paths too; it does when a key is wrong."""
    argv = ["/usr/bin/env", "PYTHONPATH=/x y", "/bin/true", "gc"]
    units = render_units(_timer(tmp_path), Path(home), {"WSKLAB_HOME": home}, argv)
    for path, text in units.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    names = [str(path) for path in units]
    result = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    Path(names[1]).write_text(units[Path(names[1])].replace("OnActiveSec", "OnActivSec"))
    broken = subprocess.run(["systemd-analyze", "verify", names[1]], capture_output=True, text=True, check=False)
    assert "OnActivSec" in broken.stderr


@given(WORDS, WORDS)
@example('a "b" \\ %n $x', "it's $HOME")
def test_systemd_gets_the_words_that_were_given(value: str, word: str) -> None:
    """Blanks, quotes, backslashes, specifiers and variables survive."""
    service, _ = _units(Path("/x"), {"KEY": value}, ["/bin/true", word])
    lines = dict(line.split("=", 1) for line in service.splitlines() if line.startswith(("Environment", "ExecStart")))
    assert _split(lines["Environment"], variables=False) == [f"KEY={value}"]
    assert _split(lines["ExecStart"], variables=True) == ["/bin/true", word]


def test_root_gets_a_timer_of_the_system(tmp_path: Path) -> None:
    """Everybody else one of their own; the commands speak with that manager."""
    assert _timer(tmp_path).folder == tmp_path / "system"
    own = _timer(tmp_path, root=False)
    assert own.folder == tmp_path / "user"
    assert own.commands()[1] == ["systemctl", "--user", "enable", "--now", "wsklab-gc-1a2b3c4d.timer"]


def test_an_enabled_timer_is_seen_by_everybody(tmp_path: Path) -> None:
    """A user who is served by root's timer is told so, and not that nobody does it."""
    own = _timer(tmp_path, root=False)
    assert not own.enabled
    wants = tmp_path / "system" / "timers.target.wants"
    wants.mkdir(parents=True)
    (wants / "wsklab-gc-1a2b3c4d.timer").symlink_to("/nowhere")
    assert own.enabled
