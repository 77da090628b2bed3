"""A Windows installation rehearsed in system mode: the distribution's libvirtd, an unprivileged user, a 0700 HOME.

Outside, one test makes environment and medium and runs this file in there; inside, the other test is the user.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_home import furnish
from rehearsal import Rehearsal

from wsklab.deadline import Deadline
from wsklab.guest import Claim

_INSIDE = "WSKLAB_TEST_INSIDE_SYSTEM_MODE"
_PLACE = "WSKLAB_TEST_REHEARSAL_PLACE"
_STORE = Path("/var/lib/wsklab")
_PUT = r"""
cp -r "$1/driver/"* "$2/driver/"
for key in "$1/keys/"*; do install -g "$(stat -c %g "$2")" -m 0640 "$key" "$2/keys/"; done
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody can enter, QEMU's user too: pytest's are closed."""
    made = Path(tempfile.mkdtemp(prefix="wsklab-rehearsal-", dir="/var/tmp"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces: needs root")
def test_in_system_mode(place: Path) -> None:
    """The test below passes as a member of the group libvirt."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
    from system_mode import system_mode

    source = place / "source"
    source.mkdir()
    furnish(source)
    Rehearsal(source, place).medium("uefi", "good").chmod(0o644)
    root = Path(__file__).resolve().parents[2]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(root)]
    argv += ["-c", str(root / "pyproject.toml"), str(Path(__file__).resolve())]
    with system_mode() as environment:
        environment.run(
            [sys.executable, "-m", "wsklab", "list"],
            deadline=Deadline.after(60), as_root=True, env={"WSKLAB_MODE": "system"},
        )  # fmt: skip
        environment.run(["sh", "-ec", _PUT, "sh", str(source), str(_STORE)], deadline=Deadline.after(60), as_root=True)
        result = environment.run(
            argv,
            deadline=Deadline.after(1500), check=False,
            env={_INSIDE: "1", _PLACE: str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    assert result.exit_code == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "1 passed" in result.stdout


@pytest.mark.inside_system_mode
def test_a_windows_is_installed_by_a_user() -> None:
    """The image is the user's: its guests start, on the lab's network, and say why none is a fork; nothing is left."""
    assert os.geteuid() != 0
    rehearsal = Rehearsal(_STORE, Path(os.environ[_PLACE]))
    profile = rehearsal.profile("uefi")
    with rehearsal.lab(mode="system") as lab:
        image, _ = rehearsal.build(lab, "uefi")
        assert image.manifest.windows is not None
        lab.store.verify(image)
        guest = lab.start_guest(profile, Claim(owner=lab.owner, purpose="test", expires="2999-01-01T00:00:00Z"))
        try:
            guest.wait_ready(lab.timeouts.after(profile.boot_budget_s), ready_check=profile.ready_check)
            assert guest.record.method == "boot"
            assert "no wire of its own" in guest.record.why
        finally:
            guest.destroy(lab.slots)
        lab.store.remove(image)
        assert lab.guests() == []
    assert list((_STORE / "guests").iterdir()) == []
