"""Crash dumps: the stop, its module and its place are read from every format, and a damaged dump is only a note."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from wsklab.bugcheck import Bugcheck, bucket_of, find_on_console, name_of
from wsklab.deadline import Deadline
from wsklab.dump import Place, read_dump
from wsklab.errors import GuestError, HostError
from wsklab.results.buckets import BucketStore


def _contract() -> ModuleType:
    name = "synthetic_dump"
    path = Path(__file__).parents[1] / "contracts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SYNTHETIC = _contract()
KERNEL = 0xFFFFF804_00000000
DRIVER = 0xFFFFF804_20000000


def machine(**changes: object) -> object:
    """A machine that our driver brought down at DISPATCH_LEVEL."""
    values: dict[str, object] = {
        "code": 0xD1,
        "parameters": (0x28, 2, 0, DRIVER + 0x1234),
        "modules": [(KERNEL, 0x1000000, "ntoskrnl.exe"), (DRIVER, 0x8000, "wsklab.sys")],
        "stack": [1, DRIVER + 0x2222, 0, KERNEL + 0x55],
        "rip": KERNEL + 0x400,
    }
    return SYNTHETIC.SyntheticDump(**{**values, **changes})


def soon() -> Deadline:
    return Deadline.after(20)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "MEMORY.DMP"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["complete", "bitmap"])
def test_a_dump_names_the_module_and_the_place(tmp_path: Path, form: str) -> None:
    """Through page tables, the list of modules and the stack, in both formats that hold memory."""
    report = read_dump(written(tmp_path, getattr(machine(), form)()), soon())
    assert report.bugcheck == Bugcheck(0xD1, (0x28, 2, 0, DRIVER + 0x1234))
    assert [(module.base, module.name) for module in report.modules] == [
        (KERNEL, "ntoskrnl.exe"),
        (DRIVER, "wsklab.sys"),
    ]
    assert report.culprit == Place("wsklab.sys", 0x1234)
    assert report.stack == (Place("wsklab.sys", 0x2222), Place("ntoskrnl.exe", 0x55))
    assert report.first_of("WSKLAB.SYS") == Place("wsklab.sys", 0x1234)
    assert (report.build, report.note) == (20348, "")


def test_a_stop_without_an_address_is_placed_by_the_processor(tmp_path: Path) -> None:
    """A stop code whose parameters name no code: where the processor was counts, and the stack leads to us."""
    report = read_dump(written(tmp_path, machine(code=0x44, parameters=(0x1000, 0xEAE, 0, 0)).complete()), soon())
    assert report.culprit == Place("ntoskrnl.exe", 0x400)
    assert report.first_of("wsklab.sys") == Place("wsklab.sys", 0x2222)


def test_a_small_dump_has_its_stop(tmp_path: Path) -> None:
    """Code and parameters stand in the header of every dump."""
    report = read_dump(written(tmp_path, machine().small()), soon())
    assert (report.bugcheck.code, report.kind, report.modules) == (0xD1, "small", ())
    assert report.note


def test_a_list_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    """The memory of a crashed kernel is not to be trusted."""
    report = read_dump(written(tmp_path, machine(circle=True).complete()), soon())
    assert len(report.modules) == 2


@pytest.mark.parametrize("cut", [0x2000, 0x2800, 0x3000, 0x6000])
def test_a_cut_dump_keeps_its_stop(tmp_path: Path, cut: int) -> None:
    """A dump that was not written to its end: what the header says holds, the rest is a note."""
    for form in ("complete", "bitmap"):
        report = read_dump(written(tmp_path, getattr(machine(), form)()[:cut]), soon())
        assert report.bugcheck.code == 0xD1
        assert report.note


@pytest.mark.parametrize("data", [b"", b"PAGEDUMP" + bytes(0x2000), b"PAGEDU64", b"MDMP" * 0x1000])
def test_something_else_is_no_dump(tmp_path: Path, data: bytes) -> None:
    """A 32-bit dump, a dump of a process, an unfinished file: refused with the reason."""
    with pytest.raises(GuestError, match="no crash dump"):
        read_dump(written(tmp_path, data), soon())


def test_names_from_a_dump_are_harmless(tmp_path: Path) -> None:
    """A module's name comes from the guest: no control character reaches a terminal."""
    modules = [(DRIVER, 0x8000, "wsk\x1b[31m\u202elab.sys")]
    report = read_dump(written(tmp_path, machine(modules=modules).complete()), soon())
    assert all(module.name.isprintable() and "\u202e" not in module.name for module in report.modules)


@pytest.mark.parametrize(
    ("code", "name"),
    [(0xD1, "0xD1 DRIVER_IRQL_NOT_LESS_OR_EQUAL"), (0x44, "0x44 MULTIPLE_IRP_COMPLETE_REQUESTS"), (0xABC, "0xABC")],
)
def test_a_code_has_its_published_name(code: int, name: str) -> None:
    """A code that is not listed is its number."""
    assert name_of(code) == name


def test_a_stop_on_the_console_is_found() -> None:
    """The line that Windows writes to a serial console."""
    text = "\r\n*** STOP: 0x000000D1 (0x0000000000000028,0x0000000000000002,0x0000000000000000,0xFFFFF80420001234)\r\n"
    assert find_on_console(text) == Bugcheck(0xD1, (0x28, 2, 0, DRIVER + 0x1234))
    assert find_on_console("*** STOP: never") is None


def test_a_bucket_forgets_addresses_and_keeps_what_differs() -> None:
    """Two boots give one bucket; two rules of Driver Verifier give two."""
    first, second = Bugcheck(0xD1, (1, 2, 0, DRIVER + 5)), Bugcheck(0xD1, (9, 2, 0, KERNEL + 5))
    assert bucket_of(first, module="wsklab.sys", function="Start") == bucket_of(
        second, module="WSKLAB.SYS", function="Start"
    )
    assert bucket_of(first, module="wsklab.sys", offset=0x1234) == bucket_of(first, module="wsklab.sys", offset=0x1230)
    assert bucket_of(first, module="wsklab.sys", offset=0x1234) != bucket_of(first, module="wsklab.sys", offset=0x1334)
    assert bucket_of(Bugcheck(0xC4, (0x62, 0, 0, 0))) != bucket_of(Bugcheck(0xC4, (0x91, 0, 0, 0)))


def test_buckets_count_and_remember(tmp_path: Path) -> None:
    """First and last time, how often, in which runs; another process sees it."""
    store = BucketStore(tmp_path / "crashes" / "buckets.json")
    store.add("0xD1 wsklab.sys!Start", run="r1", example="one", deadline=soon())
    store.add("0xD1 wsklab.sys!Start", run="r1", example="two", deadline=soon())
    bucket = store.add("0xD1 wsklab.sys!Start", run="r2", example="three", deadline=soon())
    assert (bucket.count, bucket.runs, bucket.example) == (3, ("r1", "r2"), "one")
    assert bucket.first_seen <= bucket.last_seen
    assert BucketStore(tmp_path / "crashes" / "buckets.json").all() == {bucket.name: bucket}


def test_a_damaged_list_of_buckets_is_not_overwritten(tmp_path: Path) -> None:
    """What was counted is not lost by the next crash."""
    path = tmp_path / "buckets.json"
    path.write_text('{"version": 1, "buckets": {"x": {}}}')
    with pytest.raises(HostError, match="damaged"):
        BucketStore(path).add("y", run="r", example="", deadline=soon())
    assert path.read_text().endswith('{"x": {}}}')
