"""Installation media that behave like Windows Setup seen from outside, made of Debian packages. See standin/init.

For the rehearsal of `image build`: everything but Windows is real (QEMU, libvirt, firmware, discs, restarts, SSH).
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import struct
import tempfile
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pycdlib

from wsklab.deadline import Deadline
from wsklab.image.initrd import cpio_archive, load_order
from wsklab.process import run

Firmware = Literal["uefi", "bios"]

HERE: Final = Path(__file__).parent / "standin"
#: What is unpacked; the kernel's package is asked for, and the libraries of the SSH server come along.
PACKAGES: Final = (
    *("busybox-static", "dropbear-bin", "grub-common", "grub-pc-bin", "openssh-sftp-server", "systemd-boot-efi"),
)
_MODULES: Final = ("ahci", "sd_mod", "sr_mod", "isofs", "e1000e")
_MIB: Final = 1 << 20
_SECTOR: Final = 512
#: Layout of the disk, in MiB: kernel or EFI partition, then the state, then the volume with Setup's logs.
_FIRST, _FIRST_SIZE, _MSR, _MSR_SIZE, _NTFS, _NTFS_SIZE = 1, 32, 33, 31, 64, 32
_ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_RESERVED: Final = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
_DATA: Final = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
LOG: Final = "Info SP the stand-in's own setupact.log\n"


@dataclass(frozen=True, slots=True)
class Parts:
    """What media are made from: unpacked packages, the kernel, modules in load order."""

    root: Path
    kernel: bytes
    initrd: bytes


def fetch_parts(place: Path, limit_s: float = 300) -> Parts:
    """Unpack the packages below `place`, unless they are there; make the initial RAM disk."""
    deadline = Deadline.after(limit_s)
    root = place / "root"
    if not (place / "complete-2").exists():
        place.mkdir(parents=True, exist_ok=True)
        depends = run(["apt-cache", "depends", "linux-image-amd64"], deadline=deadline).stdout
        kernel = next(line.split()[-1] for line in depends.splitlines() if "Depends: linux-image" in line)
        without = ["--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"]
        needs = run(["apt-cache", "depends", "--recurse", *without, "dropbear-bin"], deadline=deadline).stdout
        libraries = {line for line in needs.splitlines() if re.match(r"(lib[\w.+-]+|zlib1g)$", line)}
        run(["apt-get", "download", *PACKAGES, *sorted(libraries), kernel], deadline=deadline, cwd=place)
        for package in sorted(place.glob("*.deb")):
            run(["dpkg-deb", "-x", str(package), str(root)], deadline=deadline)
            package.unlink()
        release = next((root / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
        modules = next(path for path in (root / "usr/lib/modules", root / "lib/modules") if path.is_dir())
        run([str(busybox(root)), "depmod", "-b", str(modules.parents[1]), release], deadline=deadline)
        (place / "complete-2").touch()
    release = next((root / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
    return Parts(root, (root / "boot" / f"vmlinuz-{release}").read_bytes(), _initrd(root, release))


def busybox(root: Path) -> Path:
    return next(path for path in (root / "usr/bin/busybox", root / "bin/busybox") if path.is_file())


def _initrd(root: Path, release: str) -> bytes:
    modules = next(path for path in (root / "usr/lib/modules", root / "lib/modules") if path.is_dir()) / release
    order = load_order(
        (modules / "modules.dep").read_text(), (modules / "modules.builtin").read_text(), _MODULES, release=release
    )
    files: list[tuple[str, int, bytes]] = [(name, 0o40755, b"") for name in ("bin", "dev", "lib", "lib64", "proc")]
    files.append(("bin/busybox", 0o100755, busybox(root).read_bytes()))
    files += [("init", 0o100755, (HERE / "init").read_bytes()), ("dhcp", 0o100755, (HERE / "dhcp").read_bytes())]
    files.append(("bin/clock", 0o100755, _clock()))
    for program in ("sbin/dropbear", "bin/dropbearkey"):
        files.append((f"bin/{Path(program).name}", 0o100755, (root / "usr" / program).read_bytes()))
    server = next(root.rglob("openssh/sftp-server"))
    files.append(("bin/sftp-server", 0o100755, server.read_bytes()))
    loader = next(path for path in root.rglob("ld-linux-x86-64.so.2") if path.is_file())
    files.append(("lib64/ld-linux-x86-64.so.2", 0o100755, loader.read_bytes()))
    for name in ("libc.so.6", "libcrypt.so.1", "libgmp.so.10", "libtomcrypt.so.1", "libtommath.so.1", "libz.so.1"):
        library = next(path for path in root.rglob(name) if path.exists())
        files.append((f"lib/{name}", 0o100755, library.read_bytes()))
    names = [Path(path).name.removesuffix(".xz") for path in order]
    for name, path in zip(names, order, strict=True):
        data = (modules / path).read_bytes()
        files.append((f"lib/{name}", 0o100644, lzma.decompress(data) if path.endswith(".xz") else data))
    files.append(("modules", 0o100644, "".join(f"{name}\n" for name in names).encode()))
    return gzip.compress(cpio_archive(files), compresslevel=6, mtime=0)


def _clock() -> bytes:
    """The stand-in's `wskctl clock`, without libraries."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "clock"
        run(["gcc", "-O2", "-static", "-s", "-o", str(program), str(HERE / "clock.c")], deadline=Deadline.after(60))
        return program.read_bytes()


def make_medium(
    path: Path, parts: Parts, firmware: Firmware, wim: bytes, *, variant: str = "good", disk_gib: int = 1
) -> Path:
    """A medium for one firmware.

    Args:
        variant: `no-loader`: what it installs does not start; `two-loaders`: it also has, as Windows media have, the
            boot image that does not ask.
    """
    deadline = Deadline.after(120)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        medium_words = (
            f"standin=medium variant={variant} console=tty0 no_timer_check"  # its words on the screen are signs of life
        )
        loads = variant != "no-loader"
        disk = gzip.compress(_disk(parts, firmware, place, disk_gib, deadline, loads=loads), compresslevel=1, mtime=0)
        files = {"sources/install.wim": wim, "disk.gz": disk}
        if firmware == "uefi":
            boot = _fat({"EFI/BOOT/BOOTX64.EFI": _efi(parts, medium_words, place, deadline)})
            if variant == "two-loaders":
                silent = _efi(parts, f"{medium_words} prompt=no", place, deadline)
                files["efi/microsoft/boot/efisys.bin"] = boot
                files["efi/microsoft/boot/efisys_noprompt.bin"] = _fat({"EFI/BOOT/BOOTX64.EFI": silent})
        else:
            files |= {"linux.bin": parts.kernel, "initrd.bin": parts.initrd}
            script = f"linux16 (cd)/linux.bin {medium_words}\ninitrd16 (cd)/initrd.bin\nboot\n"
            boot = _grub(parts, "i386-pc-eltorito", script, place, deadline)
        _write_iso(path, files, boot, firmware)
    return path


def _write_iso(path: Path, files: Mapping[str, bytes], boot: bytes, firmware: Firmware) -> None:
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, udf="2.60")
    short = {"": ""}
    for name, content in files.items():
        folder, _, file = name.rpartition("/")
        for depth in range(1, folder.count("/") + 2 if folder else 0):
            part = "/".join(folder.split("/")[:depth])
            if part not in short:
                short[part] = f"{short[part.rpartition('/')[0]]}/D{len(short)}"
                disc.add_directory(short[part], udf_path=f"/{part}")
        plain = f"{file.upper()}" if not folder else f"F{len(short)}{len(file)}.BIN"
        disc.add_fp(io.BytesIO(content), len(content), f"{short[folder]}/{plain};1", udf_path=f"/{name}")
    disc.add_fp(io.BytesIO(boot), len(boot), "/BOOT.IMG;1")
    if firmware == "uefi":  # as on Windows media, the first entry is the one for BIOS
        disc.add_fp(io.BytesIO(b"no BIOS"), 7, "/BIOS.IMG;1")
        disc.add_eltorito("/BIOS.IMG;1", bootcatfile="/BOOT.CAT;1")
        disc.add_eltorito("/BOOT.IMG;1", bootcatfile="/BOOT.CAT;1", efi=True)
    else:
        disc.add_eltorito("/BOOT.IMG;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4, boot_info_table=True)
    disc.write(str(path))
    disc.close()


# -- what starts ---------------------------------------------------------------------------------


def _efi(parts: Parts, cmdline: str, place: Path, deadline: Deadline) -> bytes:
    """Kernel, initial RAM disk and command line as one EFI program, by systemd's stub."""
    sections = {".cmdline": (cmdline.encode(), 0x30000), ".linux": (parts.kernel, 0x2000000)}
    sections[".initrd"] = (parts.initrd, 0x3000000)
    argv = ["objcopy"]
    for name, (content, address) in sections.items():
        file = place / f"section{name}"
        file.write_bytes(content)
        argv += ["--add-section", f"{name}={file}", "--change-section-vma", f"{name}={address:#x}"]
    stub = next(parts.root.rglob("linuxx64.efi.stub"))
    run([*argv, str(stub), str(place / "kernel.efi")], deadline=deadline)
    return (place / "kernel.efi").read_bytes()


def _grub(parts: Parts, target: str, script: str, place: Path, deadline: Deadline) -> bytes:
    (place / "grub.cfg").write_text(script)
    argv = [str(parts.root / "usr/bin/grub-mkimage"), "-O", target, "-o", str(place / "core.img"), "-p", "/"]
    argv += ["-d", str(parts.root / "usr/lib/grub/i386-pc"), "-c", str(place / "grub.cfg")]
    # linux16: with some sizes of files GRUB's other loader leaves a damaged kernel, and the machine resets
    argv += ["biosdisk", "iso9660", "linux16"]
    run(argv, deadline=deadline)
    core = (place / "core.img").read_bytes()
    return core.ljust(-(-len(core) // 2048) * 2048, b"\0")  # the loader's own reader resets the machine at odd lengths


def _disk(parts: Parts, firmware: Firmware, place: Path, disk_gib: int, deadline: Deadline, *, loads: bool) -> bytes:
    """The beginning of an installed disk."""
    disk = bytearray((_NTFS + _NTFS_SIZE) * _MIB)
    words = "standin=disk console=tty0 quiet no_timer_check"  # a starved host fails the check, and the kernel stops
    ntfs = _ntfs(place, deadline)
    disk[_NTFS * _MIB : _NTFS * _MIB + len(ntfs)] = ntfs
    if firmware == "uefi":
        disk[: 34 * _SECTOR] = _gpt(disk_gib << 30)
        if loads:
            fat = _fat({"EFI/BOOT/BOOTX64.EFI": _efi(parts, words, place, deadline)}, size_mib=_FIRST_SIZE)
            disk[_FIRST * _MIB : _FIRST * _MIB + len(fat)] = fat
        return bytes(disk)
    first = _FIRST * _MIB
    kernel_at, initrd_at = first, first + _up(len(parts.kernel))
    assert initrd_at + len(parts.initrd) <= (_FIRST + _FIRST_SIZE) * _MIB
    disk[kernel_at : kernel_at + len(parts.kernel)] = parts.kernel
    disk[initrd_at : initrd_at + len(parts.initrd)] = parts.initrd
    if loads:
        kernel, initrd = (
            _blocks(at, size) for at, size in ((kernel_at, len(parts.kernel)), (initrd_at, len(parts.initrd)))
        )
        script = f"linux16 (hd0){kernel} {words}\ninitrd16 (hd0){initrd}\nboot\n"
        core = _grub(parts, "i386-pc", script, place, deadline)
        assert _SECTOR + len(core) <= first
        disk[:440] = (parts.root / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:440]
        disk[_SECTOR : _SECTOR + len(core)] = core
    for number, (start, size) in enumerate(((_FIRST, _FIRST_SIZE), (_NTFS, _NTFS_SIZE))):
        entry = struct.pack("<B3sB3sII", 0x80 if number == 0 else 0, b"", 7, b"", start * 2048, size * 2048)
        disk[446 + 16 * number : 462 + 16 * number] = entry
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def _up(size: int) -> int:
    return -(-size // _SECTOR) * _SECTOR


def _blocks(at: int, size: int) -> str:
    """A file for GRUB by its sectors."""
    return f"{at // _SECTOR}+{_up(size) // _SECTOR}"


def _ntfs(place: Path, deadline: Deadline) -> bytes:
    """A volume with a log where Setup leaves it."""
    image, view = place / "ntfs.img", place / "ntfs"
    image.write_bytes(bytes(_NTFS_SIZE * _MIB))
    run(["mkntfs", "-q", "-F", "-Q", str(image)], deadline=deadline)
    view.mkdir()
    run(["ntfs-3g", str(image), str(view)], deadline=deadline)
    try:
        (view / "Windows/Panther").mkdir(parents=True)
        (view / "Windows/Panther/setupact.log").write_text(LOG)
    finally:
        run(["umount", str(view)], deadline=deadline)
    return image.read_bytes()


# -- tables --------------------------------------------------------------------------------------


def _gpt(disk_bytes: int) -> bytes:
    """UEFI specification 2.10, 5.3: protective MBR, header, three entries."""
    last = disk_bytes // _SECTOR - 1
    entries = bytearray(128 * 128)
    layout = ((_ESP, _FIRST, _FIRST_SIZE), (_RESERVED, _MSR, _MSR_SIZE), (_DATA, _NTFS, _NTFS_SIZE))
    for number, (kind, start, size) in enumerate(layout):
        entry = uuid.UUID(kind).bytes_le + uuid.uuid4().bytes_le
        entry += struct.pack("<QQQ", start * 2048, (start + size) * 2048 - 1, 0)
        entries[128 * number : 128 * number + len(entry)] = entry

    def header(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            *(b"EFI PART", 0x10000, 92, checksum, 0, 1, last, 34, last - 33),
            *(uuid.UUID(int=7).bytes_le, 2, 128, 128, zlib.crc32(bytes(entries))),
        )

    protective = bytearray(_SECTOR)
    protective[446:462] = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    protective[510:] = b"\x55\xaa"
    return bytes(protective) + header(zlib.crc32(header(0))).ljust(_SECTOR, b"\0") + bytes(entries)


def _fat(files: Mapping[str, bytes], *, size_mib: int = 24) -> bytes:
    """A FAT16 volume with one folder below another for each file: `EFI/BOOT/NAME.EXT`."""
    cluster, sectors, root_entries = 4 * _SECTOR, size_mib * 2048, 512
    fat_sectors = -(-(sectors // 4 + 2) * 2 // _SECTOR)
    data_at = (1 + 2 * fat_sectors) * _SECTOR + root_entries * 32
    image = bytearray(sectors * _SECTOR)
    image[:62] = struct.pack(
        "<3s8sHBHBHHBHHHII",
        *(b"\xeb\x3c\x90", b"STANDIN ", _SECTOR, 4, 1, 2, root_entries, sectors if sectors < 65536 else 0, 0xF8),
        *(fat_sectors, 32, 64, 0, sectors if sectors >= 65536 else 0),
    ) + struct.pack("<BBBI11s8s", 0x80, 0, 0x29, 1, b"STANDIN    ", b"FAT16   ")
    image[510:512] = b"\x55\xaa"
    table = [0xFFF8, 0xFFFF]

    def store(content: bytes) -> int:
        first, count = len(table), max(1, -(-len(content) // cluster))
        table.extend([*range(first + 1, first + count), 0xFFFF])
        at = data_at + (first - 2) * cluster
        image[at : at + len(content)] = content
        return first

    def entry(name: str, attribute: int, first: int, size: int) -> bytes:
        stem, _, extension = name.partition(".")
        short = stem.ljust(8).encode() + extension.ljust(3).encode()
        return struct.pack("<11sB8xHHHHI", short, attribute, 0, 0, 0, first, size)

    root = b""
    for path, content in files.items():
        top, folder, name = path.split("/")
        file = entry(name, 0x20, store(content), len(content))
        below_at, top_at = len(table), len(table) + 1
        dots = [entry(".", 0x10, below_at, 0), entry("..", 0x10, top_at, 0)]
        store(b"".join([*dots, file]))
        dots = [entry(".", 0x10, top_at, 0), entry("..", 0x10, 0, 0)]
        store(b"".join([*dots, entry(folder, 0x10, below_at, 0)]))
        root += entry(top, 0x10, top_at, 0)
    image[data_at - root_entries * 32 : data_at - root_entries * 32 + len(root)] = root
    packed = struct.pack(f"<{len(table)}H", *table)
    for number in range(2):
        at = (1 + number * fat_sectors) * _SECTOR
        image[at : at + len(packed)] = packed
    return bytes(image)


def parts_folder() -> Path:
    """Where the parts are kept between sessions."""
    return Path(tempfile.gettempdir()) / f"wsklab-test-standin-{os.geteuid()}"
