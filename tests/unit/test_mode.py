"""The choice between the distribution's libvirt daemon and the lab's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.config import ModeSetting
from wsklab.errors import HostError
from wsklab.mode import HostFacts, choose_mode, observe_host


@pytest.mark.parametrize(
    ("setting", "root", "service_manager", "socket", "expected"),
    [
        (ModeSetting.AUTO, False, True, True, ModeSetting.SYSTEM),
        (ModeSetting.AUTO, True, True, True, ModeSetting.SYSTEM),
        (ModeSetting.AUTO, True, False, True, ModeSetting.PRIVATE),
        (ModeSetting.AUTO, True, False, False, ModeSetting.PRIVATE),
        (ModeSetting.AUTO, False, False, True, ModeSetting.SYSTEM),
        (ModeSetting.SYSTEM, True, False, False, ModeSetting.SYSTEM),
        (ModeSetting.PRIVATE, True, True, True, ModeSetting.PRIVATE),
    ],
)
def test_choice(setting: ModeSetting, root: bool, service_manager: bool, socket: bool, expected: ModeSetting) -> None:
    """A service manager decides; without one root gets the private daemon; the setting wins over both."""
    choice = choose_mode(setting, HostFacts(root=root, service_manager=service_manager, socket=socket))

    assert (choice.mode, bool(choice.why)) == (expected, True)


@pytest.mark.parametrize("setting", [ModeSetting.AUTO, ModeSetting.PRIVATE])
def test_private_mode_needs_root(setting: ModeSetting) -> None:
    """Without root and without a daemon there is no way; the error says so."""
    with pytest.raises(HostError, match="no libvirt daemon"):
        choose_mode(setting, HostFacts(root=False, service_manager=False, socket=False))


def test_observation_of_a_tree(tmp_path: Path) -> None:
    """systemd is seen by its folder in /run, the daemon by its socket."""
    before = observe_host(tmp_path)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "run/libvirt").mkdir()
    (tmp_path / "run/libvirt/libvirt-sock").touch()
    after = observe_host(tmp_path)

    assert [(f.service_manager, f.socket) for f in (before, after)] == [(False, False), (True, True)]
