"""wskctl's JSON parser, compiled for Linux with sanitizers, against Python's."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from wsklab.deadline import Deadline
from wsklab.process import run

_SOURCE = Path(__file__).parents[2] / "driver-src" / "ctl"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this host")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("json") / "json_echo"
    sources = (_SOURCE / "json.c", _SOURCE / "tests" / "json_echo.c")
    flags = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined")
    run(("gcc", *flags, "-fno-sanitize-recover=all", *sources, "-o", target), deadline=Deadline.after(60))
    return target


def _ask(program: Path, lines: list[bytes]) -> list[str]:
    done = run(
        (program,), deadline=Deadline.after(60), input=b"".join(line + b"\n" for line in lines), output_limit=1 << 26
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def _show(value: object) -> str:
    if isinstance(value, str):
        return "s:" + value.encode().hex()
    return (
        {None: "null", True: "true", False: "false"}[value]
        if not isinstance(value, int) or isinstance(value, bool)
        else str(value)
    )


def _expected(document: dict[str, object]) -> str:
    return "ok" + "".join(f"|{name.encode().hex()}={_show(value)}" for name, value in document.items())


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", "fault object expected"),
        (b"{}", "ok"),
        (b' {"a" : 1 , "b":null}\r', "ok|61=1|62=null"),
        (b'{"a":1}x', "fault something follows the object|61=1"),
        (b'{"a":1,}', "fault string expected|61=1"),
        (b'{"a":{}}', "fault nested values are not known"),
        (b'{"a":[1]}', "fault nested values are not known"),
        (b'{"a":1.5}', "fault only integers are known"),
        (b'{"a":1e5}', "fault only integers are known"),
        (b'{"a":-0}', "ok|61=-0"),
        (b'{"a":00}', "fault integer with a leading zero"),
        (b'{"a":18446744073709551615}', "ok|61=18446744073709551615"),
        (b'{"a":18446744073709551616}', "fault integer too large"),
        (b'{"a":1,"\\u0061":2}', "fault a name appears twice|61=1"),
        (b'{"a":"\\ud800"}', "fault high surrogate without its low one"),
        (b'{"a":"\\udc00"}', "fault low surrogate without its high one"),
        (b'{"a":"\\ud83d\\ude00"}', "ok|61=s:f09f9880"),
        (b'{"a":"\\u0000"}', "ok|61=s:00"),
        (b'{"a":"\\x"}', "fault unknown escape"),
        (b'{"a":"\\\x00"}', "fault unknown escape"),
        (b'{"a":"\\', "fault line ends inside an escape"),
        (b'{"a":"\\u12', "fault bad \\u escape"),
        (b'{"a":"\x1f"}', "fault control character in a string"),
        (b'{"a":"\xc0\x80"}', "fault not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "fault not UTF-8"),
        (b'{"a":"\xf4\x90\x80\x80"}', "fault not UTF-8"),
        (b'{"a":"\xe2\x82', "fault not UTF-8"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(25)) + b"}", None),
    ],
)
def test_faults_are_named(program: Path, line: bytes, answer: str | None) -> None:
    """Each form that is not one flat object is refused with its reason; members before the fault are kept."""
    got = _ask(program, [line])[0]
    assert got == answer if answer is not None else got.startswith("fault too many members|")


def test_what_python_writes_is_read_alike(program: Path) -> None:
    """A thousand random flat objects, ASCII-escaped or raw UTF-8, are read as Python wrote them."""
    source = random.Random(1)  # noqa: S311 - reproducible, not secret
    alphabet = 'az"\\/\b\f\n\r\t\x00\x1f\x7fé€😀\ud7ff\ue000\uffff'
    documents: list[dict[str, object]] = []
    for _ in range(1000):
        text = lambda: "".join(source.choices(alphabet, k=source.randrange(6)))  # noqa: E731
        values = (None, True, False, source.randrange(1 << 64), -source.randrange(1, 1 << 63), text())
        documents.append({text() + str(n): source.choice(values) for n in range(source.randrange(12))})
    lines = [json.dumps(d, ensure_ascii=source.random() < 0.5).encode() for d in documents]
    assert _ask(program, lines) == [_expected(d) for d in documents]


def test_damaged_lines_never_touch_other_memory(program: Path) -> None:
    """Twenty thousand mutated lines give an answer each, and no sanitizer speaks."""
    source = random.Random(2)  # noqa: S311 - reproducible, not secret
    good = b'{"id":12,"deadline_ms":5000,"path":"\\\\\\\\.\\\\wsk\\u00e9\\ud83d\\ude00","data":"00ff","x":null}'
    lines = []
    for _ in range(20_000):
        line = bytearray(good[: source.randrange(len(good) + 1)])
        for _ in range(source.randrange(4)):
            at = source.randrange(len(line) + 1)
            line[at : at + source.randrange(3)] = bytes(
                source.choices(b'\\u"{}[]:,-09azd8\x00\xff\xc3\xe2 ', k=source.randrange(3))
            )
        lines.append(bytes(line).replace(b"\n", b" "))
    assert len(_ask(program, lines)) == len(lines)
