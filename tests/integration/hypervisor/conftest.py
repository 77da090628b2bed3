"""A private libvirt daemon for the module, and a kernel to boot. Root on Debian; no other traffic."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_contract import MakeSpec, spec_maker

from wsklab.deadline import Deadline
from wsklab.errors import HostCommandError
from wsklab.hypervisor.daemon import PrivateDaemon
from wsklab.hypervisor.libvirt import LibvirtHypervisor
from wsklab.process import run


@pytest.fixture(scope="session")
def kernel() -> Path:
    """The distribution's cloud kernel, from its package; kept between sessions."""
    place = Path(tempfile.gettempdir()) / f"wsklab-test-kernel-{os.geteuid()}"
    place.mkdir(mode=0o755, exist_ok=True)
    target = place / "vmlinuz"
    if not target.exists():
        try:
            depends = run(["apt-cache", "depends", "linux-image-cloud-amd64"], deadline=Deadline.after(30)).stdout
            package = next(line.split()[-1] for line in depends.splitlines() if "Depends: linux-image" in line)
            run(["apt-get", "download", package], deadline=Deadline.after(120), cwd=place)
            archive = next(place.glob("linux-image*.deb"))
            run(["dpkg-deb", "-x", str(archive), str(place / "tree")], deadline=Deadline.after(60))
        except (HostCommandError, StopIteration) as error:
            pytest.skip(f"no test kernel: {error}")
        next((place / "tree/boot").glob("vmlinuz-*")).rename(target)
        run(["rm", "-rf", str(place / "tree"), str(archive)], deadline=Deadline.after(30))
    return target


@pytest.fixture(scope="session")
def private_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab home, 0700, as one under /root is."""
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o700)
    return home


@pytest.fixture(scope="session")
def daemon(private_root: Path) -> Iterator[PrivateDaemon]:
    """A running private daemon."""
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    made = PrivateDaemon(private_root, Path("/run/wsklab") / f"t{uuid.uuid4().hex[:7]}", hide_kvm=True)
    made.start(Deadline.after(20))
    yield made
    made.stop(Deadline.after(20))


@pytest.fixture
def home() -> str:
    """An id of a home, fresh for each test."""
    return str(uuid.uuid4())


@pytest.fixture
def hypervisor(daemon: PrivateDaemon) -> Iterator[LibvirtHypervisor]:
    """A connection to the private daemon."""
    with LibvirtHypervisor(daemon.uri) as made:
        yield made


@pytest.fixture
def make_spec(home: str, private_root: Path, kernel: Path) -> MakeSpec:
    """Tiny guests whose files are in the 0700 home."""
    return spec_maker(home, private_root, kernel)
