"""The kit's result file: what is right is read, everything else is one UsageError."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsklab.errors import UsageError
from wsklab.kit import RESULT_LIMIT, read_kit_result
from wsklab.pe_check import require_deployable


def _good() -> dict[str, Any]:
    return {
        "kind": "wsklab-kit",
        "schema": 1,
        "reported": "2026-11-23T15:10:21Z",
        "computer": "LAB-PC",
        "user": "jörg",
        "wskctl": {
            "protocol": 1, "version": "0.1.0", "sha256": "a" * 64, "driver_sha256": "b" * 64, "pid": 4,
            "os_major": 10, "os_minor": 0, "os_build": 19045, "os_revision": 5011, "wine": None,
            "architecture": "amd64", "boot_time": 1, "uptime_ms": 1,
        },
        "steps": [
            {"name": "start", "code": 0},
            {"name": "reload_start_1", "code": 0},
            {"name": "reload_stop_1", "code": -1073741819},
            {"name": "x", "code": None},
        ],
        "run": {
            "started": "2026-11-23T15:10:20Z",
            "ended": "2026-11-23T15:10:20Z",
            "open_win32": 0,
            "driver": {"hello_status": 0, "abi_fits": True, "abi": 0, "os_build": 19045, "build_digest": "c" * 64},
            "cases": [
                {
                    "rule": "WSK-SOCK-001",
                    "name": "published-sample",
                    "verdict": "failed",
                    "findings": [
                        {"text": "the socket is created", "held": False},
                        {"record": {"op_id": 1, "state": "completed", "returned_status": 259}},
                    ],
                },
                {"rule": "LAB-LEDGER", "name": "ledger", "verdict": "passed", "findings": [{"ledger": {"issued": 3}}]},
            ],
        },
    }  # fmt: skip


def _write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_a_good_result_is_read(tmp_path: Path) -> None:
    """Who, when, which build, which cases and how many reloads are known from a good file."""
    result = read_kit_result(_write(tmp_path / "r.json", _good()))
    assert (result.platform, result.build, result.computer, result.user) == ("windows", "19045.5011", "LAB-PC", "jörg")
    assert result.reloads == (1, 2)
    assert result.run is not None
    assert result.run.cases[0].failures == ("the socket is created",)
    assert result.run.driver is not None
    assert result.run.driver.abi_fits


def test_a_driver_that_did_not_start_is_a_result(tmp_path: Path) -> None:
    """Without a run the steps still say why."""
    result = read_kit_result(_write(tmp_path / "r.json", _good() | {"run": None}))
    step = result.step("start")
    assert result.run is None
    assert step is not None


def _set(path: str, value: object) -> dict[str, Any]:
    document = _good()
    place: Any = document
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[int(last) if last.isdigit() else last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kind", "other"),
        ("schema", 2),
        ("schema", "1"),
        ("reported", "yesterday"),
        ("computer", "a\x1b[31m"),
        ("computer", "x" * 600),
        ("wskctl.sha256", "A" * 64),
        ("wskctl.os_build", -1),
        ("wskctl.os_build", "19045"),
        ("steps", [{"name": "start", "code": 0}] * 257),
        ("steps.0.name", "../../etc"),
        ("steps.0.code", 1 << 40),
        ("steps.0.code", 0.5),
        ("run.cases.0.rule", "<script>"),
        ("run.cases.0.verdict", "great"),
        ("run.cases.0.findings", [{"text": "t", "held": True}] * 2001),
        ("run.cases.0.findings.0.held", "yes"),
        ("run.cases.0.findings.1.record", {"a b": 1}),
        ("run.cases.0.findings.1.record", {"a": [1]}),
        ("run.cases", {}),
        ("run.driver.build_digest", "zz"),
    ],
)
def test_a_wrong_member_is_named(tmp_path: Path, path: str, value: object) -> None:
    """A member of a wrong type, size or form is UsageError that says where."""
    with pytest.raises(UsageError) as caught:
        read_kit_result(_write(tmp_path / "r.json", _set(path, value)))
    assert path.split(".", maxsplit=1)[0] in caught.value.why


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"kind": NaN}',
        b'{"kind":"wsklab-kit","kind":"wsklab-kit"}',
        b"1" * 10_000,
        b" " * (RESULT_LIMIT + 1),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, binary, deep, huge or doubled files are UsageError, quickly."""
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_kit_result(path)
    with pytest.raises(UsageError):
        read_kit_result(tmp_path / "absent.json")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2000), st.binary(max_size=4))
def test_no_damage_raises_anything_else(tmp_path: Path, at: int, damage: bytes) -> None:
    """A good file with some bytes overwritten is either read or a UsageError."""
    data = bytearray(json.dumps(_good()).encode())
    data[at : at + len(damage)] = damage
    path = tmp_path / "r.json"
    path.write_bytes(data)
    with contextlib.suppress(UsageError):
        read_kit_result(path)


@pytest.mark.parametrize("content", [None, b"", b"MZ", b"MZ" + b"\0" * 4096, b"\x7fELF" + b"\0" * 100])
def test_what_is_no_driver_is_not_deployable(tmp_path: Path, content: bytes | None) -> None:
    """A file that is absent or no PE gives one UsageError with a fix."""
    path = tmp_path / "x.sys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        require_deployable(path)
    assert caught.value.fix
