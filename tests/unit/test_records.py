"""Decoding what the driver says."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsklab import abi
from wsklab.abi import Function, InformationKind, RecordFlag, State
from wsklab.errors import ChannelProtocolError
from wsklab.records import (
    DrainResult,
    EventBatch,
    Hello,
    Ledger,
    Ledgers,
    QuiesceResult,
    Record,
    SocketAddress,
    SocketEntry,
)

DECODERS = [
    Record.decode,
    Ledgers.decode,
    SocketEntry.decode_all,
    EventBatch.decode,
    DrainResult.decode,
    QuiesceResult.decode,
    Hello.decode,
]


def record_bytes(data: bytes = b"", **values: object) -> bytes:
    base: dict[str, object] = {"size": abi.RECORD.size, "function": Function.BIND, "data_length": len(data)}
    return abi.RECORD.pack(base | values) + data


def test_a_record_decodes_with_names() -> None:
    """Fact: statuses are unsigned and have names; kinds are enumerations; data follows the structure."""
    record = Record.decode(
        record_bytes(
            b"xyz",
            state=State.COMPLETED,
            flags=RecordFlag.RETURNED | RecordFlag.IRP_MATCH,
            completion_count=1,
            completion_ns=5,
            completion_status=-0x3FFFFFF3,
            returned_status=0x103,
            information_kind=InformationKind.INTEGER,
            local=SocketAddress.of("127.0.0.1", 80).slot(),
        )
    )
    assert (record.returned, record.completed) == ("STATUS_PENDING", "STATUS_INVALID_PARAMETER")
    assert not record.succeeded
    assert record.data == b"xyz"
    assert str(record.local) == "127.0.0.1:80"
    assert record.remote is None
    assert record.to_json()["flags"] == ["IRP_MATCH", "RETURNED"]


@pytest.mark.parametrize("values", [{"function": 999}, {"state": 77}, {"size": 4}, {"data_length": 9}])
def test_a_record_that_breaks_the_contract_is_refused(values: dict[str, object]) -> None:
    """Fact: unknown numbers and lengths beyond the answer are ChannelProtocolError."""
    with pytest.raises(ChannelProtocolError):
        Record.decode(record_bytes(**values))


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=700))
def test_any_bytes_give_a_value_or_a_protocol_error(decode: object, data: bytes) -> None:
    """Fact: nothing that a guest sends raises anything but ChannelProtocolError."""
    with contextlib.suppress(ChannelProtocolError):
        decode(data)  # type: ignore[operator]


def test_a_return_without_a_completion_can_succeed() -> None:
    """Fact: for functions without an IRP the returned status decides."""
    record = Record.decode(record_bytes(state=State.COMPLETED, flags=RecordFlag.RETURNED, returned_status=0))
    assert record.succeeded
    assert record.completed == ""


def test_inline_means_completed_before_the_return() -> None:
    """Fact: the order of completion and return is read from the sequence numbers."""
    assert Record.decode(record_bytes(completion_sequence=4, return_sequence=5, completion_count=1)).inline
    assert not Record.decode(record_bytes(completion_sequence=6, return_sequence=5, completion_count=1)).inline


def test_addresses_have_the_families_own_bytes() -> None:
    """Fact: 16 bytes for IPv4, 28 for IPv6, port in network order, Windows' family numbers."""
    four = SocketAddress.of("127.0.0.1", 0x1234)
    assert four.raw == bytes.fromhex("020012347f000001") + bytes(8)
    six = SocketAddress.of("::1", 80, scope_id=3)
    assert (len(six.raw), six.family, six.host, six.port) == (28, 23, "::1", 80)
    assert str(six) == "[::1]:80"
    with pytest.raises(ValueError, match="port"):
        SocketAddress.of("127.0.0.1", 70000)


def test_events_come_in_the_order_of_their_numbers() -> None:
    """Fact: two processors may record in the other order; the batch is sorted."""
    events = b"".join(abi.EVENT.pack(sequence=number, kind=1) for number in (2, 1))
    batch = EventBatch.decode(abi.EVENTS_RESULT.pack(count=2, dropped=7) + events)
    assert [event.sequence for event in batch.events] == [1, 2]
    assert batch.dropped == 7


def test_an_announced_count_beyond_the_answer_is_refused() -> None:
    """Fact: a count is never believed."""
    with pytest.raises(ChannelProtocolError):
        SocketEntry.decode_all(abi.SOCKETS_RESULT.pack(count=1 << 30, total=1 << 30))


def test_a_ledger_balances() -> None:
    """Fact: issued = completed + outstanding + lost; at rest also means no open socket."""
    names = [field.name for field in abi.STRUCTURES["LEDGER"].fields]
    ledger = Ledger(**(dict.fromkeys(names, 0) | {"issued": 3, "completed": 2, "lost": 1}))
    assert ledger.balanced
    assert ledger.at_rest
    assert not Ledger(**(dict.fromkeys(names, 0) | {"issued": 3})).balanced


def test_hello_of_another_version_is_refused() -> None:
    """Fact: a driver with other sizes or another version is refused with the differences named."""
    sizes = {
        "size": abi.HELLO.size,
        "submit_size": abi.SUBMIT.size,
        "record_size": abi.RECORD.size,
        "socket_entry_size": abi.SOCKET_ENTRY.size,
        "event_size": abi.EVENT.size,
        "ledger_size": abi.STRUCTURES["LEDGER"].size,
        "answer_size": abi.ANSWER.size,
        "object_entry_size": abi.OBJECT_ENTRY.size,
    }
    assert Hello.decode(abi.HELLO.pack(sizes, build_label=b"wsklab 1")).build_label == "wsklab 1"
    with pytest.raises(ChannelProtocolError, match="another version") as error:
        Hello.decode(abi.HELLO.pack(sizes | {"record_size": 8}))
    assert "record_size" in error.value.why
