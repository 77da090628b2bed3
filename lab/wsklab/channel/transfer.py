r"""Copying files into and out of a guest over SFTP, independent of the SSH library.

Guest paths are Windows paths everywhere in the lab. OpenSSH's SFTP server on Windows knows `C:\wsklab\x`
as `/C:/wsklab/x`; the Wine guests answer to the same name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from wsklab.errors import ChannelLost, ChannelProtocolError, GuestCommandError, UsageError

__all__ = ["SftpClient", "SftpFile", "download", "sftp_path", "upload"]

# What OpenSSH's servers take in one packet without splitting it.
_BLOCK: Final = 32768

_DRIVE_PATH: Final = re.compile(r"[A-Za-z]:[\\/][^\x00-\x1f]*\Z")


class SftpFile(Protocol):
    """An open file in the guest."""

    def __enter__(self) -> SftpFile: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def read(self, size: int, /) -> bytes: ...
    def write(self, data: bytes, /) -> None: ...
    def set_pipelined(self, pipelined: bool = ..., /) -> None: ...
    def prefetch(self, file_size: int, /) -> None: ...


class SftpClient(Protocol):
    """The part of `paramiko.SFTPClient` that is used here."""

    def open(self, filename: str, mode: str, /) -> SftpFile: ...
    def stat(self, path: str, /) -> object: ...
    def remove(self, path: str, /) -> None: ...
    def rename(self, oldpath: str, newpath: str, /) -> None: ...
    def posix_rename(self, oldpath: str, newpath: str, /) -> None: ...


def sftp_path(path: str) -> str:
    r"""The SFTP name of a guest path: `C:\wsklab\x` is `/C:/wsklab/x`; a name that begins with `/` stays.

    Raises:
        UsageError: the path is not absolute.
    """
    if _DRIVE_PATH.match(path):
        return "/" + path.replace("\\", "/")
    if path.startswith("/"):
        return path
    raise UsageError(f"not an absolute guest path: {path!r}", fix=r"write it as C:\folder\file")


def upload(client: SftpClient, source: Path, target: str) -> None:
    """Write `source` to `target.part` in the guest, compare sizes, rename.

    Raises:
        UsageError: `source` cannot be read.
        GuestCommandError: the guest refuses.
        ChannelProtocolError: the guest has another size than was sent.
    """
    try:
        local = source.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {source}", why=str(error), fix="name an existing file") from error
    part = target + ".part"
    sent = 0
    with local, _refusals(f"write {target}"):
        with client.open(part, "wb") as remote:
            remote.set_pipelined(True)
            while block := local.read(_BLOCK):
                remote.write(block)
                sent += len(block)
        got = _size(client, part)
        if got != sent:
            raise ChannelProtocolError(f"the guest kept {got} of {sent} bytes of {target}", fix="is its disk full?")
        _replace(client, part, target)


def download(client: SftpClient, source: str, target: Path, limit: int) -> None:
    """Read `source` in the guest into `target.part`, then rename. A file that grows meanwhile is no error.

    Raises:
        GuestCommandError: no such file, or the guest refuses.
        ChannelProtocolError: longer than `limit` bytes.
        ChannelLost: it ended before the size that the guest had told.
    """
    part = target.with_name(target.name + ".part")
    received = 0
    with _refusals(f"read {source}"):
        size = _size(client, source)
        if size > limit:
            raise ChannelProtocolError(f"{source} in the guest has {size} bytes, more than the {limit} allowed")
        try:
            with client.open(source, "rb") as remote, part.open("wb") as local:
                remote.prefetch(size)
                while block := remote.read(_BLOCK):
                    received += len(block)
                    if received > limit:
                        raise ChannelProtocolError(f"{source} in the guest grew beyond the {limit} bytes allowed")
                    local.write(block)
            if received < size:
                raise ChannelLost(f"only {received} of {size} bytes of {source} came")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _size(client: SftpClient, path: str) -> int:
    size = getattr(client.stat(path), "st_size", None)
    if not isinstance(size, int):
        raise ChannelProtocolError(f"the guest tells no size of {path}")
    return size


def _replace(client: SftpClient, part: str, target: str) -> None:
    """Rename over an existing file; a server without OpenSSH's extension needs two steps."""
    try:
        client.posix_rename(part, target)
    except OSError:
        with contextlib.suppress(OSError):
            client.remove(target)
        client.rename(part, target)


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    """A refusal by the server comes as an `OSError` with a message; a broken path comes as another kind."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise GuestCommandError(
            f"the guest refused to {what}", command=what, exit_code=None, why=str(error) or type(error).__name__
        ) from error
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # SFTP_FAILURE and its like
            raise GuestCommandError(
                f"the guest refused to {what}", command=what, exit_code=None, why=str(error) or "SFTP failure"
            ) from error
        raise
