"""The clang build of the driver: the same driver, with a PDB that belongs to it."""

from __future__ import annotations

import shutil
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pefile
import pytest
from local_wine import MISSING, SOURCE, LocalWine, Prepared

from wsklab.abi import Category, Dispatch
from wsklab.deadline import Deadline
from wsklab.process import run
from wsklab.records import SocketAddress
from wsklab.toolchain import build_driver, check_pe, make_certificate, sign

_NEEDED = ("clang", "ld.lld", "osslsigncode", "x86_64-w64-mingw32-gcc", "cmake", "ninja")
_ABSENT = [name for name in _NEEDED if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(bool(_ABSENT), reason=f"not on this host: {_ABSENT}")

_MAGIC = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0"


def streams(pdb: bytes) -> list[bytes]:
    """The streams of a PDB (LLVM's description "The MSF File Format"): its parts, each scattered over blocks."""
    assert pdb.startswith(_MAGIC)
    block_size, _, blocks, directory_bytes, _, map_block = struct.unpack_from("<6I", pdb, len(_MAGIC))
    assert len(pdb) == block_size * blocks

    def gather(numbers: tuple[int, ...], size: int) -> bytes:
        return b"".join(pdb[n * block_size : (n + 1) * block_size] for n in numbers)[:size]

    def count(size: int) -> int:
        return -(-size // block_size)

    of_directory = struct.unpack_from(f"<{count(directory_bytes)}I", pdb, map_block * block_size)
    directory = gather(of_directory, directory_bytes)
    (total,) = struct.unpack_from("<I", directory)
    sizes = [0 if size == 0xFFFFFFFF else size for size in struct.unpack_from(f"<{total}I", directory, 4)]
    at, found = 4 + 4 * total, []
    for size in sizes:
        found.append(gather(struct.unpack_from(f"<{count(size)}I", directory, at), size))
        at += 4 * count(size)
    return found


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clang")
    run(("cmake", "--preset", "clang-windows", "-B", folder), deadline=Deadline.after(60), cwd=SOURCE)
    run(("cmake", "--build", folder), deadline=Deadline.after(120))
    return folder


@pytest.fixture(scope="module")
def codeview(build: Path) -> Any:
    """The entry of the image's debug directory that names the PDB."""
    image = pefile.PE(data=(build / "wsklab.sys").read_bytes())
    entries = [e.entry for e in image.DIRECTORY_ENTRY_DEBUG if e.struct.Type == 2]
    assert len(entries) == 1
    return entries[0]


def test_the_pdb_belongs_to_the_image(build: Path, codeview: Any) -> None:
    """WinDbg takes a PDB when GUID (stream 1) and age (stream 3) are those of the image's debug directory."""
    parts = streams((build / "wsklab.pdb").read_bytes())
    guid = uuid.UUID(bytes_le=parts[1][12:28])
    (age,) = struct.unpack_from("<I", parts[3], 8)
    image_guid = uuid.UUID(
        fields=(
            codeview.Signature_Data1,
            codeview.Signature_Data2,
            codeview.Signature_Data3,
            codeview.Signature_Data4,
            codeview.Signature_Data5,
            int.from_bytes(codeview.Signature_Data6, "big"),
        )
    )

    assert (image_guid, codeview.Age) == (guid, age)
    assert guid.int != 0
    assert codeview.PdbFileName.rstrip(b"\0") == b"wsklab.pdb", "no folder of the build machine in the image"


def test_the_pdb_knows_functions_lines_and_types(build: Path) -> None:
    """Functions of every module by name, the structures, and the source files are in it."""
    # By streams: in the file a name may be cut by the end of a block.
    data = b"".join(streams((build / "wsklab.pdb").read_bytes()))

    for name in (b"DriverEntry", b"OperationLaunch", b"OnCompletion", b"_WSK_CLIENT_LISTEN_DISPATCH", b"CLIENT"):
        assert name in data
    for path in (SOURCE / "sys").glob("*.c"):
        assert path.name.encode() in data, path.name


def test_the_image_is_as_windows_wants_it(build: Path, tmp_path: Path) -> None:
    """Signed, it passes every check of `driver check`, the list of allowed imports included."""
    signed = tmp_path / "wsklab.sys"
    sign(build / "wsklab.sys", signed, make_certificate(tmp_path / "keys"), Deadline.after(30))

    assert [finding for finding in check_pe(signed, SOURCE / "imports.toml") if not finding.ok] == []


def test_the_imports_are_those_of_the_deployed_build(build: Path, tmp_path: Path) -> None:
    """Both compilers make a driver that asks the kernel for the same functions."""

    def imports(path: Path) -> set[tuple[str, str]]:
        image = pefile.PE(data=path.read_bytes())
        return {(e.dll.decode().lower(), i.name.decode()) for e in image.DIRECTORY_ENTRY_IMPORT for i in e.imports}

    deployed = build_driver(SOURCE, tmp_path, Deadline.after(300)).sys
    helpers = {("ntoskrnl.exe", name) for name in ("memcpy", "memset", "memmove", "memcmp")}  # as the compiler likes

    assert imports(build / "wsklab.sys") - helpers == imports(deployed) - helpers


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory, prepared_wine: Prepared, build: Path) -> Iterator[LocalWine]:
    if MISSING:
        pytest.skip(f"not on this host: {MISSING}")
    wine = LocalWine(tmp_path_factory.mktemp("wine"), prepared_wine)
    wine.start()
    wine.replace_driver(build / "wsklab.sys")
    yield wine
    wine.end()


def test_it_runs(wine: LocalWine) -> None:
    """Loaded, it makes sockets, accepts a connection and moves data, and its ledger balances."""
    with wine.client() as client:
        port = wine.free_port()
        listener = client.create_listening_socket_sample().new_socket
        assert client.bind(listener, SocketAddress.of("127.0.0.1", port)).succeeded
        accepting = client.accept(listener)
        connection = client.socket(Category.CONNECTION, dispatch=Dispatch.FULL).new_socket
        assert client.bind(connection, SocketAddress.of("127.0.0.1")).succeeded
        assert client.connect(connection, SocketAddress.of("127.0.0.1", port)).succeeded
        accepted = accepting.result(Deadline.after(15)).new_socket
        assert client.send(connection, b"by clang").information == 8
        assert client.receive(accepted, 64).result(Deadline.after(15)).data == b"by clang"
        for socket in (accepted, connection, listener):
            assert client.close_socket(socket).succeeded
        ledger = client.ledger().client
        assert ledger.at_rest
        assert ledger.irps_allocated == ledger.irps_freed
