"""`wskctl provision` and the answer disc's scripts under a Wine of this host: what is changed is read back.

Wine has the registry, services, certificate stores and files; it has no boot store and no firewall, and says so. None
of it is evidence about Windows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_wine import Prepared

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from test_answer_disc import content

from wsklab.deadline import Deadline
from wsklab.image.answer_disc import disc_files
from wsklab.process import run
from wsklab.toolchain import make_certificate

NEEDED = ("wine", "wineserver", "x86_64-w64-mingw32-gcc", "cmake", "ninja", "unshare")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on this host: {MISSING}")


class Machine:
    """A Wine prefix with `wskctl.exe` in `C:\\wsklab`, in a network namespace of its own."""

    def __init__(self, root: Path, control: Path) -> None:
        self.root = root
        self.control = control
        self.drive = root / "drive_c"
        self.lab = self.drive / "wsklab"

    def cmd(self, *words: str, seconds: float = 120, env: dict[str, str] | None = None) -> tuple[int, str]:
        argv = ["unshare", "-n", *words]
        wine = {"WINEPREFIX": str(self.root), "WINEDEBUG": "-all", "PATH": os.environ["PATH"], "HOME": str(self.root)}
        done = subprocess.run(argv, env=wine | (env or {}), capture_output=True, timeout=seconds, check=False)
        return done.returncode, done.stdout.decode(errors="replace")

    def provision(self, *words: str) -> dict[str, Any]:
        status, out = self.cmd("wine", r"C:\wsklab\wskctl.exe", "provision", *words)
        document: dict[str, Any] = json.loads(out)
        assert (status == 0) == document["ok"], (status, document)
        return document


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, prepared_wine: Prepared) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine") / "prefix", prepared_wine.build / "ctl" / "wskctl.exe")
    prepared_wine.copy_to(made.root)
    made.lab.mkdir()
    shutil.copy(made.control, made.lab / "wskctl.exe")
    certificate = make_certificate(tmp_path_factory.mktemp("keys"))
    shutil.copy(certificate.cer, made.lab / "signing.cer")
    (made.lab / "key.pub").write_text("ssh-ed25519 AAAA lab\n")
    yield made
    made.cmd("wineserver", "-k")
    run(["env", f"WINEPREFIX={made.root}", "wineserver", "-w"], deadline=Deadline.after(30), check=False)


def settings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {setting["name"]: setting for setting in document["settings"]}


def test_a_step_looks_changes_and_is_idempotent(machine: Machine) -> None:
    """Looking changes nothing; changing is read back; the second time there is nothing to change."""
    looked = machine.provision("crash-control", "--check")
    assert (looked["ok"], looked["changed"]) == (False, False)
    again = machine.provision("crash-control", "--check")
    assert again == looked
    done = machine.provision("crash-control")
    assert (done["ok"], done["changed"]) == (True, True)
    assert settings(done)["PagingFiles"]["after"] == r"C:\pagefile.sys 4608 5120"
    assert settings(done)["DumpFile"]["after"] == r"%SystemRoot%\MEMORY.DMP"
    second = machine.provision("crash-control")
    assert (second["ok"], second["changed"]) == (True, False)
    assert machine.provision("crash-control", "--check")["ok"]


def test_the_registry_says_the_same_to_another_program(machine: Machine) -> None:
    """What the report claims is what `reg query` shows, with its type."""
    machine.provision("crash-control")
    key = r"HKLM\SYSTEM\CurrentControlSet\Control\CrashControl"
    _, out = machine.cmd("wine", "reg", "query", key)
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("    ")}
    assert lines["CrashDumpEnabled"] == ["REG_DWORD", "0x2"]
    assert lines["DumpFile"][0] == "REG_EXPAND_SZ"


def test_services_and_settings_of_the_quiet_step(machine: Machine) -> None:
    """A service that is there is disabled; one that is not there is as wanted, and said to be missing."""
    document = machine.provision("quiet")
    found = settings(document)
    assert found["wuauserv"]["after"] == "disabled"
    assert found["DiagTrack"]["ok"]
    assert found["DiagTrack"]["why"] == "there is no such service"
    assert found["NoAutoUpdate"]["after"] == "1"


def test_a_certificate_is_trusted_in_both_stores(machine: Machine) -> None:
    """Root and TrustedPublisher of the machine; found again by its content."""
    assert not machine.provision("trust", "--file", r"C:\wsklab\signing.cer", "--check")["ok"]
    done = machine.provision("trust", "--file", r"C:\wsklab\signing.cer")
    assert [setting["name"] for setting in done["settings"]] == ["Root", "TrustedPublisher"]
    assert (done["ok"], done["changed"]) == (True, True)
    assert not machine.provision("trust", "--file", r"C:\wsklab\signing.cer")["changed"]


@pytest.mark.parametrize("name", ["nothing.cer", "key.pub"])
def test_a_file_that_is_no_certificate_is_said(machine: Machine, name: str) -> None:
    """Missing, or something else: the report says what was tried."""
    document = machine.provision("trust", "--file", rf"C:\wsklab\{name}")
    assert not document["ok"]
    assert document["settings"][0]["why"].startswith("cannot ")


def test_what_wine_lacks_is_said_with_its_reason(machine: Machine) -> None:
    """No boot store and no account functions in Wine: not ok, with a Win32 number, and no crash."""
    boot = settings(machine.provision("boot"))
    assert boot["testsigning"]["why"] == "cannot bcdedit.exe /enum {current}: Win32 error 2"
    account = machine.provision("account", "--user", "wsklab")
    assert not account["ok"]
    assert "Win32 error" in account["settings"][0]["why"]


def test_the_ssh_step_writes_its_files(machine: Machine) -> None:
    """Key and settings are there; without a server the step is not ok, and says which service is missing."""
    document = machine.provision("ssh", "--file", r"C:\wsklab\key.pub")
    assert not document["ok"]
    folder = machine.drive / "ProgramData" / "ssh"
    assert (folder / "administrators_authorized_keys").read_text() == "ssh-ed25519 AAAA lab\n"
    assert "administrators_authorized_keys" in (folder / "sshd_config").read_text()
    assert "1060" in settings(document)["sshd"]["why"]


def test_the_package_is_copied_and_its_service_made(machine: Machine) -> None:
    """Every file at every depth; the service starts with the machine."""
    package = machine.lab / "openssh"
    (package / "deep").mkdir(parents=True, exist_ok=True)
    (package / "sshd.exe").write_bytes(b"MZ no program")
    (package / "deep" / "file.txt").write_text("x")
    document = machine.provision("ssh", "--file", r"C:\wsklab\key.pub", "--from", r"C:\wsklab\openssh")
    target = machine.drive / "Program Files" / "OpenSSH"
    assert (target / "sshd.exe").read_bytes() == b"MZ no program"
    assert (target / "deep" / "file.txt").read_text() == "x"
    assert settings(document)[r"C:\Program Files\OpenSSH"]["after"] == "every file"
    _, out = machine.cmd("wine", "reg", "query", r"HKLM\SYSTEM\CurrentControlSet\Services\sshd")
    assert r"OpenSSH\sshd.exe" in out
    assert "Start    REG_DWORD    0x2" in out


def test_sealing_leaves_the_token_and_no_secret(machine: Machine) -> None:
    """The answer file with its password is gone, automatic logon is off."""
    panther = machine.drive / "windows" / "Panther"
    panther.mkdir(exist_ok=True)
    (panther / "unattend.xml").write_text("<password/>")
    document = machine.provision("seal", "--token", "T0KEN")
    assert document["ok"], document
    assert not (panther / "unattend.xml").exists()
    assert (machine.lab / "token").read_text() == "T0KEN"
    assert settings(document)["AutoAdminLogon"]["after"] == "0"


def test_bad_words_are_usage(machine: Machine) -> None:
    """An unknown step, a missing option, an option without its value: exit code 2 and nothing changed."""
    for words in (["nonsense"], [], ["trust"], ["trust", "--file"], ["seal"], ["quiet", "--loud"]):
        status, out = machine.cmd("wine", r"C:\wsklab\wskctl.exe", "provision", *words)
        assert (status, out) == (2, "")


def test_the_discs_scripts_run_in_cmd(machine: Machine, tmp_path: Path) -> None:
    """Wine's cmd runs them as written: they say their stage, report each step, and stop at the first that fails,
    which under Wine is the boot store."""
    disc = machine.drive / "disc"
    shutil.rmtree(machine.lab)
    for name, data in disc_files(content(tmp_path, "ws2022")).items():
        path = disc / Path(name).name if name.startswith("wsklab/") and name.count("/") == 1 else disc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
    shutil.copy(machine.control, disc / "wskctl.exe")
    status, _ = machine.cmd("wine", "cmd", "/c", r"C:\disc\specialise.cmd", env={"PORT": r"C:\serial.txt"})
    said = (machine.drive / "serial.txt").read_text()
    assert status == 1
    assert "wsklab: failed boot" in said
    reports = [json.loads(line) for line in (machine.lab / "provision.jsonl").read_text().splitlines()]
    assert [report["step"] for report in reports] == ["crash-control", "boot"]
    assert (machine.lab / "key.pub").exists()
