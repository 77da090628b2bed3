"""What becomes of an installation that ends in one way or another; the guest is a stand-in, the rehearsals are real."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from windows_iso import server

from wsklab.deadline import Deadline, Timeouts
from wsklab.errors import ImageError
from wsklab.image.bake_wine import Bake, Baked
from wsklab.image.install import Installer
from wsklab.image.install_state import InstallState
from wsklab.image.windows_media import inspect_medium
from wsklab.profile import load_profiles
from wsklab.resources import images_root

PROFILE = load_profiles(images_root())["ws2022"]
GOOD = Baked(cmdline="", host_key="k", kernel_version="20348.587", wine_version="", packages={})


class Bench:
    """An installer whose guest is installed at once."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.destroyed = 0
        self.released: list[int] = []
        self.error: BaseException | None = None
        self.watch_error: BaseException | None = None
        keys = place / "keys"
        keys.mkdir()
        (keys / "p").touch()
        self.password = keys / "p"
        self.state = InstallState(
            inputs="i",
            medium_sha256="m",
            token="t",
            password_file="p",
            started_at=datetime.now(UTC),
        )
        self.guest: Any = SimpleNamespace(
            name="install-ws2022", directory=place, record=SimpleNamespace(slot=12), destroy=self._destroy
        )
        factory: Any = SimpleNamespace(
            slots=SimpleNamespace(release=lambda slot, _directory: self.released.append(slot)),
            home=SimpleNamespace(keys=keys),
            timeouts=Timeouts(),
            acceleration="kvm",
        )
        self.bake = Bake(
            profile=PROFILE, common=place, public_key=place, cache=place, work=place, product=place,
            deadline=Deadline.after(5), progress=lambda *_: None, key="i",
        )  # fmt: skip
        monkeypatch.setattr("wsklab.image.install.qemu_img.compress", lambda *_: None)
        monkeypatch.setattr("wsklab.image.install.read_back", self._read_back)
        monkeypatch.setattr(Installer, "_resumed", lambda *_: None)
        monkeypatch.setattr(Installer, "_started", lambda *_: (self.guest, self.state))
        monkeypatch.setattr(Installer, "_watched", self._watched)
        self.installer = Installer(
            factory=factory, medium=inspect_medium(server(place / "w.iso"), PROFILE), control=place, certificate=place,
            openssh=None, ensure_network=lambda: None, owner="o", evidence=place,
        )  # fmt: skip

    def _destroy(self, _slots: object) -> None:
        self.destroyed += 1

    def _watched(self, *_: object) -> InstallState:
        if self.watch_error is not None:
            raise self.watch_error
        return self.state.model_copy(update={"sealed": True})

    def _read_back(self, *_: object, **__: object) -> Baked:
        assert self.released == [12]
        if self.error is not None:
            raise self.error
        return GOOD


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_good_installation(bench: Bench) -> None:
    """The guest goes, its facts and its password stay; the licence runs from the day of the installation."""
    facts = bench.installer(bench.bake).windows
    assert facts is not None
    assert (facts.edition, facts.build, facts.password_file, facts.acceleration) == (
        *("ServerStandardEval", "20348.587"),
        *("p", "kvm"),
    )
    assert facts.licence_expires == bench.state.started_at + timedelta(days=180)
    assert (bench.destroyed, bench.password.exists()) == (1, True)


def test_one_that_fails_leaves_nothing(bench: Bench) -> None:
    """Neither guest nor password."""
    bench.watch_error = ImageError("it hangs")
    with pytest.raises(ImageError, match="it hangs"):
        bench.installer(bench.bake)
    assert (bench.destroyed, bench.password.exists()) == (1, False)


def test_one_that_is_complete_is_kept_when_a_look_at_it_fails(bench: Bench) -> None:
    """An hour is not thrown away for a setting; the error says how to go on."""
    bench.error = ImageError("the new image is not as it was made: step quiet", fix="see the settings")
    with pytest.raises(ImageError) as caught:
        bench.installer(bench.bake)
    assert caught.value.fix.startswith("see the settings; the installation is kept")
    assert "wsklab down install-ws2022" in caught.value.fix
    assert (bench.destroyed, bench.password.exists()) == (0, True)


def test_an_interrupt_leaves_nothing(bench: Bench) -> None:
    """Ctrl-C cleans up, at whatever stage."""
    bench.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.installer(bench.bake)
    assert (bench.destroyed, bench.password.exists()) == (1, False)
