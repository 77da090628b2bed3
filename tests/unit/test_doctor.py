"""`doctor`: each check on a made-up host, the document, repairs."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsklab.assumptions import load_assumptions
from wsklab.cli.checks import Check, host_checks, lab_checks, missing_fixes, shim_check
from wsklab.cli.main import main
from wsklab.cli.output import Output
from wsklab.cli.report import windows_report
from wsklab.cli.runtime import Runtime
from wsklab.cli.services import Services
from wsklab.config import LabConfig, ModeSetting
from wsklab.errors import HostError, HypervisorError
from wsklab.home import Home
from wsklab.image.manifest import Manifest, WindowsFacts
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
        store=SimpleNamespace(list=list),
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

    def home(self, config: LabConfig) -> Home:
        """A home of the test's own."""
        return Home.open(self.home_folder)


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


def test_the_report_names_every_assumption_about_windows(tmp_path: Path) -> None:
    """Without a Windows all are open; nobody's name is in it."""
    text = call(FakeServices(tmp_path), "--report")[1]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| open |" in line]
    assert len(rows) == len(load_assumptions())
    assert "none was installed here" in text
    assert str(tmp_path) not in text.partition("### Windows")[2]


@pytest.mark.parametrize(
    ("versions", "detail"),
    [
        ({"libvirt": "8.9.0", "qemu": "7.2.22"}, "too old: libvirt 8.9.0 (at least 9.0)"),
        ({"libvirt": "10.0.0", "qemu": "6.2.0"}, "too old: qemu 6.2.0 (at least 7.2)"),
        ({"libvirt": "10.10.0", "qemu": "10.0.2"}, "libvirt 10.10.0, qemu 10.0.2"),
    ],
)
def test_versions_that_are_too_old(tmp_path: Path, versions: dict[str, str], detail: str) -> None:
    """Compared as numbers: 10 is more than 9."""
    hypervisor = FakeHypervisor()
    hypervisor.versions = lambda: versions  # type: ignore[method-assign]
    checks = {check.name: check for check in lab_checks(fake_lab(hypervisor, tmp_path), reprobe=False)}
    assert (checks["libvirt"].ok, checks["libvirt"].detail) == ("too old" not in detail, detail)


def windows_image(expires: datetime) -> Any:
    """An image of an evaluation edition."""
    facts = WindowsFacts(
        edition="ServerStandardEval", build="20348.587", medium_sha256="ab" * 32, evaluation=True,
        licence_expires=expires, password_file="p", acceleration="kvm",
    )  # fmt: skip
    manifest = Manifest(
        profile="ws2022", key="00" * 32, inputs={"firmware": "uefi"}, cmdline="", host_key="", kernel_version="",
        wine_version="", packages={}, files={}, built_at=expires, seconds=1, windows=facts,
    )  # fmt: skip
    return SimpleNamespace(profile="ws2022", manifest=manifest)


@pytest.mark.parametrize(("days", "words"), [(15, ""), (13.5, "in 13 days"), (0.5, "in 0 days"), (-1, "ended on")])
def test_a_licence_is_warned_of_two_weeks_ahead(tmp_path: Path, days: float, words: str) -> None:
    """By doctor, with what to do; not before."""
    image = windows_image(datetime.now(UTC) + timedelta(days=days))
    lab = fake_lab(FakeHypervisor(), tmp_path)
    lab.store = SimpleNamespace(list=lambda: [image])
    found = [check for check in lab_checks(lab, reprobe=False) if check.name == "licence"]
    assert bool(found) == bool(words)
    if found:
        assert not found[0].ok
        assert words in found[0].detail
        assert found[0].fix == "install it anew: wsklab image build ws2022 --iso FILE"


def test_firmware_is_missed_where_there_is_a_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only has wine guests needs none."""
    monkeypatch.setattr("wsklab.firmware.find_uefi", lambda: None)
    lab = fake_lab(FakeHypervisor(), tmp_path)
    without = next(check for check in lab_checks(lab, reprobe=False) if check.name == "firmware")
    lab.store = SimpleNamespace(list=lambda: [windows_image(datetime.now(UTC) + timedelta(days=99))])
    needed = next(check for check in lab_checks(lab, reprobe=False) if check.name == "firmware")
    assert (without.ok, needed.ok, needed.repair[-1]) == (True, False, "ovmf")


def test_what_was_seen_of_windows(tmp_path: Path) -> None:
    """Images show, failed installations speak against; a damaged note says nothing."""
    for number, text in enumerate(
        ('{"profile": "ws2019", "end": "waits:winpe", "reason": "r", "medium_sha256": "m"}', "{")
    ):
        folder = tmp_path / f"ws2019-{number}"
        folder.mkdir()
        (folder / "ended.json").write_text(text)
    image = windows_image(datetime.now(UTC))
    lines = windows_report([image], tmp_path, tmp_path / "results")
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[2] for line in lines if line.startswith("| ")}
    assert rows["the-key-prompt"] == "shown"
    assert rows["evaluation-media-want-no-key"] == "disputed"
    assert rows["driver-verifier"] == "open"
    assert "- failed installation of ws2019: waits:winpe: r (medium m)" in lines


@pytest.mark.parametrize(("method", "verdict"), [("fork", "shown"), ("boot", "open")])
def test_a_run_on_a_fork_shows_that_a_windows_can_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, verdict: str
) -> None:
    """Only of the profile that it was, and only when its guest was one; a wine guest's fork says nothing."""
    document = SimpleNamespace(
        results=[SimpleNamespace(profile="ws2022", verifier="off", kind="windows")],
        guests=[
            SimpleNamespace(profile="ws2022", method=method),
            SimpleNamespace(profile="wine-bookworm", method="fork"),
        ],
    )
    monkeypatch.setattr("wsklab.results.store.list_runs", lambda _place: [SimpleNamespace(run_id="r")])
    monkeypatch.setattr("wsklab.results.store.load_run", lambda *_: SimpleNamespace(document=document))
    lines = windows_report([], tmp_path, tmp_path / "results")
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[2] for line in lines if line.startswith("| ")}
    assert rows["a-windows-goes-on-from-saved-memory"] == verdict
    assert rows["the-clock-is-utc"] == "shown"


def test_the_compiler_of_the_shim_is_tried_when_it_is_asked_for(tmp_path: Path) -> None:
    """A program that the sanitizers must stop is made and run; without --shim nothing is compiled."""
    names = [check["name"] for check in json.loads(call(FakeServices(tmp_path), "--json")[1])["checks"]]
    document = json.loads(call(FakeServices(tmp_path), "--json", "--shim")[1])
    check = next(check for check in document["checks"] if check["name"] == "shim")

    assert "shim" not in names
    assert check == {"name": "shim", "ok": True, "detail": "gcc, with AddressSanitizer and UBSan", "fix": ""}


def test_without_the_compiler_its_package_is_named(tmp_path: Path) -> None:
    """Missing, or without its sanitizers."""
    check = shim_check(environ={"PATH": str(tmp_path)})

    assert not check.ok
    assert "gcc" in check.detail
    assert check.repair == ("apt-get", "install", "--no-install-recommends", "-y", "gcc", "libc6-dev")
    assert check.fix == " ".join(check.repair)


def test_sanitizers_that_stop_nothing_are_seen(tmp_path: Path) -> None:
    """A compiler that takes the options and leaves the checks out."""
    compiler = tmp_path / "gcc"
    compiler.write_text('#!/bin/sh\nexec /usr/bin/gcc "$3" -o "$5"\n')
    compiler.chmod(0o755)
    check = shim_check(environ={"PATH": f"{tmp_path}:/usr/bin:/bin"})

    assert (check.ok, check.repair) == (False, ())
    assert "not stopped" in check.detail
