"""The lab's own speed and size, measured in one run, as ratios against a named alternative where there is one.

    python tests/performance/figures.py [--profile NAME] [--rounds N] [--json FILE]

Needs root or the libvirt group, baked images and a built driver (`./wsklab run` once makes all of them).
Figures are of this machine, under the acceleration that the first line names; nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from wsklab.assemble import Lab
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.channel.protocol import Channel
from wsklab.config import LabConfig, load_config
from wsklab.deadline import Deadline
from wsklab.deploy import WSKCTL, DriverPackage, deploy
from wsklab.guest import Claim, Guest
from wsklab.lease import expiry_after
from wsklab.process import run
from wsklab.toolchain import BuildResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value: median and spread in `unit`; `against` names what `ratio` compares with."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    rounds: int
    against: str = ""
    ratio: float | None = None


def _figure(name: str, unit: str, values: list[float], *, against: str = "", base: float | None = None) -> Figure:
    middle = statistics.median(values)
    return Figure(
        name=name,
        unit=unit,
        median=round(middle, 3),
        low=round(min(values), 3),
        high=round(max(values), 3),
        rounds=len(values),
        against=against,
        ratio=None if base is None else round(middle / base, 2),
    )


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def command_line(rounds: int) -> list[Figure]:
    """How long the command line takes to start, beside Python alone."""
    deadline = Deadline.after(120)
    bare = [_timed(lambda: run([sys.executable, "-c", "pass"], deadline=deadline)) for _ in range(rounds)]
    own = [_timed(lambda: run([sys.executable, "-m", "wsklab", "--help"], deadline=deadline)) for _ in range(rounds)]
    base = statistics.median(bare)
    return [
        _figure("Python, nothing", "s", bare),
        _figure("wsklab --help", "s", own, against="Python, nothing", base=base),
    ]


def boot(lab: Lab, profile_name: str, built: BuildResult) -> tuple[Guest, list[Figure]]:
    """A cold boot, alone, until `wskctl` has answered `hello`; the driver is not loaded."""
    profile = lab.profile(profile_name)
    claim = Claim(owner=lab.owner, purpose="test", expires=expiry_after(timedelta(hours=1)))
    lab.site()
    started = time.perf_counter()
    guest = lab.start_guest(profile, claim)
    defined = time.perf_counter() - started
    try:
        ready = guest.wait_ready(lab.timeouts.after(profile.boot_budget_s), ready_check=profile.ready_check)
        with guest.open_channel(lab.timeouts.after(10)) as channel:
            channel.put(built.ctl, WSKCTL, lab.timeouts.after(15))
            with DeviceClient.open(channel, lab.timeouts.after(10), command=f"{WSKCTL} stdio"):
                hello = time.perf_counter() - started
    except BaseException:
        guest.destroy(lab.slots)
        raise
    image = lab.ensure_image(profile)
    size = sum(path.stat().st_size for path in image.directory.iterdir()) / (1 << 20)
    figures = [
        _figure(f"{profile_name}: libvirt define + overlay + start", "s", [defined]),
        _figure(f"{profile_name}: cold boot to login and ready-check", "s", [ready]),
        _figure(f"{profile_name}: cold boot to hello", "s", [hello]),
        _figure(f"{profile_name}: guest memory", "MiB", [float(profile.memory_mib)]),
        _figure(f"{profile_name}: image on disk", "MiB", [size]),
    ]
    return guest, figures


def operations(lab: Lab, guest: Guest, built: BuildResult, rounds: int) -> list[Figure]:
    """One operation through the control channel, beside one byte over the same SSH connection."""
    with guest.open_channel(lab.timeouts.after(10)) as channel:
        deploy(channel, DriverPackage(image=built.sys, control=built.ctl), lab.timeouts)
        echo = channel.open_stream("linux: cat", lab.timeouts.after(10))
        with DeviceClient.open(channel, lab.timeouts.after(10), command=f"{WSKCTL} stdio") as control:
            client = WskClient(control.open_device(r"\\.\wsklab"))

            def one_byte() -> None:
                echo.send(b"x", Deadline.after(10))
                echo.receive(Deadline.after(10))

            def create() -> int:
                record = client.create_listening_socket_sample()
                assert record.new_socket, record
                return record.new_socket

            bytes_s, hellos_s, creates_s, closes_s = [], [], [], []
            for number in range(rounds + 5):
                a = _timed(one_byte)
                h = _timed(client.hello)
                started = time.perf_counter()
                socket = create()
                b = time.perf_counter() - started
                c = _timed(lambda: client.close_socket(socket))  # noqa: B023 - called at once
                if number >= 5:  # the first ones fill caches
                    bytes_s.append(a * 1000)
                    hellos_s.append(h * 1000)
                    creates_s.append(b * 1000)
                    closes_s.append(c * 1000)
            client.close()
        single = [_timed(lambda: _one_exec(channel, lab)) * 1000 for _ in range(3)]
        echo.close()
    base = statistics.median(bytes_s)
    name = guest.record.profile
    byte = "one byte over the same SSH connection"
    return [
        _figure(f"{name}: {byte}", "ms", bytes_s),
        _figure(f"{name}: one request that does nothing in the driver", "ms", hellos_s, against=byte, base=base),
        _figure(f"{name}: create a listening socket", "ms", creates_s, against=byte, base=base),
        _figure(f"{name}: close it", "ms", closes_s, against=byte, base=base),
        _figure(f"{name}: one operation by one ssh exec", "ms", single, against=byte, base=base),
    ]


def _one_exec(channel: Channel, lab: Lab) -> None:
    channel.run(f"{WSKCTL} op hello", lab.timeouts.after(20))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="append", help="guest profile; default: those of the configuration")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    import os

    config: LabConfig = load_config(environ=dict(os.environ), folder=Path.cwd(), user_home=Path.home())
    figures = command_line(10)
    with Lab(config) as lab:
        from wsklab.cli.services import Services

        built = Services().build_driver(config, None, lambda _step: None)
        print(f"acceleration: {lab.acceleration}; cores: {os.cpu_count()}")
        for name in wanted.profile or config.guests:
            guest, booted = boot(lab, name, built)
            try:
                figures += booted + operations(lab, guest, built, wanted.rounds)
            finally:
                guest.destroy(lab.slots)
    for figure in figures:
        ratio = f"  = {figure.ratio} x {figure.against}" if figure.ratio is not None else ""
        spread = f" ({figure.low} to {figure.high}, n={figure.rounds})" if figure.rounds > 1 else ""
        print(f"{figure.name}: {figure.median} {figure.unit}{spread}{ratio}")
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
