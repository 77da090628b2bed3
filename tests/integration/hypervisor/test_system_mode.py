"""Facts about the system mode: the distribution's libvirtd, an unprivileged user, QEMU as libvirt-qemu.

Outside, one test makes the environment (see `system_mode`) and runs this same file in there; inside, the
other tests run as the user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_contract import HypervisorContract, MakeSpec, network_spec, spec_maker

from wsklab import network, qemu_img
from wsklab.console import ConsoleLog
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.domain_xml import DiskSpec, NicSpec
from wsklab.hypervisor.libvirt import LibvirtHypervisor

_INSIDE = "WSKLAB_TEST_INSIDE_SYSTEM_MODE"
_STORE = Path("/var/lib/wsklab")

inside = pytest.mark.inside_system_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces: needs root")
def test_the_system_mode_serves_an_unprivileged_user(kernel: Path) -> None:
    """Everything below passes as a member of the group libvirt with a HOME of mode 0700."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from system_mode import system_mode

    here = Path(__file__).resolve()
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(here.parents[3])]
    argv += ["-c", str(here.parents[3] / "pyproject.toml"), str(here)]
    with system_mode() as environment:
        environment.run(["install", "-m", "0444", str(kernel), str(_STORE / "vmlinuz")], deadline=Deadline.after(20))
        result = environment.run(
            argv, deadline=Deadline.after(300), check=False, env={_INSIDE: "1", "PYTHONDONTWRITEBYTECODE": "1"}
        )
    assert result.exit_code == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert " passed" in result.stdout


@pytest.fixture
def hypervisor() -> Iterator[LibvirtHypervisor]:
    with LibvirtHypervisor("qemu:///system") as made:
        yield made


@pytest.fixture
def directory() -> Iterator[Path]:
    """A guest's directory in the store, as the lab makes it."""
    made = _STORE / f"t{os.urandom(4).hex()}"
    made.mkdir()
    made.chmod(0o2775)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def make_spec(home: str, directory: Path) -> MakeSpec:
    return spec_maker(home, directory, _STORE / "vmlinuz")


@inside
class TestSystemContract(HypervisorContract):
    """The distribution's libvirtd passes what the private one passes."""


@inside
def test_the_user_is_nobody_special() -> None:
    """The tests inside run without privileges, with a HOME that nobody else may enter."""
    assert os.geteuid() != 0
    assert Path.home().stat().st_mode & 0o777 == 0o700


@inside
def test_a_guest_s_files_stay_the_user_s(
    hypervisor: LibvirtHypervisor, make_spec: MakeSpec, home: str, directory: Path
) -> None:
    """QEMU opens overlay and image; afterwards both are the user's, and all can be deleted by the user."""
    base, overlay = directory / "base.qcow2", directory / "overlay.qcow2"
    qemu_img.create_empty(base, 1 << 28, Deadline.after(20))
    base.chmod(0o444)
    qemu_img.create_overlay(base, overlay, Deadline.after(20))
    before = base.stat()
    net = network_spec(home)
    hypervisor.ensure_network(net)
    spec = make_spec(
        disks=(DiskSpec(path=overlay, backing=(base,)),), nics=(NicSpec(network=net.name, mac=net.hosts[0].mac),)
    )
    domain = hypervisor.define(spec)
    try:
        domain.start()
        assert pwd.getpwuid(overlay.stat().st_uid).pw_name == "libvirt-qemu"
        assert base.stat() == before
        console = ConsoleLog(spec.console_log)
        wait_until(
            lambda: True if console.contains("Linux version") else NotYet(console.tail(1)),
            Deadline.after(60),
            what="the first line of the kernel",
        )
        assert network.interfaces(network.Via())[net.bridge] == [f"{net.address}/24"]
    finally:
        domain.destroy()
        domain.undefine()
        hypervisor.remove_network(net.name)
    assert overlay.stat().st_uid == os.geteuid()
    assert base.stat().st_uid == os.geteuid()


@inside
def test_a_console_that_grows_too_long_stays_readable_so_far(directory: Path) -> None:
    """What the log daemon has renamed is still the user's file; the fresh one is root's and is left out."""
    path = directory / "console.log"
    path.with_name("console.log.0").write_text("the first two megabytes\n")
    assert ConsoleLog(path).tail() == "the first two megabytes"


@inside
def test_libvirt_trusts_what_it_knows_about_qemu(hypervisor: LibvirtHypervisor) -> None:
    """No feature probing per call (4 s each) where /dev/kvm is absent."""
    assert hypervisor.capabilities_are_cached(limit_s=0.5)
