"""Facts about the console's text."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wsklab.console import ConsoleFollower, ConsoleLog, visible


def _log(tmp_path: Path, data: bytes, limit: int = 1 << 20) -> ConsoleLog:
    path = tmp_path / "console.log"
    path.write_bytes(data)
    return ConsoleLog(path, limit_bytes=limit)


def test_escapes_are_shown_and_never_sent() -> None:
    """Terminal sequences, bells and text-direction marks appear as escapes."""
    assert visible("a\x1b[31mb\x07\u202ec") == "a\\x1b[31mb\\x07\\u202ec"


@given(st.text())
def test_visible_text_holds_nothing_that_a_terminal_acts_on(text: str) -> None:
    """Whatever a guest prints, only printable characters, line feeds and tabs remain."""
    assert all(char.isprintable() or char in "\n\t" for char in visible(text))


def test_invalid_utf8_is_survived(tmp_path: Path) -> None:
    """Bytes that are no text become replacement characters."""
    assert _log(tmp_path, b"ok\xff\r\nnext\r\n").tail() == "ok\ufffd\nnext"


def test_a_missing_file_is_an_empty_console(tmp_path: Path) -> None:
    """A guest that has not started has said nothing."""
    log = ConsoleLog(tmp_path / "none")
    assert (log.tail(), log.size, log.contains("x")) == ("", 0, False)


def test_only_the_end_is_read(tmp_path: Path) -> None:
    """A console of any size costs the limit, and its end is what counts."""
    log = _log(tmp_path, b"first\n" + b"x" * 5000 + b"\nlast\n", limit=100)
    assert not log.contains("first")
    assert log.contains("^last$")
    assert len(log.raw()) == 100


def test_long_lines_are_cut(tmp_path: Path) -> None:
    """A line without end does not fill the report."""
    assert len(_log(tmp_path, b"x" * 5000).tail()) < 500


def test_rotated_files_are_joined_in_order(tmp_path: Path) -> None:
    """What the log daemon has renamed still belongs to the console, oldest first."""
    log = _log(tmp_path, b"three\n")
    (tmp_path / "console.log.0").write_bytes(b"two\n")
    (tmp_path / "console.log.1").write_bytes(b"one\n")
    assert log.tail() == "one\ntwo\nthree"
    assert log.size == 14


def test_growth_is_seen(tmp_path: Path) -> None:
    """New output is noticed by size."""
    log = _log(tmp_path, b"a")
    before = log.size
    assert not log.grown_since(before)
    log.path.write_bytes(b"ab")
    assert log.grown_since(before)


def test_a_follower_sees_every_byte_across_rotations(tmp_path: Path) -> None:
    """What is printed after the start is read once, in order, also when the log daemon renames the file meanwhile."""
    path = tmp_path / "console.log"
    path.write_bytes(b"before")
    with ConsoleFollower(path) as follower:
        assert follower.read() == b""
        with path.open("ab") as file:
            file.write(b"1")
            assert follower.read() == b""
            file.flush()
            assert follower.read() == b"1"
            file.write(b"2")
        path.rename(tmp_path / "console.log.0")
        path.write_bytes(b"3")
        assert follower.read() + follower.read() == b"23"
        assert follower.read() == b""


def test_a_follower_waits_for_a_file(tmp_path: Path) -> None:
    """A console that does not exist yet is read from its first byte."""
    path = tmp_path / "console.log"
    with ConsoleFollower(path) as follower:
        assert follower.read() == b""
        path.write_bytes(b"first")
        assert follower.read() == b"first"
        path.unlink()
        assert follower.read() == b""
