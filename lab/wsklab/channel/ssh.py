r"""The path into a guest over SSH. The only importer of `paramiko`.

What paramiko leaves open and this module closes: a wait for an exit status or for a request's reply
has no time-out there, and a write to a dead peer blocks for ever. Here a watchdog per connection closes
the transport when a guarded call outlives its deadline; whatever blocked then ends and is reported as
`DeadlineExceeded`. A guest that stops without a FIN (a bugcheck) is found by TCP keepalive and
TCP_USER_TIMEOUT, also while nobody waits.

No pty is ever asked for: with one, Windows merges the two streams, adds escape sequences and, in older
versions, loses exit codes.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket as sockets
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import paramiko
from paramiko.pkey import UnknownKeyType

from wsklab.channel.protocol import OUTPUT_LIMIT, CommandResult
from wsklab.channel.transfer import download, sftp_path, upload
from wsklab.channel.watchdog import Watchdog
from wsklab.deadline import Deadline
from wsklab.errors import ChannelLost, ChannelProtocolError, GuestCommandError, LabError, UsageError

__all__ = ["CIPHERS", "ERROR_MAP", "SshChannel", "SshStream"]

#: Ciphers in order of preference, all known to OpenSSH and to paramiko. Counter mode first: it costs
#: least on a processor without AES instructions, which is what an emulated guest has.
CIPHERS: Final = ("aes128-ctr", "aes128-gcm@openssh.com", "aes256-ctr", "aes256-gcm@openssh.com")

# OpenSSH since 6.5 and paramiko know it; the hybrid ones that come first elsewhere cost an emulated guest more.
_KEY_EXCHANGE: Final = "curve25519-sha256@libssh.org"

# A stream's receive window: larger than what a device client has in flight, so sending never waits for it.
_STREAM_WINDOW: Final = 4 << 20

_STDERR_TAIL: Final = 16 << 10

# After the exit status has come, output that is still on its way gets so long. A detached child that
# inherited the streams keeps them open for ever (Win32-OpenSSH #2452).
_DRAIN_S: Final = 2.0

# A silent peer is given up after so long. Longer than a starved guest may be paused (60 s).
_DEAD_AFTER_S: Final = 90
_KEEPALIVE_S: Final = 15

# How long a close may take before the connection is torn down instead.
_CLOSE_S: Final = 5.0

# A receive whose deadline has passed still looks once; 0 would make the stderr reader spin.
_SHORTEST_WAIT_S: Final = 0.01

_HOST_KEY: Final = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*\Z")

_log = logging.getLogger(__name__)
# paramiko logs through this name, with a stack for each connection that breaks: whoever uses it gets our error for that
_log.setLevel(logging.CRITICAL)
_log.addHandler(logging.NullHandler())  # without a handler it would print

_Maker = Callable[[str, BaseException], LabError]


def _lost(what: str, error: BaseException) -> LabError:
    return ChannelLost(f"the connection to the guest broke: {what}", why=_why(error))


def _refused(what: str, error: BaseException) -> LabError:
    return ChannelLost(
        f"the guest refused the login: {what}",
        why=_why(error),
        fix="check the lab's key in the guest; a guest that is still starting accepts it later",
    )


def _broke_protocol(what: str, error: BaseException) -> LabError:
    return ChannelProtocolError(f"the guest's SSH server broke the protocol: {what}", why=_why(error))


def _bad_key(what: str, error: BaseException) -> LabError:
    return UsageError(
        f"the lab's SSH key cannot be used: {what}", why=_why(error), fix="remove the key file; the lab makes a new one"
    )


def _why(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


#: Every exception class of paramiko, by exact class, and what it means here. A test compares the keys
#: with what the installed paramiko defines. `OSError` and `EOFError` come out of it too.
ERROR_MAP: Final[dict[str, _Maker]] = {
    "AuthFailure": _refused,
    "AuthenticationException": _refused,
    "BERException": _bad_key,
    "BadAuthenticationType": _refused,
    "BadHostKeyException": _broke_protocol,
    "ChannelException": _lost,
    "ConfigParseError": _bad_key,
    "CouldNotCanonicalize": _bad_key,
    "IncompatiblePeer": _broke_protocol,
    "InvalidHostKey": _bad_key,
    "MessageOrderError": _broke_protocol,
    "NeedRekeyException": _lost,
    "NoValidConnectionsError": _lost,
    "PartialAuthentication": _refused,
    "PasswordRequiredException": _bad_key,
    "PipeTimeout": _lost,
    "ProxyCommandFailure": _lost,
    "SFTPError": _broke_protocol,
    "SSHException": _lost,
    "UnableToAuthenticate": _refused,
    "UnknownKeyType": _bad_key,
}

_FOREIGN: Final = (paramiko.SSHException, paramiko.SFTPError, UnknownKeyType, EOFError, OSError)


class SshStream:
    """A process in the guest, spoken to over its standard streams. Made by `SshChannel.open_stream`."""

    def __init__(self, owner: SshChannel, channel: paramiko.Channel, command: str) -> None:
        self._owner = owner
        self._channel = channel
        self._command = command
        self._stderr = bytearray()
        self._stderr_thread = threading.Thread(target=self._drain_stderr, name="wsklab-ssh-stderr", daemon=True)
        self._stderr_thread.start()

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of `data`.

        Raises:
            DeadlineExceeded: it could not be sent in time; the connection is closed then.
            ChannelLost: the path broke, or the process ended.
        """
        rest = memoryview(data)
        with self._owner.guarded(deadline, f"input of {self._command}"):
            while rest:
                try:
                    sent = self._channel.send(rest)  # type: ignore[arg-type]
                except TimeoutError:  # the reader's time-out, which the streams of a channel share
                    continue
                if sent == 0:
                    raise EOFError("the process has ended")
                rest = rest[sent:]

    def receive(self, deadline: Deadline, limit: int = 65536) -> bytes:
        """The next bytes; b"" at end of file. One reader at a time.

        Raises:
            DeadlineExceeded: nothing came.
            ChannelLost: the path broke.
        """
        self._channel.settimeout(max(deadline.remaining_s, _SHORTEST_WAIT_S))
        try:
            data = self._channel.recv(limit)
        except TimeoutError as error:
            raise deadline.exceeded(f"output of {self._command}", last=self.stderr_tail()[-200:]) from error
        except _FOREIGN as error:
            raise self._owner.translate(f"output of {self._command}", error) from error
        if not data and not self._channel.eof_received and self._owner.is_lost:
            raise self._owner.loss(f"output of {self._command}")
        return data

    def stderr_tail(self) -> str:
        """The last bytes (at most 16 KiB) that the process wrote to its standard error."""
        return bytes(self._stderr).decode("utf-8", "replace")

    def close(self) -> None:
        """Close; the process gets end of file. No error when it is closed already."""
        with contextlib.suppress(LabError), self._owner.guarded(Deadline.after(_CLOSE_S), "close"):
            self._channel.close()
        self._stderr_thread.join(_CLOSE_S)

    def _drain_stderr(self) -> None:
        while True:
            try:
                data = self._channel.recv_stderr(65536)
            except TimeoutError:  # the reader's time-out, which the streams of a channel share
                continue
            except _FOREIGN:
                return
            if not data:
                return
            self._stderr += data
            del self._stderr[:-_STDERR_TAIL]


class _Capture:
    """Reads one output stream of a command to its end in a thread of its own, keeping a bounded part."""

    def __init__(self, read: Callable[[int], bytes], name: str) -> None:
        self._read = read
        self._kept = bytearray()
        self.dropped = 0
        self._thread = threading.Thread(target=self._drain, name=f"wsklab-ssh-{name}", daemon=True)
        self._thread.start()

    def text(self, timeout_s: float) -> str:
        self._thread.join(timeout_s)
        return bytes(self._kept).decode("utf-8", "replace")

    def _drain(self) -> None:
        with contextlib.suppress(*_FOREIGN):
            while data := self._read(65536):
                room = OUTPUT_LIMIT - len(self._kept)
                self._kept += data[:room]
                self.dropped += max(0, len(data) - room)


class SshChannel:
    """A path into one guest over SSH; satisfies `wsklab.channel.protocol.Channel`.

    Safe to use from several threads; file transfers wait for each other. A call that outlives its
    deadline costs the whole connection: what hangs in a guest is not to be waited for twice.
    """

    def __init__(self, transport: paramiko.Transport, connection: sockets.socket) -> None:
        """Use `connect`."""
        self._transport = transport
        self._socket = connection
        self._watchdog = Watchdog(self._tear_down)
        self._files = threading.Lock()
        self._sftp: paramiko.SFTPClient | None = None
        self._host_key = ""

    @classmethod
    def connect(
        cls,
        *,
        socket: sockets.socket,
        user: str,
        key: Path,
        host_key: str | None,
        deadline: Deadline,
        ciphers: Sequence[str] = CIPHERS,
    ) -> SshChannel:
        """Log in over a connected socket, which belongs to the channel from now on, also on failure.

        Args:
            socket: a connected stream socket; how it came into being is not asked.
            user: the account in the guest.
            key: file of the private ed25519 key, without a passphrase.
            host_key: the guest's public key as in `known_hosts` (`ssh-ed25519 AAAA...`), or None to learn it: then it
                is in `host_key` afterwards, and the caller pins it from there.
            deadline: bounds the whole login.
            ciphers: in order of preference.

        Raises:
            UsageError: the key file or `host_key` is unusable.
            ChannelLost: the peer closed, refused the login, or is no SSH server.
            ChannelProtocolError: another host key than the pinned one, or no common algorithm.
            DeadlineExceeded: it did not answer in time.
        """
        if host_key is not None and not _HOST_KEY.match(host_key):
            socket.close()
            raise UsageError(
                "the pinned host key is not of the form 'type base64'", why=repr(host_key[:80]), fix="learn it anew"
            )
        try:
            private = paramiko.Ed25519Key.from_private_key_file(str(key))
            _tune(socket)
            transport = paramiko.Transport(socket)
        except (paramiko.SSHException, UnknownKeyType, ValueError, IndexError, OSError) as error:
            socket.close()
            raise _bad_key(str(key), error) from error
        channel = cls(transport, socket)
        try:
            with channel.guarded(deadline, f"login of {user}"):
                channel._log_in(user, private, host_key, deadline, ciphers)
        except BaseException:
            channel.close()
            raise
        return channel

    @property
    def host_key(self) -> str:
        """The guest's public host key, `type base64`."""
        return self._host_key

    @property
    def is_lost(self) -> bool:
        """Whether the connection is closed or broken."""
        return not self._transport.is_active()

    def __enter__(self) -> SshChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> CommandResult:
        """Run one command line, as typed at the guest's prompt; its standard input is empty.

        Of each output stream at most `OUTPUT_LIMIT` bytes are kept. A command that ends without an exit
        code (killed by a signal) gives -1.

        Raises:
            GuestCommandError: it ended with another code than 0 and `check` is set.
            ChannelLost: the path broke.
            DeadlineExceeded: it did not end in time; the connection is closed.
        """
        with self.guarded(deadline, command):
            channel = self._execute(command, deadline)
            with contextlib.suppress(OSError, EOFError):  # a short command has ended and closed already
                channel.shutdown_write()
            out = _Capture(channel.recv, "stdout")
            err = _Capture(channel.recv_stderr, "stderr")
            channel.status_event.wait()  # also set when the transport dies, by the watchdog or by itself
            drain = Deadline.after(min(_DRAIN_S, deadline.remaining_s))
            stdout, stderr = out.text(drain.remaining_s), err.text(drain.remaining_s)
            exit_code = channel.exit_status
            if self.is_lost and exit_code == -1:
                raise EOFError("the connection ended before the command did")
            channel.close()
        if check and exit_code != 0:
            raise GuestCommandError(
                f"the command failed in the guest with code {exit_code}: {command}",
                command=command,
                exit_code=exit_code,
                stdout=stdout,
                stderr=stderr,
            )
        return CommandResult(
            command=command, exit_code=exit_code, stdout=stdout, stderr=stderr, truncated=out.dropped + err.dropped
        )

    def open_stream(self, command: str, deadline: Deadline) -> SshStream:
        """Start a long-lived process; `deadline` bounds only its start.

        Raises:
            ChannelLost: the path broke, or the guest refuses another session.
            DeadlineExceeded: the guest did not answer.
        """
        with self.guarded(deadline, command):
            return SshStream(self, self._execute(command, deadline), command)

    def put(self, source: Path, target: str, deadline: Deadline) -> None:
        r"""Copy a file into the guest: to `target.part`, size checked, then renamed over `target`.

        Args:
            source: a file of the host.
            target: a guest path such as `C:\wsklab\x.sys`; its folder exists.

        Raises:
            UsageError: `source` cannot be read, or `target` is not absolute.
            GuestCommandError: the guest refuses (no such folder, no right, disk full).
        """
        path = sftp_path(target)
        with self._files, self.guarded(deadline, f"copy to {target}"):
            upload(self._client(), source, path)

    def get(self, source: str, target: Path, deadline: Deadline, *, limit: int = 1 << 30) -> None:
        r"""Copy a file out of the guest, by way of `target.part`.

        Raises:
            GuestCommandError: the guest has no such file, or refuses.
            ChannelProtocolError: it is longer than `limit` bytes.
        """
        path = sftp_path(source)
        with self._files, self.guarded(deadline, f"copy from {source}"):
            download(self._client(), path, target, limit)

    def close(self) -> None:
        """Close the connection and all that runs over it; from any thread, as often as one likes."""
        self._watchdog.close()
        self._tear_down()

    @contextlib.contextmanager
    def guarded(self, deadline: Deadline, what: str) -> Iterator[None]:
        """Bound the body by `deadline` and turn foreign exceptions into the lab's.

        Raises:
            DeadlineExceeded: the deadline passed; the connection is closed.
        """
        if self.is_lost and self._host_key:
            raise self.loss(what)
        try:
            with self._watchdog.watching(deadline):
                yield
        except _FOREIGN as error:
            if deadline.expired:
                self._tear_down()
                raise deadline.exceeded(what, last=_why(error)) from error
            raise self.translate(what, error) from error

    def translate(self, what: str, error: BaseException) -> LabError:
        """The lab's error for one of paramiko's, of the socket's, or of the end of file."""
        return ERROR_MAP.get(type(error).__name__, _lost)(what, error)

    def loss(self, what: str) -> LabError:
        """The error for a connection that is found broken."""
        error = self._transport.get_exception()
        return _lost(what, error or EOFError("the connection is closed"))

    def _log_in(
        self, user: str, key: paramiko.PKey, host_key: str | None, deadline: Deadline, ciphers: Sequence[str]
    ) -> None:
        transport = self._transport
        transport.set_log_channel(__name__)
        transport.daemon = True
        options = transport.get_security_options()
        try:
            options.ciphers = tuple(ciphers)
        except ValueError as error:
            raise UsageError("an SSH cipher is not known", why=str(error), fix=f"known: {options.ciphers}") from error
        if _KEY_EXCHANGE in options.kex:
            options.kex = (_KEY_EXCHANGE, *(name for name in options.kex if name != _KEY_EXCHANGE))
        # The watchdog is the bound; paramiko's own, shorter ones would blame the wrong thing.
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = deadline.remaining_s + 60
        transport.start_client(timeout=deadline.remaining_s + 60)
        got = transport.get_remote_server_key()
        text = f"{got.get_name()} {got.get_base64()}"
        if host_key is not None and text != host_key:
            raise ChannelProtocolError(
                "the guest's SSH host key is not the pinned one",
                why=f"got {text[:60]}..., expected {host_key[:60]}...",
                fix="another machine has this address, or the guest was replaced",
            )
        transport.auth_publickey(user, key)
        transport.set_keepalive(_KEEPALIVE_S)
        self._host_key = text

    def _execute(self, command: str, deadline: Deadline) -> paramiko.Channel:
        channel = self._transport.open_session(window_size=_STREAM_WINDOW, timeout=deadline.remaining_s + 60)
        channel.exec_command(command)
        return channel

    def _client(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            self._sftp = paramiko.SFTPClient.from_transport(self._transport)
        if self._sftp is None:
            raise EOFError("no file transfer")
        return self._sftp

    def _tear_down(self) -> None:
        with contextlib.suppress(*_FOREIGN):
            self._transport.close()
        with contextlib.suppress(OSError):
            self._socket.close()


def _tune(connection: sockets.socket) -> None:
    """Low latency, and a bound on how long a dead peer goes unnoticed."""
    if connection.family not in (sockets.AF_INET, sockets.AF_INET6):
        return
    connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
    connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPIDLE, _KEEPALIVE_S)
    connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPINTVL, _KEEPALIVE_S)
    connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_KEEPCNT, _DEAD_AFTER_S // _KEEPALIVE_S)
    connection.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, _DEAD_AFTER_S * 1000)
