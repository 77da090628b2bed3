"""Does KVM work here? Asked by booting the guest's own kernel, because nothing less answers it.

A `/dev/kvm` that opens, makes a virtual machine and even runs a boot sector may still hang on a kernel
(seen on a cloud machine). So the kernel is booted without any root file system: it gets through its whole
start, panics for want of a root, and with `panic=-1` resets at once, which ends QEMU. TCG goes first and
tells how long that takes here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from wsklab.console import visible
from wsklab.deadline import Deadline
from wsklab.domain_xml import NO_TIMER_CHECK, Acceleration
from wsklab.errors import HostCommandError, HostError
from wsklab.process import run

__all__ = ["ProbeResult", "probe_acceleration"]

_QEMU: Final = "qemu-system-x86_64"
_KVM: Final = Path("/dev/kvm")

# What a Linux kernel says when it has come to the end of its start and finds no root.
_PANIC: Final = re.compile(r"Kernel panic - not syncing: VFS|Unable to mount root fs")

# The kernel is given this much time under KVM: never more, and no more than five times TCG's.
_KVM_MAX_S: Final = 15.0
_KVM_FACTOR: Final = 5.0

_TCG_MAX_S: Final = 90.0

_CACHE_FILE: Final = "acceleration.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What the probe found.

    Attributes:
        acceleration: what guests should use.
        detail: why, in one line.
        seconds: what the probe took when it was made.
        tcg_seconds: what the kernel took under TCG; 0.0 when it was not booted.
        cached: whether this is an earlier result of the same host, kernel and QEMU.
    """

    acceleration: Acceleration
    detail: str
    seconds: float
    tcg_seconds: float
    cached: bool = False


def probe_acceleration(
    kernel: Path, cache_dir: Path, *, reprobe: bool = False, deadline: Deadline, device: Path = _KVM
) -> ProbeResult:
    """Find out whether guests can use KVM; remembered until host boot, kernel, QEMU or device change.

    Args:
        kernel: a guest's kernel image.
        cache_dir: where the answer is remembered.
        reprobe: ask again in any case.
        deadline: for all of it.
        device: KVM's device.

    Raises:
        HostCommandError: QEMU is missing. HostError: the kernel does not even boot under TCG.
    """
    key = _key(kernel, device, deadline)
    cache = cache_dir / _CACHE_FILE
    if not reprobe:
        found = _remembered(cache, key)
        if found is not None:
            return found
    watch = Deadline.after(0)
    result = replace(_probe(kernel, device, deadline), seconds=watch.elapsed_s)
    cache_dir.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_name(f".{cache.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"key": key, "result": asdict(result)}))
    temporary.replace(cache)
    return result


def _probe(kernel: Path, device: Path, deadline: Deadline) -> ProbeResult:
    reason = _why_not_even_open(device)
    if reason:
        return ProbeResult(acceleration=Acceleration.TCG, detail=reason, seconds=0.0, tcg_seconds=0.0)
    tcg = _boot(kernel, Acceleration.TCG, deadline.sooner(_TCG_MAX_S))
    if not tcg.started:
        raise HostError(
            f"the kernel {kernel.name} does not boot under emulation",
            why=tcg.why,
            fix="check the image: wsklab image verify",
            evidence={"kernel": str(kernel), "why": tcg.why},
        )
    emulated = f"under emulation it takes {tcg.seconds:.1f} s"
    kvm = _boot(kernel, Acceleration.KVM, deadline.sooner(min(_KVM_MAX_S, _KVM_FACTOR * tcg.seconds)))
    if kvm.started:
        detail = f"a guest's kernel starts in {kvm.seconds:.1f} s with KVM; {emulated}"
    else:
        detail = f"{device} exists, but a guest's kernel does not start on it: {kvm.why}; {emulated}"
    choice = Acceleration.KVM if kvm.started else Acceleration.TCG
    return ProbeResult(acceleration=choice, detail=detail, seconds=0.0, tcg_seconds=tcg.seconds)


def _why_not_even_open(device: Path) -> str:
    """Why KVM cannot be tried at all, or ""."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{device} does not exist: this host has no virtualisation, or it is not passed on"
    except PermissionError:
        return f"{device} may not be opened by this user: add yourself to the group kvm"
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}"
    return ""


@dataclass(frozen=True, slots=True)
class _Boot:
    """One attempt: whether the kernel came to its panic, when the attempt ended, and why it failed."""

    started: bool
    seconds: float
    why: str


def _boot(kernel: Path, acceleration: Acceleration, deadline: Deadline) -> _Boot:
    """Boot without a root file system."""
    kvm = acceleration is Acceleration.KVM
    argv = [_QEMU, "-nodefaults", "-no-user-config", "-machine", "q35"]
    argv += ["-accel", "kvm" if kvm else "tcg,thread=multi", "-cpu", "host" if kvm else "qemu64"]
    argv += ["-m", "256", "-smp", "2", "-display", "none", "-serial", "stdio", "-no-reboot"]
    argv += ["-kernel", str(kernel), "-append", f"console=ttyS0 panic=-1 {NO_TIMER_CHECK}"]
    watch = Deadline.after(0)
    try:
        result = run(argv, deadline=deadline, check=False)
        output, ended = result.stdout + result.stderr, f"QEMU ended with status {result.exit_code}"
    except HostCommandError as error:
        if error.fix:
            raise  # QEMU itself is missing
        output, ended = error.stdout + error.stderr, f"no end within {deadline.elapsed_s:.1f} s"
    return _Boot(_PANIC.search(output) is not None, watch.elapsed_s, f"{ended}, last line: {_last_line(output)}")


def _last_line(output: str) -> str:
    lines = [line for line in visible(output.replace("\r", "")).splitlines() if line.strip()]
    return lines[-1].strip()[:120] if lines else "none"


def _key(kernel: Path, device: Path, deadline: Deadline) -> dict[str, str]:
    """Everything that the answer depends on."""
    with kernel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        status = device.stat()
        node = f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {status.st_mtime_ns}"
    except OSError:
        node = "none"
    return {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "kernel": digest,
        "qemu": run([_QEMU, "--version"], deadline=deadline.sooner(10)).stdout.splitlines()[0],
        "device": node,
        "user": str(os.geteuid()),
    }


def _remembered(cache: Path, key: dict[str, str]) -> ProbeResult | None:
    try:
        document = json.loads(cache.read_text())
        if document["key"] != key:
            return None
        values = document["result"]
        return ProbeResult(
            acceleration=Acceleration(values["acceleration"]),
            detail=str(values["detail"]),
            seconds=float(values["seconds"]),
            tcg_seconds=float(values["tcg_seconds"]),
            cached=True,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no cache, or a damaged one: ask again
