"""`doctor`: each check on a made-up host, the document, repairs."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsklab.cli.checks import Check, host_checks, lab_checks, missing_fixes
from wsklab.cli.main import main
from wsklab.cli.output import Output
from wsklab.cli.runtime import Runtime
from wsklab.cli.services import Services
from wsklab.config import LabConfig, ModeSetting
from wsklab.errors import HostError, HypervisorError
from wsklab.mode import ModeChoice


@dataclasses.dataclass
class FakeHypervisor:
    """A back end with versions and a cache that works or not."""

    cached: bool = True
    error: HypervisorError | None = None

    def versions(self) -> dict[str, str]:
        """What runs."""
        if self.error is not None:
            raise self.error
        return {"libvirt": "9.0.0", "qemu": "7.2.22"}

    def capabilities_are_cached(self, *, limit_s: float) -> bool:
        """What the test says."""
        return self.cached


def fake_lab(hypervisor: FakeHypervisor, home: Path) -> Any:
    """As much of a lab as the checks look at."""
    return SimpleNamespace(
        choice=ModeChoice(mode=ModeSetting.PRIVATE, why="a test"),
        private=True,
        owner="me",
        acceleration="tcg",
        home=SimpleNamespace(root=home),
        site=lambda: SimpleNamespace(hypervisor=hypervisor),
        probe=lambda *, reprobe: SimpleNamespace(acceleration="tcg", detail=f"reprobed: {reprobe}", cached=False),
    )


def host(tmp_path: Path, *, release: str = "debian", version: str = "12", available_kib: int = 8 << 20) -> Path:
    """A tree with the files that the checks read."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(f'PRETTY_NAME="Some Linux"\nID={release}\nVERSION_ID="{version}"\n')
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {available_kib} kB\n")
    return tmp_path


def named(checks: Sequence[Check], name: str) -> Check:
    """The check of that name."""
    return next(check for check in checks if check.name == name)


@pytest.mark.parametrize(
    ("release", "version", "ok"),
    [
        ("debian", "12", True),
        ("debian", "13", True),
        ("ubuntu", "24.04", True),
        ("debian", "11", False),
        ("x", "1", False),
    ],
)
def test_release(tmp_path: Path, release: str, version: str, ok: bool) -> None:
    """Debian 12 and 13 and Ubuntu 24.04 are known; another system is named with what to do."""
    check = named(host_checks(LabConfig(), tmp_path, root=host(tmp_path, release=release, version=version)), "release")

    assert (check.ok, bool(check.fix)) == (ok, not ok)


@pytest.mark.parametrize(("available_mib", "ok"), [(8192, True), (1500, False)])
def test_memory(tmp_path: Path, available_mib: int, ok: bool) -> None:
    """The reserve and one small guest must fit."""
    root = host(tmp_path, available_kib=available_mib << 10)

    assert named(host_checks(LabConfig(), tmp_path, root=root), "memory").ok is ok


def test_missing_tun_has_a_command(tmp_path: Path) -> None:
    """Without /dev/net/tun there is no guest network; the command that mends it is given."""
    check = named(host_checks(LabConfig(), tmp_path, root=host(tmp_path)), "tun")

    assert (check.ok, check.repair) == (False, ("modprobe", "tun"))


@pytest.mark.parametrize("missing", ["etc/os-release", "proc/meminfo"])
def test_unreadable_host_is_a_finding(tmp_path: Path, missing: str) -> None:
    """A host that hides its files gets a failed check, not a traceback."""
    root = host(tmp_path)
    (root / missing).unlink()

    assert [check.name for check in host_checks(LabConfig(), tmp_path, root=root) if not check.ok]


def test_probing_on_every_call_is_a_finding(tmp_path: Path) -> None:
    """When libvirt's second capability call is slow, the check fails and says why and what to do."""
    check = named(lab_checks(fake_lab(FakeHypervisor(cached=False), tmp_path), reprobe=False), "capabilities")

    assert (check.ok, "probes QEMU again" in check.detail, "/dev/kvm" in check.fix) == (False, True, True)


def test_unreachable_libvirt_is_one_failed_check(tmp_path: Path) -> None:
    """No connection is one finding with the error's fix; the other checks still run."""
    broken = FakeHypervisor(error=HypervisorError("no connection", why="refused", fix="start it"))
    checks = lab_checks(fake_lab(broken, tmp_path), reprobe=False)

    assert (named(checks, "libvirt").fix, named(checks, "acceleration").ok) == ("start it", True)


def test_only_failed_checks_with_a_command_are_repaired() -> None:
    """--fix runs commands of failed checks, nothing else."""
    checks = [
        Check(name="a", ok=True, detail="", repair=("a",)),
        Check(name="b", ok=False, detail="", fix="by hand"),
        Check(name="c", ok=False, detail="", fix="c", repair=("c",)),
    ]

    assert [check.name for check in missing_fixes(checks)] == ["c"]


class FakeServices(Services):
    """A lab that can be put together, or not."""

    def __init__(self, home: Path, error: HostError | None = None) -> None:
        self.home_folder = home
        self.error = error

    @contextlib.contextmanager
    def lab(self, config: LabConfig) -> Iterator[Any]:  # type: ignore[override]
        """The lab or the error."""
        if self.error is not None:
            raise self.error
        yield fake_lab(FakeHypervisor(), self.home_folder)


def call(services: Services, *argv: str) -> tuple[int, str]:
    """Run `doctor`; the exit code and standard output."""
    out = io.StringIO()
    runtime = Runtime(
        output=Output(stdout=out, stderr=io.StringIO()),
        services=services,
        environ={},
        folder=Path("/nonexistent"),
        user_home=Path("/nonexistent"),
    )
    return main(["doctor", *argv], runtime), out.getvalue()


def test_document(tmp_path: Path) -> None:
    """`doctor --json` has the fields of the format."""
    document = json.loads(call(FakeServices(tmp_path), "--json")[1])

    assert set(document) == {"schema", "checks", "acceleration", "mode"}
    assert {frozenset(check) for check in document["checks"]} == {frozenset(("name", "ok", "detail", "fix"))}
    assert (document["acceleration"], document["mode"]) == ("tcg", "private")


def test_lab_that_cannot_be_put_together(tmp_path: Path) -> None:
    """doctor is for broken hosts: without a lab it still shows the host and the error, exit code 3."""
    error = HostError("no libvirt daemon", why="none runs", fix="start one")
    code, text = call(FakeServices(tmp_path, error), "--json")
    broken = next(check for check in json.loads(text)["checks"] if check["name"] == "lab")

    assert (code, broken) == (
        3,
        {"name": "lab", "ok": False, "detail": "no libvirt daemon: none runs", "fix": "start one"},
    )


def test_report_is_markdown(tmp_path: Path) -> None:
    """--report is a list for an issue."""
    assert "- [x] **mode**: private: a test" in call(FakeServices(tmp_path), "--report")[1]
