"""Winsock Kernel's numbers are the header's, and its outputs are decoded or refused."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsklab import wsk
from wsklab.errors import ChannelProtocolError
from wsklab.records import SocketAddress

HEADER = Path(__file__).resolve().parents[2] / "driver-src" / "include" / "wsklab_wsk.h"

#: Python enumeration, prefix of its C names.
ENUMERATIONS = (
    (wsk.SocketOption, "SO_"),
    (wsk.SocketIoctl, "SIO_"),
    (wsk.ClientControl, "WSK_"),
    (wsk.EventMask, "WSK_EVENT_"),
    (wsk.SendFlag, "WSK_FLAG_"),
    (wsk.ReceiveFlag, "WSK_FLAG_"),
    (wsk.DisconnectFlag, "WSK_FLAG_"),
    (wsk.EventFlag, "WSK_FLAG_"),
    (wsk.MessageFlag, "MSG_"),
)


def test_the_numbers_are_the_headers() -> None:
    """Fact: every number of `wsklab.wsk` is a macro of that name in the driver's WSK header."""
    macros = {}
    for line in HEADER.read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "#define" and words[2][0].isdigit():
            macros[words[1]] = int(words[2].rstrip("u"), 0)
    for kind, prefix in ENUMERATIONS:
        for item in kind:
            assert macros[prefix + (item.name or "")] == item.value
    assert macros["SOL_SOCKET"] == wsk.SOL_SOCKET


def test_the_wsk_header_holds_on_linux(tmp_path: Path) -> None:
    """Fact: with fixed-width Windows types the header's own size and offset asserts hold in a 64-bit Linux build."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this host")
    source = tmp_path / "wsk.c"
    types = (
        "typedef void VOID; typedef void *PVOID; typedef unsigned char UCHAR; typedef char CHAR;"
        "typedef unsigned short USHORT; typedef int INT; typedef unsigned int ULONG, *PULONG;"
        "typedef unsigned long long ULONGLONG; typedef unsigned long long SIZE_T, ULONG_PTR, KSPIN_LOCK;"
        "typedef int NTSTATUS; typedef unsigned short WCHAR, *PWSTR; typedef const WCHAR *PCWSTR;"
        "typedef struct { ULONG a; USHORT b, c; UCHAR d[8]; } GUID; typedef struct MDL *PMDL; typedef struct IRP *PIRP;"
        "typedef struct P *PEPROCESS; typedef struct T *PETHREAD; typedef PVOID PSECURITY_DESCRIPTOR;"
        "typedef struct U *PUNICODE_STRING;"
    )
    source.write_text(f'#define NTAPI\n{types}\n#include "wsklab_wsk.h"\n')
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{HEADER.parent}"]
    subprocess.run([compiler, *flags, str(source)], check=True, timeout=60)


def test_a_transport_list_is_28_bytes_per_entry() -> None:
    """Fact: WSK_TRANSPORT is version, type, protocol, family, provider; another length breaks the contract."""
    entry = struct.pack("<HHIHH16s", 0x0100, 1, 6, 23, 0, b"p" * 16)
    (transport,) = wsk.transport_list(entry)
    assert (transport.socket_type, transport.protocol, transport.family) == (1, 6, 23)
    with pytest.raises(ChannelProtocolError):
        wsk.transport_list(entry[:-1])


def test_an_address_list_is_read_by_offsets() -> None:
    """Fact: the driver makes pointers offsets; one that points outside breaks the contract."""
    address = SocketAddress.of("10.0.0.1")
    head = struct.pack("<iiQii", 1, 0, 24, 16, 0)
    assert wsk.address_list(head + address.raw) == (address,)
    with pytest.raises(ChannelProtocolError):
        wsk.address_list(head + address.raw[:-1])
    with pytest.raises(ChannelProtocolError):
        wsk.address_list(struct.pack("<iiQii", 1, 0, 0xFFFFFFFFFFFFFFFF, 16, 0) + address.raw)


def test_control_messages_go_there_and_back() -> None:
    """Fact: objects are 8-byte aligned with a 16-byte header, as the WSA macros lay them out."""
    messages = (
        wsk.ControlMessage(level=0, type=19, data=b"12345"),
        wsk.ControlMessage(level=41, type=-1, data=b""),
    )
    packed = b"".join(wsk.pack_control_message(message) for message in messages)
    assert len(packed) == 24 + 16
    assert wsk.control_messages(packed) == messages


@given(st.binary(max_size=200))
def test_whatever_the_guest_says_is_decoded_or_refused(data: bytes) -> None:
    """Fact: no output of a guest can do more than raise ChannelProtocolError."""
    for decode in (wsk.transport_list, wsk.address_list, wsk.control_messages):
        try:
            decode(data)
        except ChannelProtocolError:
            continue
