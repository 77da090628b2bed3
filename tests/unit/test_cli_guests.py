"""The commands that make, show and take back guests, and their documents. Fakes stand for the lab."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_bench import FakeGuest, FakeServices, call

from wsklab.cli import exits
from wsklab.config import LabConfig
from wsklab.errors import (
    BootError,
    DomainGone,
    HostCommandError,
    HostFull,
)


@pytest.fixture
def services(tmp_path: Path) -> FakeServices:
    """No guests."""
    return FakeServices(tmp_path)


# -- documents -----------------------------------------------------------------------------------------------------


def test_guests_document(services: FakeServices) -> None:
    """`guests --json` has the fields of the format."""
    answer = call(services, "guests", "--json")

    assert answer.document == {
        "schema": 1,
        "guests": [
            {
                "profile": name,
                "kind": "wine",
                "release": "Debian 12",
                "build": "wine-8.0",
                "image": state,
                "capabilities": ["output_clamped"],
            }
            for name, state in (("wine-bookworm", "present"), ("wine-trixie", "absent"))
        ],
    }


def test_images_are_removed_unless_a_guest_is_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their templates; a guest on one of them stops it before anything is deleted."""
    services = FakeServices(tmp_path, ["g1"])
    services.known[0].record.image = "0123"
    gone: list[str] = []
    images = [
        SimpleNamespace(profile=name, digest=digest, directory=tmp_path, manifest={})
        for name, digest in (("wine-bookworm", "0123"), ("wine-trixie", "4567"))
    ]
    templates = [
        SimpleNamespace(manifest=SimpleNamespace(image=digest), directory=Path(f"/t/{digest}"))
        for digest in ("0123", "4567")
    ]
    store = SimpleNamespace(list=lambda **_: images, remove=lambda image: gone.append(image.digest))
    monkeypatch.setattr(services, "store", lambda _: store)
    kept = SimpleNamespace(list=lambda: templates, discard=lambda path: gone.append(str(path)))
    monkeypatch.setattr(services, "templates", lambda _: kept)
    refused = call(services, "image", "remove", "*", "--json")
    assert refused.code == 2
    assert refused.document["error"]["evidence"]["guests"] == ["g1"]
    assert gone == []
    assert call(services, "image", "remove", "wine-trixie", "--json").code == 0
    assert gone == ["/t/4567", "4567"]


def test_up_document(services: FakeServices) -> None:
    """`up --json` tells name, address, how to log in, how it was made and until when."""
    answer = call(services, "up", "wine-bookworm", "--json")

    (guest,) = answer.document["guests"]
    assert set(guest) == {
        "name", "profile", "kind", "address", "host", "via", "ssh", "method", "why", "ready_s", "dirty", "expires",
    }  # fmt: skip
    assert (guest["via"], guest["ssh"][0], guest["ssh"][-1]) == (None, "ssh", "Administrator@192.168.213.10")


def test_ssh_goes_through_the_proxy_into_a_namespace(tmp_path: Path) -> None:
    """An address that exists only in a namespace is reached by `wsklab proxy`, with home and mode spelled out."""
    services = FakeServices(tmp_path)
    services.known = [FakeGuest("g1", tmp_path, netns=Path("/proc/7/ns/net"))]

    answer = call(services, "list", "--json", environ={"WSKLAB_INTERNAL_LAUNCHER": "/x y/wsk%lab"})

    (guest,) = answer.document["guests"]
    assert guest["via"] == {"netns": "/proc/7/ns/net"}
    expected = f"ProxyCommand=env WSKLAB_HOME={tmp_path} WSKLAB_MODE=private '/x y/wsk%%lab' proxy g1 %p"
    assert expected in guest["ssh"]
    assert (tmp_path / "known_hosts").read_text() == "g1 ssh-ed25519 AAAA\n"


@pytest.mark.parametrize("folder", ["plain", "with blank", "per%cent", "quo'te", 'two"quotes"'])
def test_ssh_config_is_read_by_openssh_as_it_is_meant(tmp_path: Path, folder: str) -> None:
    """`ssh -G` sees the same in the printed configuration and in the printed command line, odd paths included."""
    place = tmp_path / folder
    place.mkdir()
    services = FakeServices(place)
    services.known = [FakeGuest("g1", place, netns=Path("/proc/7/ns/net")), FakeGuest("g2", place)]
    environ = {"WSKLAB_INTERNAL_LAUNCHER": str(place / "wsklab")}

    file = tmp_path / "config"
    file.write_text(call(services, "list", "--ssh-config", environ=environ).out)
    rows = call(services, "list", "--json", environ=environ).document["guests"]
    for row in rows:
        by_file = _openssh_reads("-F", str(file), row["name"])
        by_line = _openssh_reads("-F", "none", *row["ssh"][1:])
        wanted = ("user", "hostname", "identityfile", "userknownhostsfile", "hostkeyalias", "identitiesonly")
        assert {key: by_file[key] for key in wanted} == {key: by_line[key] for key in wanted}
        assert by_file.get("proxycommand") == by_line.get("proxycommand")
        assert by_file["user"] == "Administrator"
        # percent signs are doubled up to the moment of use
        assert by_file["identityfile"] == str(place / "key").replace("%", "%%")


def _openssh_reads(*words: str) -> dict[str, str]:
    """Keyword to value, as OpenSSH prints what it would do."""
    result = subprocess.run(["ssh", "-G", *words], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in result.stdout.splitlines() if " " in line)


def test_list_document_has_state_owner_purpose(tmp_path: Path) -> None:
    """`list` is `up` plus state, owner and purpose."""
    answer = call(FakeServices(tmp_path, ["a"]), "list", "--json")

    (guest,) = answer.document["guests"]
    assert (guest["state"], guest["owner"], guest["purpose"]) == ("running", "me", "user")


def test_down_takes_patterns(tmp_path: Path) -> None:
    """`down 'wine-*'` removes what fits, and nothing else."""
    services = FakeServices(tmp_path, ["wine-10", "other", "wine-11"])

    answer = call(services, "down", "wine-*", "--json")

    assert (answer.document["removed"], sorted(services.destroyed)) == (["wine-10", "wine-11"], ["wine-10", "wine-11"])


def test_a_pattern_means_one_s_own_guests(tmp_path: Path) -> None:
    """Somebody else's guest and one that a living run uses are kept and told; their full name removes them."""
    services = FakeServices(tmp_path, ["mine", "run", "dead", "others"])
    services.known[1].metadata.run = "alive"
    services.known[2].metadata.run = "gone"
    services.known[3].metadata.owner = "you"

    answer = call(services, "down", "*", "--json")

    assert answer.document["removed"] == ["mine", "dead"]
    assert [row["name"] for row in answer.document["kept"]] == ["run", "others"]
    assert call(services, "down", "run", "others", "--json").document["removed"] == ["run", "others"]


def test_down_goes_on_after_a_failure(tmp_path: Path) -> None:
    """A guest that cannot be removed does not keep the others alive; the error names those that are gone."""

    class Stubborn(FakeServices):
        def destroy(self, lab: Any, guest: Any) -> None:
            if guest.name == "a":
                raise HostCommandError("stuck", argv=["x"], exit_code=1)
            super().destroy(lab, guest)

    services = Stubborn(tmp_path, ["a", "b"])
    answer = call(services, "down", "a", "b", "--json")

    assert (answer.code, services.destroyed) == (exits.LAB, ["b"])
    assert answer.document["error"]["evidence"]["removed"] == ["b"]


def test_extend_says_until_when(tmp_path: Path) -> None:
    """The new end, or the old one when that is later."""
    services = FakeServices(tmp_path, ["a", "b"])

    answer = call(services, "extend", "a", "b", "--ttl", "2h", "--json")

    assert answer.document["guests"] == [{"name": name, "expires": "2030-01-01T00:00:00Z"} for name in ("a", "b")]
    assert "which is later than" in call(services, "extend", "a").out


@pytest.mark.parametrize("ttl", ["", "soon", "4", "h", "0h", "-1h", "1.5h", "4 h", "1h30m", "9999999d"])
def test_spans_that_are_none(tmp_path: Path, ttl: str) -> None:
    """A span is one number and one unit; the error shows good ones."""
    for words in (("extend", "a"), ("up", "wine-bookworm")):
        answer = call(FakeServices(tmp_path, ["a"]), *words, f"--ttl={ttl}", "--json")
        assert (answer.code, "30m" in answer.document["error"]["fix"]) == (exits.USAGE, True)


def test_list_leaves_out_a_guest_that_goes_away(tmp_path: Path) -> None:
    """Between two looks a guest is removed: the others are listed."""
    services = FakeServices(tmp_path, ["gone", "here"])

    def gone() -> Any:
        raise DomainGone("cannot look at gone")

    services.known[0].domain.state = gone

    assert [row["name"] for row in call(services, "list", "--json").document["guests"]] == ["here"]


def test_list_takes_patterns_and_says_when_there_is_nothing(tmp_path: Path) -> None:
    """Only the guests that fit; an empty home tells how to get a guest."""
    services = FakeServices(tmp_path, ["a1", "a2", "b"])

    assert [row["name"] for row in call(services, "list", "a*", "--json").document["guests"]] == ["a1", "a2"]
    assert "wsklab up PROFILE" in call(FakeServices(tmp_path), "list").out


@pytest.mark.parametrize("dry_run", [False, True])
def test_gc_document(services: FakeServices, dry_run: bool) -> None:
    """`gc` lists what is removed and counts what is kept; --dry-run has the same form."""
    answer = call(services, "gc", "--json", *(["--dry-run"] if dry_run else []))

    assert answer.document == {
        "schema": 1,
        "removed": [{"kind": "guest", "name": "g", "why": "orphan"}],
        "kept": 1,
    }


class FakeSystemd(FakeServices):
    """A host with or without systemd; what would be run is noted."""

    def __init__(self, tmp_path: Path, *, there: bool) -> None:
        super().__init__(tmp_path)
        self.there = there
        self.ran: list[list[str]] = []

    def has_service_manager(self) -> bool:
        """As the test says."""
        return self.there

    def run_host_command(self, argv: Sequence[str], timeout_s: float) -> None:
        """Remember it."""
        self.ran.append(list(argv))


def test_the_timer_is_written_and_started(tmp_path: Path) -> None:
    """--dry-run shows units and commands and changes nothing; without it both happen."""
    services = FakeSystemd(tmp_path, there=True)

    shown = call(services, "gc", "--install-timer", "--dry-run", environ={"WSKLAB_INTERNAL_LAUNCHER": "/opt/wsklab"})
    assert "ExecStart=/opt/wsklab gc" in shown.out
    assert (services.ran, list(tmp_path.iterdir())) == ([], [])
    document = call(services, "gc", "--install-timer", "--json").document
    assert [unit["text"] == Path(unit["path"]).read_text() for unit in document["units"]] == [True, True]
    assert services.ran == document["commands"]
    assert services.ran[1][-3:] == ["enable", "--now", "wsklab-gc-1a2b3c4d.timer"]


def test_without_systemd_the_timer_is_a_line_for_cron(tmp_path: Path) -> None:
    """The error says what to let another service run."""
    answer = call(FakeSystemd(tmp_path, there=False), "gc", "--install-timer")

    assert answer.code == exits.LAB
    assert f"*/5 * * * * env WSKLAB_HOME={tmp_path} WSKLAB_MODE=private /usr/bin/env PYTHONPATH=" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_half_of_several_guests_is_taken_back(tmp_path: Path) -> None:
    """When the second guest cannot be started the first is removed; document and remarks say what became of each."""
    services = FakeServices(tmp_path, error=HostFull("no room", why="memory", fix="wait"))

    answer = call(services, "up", "wine-bookworm", "--count", "2", "--json")

    assert (answer.code, services.destroyed) == (exits.LAB, ["wine-bookworm-10"])
    assert answer.document["guests"] == []
    assert answer.document["error"]["class"] == "HostFull"
    (row,) = answer.document["error"]["evidence"]["guests"]
    assert row["name"] == "wine-bookworm-10"
    assert "wine-bookworm-10: " in answer.err
    assert "removed again" in answer.err


def test_the_first_failure_does_not_wait_for_slow_guests(tmp_path: Path) -> None:
    """A guest that fails ends the waiting for one that would boot for ever; the failed one is named."""
    slow = threading.Event()

    class OneFails(FakeServices):
        def wait_ready(self, lab: Any, guest: Any, profile: Any, *, fresh: bool) -> None:
            if guest.name.endswith("-10"):
                assert slow.wait(20), "nobody stopped it"
                raise BootError("taken away")
            raise BootError(f"guest {guest.name} did not become ready", why="its kernel panicked", fix="look")

        def destroy(self, lab: Any, guest: Any) -> None:
            super().destroy(lab, guest)
            slow.set()

    services = OneFails(tmp_path)
    answer = call(services, "up", "wine-bookworm", "--count", "2", "--json")

    assert (answer.code, sorted(services.destroyed)) == (exits.GUEST, ["wine-bookworm-10", "wine-bookworm-11"])
    assert answer.document["error"]["message"] == "guest wine-bookworm-11 did not become ready"
    states = {row["name"]: row["state"] for row in answer.document["error"]["evidence"]["guests"]}
    assert states["wine-bookworm-10"] == "booting"
    assert states["wine-bookworm-11"].startswith("failed: ")


def test_several_guests_boot_at_the_same_time(tmp_path: Path) -> None:
    """Three boots wait for each other: only possible when none waits for its turn."""
    barrier = threading.Barrier(3, timeout=20)

    class Together(FakeServices):
        def wait_ready(self, lab: Any, guest: Any, profile: Any, *, fresh: bool) -> None:
            barrier.wait()

    answer = call(Together(tmp_path), "up", "wine-bookworm", "--count", "3", "--json")

    assert [guest["name"] for guest in answer.document["guests"]] == [f"wine-bookworm-{n}" for n in (10, 11, 12)]


def test_up_says_what_to_expect_and_who_ends_it(tmp_path: Path) -> None:
    """Expected time from earlier guests, end of the lease with what is left, who ends it, how to get in."""
    answer = call(FakeServices(tmp_path), "up", "wine-bookworm")

    assert "guest wine-bookworm ... expected 7 s" in answer.err
    assert "ready after 4.5 s (boot), yours until 2030-01-01" in answer.out
    assert "  wsklab ssh wine-bookworm-10 " in answer.out
    assert "then the lab's daemon ends it" in answer.out
    assert "expected" not in call(FakeServices(tmp_path), "up", "wine-bookworm", "--fresh").err


@pytest.mark.parametrize("name", ["taken", "a b", "*", "-x", "x" * 41, "a/b", "\x1b[31m"])
def test_names_that_no_guest_can_get(tmp_path: Path, name: str) -> None:
    """A taken name and an impossible one are usage errors before anything is started."""
    services = FakeServices(tmp_path, ["taken"])

    answer = call(services, "up", "wine-bookworm", f"--name={name}", "--json")

    assert (answer.code, len(services.known)) == (exits.USAGE, 1)
    assert answer.document["error"]["fix"]


def test_interrupt_says_what_was_cleaned(tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and names what was put away."""
    services = FakeServices(tmp_path, error=KeyboardInterrupt())

    answer = call(services, "up", "wine-bookworm", "--count", "2")

    assert (answer.code, "guest wine-bookworm-10" in answer.err) == (exits.INTERRUPTED, True)


def test_guests_are_the_user_s_only_when_all_are_ready(services: FakeServices) -> None:
    """Until then they are of a run that dies with the command, so that a killed `up` leaves work for gc only."""
    assert call(services, "up", "wine-bookworm", "--count", "2").code == exits.OK
    assert services.handed_over == ["wine-bookworm-10", "wine-bookworm-11"]

    services.boot_error = KeyboardInterrupt()
    call(services, "up", "wine-bookworm")
    assert len(services.handed_over) == 2


def test_interrupt_while_the_first_guest_boots(services: FakeServices) -> None:
    """A guest that was only booting is taken back and named, too."""
    services.boot_error = KeyboardInterrupt()

    answer = call(services, "up", "wine-bookworm")

    assert (answer.code, services.destroyed) == (exits.INTERRUPTED, ["wine-bookworm-10"])
    assert "cleaned up: guest wine-bookworm-10" in answer.err


def test_interrupted_run_prints_its_document(tmp_path: Path) -> None:
    """`run --json` prints its document even when it is cut short, with what is known and the error."""

    class Interrupted(FakeServices):
        def ensure_image(self, *arguments: object, **named: object) -> None:
            raise KeyboardInterrupt

    answer = call(Interrupted(tmp_path), "run", "--json")

    document = answer.document
    assert (answer.code, document["exit_code"], document["error"]["class"]) == (130, 130, "Interrupted")
    assert {"run_id", "wall_s", "results_dir", "guests", "results", "totals"} <= set(document)


# -- other hosts ---------------------------------------------------------------------------------------------------


def test_a_guest_on_another_host_is_reached_through_it(tmp_path: Path) -> None:
    """The printed command line jumps; `list` shows the host."""
    services = FakeServices(tmp_path, ["near"])
    far = FakeGuest("far", tmp_path)
    far.via = SimpleNamespace(netns=None, jump=("ssh", "-F", "/a b", "me@rack1"), host="rack1")
    services.known.append(far)

    rows = {row["name"]: row for row in call(services, "list", "--json").document["guests"]}
    assert (rows["near"]["host"], rows["far"]["host"]) == ("local", "rack1")
    assert "ProxyCommand=ssh -F '/a b' -W [%h]:%p me@rack1" in rows["far"]["ssh"]
    assert _openssh_reads("-F", "none", *rows["far"]["ssh"][1:])["hostname"] == "192.168.213.10"
    assert "rack1" in call(services, "list").out
    assert "rack1" not in call(services, "list", "near").out


def test_a_host_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    """Its guests are missing in the list; a name that nobody has may be one of them."""

    class Absent(FakeServices):
        @contextlib.contextmanager
        def lab(self, config: LabConfig) -> Iterator[Any]:  # type: ignore[override]
            with super().lab(config) as lab:
                lab.absent_hosts = {"rack1": "no route"}
                yield lab

    listed = call(Absent(tmp_path, ["a"]), "list", "--json")
    assert listed.document["absent_hosts"] == {"rack1": "no route"}
    assert "host rack1 is not reachable" in listed.err
    missing = call(Absent(tmp_path, ["a"]), "down", "far")
    assert (missing.code, "rack1 is not reachable" in missing.err) == (exits.LAB, True)
