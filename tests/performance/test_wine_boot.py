"""How long a wine guest takes from nothing to an answer; prints one line per guest, with the parts.

Needs what `tests/integration/test_wine_image.py` needs, and a built wskctl.exe. Run it alone on a quiet machine:
`pytest -s tests/performance/test_wine_boot.py`.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import pytest
from raw_machine import RawMachine

from wsklab.channel.device import DeviceClient
from wsklab.deadline import Deadline
from wsklab.home import Home
from wsklab.image.store import ImageStore
from wsklab.profile import load_profiles
from wsklab.resources import driver_source_root, images_root

_BOOTS = 3

#: Seconds to the answer of `wskctl stdio` on an emulated processor with two cores of its own.
_GOAL_S = 12.0


@pytest.mark.parametrize("name", ["wine-bookworm", "wine-trixie"])
def test_a_cold_boot_answers_within_the_goal(name: str, tmp_path: Path) -> None:
    """The median of three cold boots, from the start of QEMU to the hello of wskctl."""
    control = driver_source_root() / "build/mingw/ctl/wskctl.exe"
    if os.geteuid() != 0 or not control.exists():
        pytest.skip("needs root and a built wskctl.exe")
    home = Home.open(Path(tempfile.gettempdir()) / "wsklab-test-images")
    profile = load_profiles(images_root())[name]
    image = ImageStore(home.images).build(profile, deadline=Deadline.after(600))
    rows: list[tuple[float, float, float, int, int]] = []
    for number in range(_BOOTS):
        place = tmp_path / str(number)
        place.mkdir()
        machine = RawMachine(profile, image, home.guest_key(), place)
        with machine.process, machine.channel(Deadline.after(120)) as channel:
            login = time.monotonic() - machine.started
            channel.run("cmd /c ver", Deadline.after(60))
            program = time.monotonic() - machine.started
            channel.put(control, r"C:\wsklab\wskctl.exe", Deadline.after(60))
            with DeviceClient.open(channel, Deadline.after(60)):
                hello = time.monotonic() - machine.started
            free = channel.run("linux: free -m", Deadline.after(60)).stdout.splitlines()[1].split()
            rows.append((login, program, hello, int(free[2]), machine.memory_mib()))
    login, program, hello, used, resident = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"\n{name}: login {login:.1f} s, first program {program:.1f} s, hello {hello:.1f} s, "
        f"guest memory {used:.0f} MiB, QEMU {resident:.0f} MiB; bake {image.manifest.seconds:.0f} s, "
        f"image {sum(record.size for record in image.manifest.files.values()) / 1e6:.0f} MB"
    )
    assert hello < _GOAL_S
