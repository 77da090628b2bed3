"""The driver's control functions against the shim's provider: options, objects, and that no pointer goes in or out."""

from __future__ import annotations

import pytest
from local_shim import LOOPBACK, LocalShim

from wsklab import wsk
from wsklab.abi import (
    PREFILL,
    STATUS,
    CallContext,
    Category,
    Descriptor,
    Dispatch,
    Function,
    ObjectKind,
    RecordFlag,
    State,
    Switch,
)
from wsklab.channel.operations import IPPROTO_UDP, SOCK_DGRAM, Operation, WskClient
from wsklab.deadline import Deadline
from wsklab.records import Record
from wsklab.wsk import EventMask, SocketIoctl, SocketOption


def soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


def make(client: WskClient, category: Category, **more: object) -> int:
    datagram = category is Category.DATAGRAM
    record = client.socket(
        category, type=SOCK_DGRAM if datagram else 1, protocol=IPPROTO_UDP if datagram else 6, **more
    )
    assert record.succeeded, record.describe()
    return record.new_socket


def refused(record: Record) -> int:
    assert record.state is State.NOT_STARTED, record.describe()
    return record.driver_status


@pytest.mark.parametrize(
    ("category", "option"),
    [
        (Category.LISTEN, SocketOption.CONDITIONAL_ACCEPT),
        (Category.LISTEN, SocketOption.EXCLUSIVEADDRUSE),
        (Category.CONNECTION, SocketOption.KEEPALIVE),
        (Category.DATAGRAM, SocketOption.BROADCAST),
        (Category.STREAM, SocketOption.REUSEADDR),
    ],
)
def test_an_option_is_set_and_read_back(client: WskClient, category: Category, option: SocketOption) -> None:
    """The value arrives, `extra` is the output, its length is Information, buffers and guards are as they were."""
    number = make(client, category)
    assert client.get_option(number, option).number == 0
    changed = client.set_option(number, option, 1)
    assert changed.succeeded, changed.describe()
    assert changed.has(RecordFlag.INPUT_INTACT | RecordFlag.GUARDS_CHECKED | RecordFlag.GUARDS_INTACT)
    got = client.get_option(number, option)
    assert (got.number, got.information, len(got.extra)) == (1, 4, 4)
    assert got.data == b""
    assert got.has(RecordFlag.GUARDS_INTACT)
    assert not got.has(RecordFlag.SIZE_RETURNED)
    assert got.size_returned == PREFILL


@pytest.mark.parametrize("context", list(CallContext))
def test_control_functions_are_called_from_everywhere(client: WskClient, context: CallContext) -> None:
    """Caller, system worker, raised IRQL: the same answer; only the address lists are for PASSIVE_LEVEL."""
    number = make(client, Category.CONNECTION)
    record = client.get_option(number, SocketOption.KEEPALIVE, call_context=context)
    assert record.number == 0
    assert record.call_irql == (2 if context is CallContext.RAISED else 0)
    assert record.call_context is context


def test_an_option_on_a_reused_irp_in_caller_memory(client: WskClient) -> None:
    """The circumstances of a call are the same for every function."""
    number = make(client, Category.CONNECTION)
    operation = Operation.get_option(number, SocketOption.KEEPALIVE, irp_source=1, switches=Switch.KEEP_IRP)
    first = client.run(operation, release=False)
    second = client.run(Operation.get_option(number, SocketOption.KEEPALIVE, irp_source=2, reuse_op=first.op_id))
    assert second.succeeded
    assert second.has(RecordFlag.POISONED | RecordFlag.POISON_INTACT)
    client.release(first.op_id)


def test_then_sets_an_option_in_the_completion(client: WskClient) -> None:
    """The published sample's next step: an option from inside the creation's completion routine."""
    number, option = client.next_socket(), client.next_operation()
    pending = client.submit(Operation.set_option(number, SocketOption.KEEPALIVE, 1, op_id=option, switches=Switch.HELD))
    created = client.run(Operation.create(Category.CONNECTION, new_socket=number, then_op=option))
    record = pending.result(soon())
    assert record.succeeded, record.describe()
    assert record.call_thread == created.completion_thread
    assert record.call_irql == created.completion_irql


def test_the_transport_list_tells_what_it_needs(client: WskClient) -> None:
    """Too small: STATUS_BUFFER_OVERFLOW, the needed size, nothing written; large enough: entries of 28 bytes."""
    for size in (0, 1, 27):
        record = client.run(Operation.transport_list(size))
        assert record.returned == "STATUS_BUFFER_OVERFLOW"
        assert record.has(RecordFlag.SIZE_RETURNED)
        assert record.extra == b""
    whole = client.run(Operation.transport_list(record.size_returned))
    assert whole.returned == "STATUS_SUCCESS"
    assert len(whole.extra) == whole.size_returned == record.size_returned
    entries = wsk.transport_list(whole.extra)
    assert {(entry.socket_type, entry.protocol) for entry in entries} >= {(1, 6), (2, 17)}


def test_a_transport_change_pends_until_it_is_cancelled(client: WskClient) -> None:
    """It stays outstanding; IoCancelIrp ends it."""
    pending = client.submit(Operation.transport_change())
    assert not pending.wait(soon(0.2)).final
    pending.cancel()
    assert pending.result(soon()).completed == "STATUS_CANCELLED"


def test_a_transport_change_ends_with_the_registration(client: WskClient) -> None:
    """Deregistering by hand completes it (WSK-DET-005), and the client goes on."""
    pending = client.submit(Operation.transport_change())
    assert client.run(Operation(function=Function.RELEASE_NPI)).succeeded
    assert client.run(Operation(function=Function.DEREGISTER)).succeeded
    assert pending.result(soon()).completed == "STATUS_CANCELLED"
    assert client.run(Operation(function=Function.REGISTER, version=0x0100)).succeeded


def test_a_client_with_a_pending_transport_change_comes_to_its_end(shim: LocalShim) -> None:
    """The teardown does not wait for what only deregistering ends; the driver unloads."""
    with shim.clients() as (client,):
        assert not client.submit(Operation.transport_change()).wait(soon(0.1)).final


def test_a_descriptor_is_cached_used_and_released(client: WskClient) -> None:
    """It is an object of the client: not the pointer that went in, busy while a request has it, gone when released."""
    for descriptor in Descriptor:
        cached = client.cache_descriptor(descriptor)
        assert cached.returned == "STATUS_SUCCESS"
        assert cached.has(RecordFlag.OBJECT_MADE | RecordFlag.OBJECT_DIFFERS | RecordFlag.OUTPUT_HIDDEN)
        assert cached.extra == b""
    first, second = (entry.number for entry in client.objects())
    assert [entry.kind for entry in client.objects()] == [ObjectKind.DESCRIPTOR] * 2
    number = make(client, Category.LISTEN, security=1, object=first)
    assert client.run(Operation.set_security(number, second)).succeeded
    got = client.run(Operation.get_security(number))
    assert got.succeeded
    assert (got.information, got.extra) == (8, b"")
    assert got.has(RecordFlag.OBJECT_MADE | RecordFlag.OUTPUT_HIDDEN)
    assert client.close_socket(number).succeeded
    for kept in (first, second, got.object):
        assert client.release_descriptor(kept).succeeded, "close does not release it (WSK-CLOSE-008)"
    assert refused(client.release_descriptor(first)) == STATUS["STATUS_NOT_FOUND"]
    assert client.ledger().client.at_rest


def test_a_descriptor_is_busy_while_a_request_holds_it(client: WskClient) -> None:
    """A creation that has not completed keeps the descriptor that it was given."""
    cached = client.cache_descriptor().object
    pending = client.submit(Operation.create(security=1, object=cached, delay_ms=150))
    record = pending.result(soon())
    assert record.succeeded
    assert client.release_descriptor(cached).succeeded
    assert refused(client.run(Operation.create(security=1, object=cached))) == STATUS["STATUS_NOT_FOUND"]


def test_descriptors_are_given_back_at_the_end(shim: LocalShim) -> None:
    """A client that forgets them leaves nothing behind: the shim would say so."""
    with shim.clients() as (client,):
        for _ in range(5):
            client.cache_descriptor()
        make(client, Category.LISTEN, security=1, object=1)


def test_objects_have_a_limit_and_a_number_each(client: WskClient) -> None:
    """A number in use is refused at once; the table is full at its limit and usable again after a release."""
    client.cache_descriptor(new_object=1)
    with pytest.raises(Exception, match="refused") as refusal:
        client.cache_descriptor(new_object=1)
    assert refusal.value.status == STATUS["STATUS_OBJECT_NAME_COLLISION"]
    for number in range(2, 257):
        client.cache_descriptor(new_object=number)
    with pytest.raises(Exception, match="refused") as refusal:
        client.cache_descriptor(new_object=300)
    assert refusal.value.status == STATUS["STATUS_QUOTA_EXCEEDED"]
    client.release_descriptor(7)
    assert client.cache_descriptor(new_object=300).succeeded


def test_the_address_list_comes_without_pointers(client: WskClient) -> None:
    """Needed size first, then every address by its offset; each is of the socket's family."""
    number = make(client, Category.DATAGRAM)
    operation = Operation.ioctl(number, SocketIoctl.ADDRESS_LIST_QUERY, switches=Switch.NULL_IRP)
    short = client.run(operation)
    assert short.returned == "STATUS_BUFFER_OVERFLOW"
    operation = Operation.ioctl(
        number, SocketIoctl.ADDRESS_LIST_QUERY, output=short.size_returned, switches=Switch.NULL_IRP
    )
    record = client.run(operation)
    assert record.returned == "STATUS_SUCCESS"
    addresses = wsk.address_list(record.extra)
    assert all(address.family == 2 for address in addresses)
    assert "127.0.0.1" in {address.host for address in addresses} or addresses


def test_an_extension_that_nobody_has(client: WskClient) -> None:
    """STATUS_NOT_SUPPORTED at once (WSK-OPT-010); the input with its pointers was built by the driver."""
    for category in (Category.LISTEN, Category.DATAGRAM, Category.CONNECTION):
        number = make(client, category)
        record = client.ioctl(
            number,
            SocketIoctl.WSK_REGISTER_EXTENSION,
            output=16,
            input_kind=5,
            input_size=24,
            npi=2,
            switches=Switch.NULL_IRP,
        )
        assert record.returned == "STATUS_NOT_SUPPORTED"


def test_tdi_codes_leave_sockets_alone(client: WskClient) -> None:
    """WSK_TDI_BEHAVIOR and the device name mapping: recorded, and a socket can be made afterwards."""
    assert client.run(Operation.tdi_behavior()).state is State.COMPLETED
    mapping = Operation.control_client(wsk.ClientControl.TDI_DEVICENAME_MAPPING, input_kind=6, input_size=16, type=1)
    assert client.run(mapping).state is State.COMPLETED
    make(client, Category.LISTEN)


def test_static_events_want_callbacks(client: WskClient) -> None:
    """After WSK_SET_STATIC_EVENT_CALLBACKS a socket without the callback is not made."""
    assert client.run(Operation.static_events(EventMask.ACCEPT | EventMask.RECEIVE_FROM)).succeeded
    none = Operation.create(Category.LISTEN)
    assert refused(client.run(none)) == STATUS["STATUS_INVALID_DEVICE_STATE"]
    assert client.run(Operation.create(Category.CONNECTION)).succeeded, "none of its events is static"
    assert client.run(Operation.create(Category.LISTEN, dispatch=Dispatch.MASK, dispatch_mask=1)).succeeded


def test_enabling_wants_callbacks(client: WskClient) -> None:
    """Without the callback it is not asked for; with it, WSK enables the event once the socket is bound."""
    bare = make(client, Category.LISTEN)
    client.bind(bare, LOOPBACK)
    assert refused(client.enable_events(bare, EventMask.ACCEPT)) == STATUS["STATUS_INVALID_DEVICE_STATE"]
    served = make(client, Category.LISTEN, dispatch=Dispatch.FULL)
    assert not client.enable_events(served, EventMask.ACCEPT).succeeded, "before the bind"
    client.bind(served, LOOPBACK)
    assert client.enable_events(served, EventMask.ACCEPT).succeeded
    assert client.disable_event(served, EventMask.ACCEPT).succeeded
    with_irp = client.enable_events(served, EventMask.ACCEPT, switches=Switch(0))
    assert (with_irp.succeeded, with_irp.completion_count) == (True, 1)
