"""An SSH server on 127.0.0.1 for tests: key login, exec with three pipes, SFTP below a folder.

Made of paramiko, so that tests need no sshd. It runs the commands that the test gives it, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def make_key(path: Path) -> paramiko.Ed25519Key:
    """A new ed25519 key in OpenSSH form at `path`."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    return paramiko.Ed25519Key.from_private_key_file(str(path))


class _Session(paramiko.ServerInterface):
    def __init__(self, server: LocalSsh) -> None:
        self._server = server

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == "Administrator" and key.get_base64() == self._server.client_key
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # The answer to the request goes out when this returns; a short command must not close before it.
        threading.Timer(0.02, self._server.execute, (channel, command.decode())).start()
        return True


class _Handle(paramiko.SFTPHandle):
    def chattr(self, attr: paramiko.SFTPAttributes) -> int:
        """scp sets size, mode and times at the end; none of it matters here."""
        return paramiko.SFTP_OK


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, server: paramiko.ServerInterface, *, root: Path) -> None:
        super().__init__(server)
        self._root = root

    def _path(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._path(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        try:
            file = os.fdopen(os.open(self._path(path), flags, 0o600), "wb" if flags & os.O_WRONLY else "rb")
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        handle = _Handle(flags)
        handle.readfile = handle.writefile = file
        return handle

    def remove(self, path: str) -> int:
        self._path(path).unlink()
        return paramiko.SFTP_OK

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        self._path(oldpath).replace(self._path(newpath))
        return paramiko.SFTP_OK


class _Sftp(paramiko.SFTPServer):
    def start_subsystem(self, name: str, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        """Until its input ends; with an exit code, which scp waits for."""
        super().start_subsystem(name, transport, channel)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.send_exit_status(0)


class LocalSsh:
    """The server; a context manager.

    Args:
        folder: where its keys live; `folder/root` is what SFTP sees as `/`.
        commands: command line of the client -> argument list of the host.
    """

    def __init__(self, folder: Path, commands: Mapping[str, Sequence[str]]) -> None:
        self.root = folder / "root"
        self.key_file = folder / "client_key"
        self.client_key = make_key(self.key_file).get_base64()
        self._host_key = make_key(folder / "host_key")
        self.host_key = f"ssh-ed25519 {self._host_key.get_base64()}"
        self._commands = commands
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[tuple[paramiko.Transport, socket.socket]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        (self.root / "C:" / "wsklab").mkdir(parents=True)

    def __enter__(self) -> LocalSsh:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        # close() alone does not wake a thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        self.cut()
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
        shutil.rmtree(self.root)

    def connect(self) -> socket.socket:
        return socket.create_connection(self._listener.getsockname())

    def cut(self) -> None:
        """End all connections without a word of SSH."""
        for transport, connection in self._transports:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            transport.close()
            with contextlib.suppress(RuntimeError):  # it has only just been accepted, and has no thread yet
                transport.join(5)
            connection.close()

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        if command not in self._commands:
            channel.sendall_stderr(f"{command}: not found\n".encode())
            channel.send_exit_status(127)
            channel.close()
            return
        process = subprocess.Popen(
            self._commands[command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._processes.append(process)
        copies = [
            threading.Thread(target=_copy_out, args=(process.stdout, channel.sendall), daemon=True),
            threading.Thread(target=_copy_out, args=(process.stderr, channel.sendall_stderr), daemon=True),
        ]
        threading.Thread(target=_copy_in, args=(channel, process.stdin), daemon=True).start()
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.join()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if process.wait() >= 0:  # a killed process has no exit status
                channel.send_exit_status(process.returncode)
            channel.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            transport.set_log_channel("wsklab.tests.local_ssh")
            transport.add_server_key(self._host_key)
            transport.set_subsystem_handler("sftp", _Sftp, _Files, root=self.root)
            self._transports.append((transport, connection))
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Session(self))


def _copy_out(pipe, send) -> None:  # type: ignore[no-untyped-def]
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException, ValueError):
        while data := pipe.read(32768):
            send(data)


def _copy_in(channel, pipe) -> None:  # type: ignore[no-untyped-def]
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException, ValueError):
        while data := channel.recv(32768):
            pipe.write(data)
        pipe.close()
