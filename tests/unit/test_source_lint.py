"""Lint of the C sources and of the tests: no `long`, no literal ports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
C_FILES = sorted(
    path
    for pattern in ("*.c", "*.h")
    for path in (ROOT / "driver-src").rglob(pattern)
    if "build" not in path.relative_to(ROOT).parts
)
#: Tests that open sockets. Unit tests open none: a port in them is only a number to print or to pack.
TEST_FILES = sorted(
    path
    for folder in ("conformance", "contracts", "integration", "performance", "chaos")
    for path in (ROOT / "tests" / folder).rglob("*.py")
)
ADDRESS = re.compile(r"^(localhost|::1?|(\d{1,3}\.){3}\d{1,3})$")
NAMED_PORT = re.compile(r"\b(\w*(?<!trans)port\w*)\s*(?:=|\s)\s*([1-9]\d{0,4})u?\b", re.IGNORECASE)
SWAPPED = re.compile(r"\b(?:htons|RtlUshortByteSwap|_byteswap_ushort)\s*\(\s*([1-9]\d*|0x[0-9a-fA-F]+)")
#: The kit runs on somebody's machine, without a lease; it looks for a free port in a range.
KIT_RANGE = {"kit_loopback.c: FIRST_PORT 49500", "kit_loopback.c: LAST_PORT 49599"}
#: A user's own driver has its own port; its cases have the guest for themselves.
EXAMPLE = {"echo.c: ECHO_PORT 7007"}

#: Ports that nobody else can have: of a machine in a network namespace of its own, of the only user of a guest.
ALONE = {
    ("contracts/raw_machine.py", 2222),
    ("integration/lab/test_lab_faults.py", 4555),
    ("integration/lab/test_lab_stop.py", 4556),
    # only written down: nobody listens there
    ("contracts/cli_bench.py", 22),
    ("integration/shim/test_driver_names.py", 7),
    ("integration/shim/test_driver_names.py", 80),
    ("integration/shim/test_driver_names.py", 4660),
    ("integration/test_driver_names.py", 80),
    ("integration/test_driver_names.py", 12345),
}


def code(path: Path) -> str:
    """A C file without comments and without what stands between quotes."""
    text = path.read_text()
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", " ", text, flags=re.DOTALL)


def ports_in(tree: ast.AST) -> Iterator[ast.Constant]:
    """Numbers that follow an address in a call or a tuple, or that a name with `port` in it is given."""
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Call):
            pairs = list(zip(node.args, node.args[1:], strict=False))
            yield from (k.value for k in node.keywords if "port" in (k.arg or "") and is_number(k.value))  # type: ignore[misc]
        elif isinstance(node, ast.Tuple):
            pairs = list(zip(node.elts, node.elts[1:], strict=False))
        elif isinstance(node, ast.Assign) and is_number(node.value):
            names = [ast.unparse(target).rpartition(".")[2].lower() for target in node.targets]
            if any(re.search(r"(^|_)port(_|$)", name) for name in names):
                yield node.value  # type: ignore[misc]
        for first, second in pairs:
            is_address = isinstance(first, ast.Constant) and isinstance(first.value, str) and ADDRESS.match(first.value)
            if is_address and is_number(second):
                yield second  # type: ignore[misc]


def is_number(node: ast.expr) -> bool:
    """A whole number other than 0, which asks for any port."""
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value != 0


def test_sizes() -> None:
    """No C file has more than 600 lines, as no module of Python has (test_layers.py)."""
    assert {path.name: n for path in C_FILES if (n := len(path.read_text().splitlines())) > 600} == {}


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.relative_to(ROOT / "driver-src").as_posix())
def test_no_long(path: Path) -> None:
    """`long` has 4 bytes on Windows and 8 on Linux, where the shim runs the same files: fixed widths instead."""
    lines = code(path).splitlines()

    assert [n for n, line in enumerate(lines, 1) if re.search(r"\blong\b", line)] == []


def test_no_literal_ports_in_c() -> None:
    """Ports come from a lease or from the system, never from the source."""
    found = set()
    for path in C_FILES:
        text = code(path)
        found |= {f"{path.name}: {name} {number}" for name, number in NAMED_PORT.findall(text)}
        found |= {f"{path.name}: {number}" for number in SWAPPED.findall(text)}

    assert found - KIT_RANGE - EXAMPLE == set()
    assert (KIT_RANGE | EXAMPLE) - found == set(), "no longer there"


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.relative_to(ROOT / "tests").as_posix())
def test_no_literal_ports_in_tests(path: Path) -> None:
    """Tests run side by side on one host and on one guest: a port is asked for, leased, or 0."""
    name = path.relative_to(ROOT / "tests").as_posix()
    found = {(name, node.value) for node in ports_in(ast.parse(path.read_text()))}

    assert found - ALONE == set()


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("bind(('127.0.0.1', 4001))", 1),
        ("SocketAddress.of('::1', 80)", 1),
        ("connect(via, ('localhost', 0))", 0),
        ("listen(port=4001)", 1),
        ("a_port = 4001", 1),
        ("support = 3", 0),
        ("of('10.0.0.1', lease.port)", 0),
    ],
)
def test_the_lint_sees_a_port(source: str, count: int) -> None:
    """What it is for, and what it must leave alone."""
    assert len(list(ports_in(ast.parse(source)))) == count
