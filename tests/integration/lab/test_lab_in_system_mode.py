"""The lab's commands in system mode: the distribution's libvirtd, an unprivileged member of its group, a 0700 HOME.

Only the bake is not repeated here: it needs root (`sudo wsklab image build`) and packages. Root puts image and
keys into the store as a bake does, with a strict umask.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_home import PROFILE, furnish

from wsklab.deadline import Deadline
from wsklab.process import ProcessResult

sys.path.insert(0, str(Path(__file__).parents[1]))
from system_mode import SystemMode, system_mode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces: needs root")

_STORE = Path("/var/lib/wsklab")
_PUT = r"""
store=$1; source=$2
cp -a "$source/images/"* "$store/images/"
cp -r "$source/driver/"* "$store/driver/"
for key in "$source/keys/"*; do install -g "$(stat -c %g "$store")" -m 0640 "$key" "$store/keys/"; done
"""


class _User:
    """Somebody at a shell in there."""

    def __init__(self, place: SystemMode) -> None:
        self._place = place

    def run(self, *words: str, root: bool = False, seconds: float = 120.0) -> ProcessResult:
        """A command line of wsklab; its result must not be a traceback."""
        result = self.shell('exec "$@"', sys.executable, "-m", "wsklab", *words, root=root, seconds=seconds)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def shell(self, script: str, *words: str, root: bool = False, seconds: float = 60.0) -> ProcessResult:
        """A script with arguments, under a umask that lets nobody else write; root is in system mode too."""
        return self._place.run(
            ["sh", "-c", f"umask 022; {script}", "sh", *words],
            deadline=Deadline.after(seconds), check=False, as_root=root, env={"WSKLAB_MODE": "system"} if root else {},
        )  # fmt: skip

    def document(self, *words: str, root: bool = False, seconds: float = 120.0) -> dict[str, Any]:
        """The document of a command that must succeed."""
        result = self.run(*words, "--json", root=root, seconds=seconds)
        assert result.exit_code == 0, (words, result.stdout[-3000:], result.stderr[-3000:])
        return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_User]:
    """The environment; the store was opened and filled by root."""
    source = tmp_path_factory.mktemp("source") / "home"
    furnish(source)
    with system_mode() as place:
        made = _User(place)
        made.document("list", root=True)
        put = made.shell(_PUT, str(_STORE), str(source), root=True)
        assert put.exit_code == 0, put.stderr
        yield made
    shutil.rmtree(source)


@pytest.fixture(scope="module")
def guest(user: _User) -> Iterator[dict[str, Any]]:
    """A guest of the user, as `up` describes it."""
    made = user.document("up", PROFILE, "--ttl", "30m")["guests"][0]
    yield made
    user.run("down", made["name"])


def test_the_image_that_root_made_is_the_user_s_too(user: _User) -> None:
    """The user finds root's image by its digest, and its files are whole."""
    states = {row["profile"]: row["image"] for row in user.document("guests")["guests"]}
    assert states[PROFILE] == "present"
    assert user.run("image", "verify", PROFILE).exit_code == 0


def test_what_only_root_can_make_is_said(user: _User) -> None:
    """An image that is absent: the user is told the command that bakes it."""
    result = user.run("up", "wine-trixie")
    assert result.exit_code == 3
    assert "sudo wsklab image build wine-trixie" in result.stderr


def test_doctor_finds_nothing_wrong(user: _User) -> None:
    """The user is in system mode, and the acceleration was probed without root."""
    document = user.document("doctor")
    assert document["mode"] == "system"
    assert [check for check in document["checks"] if not check["ok"]] == []


def test_a_guest_is_listed_for_everybody_with_its_owner(user: _User, guest: dict[str, Any]) -> None:
    """`list` names the owner and the state, for the user and for root."""
    for root in (False, True):
        (row,) = user.document("list", root=root)["guests"]
        assert (row["name"], row["state"], row["owner"], row["purpose"]) == (
            guest["name"],
            "running",
            "labuser",
            "user",
        )
        assert row["via"] is None


def test_commands_reach_the_guest(user: _User, guest: dict[str, Any]) -> None:
    """`exec` runs a Windows command, and its exit code is passed on."""
    answer = user.run("exec", guest["name"], "--", "sc", "query", "nsiproxy")
    assert answer.exit_code == 0
    assert "RUNNING" in answer.stdout
    assert user.run("exec", guest["name"], "--", "cmd /c exit 9").exit_code == 9


def test_ssh_works_as_it_is_printed(user: _User, guest: dict[str, Any]) -> None:
    """The printed command line works in a shell, root's too, whose own key is copied for OpenSSH."""
    for root in (False, True):
        (row,) = user.document("list", root=root)["guests"]
        answer = user.shell('exec "$@"', *row["ssh"], "cmd /c ver", root=root)
        assert "Microsoft Windows" in answer.stdout, answer.stderr


def test_the_console_is_readable(user: _User, guest: dict[str, Any]) -> None:
    """The log that libvirt's root daemon writes is readable for the user, the kernel's lines included."""
    assert user.run("exec", guest["name"], "--", "linux: echo '<2>a word of the kernel' >/dev/kmsg").exit_code == 0
    document = user.document("console", guest["name"], "-n", "100000")
    assert "wsklab: ready" in document["tail"]
    assert re.search(r"^\[ *[0-9.]+\] a word of the kernel$", document["tail"], re.MULTILINE), document["tail"]


def test_qemu_is_nobody_s_root(user: _User, guest: dict[str, Any]) -> None:
    """QEMU runs as libvirt-qemu; the image below its overlay is still root's, read-only."""
    owner = user.shell("stat -c %U /var/lib/wsklab/guests/*/overlay.qcow2").stdout.split()
    assert owner == ["libvirt-qemu"]
    (disk,) = user.shell(f"ls /var/lib/wsklab/images/{PROFILE}/*/disk.qcow2").stdout.split()
    assert user.shell(f"stat -c '%U %a' {disk}").stdout.split() == ["root", "444"]


def test_the_guest_is_a_fork_with_an_address_of_its_own(user: _User, guest: dict[str, Any]) -> None:
    """No namespace and no tap is to be had here: the fork took the addresses of its slot before its cable was in."""
    assert (guest["method"], guest["why"]) == ("fork", "")
    shown = user.run("exec", guest["name"], "--", "linux: ip -4 address show dev eth0").stdout
    assert f"{guest['address']}/24" in shown


def test_two_forks_at_once_have_two_addresses(user: _User, guest: dict[str, Any]) -> None:
    """A second fork is reached beside the first, and the two reach each other."""
    other = user.document("up", PROFILE, "--ttl", "30m")["guests"][0]
    try:
        assert (other["method"], other["why"]) == ("fork", "")
        assert other["address"] != guest["address"]
        for one, two in ((guest, other), (other, guest)):
            greeting = f"linux: echo | busybox nc -w 10 {two['address']} 22 | head -c 20"
            assert "SSH-2.0" in user.run("exec", one["name"], "--", greeting).stdout
    finally:
        user.run("down", other["name"])


def test_memory_that_qemu_may_not_open_is_a_reason_to_boot(user: _User, guest: dict[str, Any]) -> None:
    """The template's memory without QEMU's entry in its access control list: EACCES, told; the guest boots."""
    memory = user.shell(f"ls {_STORE}/templates/{PROFILE}/*/memory").stdout.split()
    keep = "import os,sys;a='system.posix_acl_access';"
    taken = (
        keep + "v=os.getxattr(sys.argv[1],a);os.removexattr(sys.argv[1],a);os.chmod(sys.argv[1],0o600);print(v.hex())"
    )
    given = keep + "os.setxattr(sys.argv[1],a,bytes.fromhex(sys.argv[2]))"
    lists = [user.shell(f'exec "{sys.executable}" -c "{taken}" "$1"', path).stdout.strip() for path in memory]
    try:
        other = user.document("up", PROFILE, "--ttl", "30m")["guests"][0]
        user.run("down", other["name"])
        assert other["method"] == "boot"
        assert "Permission denied" in other["why"]
    finally:
        for path, content in zip(memory, lists, strict=True):
            user.shell(f'exec "{sys.executable}" -c "{given}" "$1" "$2"', path, content)


def test_a_driver_is_deployed(user: _User, guest: dict[str, Any]) -> None:
    """The user signs with the shared key, and the driver runs in the guest."""
    user.document("deploy", guest["name"], seconds=300)
    assert "RUNNING" in user.run("exec", guest["name"], "--", "sc", "query", "wsklab").stdout


def test_nothing_is_left_after_down(user: _User, guest: dict[str, Any]) -> None:
    """Root may remove the user's guest; after that there is nothing to sweep: no guest, no file, no bridge."""
    assert user.document("down", guest["name"], root=True)["removed"] == [guest["name"]]
    assert user.document("gc", "--dry-run") == {"schema": 1, "removed": [], "kept": 0}
    assert user.shell("ls /var/lib/wsklab/guests").stdout == ""
    assert "wsk" not in user.shell("ip -br link").stdout


def test_a_run_works_and_leaves_nothing(user: _User) -> None:
    """`run` as the user: cases of one file, and two whose peer is a second guest; afterwards nothing is left."""
    words = ("--guest", PROFILE, "--guests-each", "2", "--workers", "0", "--allow-unimplemented")
    result = user.run(
        "run", *words, "--json", "--", "-k", "test_bind or a_second_guest_resets or connect_to_a_second", seconds=240
    )
    document = json.loads(result.stdout)
    assert document["error"] is None, document["error"]
    assert document["guests"][0]["kind"] == "wine"
    assert (document["guests"][0]["method"], document["guests"][0]["why"]) == ("fork", "")
    passed = {row["rule"] for row in document["results"] if row["verdict"] == "passed"}
    assert passed >= {"WSK-BIND-012", "WSK-CONN-001", "WSK-DATA-005"}, result.stdout[-2000:]
    assert user.document("gc", "--dry-run")["removed"] == []


def test_keys_are_for_the_group_only(user: _User) -> None:
    """Nobody else on the host reads the guests' key."""
    modes = user.shell("stat -c %a /var/lib/wsklab/keys /var/lib/wsklab/keys/guest_ed25519").stdout.split()
    assert [int(mode, 8) & stat.S_IRWXO for mode in modes] == [0, 0]
