"""`image build` with a medium: what is asked of the lab, and what is refused before."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsklab.cli.main import main
from wsklab.cli.output import Output
from wsklab.cli.runtime import Runtime
from wsklab.cli.services import Services
from wsklab.cli.windows_images import InstallWishes, bring, download_medium, install
from wsklab.config import LabConfig
from wsklab.errors import ImageError, UsageError
from wsklab.image.store import ImageStore
from wsklab.profile import load_profiles
from wsklab.resources import images_root


class Fake(Services):
    """Notes what is to be installed, and says that it failed."""

    def __init__(self, place: Path) -> None:
        self.asked: list[tuple[str, InstallWishes]] = []
        self.place = place

    @contextlib.contextmanager
    def lab(self, config: LabConfig) -> Iterator[Any]:  # type: ignore[override]
        yield None

    def store(self, config: LabConfig) -> ImageStore:
        key = self.place / "key.pub"
        key.write_text("ssh-ed25519 AAAA")
        return ImageStore(self.place / "images", public_key=key)

    def install_windows(self, lab: Any, profile: Any, wishes: InstallWishes, output: Output) -> Any:
        self.asked.append((profile.name, wishes))
        raise ImageError("asked")


def call(services: Services, place: Path, *words: str) -> dict[str, Any]:
    """The error document of a call."""
    out = io.StringIO()
    runtime = Runtime(
        output=Output(stdout=out, stderr=io.StringIO()), services=services, environ={}, folder=place, user_home=place
    )
    main([*words, "--json"], runtime)
    error: dict[str, Any] = json.loads(out.getvalue())["error"]
    return error


def test_the_wishes_arrive(tmp_path: Path) -> None:
    """Every option, and the one profile."""
    services = Fake(tmp_path)
    (tmp_path / "sshd.exe").touch()
    words = ("--iso", "w.iso", "--sha256", "A" * 64, "--openssh", str(tmp_path), "--emulated")
    assert call(services, tmp_path, "image", "build", "ws2022", *words)["message"] == "asked"
    wishes = InstallWishes(iso=Path("w.iso"), sha256="A" * 64, openssh=tmp_path, emulated=True)
    assert services.asked == [("ws2022", wishes)]
    call(services, tmp_path, "image", "build", "ws2016", "--download")
    assert services.asked[1] == ("ws2016", InstallWishes(iso=None))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ws20*", "--iso", "w.iso"), "a medium is for one profile"),
        (("ws2022", "--iso", "w.iso", "--download"), "--iso and --download exclude each other"),
        (("ws2022", "--iso", "w.iso", "--sha256", "12"), "--sha256 is no SHA-256"),
        (("ws2022", "--iso", "w.iso", "--openssh", "."), "is no Win32-OpenSSH package"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    """Nothing is asked of the lab."""
    services = Fake(tmp_path)
    assert message in call(services, tmp_path, "image", "build", *words)["message"]
    assert services.asked == []


def test_a_windows_without_a_medium(tmp_path: Path) -> None:
    """The error says which options there are."""
    error = call(Fake(tmp_path), tmp_path, "image", "build", "ws2022")
    assert error["message"] == "there is no image of ws2022"
    assert "--iso FILE" in error["fix"]


def test_no_download_is_known(tmp_path: Path) -> None:
    """A profile whose media have no address."""
    profile = load_profiles(images_root())["ws2022"]
    assert profile.windows_recipe is not None
    recipe = profile.windows_recipe.model_copy(update={"media": ()})
    without: Any = profile.model_copy(update={"recipe": recipe})
    with pytest.raises(UsageError, match="no download of ws2022 is known"):
        download_medium(None, without, Output())  # type: ignore[arg-type]


def test_an_image_that_is_there(tmp_path: Path) -> None:
    """An import is refused before the disk is looked at; an installation is not repeated. Nothing is built."""
    profile = load_profiles(images_root())["ws2022"]
    there = SimpleNamespace(directory=tmp_path / "ws2022")
    lab: Any = SimpleNamespace(store=SimpleNamespace(find=lambda _: there))

    def build(_: object) -> Any:
        pytest.fail("the driver was to be built")

    output = Output(stderr=(said := io.StringIO()))
    with pytest.raises(UsageError, match="there is an image of ws2022") as caught:
        bring(lab, profile, tmp_path / "no.qcow2", account="a", provision=False, output=output, build=build)
    assert caught.value.fix.startswith("wsklab image remove ws2022")
    assert install(lab, profile, InstallWishes(iso=tmp_path / "no.iso"), output, build) is there
    assert "is there already" in said.getvalue()


def test_a_virtio_medium_is_looked_at_first(tmp_path: Path) -> None:
    """Before the host, the medium and the hour that follows."""
    profile = load_profiles(images_root())["ws2022"]
    lab: Any = SimpleNamespace(store=SimpleNamespace(find=lambda _: None))
    wishes = InstallWishes(iso=tmp_path / "no.iso", virtio=tmp_path)
    with pytest.raises(UsageError, match="is no virtio-win medium"):
        install(lab, profile, wishes, Output(stderr=io.StringIO()), lambda _: pytest.fail("the driver was to be built"))
