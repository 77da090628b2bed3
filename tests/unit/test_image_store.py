"""The image store: same inputs, same image; complete or not there; never silently damaged."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from wsklab.deadline import Deadline
from wsklab.errors import DeadlineExceeded, ImageError
from wsklab.home import FileLock
from wsklab.image.bake_wine import Bake, Baked
from wsklab.image.manifest import WindowsFacts
from wsklab.image.store import ImageStore
from wsklab.profile import GuestProfile, load_profiles
from wsklab.resources import images_root


class Builder:
    """Stands in for a bake: writes small files, counts its calls, fails on demand."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None
        self.during: Callable[[Bake], None] = lambda _: None

    def __call__(self, bake: Bake) -> Baked:
        self.calls += 1
        bake.progress("disk", 0.0, 1.0)
        (bake.product / "disk.qcow2").write_bytes(b"disk" * 100)
        self.during(bake)
        if self.error is not None:
            raise self.error
        (bake.product / "vmlinuz").write_bytes(b"kernel")
        (bake.product / "initrd.img").write_bytes(b"initrd")
        return Baked(
            cmdline="root=/dev/vda",
            host_key="ssh-ed25519 AAAA",
            kernel_version="6.1.0",
            wine_version="wine-8.0",
            packages={"wine64": "8.0"},
        )


class Bench:
    """A store with its own recipe folder and key."""

    def __init__(self, place: Path) -> None:
        self.builder = Builder()
        self.common = place / "common"
        (self.common / "wine").mkdir(parents=True)
        (self.common / "wine" / "init").write_text("first\n")
        self.public_key = place / "key.pub"
        self.public_key.write_text("ssh-ed25519 AAAA lab\n")
        self.profile = load_profiles(images_root())["wine-bookworm"]
        self.root = place / "images"
        self.store = ImageStore(
            self.root, public_key=self.public_key, cache=place / "cache", common=self.common, builder=self.builder
        )

    def build(self, profile: GuestProfile | None = None) -> Path:
        return self.store.build(profile or self.profile, deadline=Deadline.after(5)).directory

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.root / self.profile.name).iterdir() if path.is_dir())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A store that makes images in no time, on a host with room."""
    monkeypatch.setattr("wsklab.image.store._ROOM", 0)
    return Bench(tmp_path)


def test_an_image_is_complete_read_only_and_described(bench: Bench) -> None:
    """All files 0444, the manifest holds the digest of each, the image names its parts."""
    image = bench.store.build(bench.profile, deadline=Deadline.after(5))
    assert {path.name for path in image.directory.iterdir()} == {"disk.qcow2", "vmlinuz", "initrd.img", "manifest.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in image.directory.iterdir()} == {0o444}
    assert set(image.manifest.files) == {"disk.qcow2", "vmlinuz", "initrd.img"}
    assert image.kernel == image.directory / "vmlinuz"
    assert image.manifest.packages == {"wine64": "8.0"}
    assert image.manifest.key.startswith(image.digest)


def test_the_same_inputs_are_baked_once(bench: Bench) -> None:
    """A second build finds the first image."""
    assert bench.build() == bench.build()
    assert bench.builder.calls == 1
    assert bench.store.state(bench.profile) == "present"


def _content(bench: Bench) -> GuestProfile:
    (bench.common / "wine" / "init").write_text("second\n")
    return bench.profile


def _mode(bench: Bench) -> GuestProfile:
    (bench.common / "wine" / "init").chmod(0o755)
    return bench.profile


def _name(bench: Bench) -> GuestProfile:
    (bench.common / "wine" / "more").write_text("")
    return bench.profile


def _key(bench: Bench) -> GuestProfile:
    bench.public_key.write_text("ssh-ed25519 BBBB lab\n")
    return bench.profile


def _disk(bench: Bench) -> GuestProfile:
    return bench.profile.model_copy(update={"disk_gib": 3})


def _packages(bench: Bench) -> GuestProfile:
    assert bench.profile.recipe is not None
    recipe = bench.profile.recipe.model_copy(update={"packages": ("wine64",)})
    return bench.profile.model_copy(update={"recipe": recipe})


@pytest.mark.parametrize("change", [_content, _mode, _name, _key, _disk, _packages])
def test_every_input_makes_another_image(bench: Bench, change: Callable[[Bench], GuestProfile]) -> None:
    """A file's content, mode or name, the lab's key, the disk, the packages: each changes the key."""
    before = bench.build()
    profile = change(bench)
    assert bench.store.state(profile) == "stale"
    assert bench.build(profile) != before


def test_what_does_not_enter_the_image_does_not_change_it(bench: Bench) -> None:
    """Notes, facts, memory and budget are about the guest, not about its disk."""
    bench.build()
    other = bench.profile.model_copy(update={"notes": "x", "memory_mib": 1024, "boot_budget_s": 1.0})
    assert bench.store.state(other) == "present"


@pytest.mark.parametrize("error", [ImageError("no mirror"), KeyboardInterrupt()])
def test_a_build_that_ends_early_leaves_nothing(bench: Bench, error: BaseException) -> None:
    """Neither half an image nor scratch files; the next build works."""
    bench.builder.error = error
    with pytest.raises(type(error)):
        bench.build()
    assert bench.left() == []
    assert bench.store.state(bench.profile) == "absent"
    bench.builder.error = None
    bench.build()
    assert bench.store.state(bench.profile) == "present"


def test_a_killed_build_is_swept_by_the_next(bench: Bench) -> None:
    """A build killed by force cannot clean up; whoever gets the lock does."""
    rubbish = bench.root / bench.profile.name / ".new-0123"
    rubbish.mkdir(parents=True)
    (rubbish / "disk.raw").write_bytes(b"x")
    directory = bench.build()
    assert bench.left() == [directory.name]


def test_an_image_is_not_seen_before_it_is_complete(bench: Bench) -> None:
    """While the builder works, the store says absent."""
    seen: list[str] = []
    bench.builder.during = lambda _: seen.append(bench.store.state(bench.profile))
    bench.build()
    assert seen == ["absent"]


@pytest.mark.parametrize("file", ["disk.qcow2", "manifest.json"])
def test_a_truncated_image_is_refused_and_made_again(bench: Bench, file: str) -> None:
    """A short file makes the image stale; a build replaces it."""
    directory = bench.build()
    (directory / file).chmod(0o644)
    (directory / file).write_bytes(b"short")
    assert bench.store.find(bench.profile) is None
    assert bench.store.state(bench.profile) == "stale"
    assert bench.build() == directory
    assert bench.store.state(bench.profile) == "present"


def test_verify_names_the_file_that_was_changed(bench: Bench) -> None:
    """A changed byte of the same length is found by digest."""
    image = bench.store.build(bench.profile, deadline=Deadline.after(5))
    bench.store.verify(image)
    image.disk.chmod(0o644)
    image.disk.write_bytes(b"dusk" * 100)
    with pytest.raises(ImageError, match=r"disk\.qcow2"):
        bench.store.verify(image)
    image.disk.unlink()
    with pytest.raises(ImageError, match=r"disk\.qcow2") as caught:
        bench.store.verify(image)
    assert "missing" in caught.value.why


def test_two_builders_wait_for_each_other(bench: Bench) -> None:
    """While another process holds the lock, a build waits, and gives up at its deadline."""
    folder = bench.root / bench.profile.name
    folder.mkdir(parents=True)
    other = FileLock(folder / ".lock")
    assert other.try_acquire()
    with pytest.raises(DeadlineExceeded):
        bench.store.build(bench.profile, deadline=Deadline.after(0.1))
    assert bench.builder.calls == 0
    other.release()
    bench.build()


def test_images_are_listed_and_removed(bench: Bench) -> None:
    """`list` shows old and new images; `remove` takes exactly one, twice without complaint."""
    old = bench.build()
    bench.public_key.write_text("ssh-ed25519 CCCC lab\n")
    new = bench.build()
    assert [image.directory for image in bench.store.list()] == [old, new]
    image = bench.store.list()[0]
    bench.store.remove(image)
    bench.store.remove(image)
    assert [left.directory for left in bench.store.list()] == [new]


def test_the_password_of_a_windows_goes_with_its_image(bench: Bench, tmp_path: Path) -> None:
    """Nothing else beside it does, whatever the manifest names."""
    keys = bench.public_key.parent
    for name in ("ws2022-1.password", "ws2022-2.password"):
        (keys / name).write_text("secret")

    def installed(bake: Bake) -> Baked:
        facts = WindowsFacts.unknown("wsklab").model_copy(update={"password_file": "../x/ws2022-1.password"})
        return dataclasses.replace(Builder()(bake), windows=facts)

    image = bench.store.build(bench.profile, deadline=Deadline.after(5), builder=installed)
    bench.store.remove(image)
    assert sorted(path.name for path in keys.glob("*.password")) == ["ws2022-2.password"]
    bench.store.remove(image)


def test_a_profile_without_recipe_has_no_image(bench: Bench) -> None:
    """It is absent, and building it says why."""
    profile = bench.profile.model_copy(update={"recipe": None})
    assert bench.store.state(profile) == "absent"
    with pytest.raises(ImageError) as caught:
        bench.store.key(profile)
    assert "no recipe" in caught.value.why


def test_a_full_disk_is_told_before_the_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started that cannot end."""
    monkeypatch.setattr("wsklab.image.store._ROOM", 1 << 60)
    with pytest.raises(ImageError, match="room"):
        bench.build()
    assert bench.builder.calls == 0


def test_without_a_key_there_is_no_image_yet(tmp_path: Path) -> None:
    """Looking at a fresh home makes no files and is no error."""
    store = ImageStore(tmp_path / "images")
    profile = load_profiles(images_root())["wine-trixie"]
    assert store.find(profile) is None
    assert store.state(profile) == "absent"
    assert store.list() == []
    assert list(tmp_path.iterdir()) == []
