"""A static machine for real: a virtual machine that the lab did not make, with a power switch of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_machine import ADDRESS, BenchCommand, BenchMachine
from lab_home import PROFILE, furnish

from wsklab.image.store import ImageStore
from wsklab.machine import fingerprint
from wsklab.profile import load_profiles
from wsklab.resources import images_root

CASES = """\
import pytest

@pytest.mark.rule("WSK-SOCK-001")
def test_as_it_is(wsk):
    assert wsk.hello()

@pytest.mark.rule("WSK-SOCK-001")
@pytest.mark.reset("driver")
def test_with_the_driver_loaded_anew(wsk):
    assert wsk.hello()

@pytest.mark.rule("WSK-SOCK-001")
@pytest.mark.reset("fork")
def test_after_a_restart(wsk):
    assert wsk.hello()

@pytest.mark.rule("WSK-SOCK-001")
@pytest.mark.reset("rebuild")
def test_after_a_power_cycle(wsk):
    assert wsk.hello()
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchMachine]:
    if os.geteuid() != 0:
        pytest.skip("needs root for a network namespace")
    home = tmp_path_factory.mktemp("lab") / "home"
    home.mkdir()
    furnish(home)
    profile = load_profiles(images_root())[PROFILE]
    image = ImageStore(home / "images").find(profile)
    assert image is not None
    with BenchMachine(profile, image, tmp_path_factory.mktemp("bench")) as made:
        (made.place / "host_key").write_text(fingerprint(image.manifest.host_key))
        (made.place / "home").symlink_to(home)
        yield made
    Path(f"/run/lock/wsklab-machines/{ADDRESS}-22").unlink(missing_ok=True)


@pytest.fixture
def lab(machine: BenchMachine, tmp_path: Path) -> BenchCommand:
    tmp_path.joinpath("wsklab.toml").write_text(
        f'timeout_scale = 4\nacceleration = "tcg"\n[[machines]]\nname = "bench"\nprofile = "{PROFILE}"\n'
        f'address = "{ADDRESS}"\n'
        "boot_s = 120\n"
        f'host_key = "{(machine.place / "host_key").read_text()}"\n'
        f'[machines.power]\non = ["{machine.switch}", "on"]\noff = ["{machine.switch}", "off"]\n'
    )
    return BenchCommand((machine.place / "home").resolve(), tmp_path, machine)


def test_up_exec_deploy_down(machine: BenchMachine, lab: BenchCommand) -> None:
    """Switched on because it is off; claimed, used, refused to a run, given back; gc leaves it alone."""
    (row,) = lab.ok("up", "bench", "--json", seconds=300)["guests"]
    assert (row["name"], row["method"], row["kind"], row["profile"]) == ("bench", "static", "wine", PROFILE)
    assert machine.switched == ["on"]
    assert lab.ok("exec", "bench", "--json", "--", "ver")["result"]["exit_code"] == 0
    assert lab.ok("deploy", "bench", "--json", seconds=300)["guests"][0]["started"]
    refused = lab.run("run", "--guest", "bench", "--json", seconds=300)
    assert refused.code == 3
    assert refused.document["error"]["class"] == "LeaseUnavailable"
    assert "until" in refused.document["error"]["why"]
    (shown,) = lab.ok("list", "--json")["guests"]
    assert (shown["owner"], shown["purpose"], shown["state"]) == ("root", "user", "unknown")
    lab.ok("gc", "--json")
    assert lab.ok("down", "bench", "--json")["removed"] == ["bench"]
    (free,) = lab.ok("list", "--json")["guests"]
    assert free["owner"] == ""
    assert machine.pid is not None


def test_a_run_with_its_peers(machine: BenchMachine, lab: BenchCommand) -> None:
    """Cases whose peer is this host reach it, and are reached, as on guests of the lab's own."""
    document = lab.ok(
        *("run", "--guest", "bench", "--json", "--allow-unimplemented", "--rule", "WSK-CONN-*"), seconds=900
    )
    assert any(row["verdict"] == "passed" for row in document["results"])
    assert machine.pid is not None


def test_a_run_with_every_reset(machine: BenchMachine, lab: BenchCommand, tmp_path: Path) -> None:
    """The ladder: as it is, the driver, a restart, a power cycle; at the end the driver is taken out.

    The last test here: a power cut may cost a wine guest the end of its registry.
    """
    (tmp_path / "test_ladder.py").write_text(CASES)
    before = machine.switched
    document = lab.ok(
        *("run", "--guest", "bench", "--json", "--allow-unimplemented", "--rule", "WSK-SOCK-001"),
        *("--", str(tmp_path / "test_ladder.py")),
        seconds=900,
    )
    assert {(row["kind"], row["static"]) for row in document["results"]} == {("wine", True)}
    assert {(row["kind"], row["static"]) for row in document["totals"]} == {("wine", True)}
    names = [(guest["name"], guest["method"], guest["static"]) for guest in document["guests"]]
    assert names == [(f"bench-{number}", "static", True) for number in range(1, len(names) + 1)]
    resets = {row["reset"]: row["cases"] for row in document["resets"]}
    assert resets.keys() >= {"driver", "fork", "rebuild"}
    # the rebuild's power cycle; on a host that is too busy for a restart in time, one more in the place of it
    asked = machine.switched[len(before) :]
    assert asked in (["off", "on"], ["off", "on"] * 2)
    answer = lab.run("exec", "bench", "--json", "--timeout", "300", "--", "sc query wsklab")
    assert answer.document["result"]["exit_code"] != 0, answer
    assert lab.ok("list", "--json")["guests"][0]["dirty"] == ""
