"""Child processes of the host. The only importer of `subprocess`.

`run` is for commands that end; `spawn` is for those that stay. Both use argument lists (never a
shell), give the child its own session, so that the whole tree can be killed, and never deadlock on
a full pipe. Neither runs Python code between fork and exec, so they are safe in a process with
threads and with an open libvirt connection.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Final

from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import DeadlineExceeded, HostCommandError

__all__ = ["Child", "ProcessResult", "package_of", "run", "spawn"]

_CHUNK: Final = 65536

# How long output is still read after the command itself has ended: a background grandchild may
# hold the pipe open for ever, and its output is not the command's.
_DRAIN_S: Final = 0.5

# Program -> Debian package (Debian 12/13 and Ubuntu 24.04 names).
_PACKAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "7z": "7zip",
        "clang": "clang",
        "cmake": "cmake",
        "convert": "imagemagick",
        "dnsmasq": "dnsmasq-base",
        "dpkg-deb": "dpkg",
        "gcc": "gcc",
        "ip": "iproute2",
        "iptables": "iptables",
        "ld.lld": "lld",
        "lld-link": "lld",
        "libvirtd": "libvirt-daemon-system",
        "mkfs.ext4": "e2fsprogs",
        "mmdebstrap": "mmdebstrap",
        "modprobe": "kmod",
        "mount": "mount",
        "nft": "nftables",
        "ninja": "ninja-build",
        "ntfscat": "ntfs-3g",
        "ntfsls": "ntfs-3g",
        "nsenter": "util-linux",
        "osslsigncode": "osslsigncode",
        "prlimit": "util-linux",
        "qemu-img": "qemu-utils",
        "qemu-storage-daemon": "qemu-system-common",
        "qemu-system-x86_64": "qemu-system-x86",
        "setpriv": "util-linux",
        "ssh": "openssh-client",
        "ssh-keygen": "openssh-client",
        "swtpm": "swtpm",
        "tcpdump": "tcpdump",
        "umount": "mount",
        "unshare": "util-linux",
        "virsh": "libvirt-clients",
        "virtlogd": "libvirt-daemon-system",
        "wimlib-imagex": "wimtools",
        "wine": "wine64",
        "wine64": "wine64",
        "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64",
        "x86_64-w64-mingw32-objdump": "binutils-mingw-w64-x86-64",
        "x86_64-w64-mingw32-windres": "binutils-mingw-w64-x86-64",
    }
)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """What a finished command did.

    Attributes:
        argv: the command.
        exit_code: exit status; negative: the signal that ended it.
        stdout: its standard output as text; bytes that are not UTF-8 become U+FFFD.
        stderr: its standard error, likewise.
        truncated: whether either stream was longer than the limit; the *end* of it was kept for
            standard error (the reason comes last) and the beginning for standard output.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    truncated: bool = False


def package_of(program: str) -> str | None:
    """The Debian package that brings `program` (a name or a path), or None when it is not known."""
    return _PACKAGES.get(Path(program).name)


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    deadline: Deadline,
    check: bool = True,
    input: bytes | str | None = None,  # noqa: A002 - the name that subprocess uses too
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    output_limit: int = 1 << 20,
) -> ProcessResult:
    """Run a command to its end.

    Args:
        argv: program and arguments; the program is found on PATH.
        deadline: when the command and everything it started is killed.
        check: whether a status other than 0 is an error.
        input: its standard input; None is an empty one.
        cwd: its working directory.
        env: variables laid over the lab's own environment; a value of None removes one.
        output_limit: bytes kept of each stream; the rest is read and dropped.

    Raises:
        HostCommandError: the program is missing, failed (with `check`), or had to be killed at the
            deadline (`exit_code` is None then).
    """
    words = tuple(os.fspath(word) for word in argv)
    data = input.encode() if isinstance(input, str) else input
    process = _start(
        words,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=env,
    )
    talk = _Conversation(process, data or b"", output_limit)
    try:
        ended = talk.until(deadline)
    finally:
        if process.poll() is None:
            _kill_group(process)
            process.wait()
        talk.close()
    stdout, stderr = talk.text()
    if not ended:
        raise HostCommandError(
            f"{words[0]} did not end within {deadline.elapsed_s:.1f} s and was killed",
            argv=words,
            exit_code=None,
            stdout=stdout,
            stderr=stderr,
            why=_last_line(stderr) or _last_line(stdout) or "it printed nothing",
        )
    if check and process.returncode != 0:
        raise HostCommandError(
            f"{words[0]} failed with {_status_words(process.returncode)}",
            argv=words,
            exit_code=process.returncode,
            stdout=stdout,
            stderr=stderr,
        )
    return ProcessResult(words, process.returncode, stdout, stderr, talk.truncated)


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    *,
    stdout: Path | None = None,
    stderr: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | None = None,
    new_session: bool = True,
    pass_fds: Sequence[int] = (),
    connection: socket.socket | None = None,
) -> Child:
    """Start a command that stays.

    Args:
        argv: program and arguments.
        connection: a socket that is its standard input and output; the caller closes its own copy.
        stdout: file that its standard output is appended to; None discards it.
        stderr: the same for standard error; may be the same path.
        env: as in `run`.
        cwd: as in `run`.
        new_session: whether it gets its own session and process group (then `terminate` reaches
            the whole tree and Ctrl-C of the terminal does not reach it).
        pass_fds: descriptors that it inherits, under the same numbers.

    Raises:
        HostCommandError: it could not be started.
    """
    words = tuple(os.fspath(word) for word in argv)
    with _sink(stdout) as out, _sink(stderr) as err:
        process = _start(
            words,
            stdin=subprocess.DEVNULL if connection is None else connection.fileno(),
            stdout=out if connection is None else connection.fileno(),
            stderr=err,
            cwd=cwd,
            env=env,
            new_session=new_session,
            pass_fds=pass_fds,
        )
    return Child(argv=words, process=process, owns_group=new_session)


@dataclass(slots=True)
class Child:
    """A running command. As a context manager it is terminated at the end of the block.

    Attributes:
        argv: the command.
        process: the handle; private to this module.
        owns_group: whether signals go to its whole process group.
    """

    argv: tuple[str, ...]
    process: subprocess.Popen[bytes] = field(repr=False)
    owns_group: bool = True

    @property
    def pid(self) -> int:
        """Its process id; stays its own until `poll` has answered a status."""
        return self.process.pid

    def poll(self) -> int | None:
        """Its exit status (negative: signal), or None while it runs. Reaps it."""
        return self.process.poll()

    def wait(self, deadline: Deadline) -> int:
        """Its exit status, once it has ended.

        Raises:
            DeadlineExceeded: it still runs.
        """

        def ended() -> int | NotYet:
            status = self.process.poll()
            return NotYet("still running") if status is None else status

        if self.process.poll() is None:
            # asking again and again tells an end late, up to the longest pause
            with contextlib.suppress(ProcessLookupError):  # another thread has reaped it
                _wait_for_end(self.pid, deadline)
        return wait_until(ended, deadline, what=f"{self.argv[0]} to end", tick_s=0.005)

    def signal(self, number: int) -> None:
        """Send a signal to it (and its group); nothing happens when it has ended."""
        if self.process.poll() is None:
            _signal(self.process, number, group=self.owns_group)

    def terminate(self, deadline: Deadline) -> int:
        """Ask it to end, kill it at the deadline; returns its status. It is gone and reaped afterwards."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(deadline)
        except DeadlineExceeded:
            self.signal(signal.SIGKILL)
            return self.process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate(Deadline.after(5.0))


def _wait_for_end(pid: int, deadline: Deadline) -> None:
    """Return when a child has ended, not reaped yet, or at the deadline."""
    handle = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as watch:
            watch.register(handle, selectors.EVENT_READ)
            watch.select(deadline.remaining_s)
    finally:
        os.close(handle)


class _Conversation:
    """Feeds one process and drains both its streams, with bounded memory."""

    def __init__(self, process: subprocess.Popen[bytes], data: bytes, limit: int) -> None:
        self._process = process
        self._data = memoryview(data)
        self._limit = limit
        self._kept: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self.truncated = False
        self._selector = selectors.DefaultSelector()
        self._pidfd = os.pidfd_open(process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, "exit")
        self._add(process.stdout, selectors.EVENT_READ, "stdout")
        self._add(process.stderr, selectors.EVENT_READ, "stderr")
        self._add(process.stdin, selectors.EVENT_WRITE, "stdin")

    def _add(self, stream: IO[bytes] | None, events: int, name: str) -> None:
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, events, name)

    def until(self, deadline: Deadline) -> bool:
        """Talk until the process has ended and its streams are at their end; False at the deadline."""
        ended = False
        while self._selector.get_map():
            for key, _ in self._selector.select(deadline.remaining_s):
                if key.data == "exit":
                    self._selector.unregister(key.fileobj)
                    self._process.wait()
                    ended = True
                    deadline = deadline.sooner(_DRAIN_S)
                else:
                    self._move(key)
            if deadline.expired:
                break
        return ended

    def _move(self, key: selectors.SelectorKey) -> None:
        stream = key.fileobj
        try:
            done = self._feed(key.fd) if key.data == "stdin" else self._drain(key.fd, key.data)
        except BlockingIOError:
            return
        except BrokenPipeError:
            done = True
        if done:
            self._selector.unregister(stream)
            if not isinstance(stream, int):
                stream.close()  # type: ignore[attr-defined]  # it is the Popen's stream object

    def _feed(self, fd: int) -> bool:
        if self._data:
            self._data = self._data[os.write(fd, self._data[:_CHUNK]) :]
        return not self._data

    def _drain(self, fd: int, name: str) -> bool:
        chunk = os.read(fd, _CHUNK)
        kept = self._kept[name]
        kept += chunk
        if len(kept) > self._limit:
            self.truncated = True
            if name == "stderr":
                del kept[: len(kept) - self._limit]
            else:
                del kept[self._limit :]
        return not chunk

    def text(self) -> tuple[str, str]:
        return (self._kept["stdout"].decode(errors="replace"), self._kept["stderr"].decode(errors="replace"))

    def close(self) -> None:
        self._selector.close()
        os.close(self._pidfd)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # the child had closed its input first


def _start(  # one keyword per thing that Popen needs
    argv: tuple[str, ...],
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    cwd: Path | None,
    env: Mapping[str, str | None] | None,
    new_session: bool = True,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    if not argv:
        raise HostCommandError("no command to run", argv=argv, exit_code=None, why="the argument list is empty")
    try:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=_environment(env),
            start_new_session=new_session,
            pass_fds=tuple(pass_fds),
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise HostCommandError(
                f"cannot run {argv[0]}", argv=argv, exit_code=None, why=f"its directory {cwd} does not exist"
            ) from error
        package = package_of(argv[0])
        raise HostCommandError(
            f"the program {argv[0]} is not installed",
            argv=argv,
            exit_code=None,
            why="it is not on PATH",
            fix=f"apt install {package}" if package else "install the package that brings it",
        ) from error
    except (OSError, ValueError) as error:
        raise HostCommandError(f"cannot run {argv[0]}", argv=argv, exit_code=None, why=str(error)) from error


def _environment(extra: Mapping[str, str | None] | None) -> dict[str, str]:
    """The child's variables: ours, messages in English, then `extra`.

    The system administrator's directories are added to PATH: a Debian user does not have them, and
    `ip` and `mkfs.ext4` live there.
    """
    path = os.environ.get("PATH", os.defpath)
    merged: dict[str, str] = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{path}:/usr/sbin:/sbin"}
    for name, value in (extra or {}).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def _sink(path: Path | None) -> IO[bytes]:
    return Path(os.devnull).open("ab") if path is None else path.open("ab")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGKILL, group=True)


def _signal(process: subprocess.Popen[bytes], number: int, *, group: bool) -> None:
    try:
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        return  # it ended between the look and the signal


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _status_words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
