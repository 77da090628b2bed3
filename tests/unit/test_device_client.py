"""DeviceClient: pipelining, deadlines, and no belief in anything that a guest says."""

# ruff: noqa: ARG005 - the scripts of a guest all have one signature

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsklab.channel.answers import decode_answer, decode_net
from wsklab.channel.device import DATA_LIMIT, LINE_LIMIT, DeviceClient, DeviceError
from wsklab.channel.fake import FakeChannel, FakeDevice, FakeWskctl, Pends
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, ChannelProtocolError, DeadlineExceeded, UsageError

COMMAND = r"C:\wsklab\wskctl.exe stdio"
ECHO, PEND, FAIL, LONG = 0x222000, 0x222004, 0x222008, 0x22200C


def _soon(seconds: float = 5.0) -> Deadline:
    return Deadline.after(seconds)


def _device() -> FakeDevice:
    return FakeDevice(
        ioctls={
            ECHO: lambda data, size: (0, data[:size]),
            PEND: lambda data, _size: Pends(data.decode()),
            FAIL: lambda _data, _size: (0xC0000120, b""),
            LONG: lambda _data, size: (0x80000005, b"x" * (size + 10)),
        }
    )


def _client(device: FakeDevice) -> tuple[FakeChannel, DeviceClient]:
    channel = FakeChannel(streams={COMMAND: lambda: FakeWskctl({r"\\.\wsklab": device})})
    return channel, DeviceClient.open(channel, _soon())


def test_an_ioctl_carries_bytes_and_status() -> None:
    """Input arrives, output comes back; an error status is an answer."""
    _, client = _client(_device())
    with client, client.open_device(r"\\.\wsklab") as device:
        result = device.ioctl(ECHO, b"\x00\xff", 10, _soon())
        assert (result.status, result.win32, result.information, result.data) == (0, 0, 2, b"\x00\xff")
        result = device.ioctl(FAIL, b"", 10, _soon())
        assert (result.status, result.win32, result.data) == (0xC0000120, 995, b"")


def test_information_beyond_the_buffer_is_reported_and_data_clamped() -> None:
    """A driver that says more than there is room for (Wine) is reported as it said; the data end at the buffer."""
    _, client = _client(_device())
    with client, client.open_device(r"\\.\wsklab") as device:
        result = device.ioctl(LONG, b"", 8, _soon())
        assert (result.status, result.information, result.data) == (0x80000005, 18, b"x" * 8)


def test_a_pending_ioctl_blocks_nobody() -> None:
    """While one ioctl is pending, others on the same handle are answered; it ends when the driver ends it."""
    fake = _device()
    _, client = _client(fake)
    with client, client.open_device(r"\\.\wsklab") as device:
        pending = device.submit_ioctl(PEND, b"one", 8, _soon())
        assert device.ioctl(ECHO, b"x", 1, _soon()).data == b"x"
        assert not pending.done
        fake.complete("one", 0, b"late")
        assert pending.result(_soon()).data == b"late"
        assert pending.result(_soon()).data == b"late"


def test_cancel_ends_a_pending_ioctl() -> None:
    """cancel() makes the driver complete with STATUS_CANCELLED; the result says so."""
    _, client = _client(_device())
    with client, client.open_device(r"\\.\wsklab") as device:
        pending = device.submit_ioctl(PEND, b"one", 8, _soon())
        pending.cancel()
        assert pending.result(_soon()).status == 0xC0000120


def test_the_host_gives_up_when_the_guest_says_nothing() -> None:
    """Without any answer an ioctl ends at its deadline, and its late answer is no breach of the protocol."""
    fake = _device()
    _, client = _client(fake)
    with client, client.open_device(r"\\.\wsklab") as device:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="ioctl 0x00222004"):
            device.ioctl(PEND, b"one", 8, _soon(0.2))
        assert time.monotonic() - started < 1.0
        fake.complete("one")
        assert device.ioctl(ECHO, b"x", 1, _soon()).data == b"x"
        assert client.fault is None


def test_threads_share_a_client() -> None:
    """Eight threads with a hundred ioctls each get their own answers."""
    _, client = _client(_device())
    wrong: list[bytes] = []
    with client, client.open_device(r"\\.\wsklab") as device:

        def work(number: int) -> None:
            for turn in range(100):
                data = f"{number}/{turn}".encode()
                wrong.extend([] if device.ioctl(ECHO, data, 100, _soon()).data == data else [data])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_device_that_is_not_there_is_a_device_error() -> None:
    """Opening an absent device tells the Win32 code and the NTSTATUS; the client stays usable."""
    _, client = _client(_device())
    with client:
        with pytest.raises(DeviceError) as caught:
            client.open_device(r"\\.\nothing")
        assert (caught.value.win32, caught.value.status, caught.value.reason) == (2, 0xC0000034, "failed")
        client.open_device(r"\\.\wsklab").close()


def test_closing_gives_the_handle_back() -> None:
    """Device.close closes the handle in the guest, once; closing the client closes those that are left."""
    fake = _device()
    _, client = _client(fake)
    device = client.open_device(r"\\.\wsklab")
    client.open_device(r"\\.\wsklab")
    assert fake.handles == 2
    device.close()
    device.close()
    assert fake.handles == 1
    client.close()
    assert fake.handles == 0


def test_too_much_data_is_a_usage_error() -> None:
    """What cannot fit a line is refused before it is sent."""
    _, client = _client(_device())
    with client, client.open_device(r"\\.\wsklab") as device:
        for data, size in ((b"x" * (DATA_LIMIT + 1), 0), (b"", DATA_LIMIT + 1), (b"", -1)):
            with pytest.raises(UsageError):
                device.ioctl(ECHO, data, size, _soon())
        assert len(device.ioctl(ECHO, b"x" * DATA_LIMIT, DATA_LIMIT, _soon()).data) == DATA_LIMIT


def test_the_death_of_the_path_fails_everything_pending() -> None:
    """When the guest dies, each pending ioctl raises ChannelLost at once, and so does every later call."""
    channel, client = _client(_device())
    device = client.open_device(r"\\.\wsklab")
    pending = [device.submit_ioctl(PEND, str(n).encode(), 8, _soon()) for n in range(3)]
    channel.lose()
    for one in pending:
        with pytest.raises(ChannelLost):
            one.result(_soon())
    with pytest.raises(ChannelLost):
        device.ioctl(ECHO, b"", 0, _soon())
    assert not client.is_dirty
    device.close()
    client.close()


def test_a_program_that_is_not_there_is_lost_with_its_complaint() -> None:
    """wskctl that does not start gives ChannelLost with what stood on its standard error."""
    with pytest.raises(ChannelLost) as caught:
        DeviceClient.open(FakeChannel(), _soon())
    assert "not a stream of this fake" in caught.value.why


class _Scripted:
    """A guest that answers the n-th request with the n-th script, whatever it was."""

    def __init__(self, *answers: Callable[[int], bytes]) -> None:
        self._answers = list(answers)

    def start(self, reply: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._reply = reply

    def data(self, data: bytes) -> None:
        for line in data.splitlines():
            self._reply(self._answers.pop(0)(json.loads(line)["id"]) if self._answers else b"")

    def closed(self) -> None:
        pass


def _hello(request: int, **changes: object) -> bytes:
    hello = {
        "id": request, "ok": True, "protocol": 1, "version": "0.1.0", "sha256": "a" * 64, "driver_sha256": None,
        "pid": 1, "os_major": 10, "os_minor": 0, "os_build": 1, "os_revision": 0, "wine": "8.0",
        "architecture": "amd64", "boot_time": 1, "uptime_ms": 1,
    }  # fmt: skip
    return json.dumps(hello | changes).encode() + b"\n"


def _open(*answers: Callable[[int], bytes]) -> DeviceClient:
    return DeviceClient.open(FakeChannel(streams={COMMAND: lambda: _Scripted(*answers)}), _soon())


def _answer(request: int, **members: object) -> bytes:
    answer = {"id": request, "ok": True, "status": 0, "win32": 0, "information": 0, "data": ""}
    return json.dumps(answer | members).encode() + b"\n"


def _error(request: int | None, error: object) -> bytes:
    answer = {"id": request, "ok": False, "error": error, "message": "", "status": 0, "win32": 258}
    return json.dumps(answer).encode() + b"\n"


@pytest.mark.parametrize(
    "answer",
    [
        lambda n: b"not json\n",
        lambda n: b"\n",
        lambda n: b"\xff\xfe\n",
        lambda n: b"[1]\n",
        lambda n: b"[" * 100_000 + b"\n",
        lambda n: b'{"id":' + b"9" * 5000 + b"}\n",
        lambda n: b'{"id": NaN, "ok": true}\n',
        lambda n: _answer(n + 1000),
        lambda n: _answer(n, id=True),
        lambda n: _answer(n, ok=1),
        lambda n: _answer(n, status=-1),
        lambda n: _answer(n, status=1 << 32),
        lambda n: _answer(n, information="0"),
        lambda n: _answer(n, data="0"),
        lambda n: _answer(n, data="zz"),
        lambda n: _answer(n, data=7),
        lambda n: _answer(n, information=4, data="00"),
        lambda n: _answer(n, information=5, data="0000000000"),
        lambda n: _answer(n, status=0xC0000001, information=1, data="00"),
        lambda n: json.dumps({"id": n, "ok": False}).encode() + b"\n",
        lambda n: _error(n, 1),
        lambda n: _error(None, "malformed"),
        lambda n: b"x" * (LINE_LIMIT + 1),
        lambda n: b"x" * LINE_LIMIT + b"\n",
    ],
)  # fmt: skip
def test_a_breach_ends_the_conversation(answer: Callable[[int], bytes]) -> None:
    """Whatever breaks the protocol raises ChannelProtocolError, marks the guest dirty and ends the conversation."""
    client = _open(_hello, lambda n: _answer(n, handle=1), answer)
    device = client.open_device(r"\\.\wsklab")
    with pytest.raises(ChannelProtocolError):
        device.ioctl(ECHO, b"", 4, _soon())
    assert client.is_dirty
    with pytest.raises(ChannelProtocolError):
        device.ioctl(ECHO, b"", 4, _soon())
    device.close()
    client.close()


@pytest.mark.parametrize(
    "changes",
    [{"protocol": 2}, {"sha256": "x"}, {"version": "a\x1b[31m"}, {"version": None}, {"pid": -1}, {"os_build": 1 << 40}],
)
def test_a_wrong_hello_is_refused(changes: dict[str, object]) -> None:
    """Another protocol version, or a hello of a wrong form, is ChannelProtocolError."""
    with pytest.raises(ChannelProtocolError):
        _open(lambda n: _hello(n, **changes))


def test_a_timeout_said_by_the_guest_names_it() -> None:
    """The guest's own timeout is DeadlineExceeded that says the ioctl was pending there."""
    client = _open(
        _hello,
        lambda n: _answer(n, handle=1),
        lambda n: _error(n, "timeout"),
    )  # fmt: skip
    with pytest.raises(DeadlineExceeded) as caught:
        client.open_device(r"\\.\wsklab").ioctl(ECHO, b"", 4, _soon())
    assert "wskctl: pending at its deadline" in caught.value.why
    client.close()


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.from_regex(rb'\{"id":[0-9]{1,3},"ok":(true|false)[^\n]{0,80}\}')))
def test_no_line_raises_anything_else(line: bytes) -> None:
    """Any bytes either decode or raise ChannelProtocolError."""
    with contextlib.suppress(ChannelProtocolError):
        decode_answer(line)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda x: st.lists(x, max_size=3))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["state", "local", "local_port", "remote", "pid"]), _JSON), max_size=3))
def test_no_net_table_raises_anything_else(rows: list[object]) -> None:
    """Any rows either decode or raise ChannelProtocolError."""
    with contextlib.suppress(ChannelProtocolError):
        decode_net({"tcp": rows, "udp": rows, "left_out": 0})


def test_a_net_table_is_decoded() -> None:
    """Addresses are normalised, states are words, a port can be asked for."""
    row = {"family": "ipv6", "state": "listening", "local": "0000:0000:0000:0000:0000:0000:0000:0001",
           "local_port": 80, "remote": "::", "remote_port": 0, "pid": 4}  # fmt: skip
    table = decode_net({"tcp": [row], "udp": [], "left_out": 0})
    assert [e.local for e in table.listening(80)] == [("::1", 80)]
    assert table.listening(81) == ()
