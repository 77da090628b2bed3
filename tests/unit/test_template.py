"""The template store: complete or not there, damage is seen, nobody's template is removed under him."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wsklab import template as module
from wsklab.deadline import Deadline
from wsklab.errors import DeadlineExceeded, TemplateError
from wsklab.template import Template, TemplateStore, key_of

PROFILE = "wine-bookworm"
INPUTS = {"image": "0" * 20}
FACTS = {"profile": PROFILE, "image": "0" * 20, "host_key": "ssh-ed25519 AAAA", "driver": ""}
KEY = key_of(INPUTS)


@pytest.fixture
def store(tmp_path: Path) -> TemplateStore:
    """An empty one."""
    return TemplateStore(tmp_path / "templates")


@pytest.fixture
def template(store: TemplateStore) -> Template:
    """A template of a few bytes."""
    return _make(store)


def _make(store: TemplateStore) -> Template:
    with store.locked(PROFILE, "base", KEY, Deadline.after(1)):
        work = store.work_folder(PROFILE, KEY)
        for name in ("memory", "state", "disk.qcow2", "console.log"):
            (work / name).write_text(f"content of {name}")
        return store.publish(work, kind="base", inputs=INPUTS, facts=FACTS, seconds=1.25)


def test_what_was_published_is_found(store: TemplateStore, template: Template) -> None:
    """The same manifest, files that cannot be written by accident, no work folder left."""
    found = store.find(PROFILE, KEY)
    assert found is not None
    assert found.manifest == template.manifest
    assert [found.state.stat().st_mode & 0o777, found.disk.stat().st_mode & 0o777] == [0o444, 0o444]
    assert not list(template.directory.parent.glob(".new-*"))
    assert store.find(PROFILE, "f" * 20) is None
    assert store.find("another", KEY) is None


def _cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)


def _rewrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"#" * path.stat().st_size)


def _swap(path: Path) -> None:
    status = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
    copy.replace(path)


@pytest.mark.parametrize("name", ["memory", "state", "disk.qcow2"])
@pytest.mark.parametrize("damage", [_cut, _rewrite, _swap, Path.unlink], ids=["cut", "rewritten", "swapped", "gone"])
def test_damage_is_seen_at_a_glance(
    store: TemplateStore, template: Template, name: str, damage: Callable[[Path], None]
) -> None:
    """Size, time of change and inode tell, without reading a byte; the error names the file."""
    damage(template.directory / name)
    with pytest.raises(TemplateError, match=f"is damaged: {name}"):
        store.find(PROFILE, KEY)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 1}'])
def test_a_damaged_manifest_is_damage(store: TemplateStore, template: Template, text: str) -> None:
    """Whatever stands in it."""
    (template.directory / "manifest.json").write_text(text)
    with pytest.raises(TemplateError, match=r"is damaged: manifest\.json"):
        store.find(PROFILE, KEY)


def _change_secretly(path: Path) -> None:
    """Other bytes, but size, inode and time as before."""
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"#" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_digest_sees_what_a_glance_does_not(store: TemplateStore, template: Template) -> None:
    """A file that was changed behind its own times: `find` trusts it, `verify` does not."""
    _change_secretly(template.memory)
    assert store.find(PROFILE, KEY) is not None
    with pytest.raises(TemplateError, match="is damaged: memory"):
        store.verify(template)


def test_after_a_reboot_the_digests_are_asked_once(
    store: TemplateStore, template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that may not have reached the disk before the host went down are compared before they are used."""
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    monkeypatch.setattr(module, "_BOOT_ID", boot)
    asked: list[str] = []
    verify = TemplateStore.verify

    def counted(self: TemplateStore, one: Template) -> None:
        asked.append(one.key)
        verify(self, one)

    monkeypatch.setattr(TemplateStore, "verify", counted)
    assert store.find(PROFILE, KEY) is not None
    assert store.find(PROFILE, KEY) is not None
    assert asked == [KEY]
    boot.write_text("a third boot\n")
    _change_secretly(template.state)
    with pytest.raises(TemplateError, match="is damaged: state"):
        store.find(PROFILE, KEY)


def test_one_makes_and_the_others_wait(store: TemplateStore) -> None:
    """Six makers at once: one makes, each ends with the same template."""
    made: list[int] = []
    found: list[Template | None] = []

    def maker(number: int) -> None:
        with store.locked(PROFILE, "base", KEY, Deadline.after(20)):
            if store.find(PROFILE, KEY) is None:
                made.append(number)
                work = store.work_folder(PROFILE, KEY)
                (work / "memory").write_text("memory")
                store.publish(work, kind="base", inputs=INPUTS, facts=FACTS, seconds=0)
            found.append(store.find(PROFILE, KEY))

    threads = [threading.Thread(target=maker, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 6
    assert len({one.directory for one in found if one is not None}) == 1


def test_a_maker_that_takes_too_long_is_not_waited_for_for_ever(store: TemplateStore) -> None:
    """The wait has a deadline; forks of one template do not exclude each other."""
    with store.locked(PROFILE, "base", KEY, Deadline.after(1)):
        with pytest.raises(DeadlineExceeded), store.locked(PROFILE, "base", KEY, Deadline.after(0.1), shared=True):
            pass
        with store.locked(PROFILE, "prepared", KEY, Deadline.after(0.1)):
            pass
    with (
        store.locked(PROFILE, "base", KEY, Deadline.after(1), shared=True),
        store.locked(PROFILE, "base", KEY, Deadline.after(0.1), shared=True),
    ):
        pass


def test_what_nobody_used_for_days_is_swept(store: TemplateStore, template: Template) -> None:
    """A week for a base template; one that is used, or is being forked right now, stays."""
    later = datetime.now(UTC) + timedelta(days=8)
    assert list(store.sweep(set(), now=datetime.now(UTC))) == []
    assert list(store.sweep({KEY}, now=later)) == []
    with store.locked(PROFILE, "base", KEY, Deadline.after(1), shared=True):
        assert list(store.sweep(set(), now=later)) == []
    said = list(store.sweep(set(), now=later, dry_run=True))
    assert [name for name, _ in said] == [f"{PROFILE}/{KEY}"]
    assert store.find(PROFILE, KEY) is not None  # which also uses it
    os.utime(template.directory, (0, 0))
    assert [name for name, _ in store.sweep(set(), now=datetime.now(UTC))] == [f"{PROFILE}/{KEY}"]
    assert store.find(PROFILE, KEY) is None


def test_what_a_killed_maker_left_is_swept(store: TemplateStore, template: Template) -> None:
    """Rubbish goes, but not under a maker at work."""
    with store.locked(PROFILE, "base", KEY, Deadline.after(1)):
        work = store.work_folder(PROFILE, KEY)
        (work / "memory").write_text("half")
        assert list(store.sweep(set(), now=datetime.now(UTC))) == []
    assert list(store.sweep(set(), now=datetime.now(UTC))) == [(f"{PROFILE}/.new-{KEY}", "its maker is gone")]
    assert not work.exists()
    assert store.list() == [template]


def test_a_new_one_takes_the_place_of_a_damaged_one(store: TemplateStore, template: Template) -> None:
    """Publishing under a key that is there replaces it."""
    _cut(template.memory)
    assert _make(store).manifest.files["memory"].size == template.manifest.files["memory"].size
    assert store.find(PROFILE, KEY) is not None


def test_every_input_is_in_the_key() -> None:
    """Another value anywhere is another template."""
    inputs = {"a": 1, "b": {"c": "x"}}
    assert key_of(inputs) == key_of({"b": {"c": "x"}, "a": 1})
    assert len({key_of(inputs), key_of({"a": 2, "b": {"c": "x"}}), key_of({"a": 1, "b": {"c": "y"}})}) == 3


def test_one_more_user_may_read_and_write(tmp_path: Path) -> None:
    """An access control list as the kernel shows it back; others stay outside."""
    path = tmp_path / "memory"
    path.touch(mode=0o640)
    module.allow_user(path, 61234)
    assert path.stat().st_mode & 0o777 == 0o660  # the group's bits are the list's mask
    assert (61234).to_bytes(4, "little") in os.getxattr(path, "system.posix_acl_access")
