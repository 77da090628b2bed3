"""The home: its mark, its locks, its key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from wsklab.errors import HostError
from wsklab.home import FileLock, Home


def test_the_mark_of_a_home_is_made_once(tmp_path: Path) -> None:
    """Opening a home twice gives the same id."""
    assert Home.open(tmp_path / "home").id == Home.open(tmp_path / "home").id


def test_a_damaged_mark_is_refused(tmp_path: Path) -> None:
    """A damaged home.json is an error, never a new identity: the old one's guests would be orphaned."""
    home = Home.open(tmp_path)
    (home.root / "home.json").write_text('{"id": "not a uuid"}')

    with pytest.raises(HostError, match="damaged"):
        Home.open(tmp_path)


def test_a_run_is_alive_exactly_while_its_controller_holds_the_lock(tmp_path: Path) -> None:
    """`run_is_alive` follows the lock, not the existence of a file."""
    home = Home.open(tmp_path)

    with home.run_alive("r1") as directory:
        assert directory.is_dir()
        assert home.run_is_alive("r1")
    assert not home.run_is_alive("r1")
    assert not directory.exists()


def test_a_dead_controller_leaves_a_run_that_is_not_alive(tmp_path: Path) -> None:
    """The file that a killed controller leaves behind does not count."""
    home = Home.open(tmp_path)
    (home.runs / "r2").mkdir()
    (home.runs / "r2" / "alive").touch()

    assert not home.run_is_alive("r2")


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_a_run_id_cannot_leave_its_directory(tmp_path: Path, run_id: str) -> None:
    """A run id with a path in it is refused, and is never alive."""
    home = Home.open(tmp_path)

    assert not home.run_is_alive(run_id)
    with pytest.raises(HostError, match="not a run id"), home.run_alive(run_id):
        pass


def test_shared_users_keep_an_exclusive_one_out(tmp_path: Path) -> None:
    """Who gets the lock exclusively is the only user."""
    first, second = FileLock(tmp_path / "users"), FileLock(tmp_path / "users")
    assert first.try_acquire(shared=True)
    assert second.try_acquire(shared=True)

    assert not first.try_acquire()
    second.release()
    assert first.try_acquire()


def test_the_guest_key_is_private_and_stays(tmp_path: Path) -> None:
    """The private key is readable by its owner only, and is made once."""
    home = Home.open(tmp_path)
    key = home.guest_key()

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
    assert home.guest_key().read_bytes() == key.read_bytes()


def test_a_shared_home_is_usable_for_its_group(tmp_path: Path) -> None:
    """In a folder of mode 2775 the group may use all that a member makes: folders, the key, the locks."""
    root = tmp_path / "home"
    root.mkdir()
    root.chmod(0o2775)
    home = Home.open(root)
    key = home.guest_key()

    assert {stat.S_IMODE((root / name).stat().st_mode) for name in ("guests", "images", "runs")} == {0o2775}
    assert stat.S_IMODE(home.keys.stat().st_mode) == 0o2770
    assert stat.S_IMODE(key.stat().st_mode) == 0o640
    assert stat.S_IMODE((root / ".keys.lock").stat().st_mode) == 0o664


def test_a_lock_file_that_cannot_be_written_can_be_taken(tmp_path: Path) -> None:
    """Reading is enough to lock: the file may be another user's."""
    path = tmp_path / "users"
    path.touch()
    path.chmod(0o444)
    assert FileLock(path).try_acquire(shared=True)
