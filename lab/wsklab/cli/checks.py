"""What `doctor` looks at: one function per fact of the host, no printing, nothing changed."""

from __future__ import annotations

import grp
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wsklab.deadline import Deadline
from wsklab.errors import HostCommandError, LabError
from wsklab.process import run

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.config import LabConfig

__all__ = ["PROGRAMS", "SLOW_CAPABILITIES_S", "Check", "host_checks", "lab_checks", "shim_check"]

#: Programs that the lab calls, and the Debian package of each.
PROGRAMS: dict[str, str] = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "libvirtd": "libvirt-daemon-system",
    "virtlogd": "libvirt-daemon-system",
    "dnsmasq": "dnsmasq-base",
    "iptables": "iptables",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64-win32",
    "cmake": "cmake",
    "ninja": "ninja-build",
    "osslsigncode": "osslsigncode",
    "ssh": "openssh-client",
}

#: Releases on which this is used, from /etc/os-release; anything else is named, not refused.
_RELEASES = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04"), ("ubuntu", "24.10"), ("ubuntu", "25.04")}

#: A second capability call takes milliseconds when libvirt's cache is valid; when libvirt and QEMU's user
#: disagree about /dev/kvm the cache is thrown away and QEMU probed again on every call, some 4 s each.
SLOW_CAPABILITIES_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding about the host.

    Attributes:
        name: stable, for scripts.
        ok: whether the lab can work with it.
        detail: what was seen.
        fix: the command or the step that mends it; "" when ok.
        repair: the same as an argument list that `doctor --fix` may run as root, or empty.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    repair: tuple[str, ...] = ()


def host_checks(config: LabConfig, home: Path, *, root: Path = Path("/")) -> list[Check]:
    """Everything that can be seen without libvirt. `root` is another tree in tests."""
    return [
        _release(root),
        _programs(),
        _python(),
        _memory(root, config),
        _disk(home, config),
        _tun(root),
        _home(home),
    ]


def lab_checks(lab: Lab, *, reprobe: bool) -> list[Check]:
    """What needs the assembled lab: the daemon, its speed, the acceleration, the groups."""
    checks = [Check(name="mode", ok=True, detail=f"{lab.choice.mode}: {lab.choice.why}"), _group(lab)]
    checks += _libvirt(lab)
    checks += _windows(lab)
    checks.append(_acceleration(lab, reprobe=reprobe))
    return checks


#: Adds one or, with an argument, too much: which a sanitizer has to stop.
_WRONG_PROGRAM = "int main(int count, char **words) { (void)words; return (2147483646 + count) == 0 ? 1 : 0; }\n"
_COMPILE_S = 60.0


def shim_check(*, environ: Mapping[str, str | None] | None = None) -> Check:
    """Whether this host builds and runs guests of kind shim: a compiler whose sanitizers work.

    Args:
        environ: variables laid over the lab's own, in tests.
    """
    argv = ("apt-get", "install", "--no-install-recommends", "-y", "gcc", "libc6-dev")
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    with tempfile.TemporaryDirectory() as made:
        source = Path(made) / "wrong.c"
        program = Path(made) / "wrong"
        source.write_text(_WRONG_PROGRAM, encoding="ascii")
        try:
            run(["gcc", *flags, source, "-o", program], deadline=Deadline.after(_COMPILE_S), env=environ)
            right = run([program], deadline=Deadline.after(_COMPILE_S), check=False)
            wrong = run([program, "more"], deadline=Deadline.after(_COMPILE_S), check=False)
        except HostCommandError as error:
            detail = f"guests of kind shim cannot be built: {error.message}: {error.why}"
            return Check(name="shim", ok=False, detail=detail, fix=" ".join(argv), repair=argv)
    if right.exit_code == 0 and wrong.exit_code != 0 and "signed integer overflow" in wrong.stderr:
        return Check(name="shim", ok=True, detail="gcc, with AddressSanitizer and UBSan")
    return Check(
        name="shim",
        ok=False,
        detail="a program that gcc's sanitizers must stop was not stopped, or one that they must not was",
        fix="AddressSanitizer needs /proc, ptrace-free processes and no limit on address space (ulimit -v unlimited)",
    )


def _release(root: Path) -> Check:
    try:
        text = (root / "etc/os-release").read_text(encoding="utf-8")
    except OSError as error:
        return Check(name="release", ok=False, detail=str(error), fix="use Debian 12 or 13, or Ubuntu 24.04 or later")
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    values = {key: value.strip().strip('"') for key, value in values.items()}
    shown = values.get("PRETTY_NAME", "unknown")
    if (values.get("ID", ""), values.get("VERSION_ID", "")) in _RELEASES:
        return Check(name="release", ok=True, detail=shown)
    return Check(
        name="release",
        ok=False,
        detail=f"{shown}: the lab is made for Debian 12 and 13 and Ubuntu 24.04 and later",
        fix="use one of those; on other systems the packages have to be installed by hand",
    )


def _programs() -> Check:
    # Administrators' programs are not on every user's PATH.
    path = os.pathsep.join([os.defpath, "/usr/sbin", "/sbin", "/usr/bin"])
    missing = [name for name in PROGRAMS if shutil.which(name) is None and shutil.which(name, path=path) is None]
    if not missing:
        return Check(name="programs", ok=True, detail=f"all {len(PROGRAMS)} found")
    packages = sorted({PROGRAMS[name] for name in missing})
    argv = ("apt-get", "install", "--no-install-recommends", "-y", *packages)
    return Check(name="programs", ok=False, detail=f"missing: {', '.join(missing)}", fix=" ".join(argv), repair=argv)


def _python() -> Check:
    version = platform.python_version()
    return Check(
        name="python",
        ok=sys.version_info >= (3, 11),
        detail=f"{version} at {sys.executable}",
        fix="" if sys.version_info >= (3, 11) else "start with ./wsklab, which uses the system's Python 3.11 or later",
    )


def _memory(root: Path, config: LabConfig) -> Check:
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
        available = next(int(line.split()[1]) // 1024 for line in text.splitlines() if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError) as error:
        return Check(name="memory", ok=False, detail=f"cannot read /proc/meminfo: {error}", fix="mount /proc")
    # One small guest and QEMU's own memory beside it.
    need = config.memory_reserve_mib + 768
    fix = "" if available >= need else "stop other programs, or lower memory_reserve_mib"
    detail = f"{available} MiB available, {config.memory_reserve_mib} MiB of it reserved"
    return Check(name="memory", ok=available >= need, detail=detail, fix=fix)


def _disk(home: Path, config: LabConfig) -> Check:
    place = next((path for path in (home, *home.parents) if path.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free >> 20
    # Two images, their bake trees and a few overlays.
    need = config.disk_reserve_mib + 4096
    fix = "" if free >= need else "free some space, `wsklab gc`, or set WSKLAB_HOME to a larger disk"
    return Check(name="disk", ok=free >= need, detail=f"{free} MiB free at {place}, {need} MiB wanted", fix=fix)


def _tun(root: Path) -> Check:
    device = root / "dev/net/tun"
    try:
        ok = stat.S_ISCHR(device.stat().st_mode)
    except OSError:
        ok = False
    return Check(
        name="tun",
        ok=ok,
        detail="/dev/net/tun is there" if ok else "no /dev/net/tun: guests get no network",
        fix="" if ok else "modprobe tun; in a container: pass the device in",
        repair=() if ok else ("modprobe", "tun"),
    )


def _home(home: Path) -> Check:
    if not home.exists():
        return Check(name="home", ok=True, detail=f"{home} will be made")
    ok = os.access(home, os.R_OK | os.W_OK | os.X_OK)
    mode = stat.filemode(home.stat().st_mode)
    fix = "" if ok else "become a member of its group, or set WSKLAB_HOME"
    return Check(name="home", ok=ok, detail=f"{home} {mode}", fix=fix)


def _group(lab: Lab) -> Check:
    if lab.private or os.geteuid() == 0:
        return Check(name="group", ok=True, detail="root needs no group")
    try:
        group = grp.getgrnam("libvirt")
    except KeyError:
        return Check(name="group", ok=False, detail="there is no group libvirt", fix="./wsklab doctor installs libvirt")
    if group.gr_gid in os.getgroups():
        return Check(name="group", ok=True, detail="this session is in the group libvirt")
    argv = ("usermod", "-aG", "libvirt", lab.owner)
    return Check(
        name="group",
        ok=False,
        detail="this session is not in the group libvirt",
        fix=f"{' '.join(argv)}, then log in again; ./wsklab does both",
        repair=argv,
    )


@runtime_checkable
class AnswersFromCache(Protocol):
    """A hypervisor back end that can say whether its capabilities are probed anew on every call."""

    def capabilities_are_cached(self, *, limit_s: float = SLOW_CAPABILITIES_S) -> bool:
        """Whether the second of two calls stays below the limit, in seconds."""


def _libvirt(lab: Lab) -> list[Check]:
    """Connect, and ask for the capabilities twice."""
    try:
        hypervisor = lab.site().hypervisor
        versions = hypervisor.versions()
    except LabError as error:
        return [Check(name="libvirt", ok=False, detail=f"{error.message}: {error.why}", fix=error.fix)]
    checks = [_versions(versions)]
    if not isinstance(hypervisor, AnswersFromCache):
        return checks
    try:
        cached = hypervisor.capabilities_are_cached(limit_s=SLOW_CAPABILITIES_S)
    except LabError as error:
        return [*checks, Check(name="capabilities", ok=False, detail=f"{error.message}: {error.why}", fix=error.fix)]
    if cached:
        return [*checks, Check(name="capabilities", ok=True, detail="libvirt answers from its cache")]
    slow = Check(
        name="capabilities",
        ok=False,
        detail=f"the second call took more than {SLOW_CAPABILITIES_S} s: libvirt probes QEMU again on every call, "
        "so each guest costs seconds more",
        fix="libvirt and QEMU's user must agree about /dev/kvm: chgrp kvm /dev/kvm; chmod 0660 /dev/kvm",
    )
    return [*checks, slow]


#: The oldest that the lab is tested with: Debian 12's.
_OLDEST = {"libvirt": (9, 0), "qemu": (7, 2)}


def _versions(versions: Mapping[str, str]) -> Check:
    """Whether libvirt and QEMU are new enough."""
    old = [
        f"{name} {versions[name]} (at least {'.'.join(map(str, least))})"
        for name, least in _OLDEST.items()
        if name in versions and tuple(int(part) for part in re.findall(r"\d+", versions[name])[:2]) < least
    ]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    fix = "use Debian 12 or later, or Ubuntu 24.04 or later" if old else ""
    return Check(name="libvirt", ok=not old, detail=f"too old: {', '.join(old)}" if old else shown, fix=fix)


def _windows(lab: Lab) -> list[Check]:
    """What guests of kind windows need besides: firmware where there are any, and a licence that lasts."""
    from wsklab.firmware import find_uefi
    from wsklab.image.manifest import licence_warning

    images = [image for image in lab.store.list() if image.manifest.windows is not None]
    code = find_uefi()
    firmware = Check(
        name="firmware",
        ok=code is not None or not images,
        detail=str(code.code) + (" (could enforce Secure Boot, has no keys)" if code.setup_mode else "")
        if code is not None
        else "none for UEFI guests: Windows profiles cannot be installed or started",
        fix="" if code is not None else "apt-get install ovmf",
        repair=()
        if code is not None or not images
        else ("apt-get", "install", "--no-install-recommends", "-y", "ovmf"),
    )
    warnings = [text for image in images if (text := licence_warning(image.manifest, datetime.now(UTC)))]
    licences = [Check(name="licence", ok=False, detail=text, fix=text.rpartition("; ")[2]) for text in warnings]
    return [firmware, *licences]


def _acceleration(lab: Lab, *, reprobe: bool) -> Check:
    try:
        result = lab.probe(reprobe=reprobe)
    except LabError as error:
        return Check(name="acceleration", ok=False, detail=f"{error.message}: {error.why}", fix=error.fix)
    if result is None:
        return Check(name="acceleration", ok=True, detail="not probed: no image has a kernel yet; tcg until then")
    cached = ", remembered" if result.cached else ""
    # Emulation is slow, not wrong: every conformance case runs under it.
    return Check(name="acceleration", ok=True, detail=f"{result.acceleration}: {result.detail}{cached}")


def missing_fixes(checks: Sequence[Check]) -> list[Check]:
    """The failed checks that `--fix` can mend by a command."""
    return [check for check in checks if not check.ok and check.repair]
