"""How fast a guest is there, against QEMU by hand and against what a user would take instead; in one run.

    python tests/performance/forks.py [--profile NAME] [--rounds N] [--only PART]... [--kcli PATH] [--json FILE]

Parts: raw, operation, up, boot, many, peers. Root, private mode, a baked image and a built driver; run it alone.
`--kcli` names a `kcli` in an environment of its own; without it that row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from figures import Figure
from raw_fork import RawFork, command_line_of
from stock_image import StockImage, stock_image

from wsklab import network
from wsklab.assemble import Lab, Site
from wsklab.channel.agent import GuestAgent
from wsklab.channel.device import DeviceClient
from wsklab.channel.operations import WskClient
from wsklab.channel.protocol import Channel
from wsklab.channel.ssh import SshChannel
from wsklab.cli.services import Services
from wsklab.config import LabConfig, ModeSetting, load_config
from wsklab.deadline import Deadline, NotYet, pause, wait_until
from wsklab.deploy import WSKCTL, DriverPackage
from wsklab.domain_xml import MemoryFile
from wsklab.errors import ChannelLost, DeadlineExceeded
from wsklab.guest import Claim, Guest, GuestRecord
from wsklab.process import run
from wsklab.spares import rest, rouse
from wsklab.template import Template

_MANY = 8


@dataclass
class Bench:
    """What every part needs."""

    lab: Lab
    site: Site
    profile: str
    package: DriverPackage
    rounds: int
    kcli: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, unit: str, values: list[float], *, against: str = "", limit: str = "") -> Figure:
        """Note a figure; `against` names an earlier one, `limit` the aim."""
        base = next((figure.median for figure in self.figures if figure.name == against), None)
        middle = statistics.median(values)
        figure = Figure(
            name=f"{name} (aim: {limit})" if limit else name,
            unit=unit,
            median=round(middle, 3),
            low=round(min(values), 3),
            high=round(max(values), 3),
            rounds=len(values),
            against=against,
            ratio=round(middle / base, 2) if base else None,
        )
        self.figures.append(figure)
        print(row(figure), flush=True)
        return figure

    @contextlib.contextmanager
    def guest(self, *, driver: bool = False, fresh: bool = False) -> Iterator[Guest]:
        """A guest of a run, forked unless it shall be fresh; gone afterwards."""
        run_id = f"forks-{uuid.uuid4().hex[:8]}"
        with self.lab.home.run_alive(run_id):
            claim = Claim(owner=self.lab.owner, purpose="test", run=run_id, fresh=fresh)
            guest = self.lab.start_guest(self.lab.profile(self.profile), claim, self.package if driver else None)
            try:
                if not fresh and guest.record.method != "fork":
                    raise SystemExit(f"no fork: {guest.record.why}")
                yield guest
            finally:
                guest.destroy(self.lab.slots)

    def template(self, *, driver: bool) -> tuple[Template, list[str], str]:
        """A template, the command line of a QEMU that continues from it, and its overlay's path."""
        with self.guest(driver=driver) as guest:
            template = self.lab.templates.find(self.profile, guest.record.template)
            assert template is not None
            return template, command_line_of(qemu_of(guest)), str(guest.directory / "overlay.qcow2")


def row(figure: Figure) -> str:
    """One line of the table in docs/performance.md."""
    ratio = f"{figure.ratio} x {figure.against}" if figure.ratio is not None else ""
    spread = f"{figure.low} to {figure.high}, n={figure.rounds}" if figure.rounds > 1 else "n=1"
    return f"| {figure.name} | {figure.median} {figure.unit} | {spread} | {ratio} |"


def qemu_of(guest: Guest) -> int:
    """The process id of a guest's QEMU."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes()
            if b"qemu-system" in line.split(b"\0")[0] and guest.record.uuid.encode() in line:
                return int(path.parent.name)
    raise SystemExit(f"{guest.name} has no QEMU")


def first_operation(channel: Channel) -> None:
    """`wskctl` says hello, and the driver makes a listening socket."""
    with (
        DeviceClient.open(channel, Deadline.after(60), command=f"{WSKCTL} stdio") as control,
        control.open_device(r"\\.\wsklab") as device,
    ):
        record = WskClient(device, call_s=60).create_listening_socket_sample()
        assert record.succeeded, record.describe()


# -- parts ---------------------------------------------------------------------------------------


def resume_to_agent(bench: Bench) -> None:
    """A loaded fork is paused; from its resume to the agent's first answer."""
    template, words, overlay = bench.template(driver=False)
    wires = bench.site.factory.wires
    assert wires is not None
    raw, own = [], []
    for number in range(bench.rounds):
        fork = RawFork(words, overlay, template, wires, number)
        try:
            fork.start()
            started = time.perf_counter()
            fork.resume()
            fork.agent_answers()
            raw.append(time.perf_counter() - started)
        finally:
            fork.close()
        own.append(_own_resume(bench))
    bench.add("resume to agent answer: QEMU by hand", "s", raw)
    bench.add("resume to agent answer: wsklab", "s", own, against="resume to agent answer: QEMU by hand", limit="1.5 x")


def _own_resume(bench: Bench) -> float:
    """A fork of the lab, held just before its resume."""
    starter = bench.lab.starter()
    profile = bench.lab.profile(bench.profile)
    image = bench.lab.ensure_image(profile)
    run_id = f"forks-{uuid.uuid4().hex[:8]}"
    with bench.lab.home.run_alive(run_id), starter.maker.template(profile, image, None) as template:
        claim = Claim(owner=bench.lab.owner, purpose="test", run=run_id)
        plan = starter.maker.plan(template, MemoryFile(path=template.memory))
        guest = starter.maker.factory.create(profile, image, claim, plan, paused=True)
        try:
            agent = GuestAgent(guest.domain.agent_command)
            started = time.perf_counter()
            guest.domain.resume()
            agent.wait(Deadline.after(60))
            return time.perf_counter() - started
        finally:
            guest.destroy(bench.lab.slots)


def request_to_operation(bench: Bench) -> None:
    """From nothing but a template to the first answered WSK operation: by hand, by the lab, with a spare."""
    template, words, overlay = bench.template(driver=True)
    wires = bench.site.factory.wires
    assert wires is not None
    raw, own, spare = [], [], []
    for number in range(bench.rounds):
        fork = RawFork(words, overlay, template, wires, number)
        try:
            started = time.perf_counter()
            fork.start()
            fork.resume()
            fork.wake()
            with SshChannel.connect(
                socket=fork.connect(Deadline.after(60)),
                user="Administrator",
                key=bench.lab.home.guest_key(),
                host_key=template.manifest.host_key,
                deadline=Deadline.after(60),
            ) as channel:
                first_operation(channel)
                raw.append(time.perf_counter() - started)
        finally:
            fork.close()
        started = time.perf_counter()
        with bench.guest(driver=True) as guest:
            with guest.enter(Deadline.after(60), ready_check="") as channel:
                first_operation(channel)
                own.append(time.perf_counter() - started)
            rest(guest)
            started = time.perf_counter()
            rouse(guest, bench.lab.timeouts)
            with guest.enter(Deadline.after(60), ready_check="") as channel:
                first_operation(channel)
                spare.append(time.perf_counter() - started)
    name = "request to first operation: QEMU by hand"
    bench.add(name, "s", raw)
    bench.add("request to first operation: wsklab", "s", own, against=name, limit="1.5 x")
    bench.add("request to first operation: wsklab, warm spare", "s", spare, against=name, limit="under 1 x")


def up(bench: Bench) -> None:
    """The whole command, from the shell's point of view; without and with a spare."""
    for spares, limit in ((0, "under 2.5 s"), (1, "under 1 s")):
        values = []
        settings = {"WSKLAB_HOME": str(bench.lab.home.root), "WSKLAB_UP_SPARES": str(spares)}
        for _ in range(bench.rounds):
            if spares:
                _wsklab(["internal", "spares", bench.profile], settings)
            started = time.perf_counter()
            # the refill of the next spare is not this command's: it is kept from starting by a full count
            document = _wsklab(["up", bench.profile, "--ttl", "10m", "--json"], settings)
            values.append(time.perf_counter() - started)
            _wsklab(["down", document["guests"][0]["name"], "--json"], settings)
            if spares:
                _settle(settings)
        bench.add(f"`wsklab up`, {'with' if spares else 'without'} a spare", "s", values, limit=limit)


def _settle(settings: dict[str, str]) -> None:
    """Wait until the process that `up` left behind has made the next spare: it would disturb the next round."""

    def settled() -> bool | NotYet:
        rows = _wsklab(["list", "--json"], settings)["guests"]
        paused = [row for row in rows if row["purpose"] == "spare" and row["state"] == "paused"]
        return True if paused else NotYet("no spare yet")

    with contextlib.suppress(DeadlineExceeded):
        wait_until(settled, Deadline.after(60), what="the next spare", tick_s=0.5)


def _wsklab(words: list[str], settings: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    result = run([sys.executable, "-m", "wsklab", *words], deadline=Deadline.after(300), env=settings)
    return dict(json.loads(result.stdout)) if "--json" in words else {}


def boot(bench: Bench) -> None:
    """Cold boots of the same image: by the lab, and by plain define and start, until a login answers."""
    own, plain, fork, stock = [], [], [], []
    public = bench.lab.home.guest_key().with_suffix(".pub").read_text()
    debian = stock_image(bench.lab.home.cache / "stock-debian", public, Deadline.after(900))
    for _ in range(bench.rounds):
        with bench.guest(fresh=True) as guest:
            guest.enter(Deadline.after(120), ready_check="").close()
            own.append(guest.age_s)
            definition = (guest.directory / "domain.xml").read_text()
            record, directory = guest.record, guest.directory
        plain.append(_plain_boot(bench, definition, record, directory))
        stock.append(_plain_boot(bench, definition, record, directory, debian))
        with bench.guest() as guest:
            guest.enter(Deadline.after(120), ready_check="").close()
            fork.append(guest.age_s)
    name = "plain libvirt (`virsh define`, `virsh start`): cold boot to login"
    bench.add(name, "s", plain)
    bench.add("wsklab: cold boot to login", "s", own, against=name)
    bench.add("a stock Debian by plain libvirt: cold boot to login", "s", stock)
    against = "a stock Debian by plain libvirt: cold boot to login"
    bench.add("wsklab: fork to login", "s", fork, against=against, limit="0.2 x")


def _plain_boot(
    bench: Bench, definition: str, record: GuestRecord, directory: Path, stock: StockImage | None = None
) -> float:
    """What a person with virsh does: an overlay, a definition, a start, and ssh until it answers.

    The definition is that of a guest of the lab without its mark, in another folder; with `stock` it boots that image.
    """
    image = bench.lab.ensure_image(bench.lab.profile(bench.profile))
    disk, host_key, user = image.disk, image.manifest.host_key, "Administrator"
    if stock is not None:
        disk, host_key, user = stock.disk, None, "root"
        for tag, value in (("kernel", stock.kernel), ("initrd", stock.initrd), ("cmdline", stock.cmdline)):
            definition = re.sub(rf"<{tag}>.*?</{tag}>", f"<{tag}>{value}</{tag}>", definition)
    folder = bench.lab.home.cache / f"plain-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    (folder / "console.log").touch()
    text = definition.replace(str(image.disk), str(disk))
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<name>.*?</name>", f"<name>{folder.name}</name>", text)
    text = text.replace(str(directory), str(folder)).replace(record.uuid, str(uuid.uuid4()))
    (folder / "domain.xml").write_text(text)
    virsh = ["virsh", "--quiet", "--connect", bench.lab.daemon().uri]
    deadline = Deadline.after(120)
    try:
        started = time.perf_counter()
        backing = ["-F", "qcow2", "-b", str(disk)]
        run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(folder / "overlay.qcow2")], deadline=deadline)
        run([*virsh, "define", str(folder / "domain.xml")], deadline=deadline)
        run([*virsh, "start", folder.name], deadline=deadline)
        _login(bench, record.address, host_key, deadline, user=user)
        return time.perf_counter() - started
    finally:
        run([*virsh, "destroy", folder.name], deadline=Deadline.after(30), check=False)
        run([*virsh, "undefine", folder.name], deadline=Deadline.after(30), check=False)
        run(["rm", "-rf", str(folder)], deadline=Deadline.after(30))


def _login(
    bench: Bench, address: str, host_key: str | None, deadline: Deadline, *, user: str = "Administrator"
) -> None:
    """Wait until a login over SSH succeeds."""
    while True:
        try:
            connection = network.connect(bench.site.via, (address, 22), deadline.sooner(1.0))
            SshChannel.connect(
                socket=connection, user=user, key=bench.lab.home.guest_key(), host_key=host_key,
                deadline=deadline,
            ).close()  # fmt: skip
        except (ChannelLost, DeadlineExceeded):
            if deadline.expired:
                raise
            pause(0.05)
        else:
            return


def many(bench: Bench) -> None:
    """Eight forks at once: until the last one's login, and what each costs in memory beside a booted guest."""
    with bench.guest(fresh=True) as guest:
        guest.enter(Deadline.after(120), ready_check=bench.lab.profile(bench.profile).ready_check).close()
        booted = _own_memory_mib(qemu_of(guest))
    bench.add("memory of a booted guest (QEMU, private and dirty)", "MiB", [booted])
    firsts, lasts, costs, shared = [], [], [], []
    for _ in range(max(1, bench.rounds // 3)):
        ends: list[float] = []
        guests: list[Guest] = []
        with contextlib.ExitStack() as stack:
            started = time.perf_counter()

            def one() -> None:
                guest = stack.enter_context(bench.guest())
                guest.enter(Deadline.after(240), ready_check="").close()
                ends.append(time.perf_counter() - started)  # noqa: B023
                guests.append(guest)  # noqa: B023

            threads = [threading.Thread(target=one) for _ in range(_MANY)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if len(guests) != _MANY:
                raise SystemExit(f"only {len(guests)} of {_MANY} forks answered")
            firsts.append(min(ends))
            lasts.append(max(ends))
            costs += [_own_memory_mib(qemu_of(guest)) for guest in guests]
            shared += [_shared_memory_mib(qemu_of(guest)) for guest in guests]
    bench.add(f"{_MANY} forks at once: the first login", "s", firsts)
    bench.add(f"{_MANY} forks at once: the last login", "s", lasts, limit="all answer")
    name = "memory of a booted guest (QEMU, private and dirty)"
    bench.add(f"{_MANY} forks at once: memory of each (private and dirty)", "MiB", costs, against=name, limit="0.4 x")
    bench.add(f"{_MANY} forks at once: memory that each shares with the others", "MiB", shared)


def _memory(pid: int, *keys: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for key in keys for kib in re.findall(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)) / 1024


def _own_memory_mib(pid: int) -> float:
    return _memory(pid, "Private_Dirty", "Swap")


def _shared_memory_mib(pid: int) -> float:
    return _memory(pid, "Shared_Clean", "Shared_Dirty")


def peers(bench: Bench) -> None:
    """What a user would pick instead, on the same image, as far as it starts this guest at all."""
    if not bench.kcli:
        print("| kcli | not run: no --kcli | | |")
        return
    profile = bench.lab.profile(bench.profile)
    image = bench.lab.ensure_image(profile)
    home = bench.lab.home.cache / "kcli-home"
    (home / ".kcli").mkdir(parents=True, exist_ok=True)
    pool = home / "pool"
    pool.mkdir(exist_ok=True)
    uri = bench.lab.daemon().uri
    (home / ".kcli/config.yml").write_text(f"default:\n client: lab\nlab:\n type: kvm\n url: {uri}\n pool: wsk\n")
    virsh = ["virsh", "--quiet", "--connect", uri]
    deadline = Deadline.after(600)
    run([*virsh, "pool-create-as", "wsk", "dir", "--target", str(pool)], deadline=deadline, check=False)
    run(["cp", str(image.disk), str(pool / "wine.qcow2")], deadline=deadline)
    run([*virsh, "pool-refresh", "wsk"], deadline=deadline)
    slot = 98
    initrd = home / "initrd"
    initrd.write_bytes(_with_command_line(image.initrd, f"root=/dev/vda rw {image.cmdline.partition('rw ')[2]}"))
    nets = f"[{{'name':'{bench.lab.network_name}','mac':'{network.mac_of(slot)}'}}]"
    parameters = {
        "image": "wine.qcow2", "memory": str(profile.memory_mib), "numcpus": str(profile.vcpus), "nets": nets,
        "cloudinit": "false", "disks": "[2]",
        "qemuextra": f"-kernel {image.kernel} -initrd {initrd} -append bootconfig",
    }  # fmt: skip
    words = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
    values = []
    for number in range(bench.rounds):
        name = f"kcli{number}"
        started = time.perf_counter()
        environment = {"HOME": str(home)}
        try:
            run([bench.kcli, "create", "vm", *words, name], deadline=Deadline.after(120), env=environment)
            _login(bench, network.address_of(bench.site.factory.subnet, slot), None, Deadline.after(120))
            values.append(time.perf_counter() - started)
        finally:
            run([bench.kcli, "delete", "vm", "--yes", name], deadline=Deadline.after(60), env=environment, check=False)
    run([*virsh, "pool-destroy", "wsk"], deadline=deadline, check=False)
    bench.add("kcli: cold boot to login", "s", values)


def _with_command_line(initrd: Path | None, words: str) -> bytes:
    """An initial RAM disk that carries the kernel's command line behind it (Linux: admin-guide/bootconfig).

    kcli cuts what it hands to QEMU at every space.
    """
    assert initrd is not None
    pairs = [word.partition("=") for word in words.split()]
    lines = [f'kernel.{key} = "{value}"' if sign else f"kernel.{key}" for key, sign, value in pairs]
    text = "\n".join([*lines, ""]).encode() + b"\0"
    data = initrd.read_bytes()
    text += b"\0" * (-(len(data) + len(text)) % 4)
    return data + text + struct.pack("<II", len(text), sum(text) & 0xFFFFFFFF) + b"#BOOTCONFIG\n"


PARTS: dict[str, Callable[[Bench], None]] = {
    "raw": resume_to_agent, "operation": request_to_operation, "up": up, "boot": boot, "many": many, "peers": peers,
}  # fmt: skip


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="wine-bookworm")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", action="append", choices=list(PARTS))
    parser.add_argument("--kcli", default="")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    # eight guests of two processors each, whatever else the host holds
    options = {"vcpus_per_core": 64}
    config: LabConfig = load_config(options=options, environ=dict(os.environ), folder=Path.cwd(), user_home=Path.home())
    with Lab(config) as lab:
        if lab.choice.mode is not ModeSetting.PRIVATE:
            raise SystemExit("needs private mode: the yardstick makes wires in the lab's own namespaces")
        built = Services().build_driver(config, None, lambda _step: None)
        package = DriverPackage(image=built.sys, control=built.ctl)
        bench = Bench(lab, lab.site(), wanted.profile, package, wanted.rounds, wanted.kcli)
        print(f"acceleration: {lab.acceleration}; cores: {os.cpu_count()}; load: {os.getloadavg()[0]:.1f}")
        print("| what | median | spread | ratio |\n|---|---|---|---|")
        for name in wanted.only or PARTS:
            PARTS[name](bench)
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(figure) for figure in bench.figures], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
