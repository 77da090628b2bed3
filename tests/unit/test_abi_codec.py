"""Packing and unpacking by the table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsklab import abi
from wsklab.errors import ChannelProtocolError


def test_a_packed_structure_unpacks_to_what_went_in() -> None:
    """Fact: pack and unpack are inverses, nested structures, arrays and byte fields included."""
    values = {
        "header": abi.SUBMIT.header() | {"reserved": 0},
        "op_id": 7,
        "chunks": (100, 1, 300),
        "local": {"length": 3, "reserved": 0, "bytes": b"abc"},
        "socket_context": 0xFFFFFFFFFFFFFFFF,
    }
    fields = abi.SUBMIT.unpack(abi.SUBMIT.pack(values))
    assert fields["op_id"] == 7
    assert fields["chunks"] == (100, 1, 300, *[0] * 13)
    assert fields["local"]["bytes"][:3] == b"abc"
    assert fields["socket_context"] == 0xFFFFFFFFFFFFFFFF
    assert fields["header"]["size"] == 336


@pytest.mark.parametrize(
    ("values", "error"),
    [({"op": 1}, TypeError), ({"op_id": 1 << 32}, ValueError), ({"chunks": range(17)}, ValueError)],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], error: type[Exception]) -> None:
    """Fact: an unknown member, a number too large and too long an array are errors, never truncated."""
    with pytest.raises(error):
        abi.SUBMIT.pack(values)


@given(st.binary(max_size=500))
def test_unpack_of_anything_is_fields_or_a_protocol_error(data: bytes) -> None:
    """Fact: the guest's bytes can only give fields or ChannelProtocolError."""
    try:
        fields = abi.RECORD.unpack(data)
    except ChannelProtocolError:
        assert len(data) < abi.RECORD.size
    else:
        assert fields["op_id"] >= 0


def test_status_names_take_signed_numbers() -> None:
    """Fact: an NTSTATUS read as a signed number has the same name."""
    assert abi.status_name(-0x3FFFFFF3) == "STATUS_INVALID_PARAMETER"
    assert abi.status_name(0xC0FFEE00) == "0xC0FFEE00"


def test_severity_decides_success() -> None:
    """Fact: STATUS_EVENT_PENDING counts as success, STATUS_BUFFER_OVERFLOW does not (wsk-rules A.6)."""
    assert abi.is_success(0x40000013)
    assert not abi.is_success(0x80000005)


def test_pattern_and_digest_are_the_published_formulas() -> None:
    """Fact: byte i is (seed + 31 i + (i >> 8)) & 0xFF; the digest is FNV-1a's known value for "a"."""
    assert abi.pattern(3, 5) == bytes([5, 36, 67])
    assert abi.pattern(258)[256] == (31 * 256 + 1) & 0xFF
    assert abi.digest(b"a") == 0xAF63DC4C8601EC8C
    assert abi.digest(b"") == 0
