"""Large files from the web, by digest: a download that broke off is continued. The owner of httpx.

What arrives is worth nothing until its SHA-256 is the wanted one; until then it stands under another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from wsklab.deadline import Deadline
from wsklab.errors import DeadlineExceeded, HostError, UsageError

__all__ = ["fetch"]

_CHUNK: Final = 1 << 20
_CONNECT_S: Final = 20.0
#: No byte for so long: the other side is gone.
_SILENCE_S: Final = 60.0
_PARTIAL: Final = 206
_OK: Final = 200
_RANGE_WRONG: Final = 416

#: (bytes that are there, bytes in all)
Progress = Callable[[int, int], None]


def fetch(url: str, target: Path, *, sha256: str, size: int, deadline: Deadline, progress: Progress) -> Path:
    """Download a file, unless it is there; returns its path.

    Args:
        target: where it is put when its digest is right; `target.part` holds what has come so far.
        sha256: the digest that it must have, hexadecimal.
        size: its size in bytes.
        deadline: when to give up; what has come by then is kept for the next try.
        progress: told how much is there.

    Raises:
        UsageError: the address no longer has this file, or it has another content.
        HostError: it cannot be had now. DeadlineExceeded: it takes too long.
    """
    if target.is_file() and target.stat().st_size == size and _digest(target) == sha256:
        return target
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part, size, deadline, progress)
    except httpx.HTTPError as error:
        raise HostError(
            f"the download of {target.name} broke off",
            why=f"{type(error).__name__}: {error}; {_size(part)} of {size} bytes are there",
            fix="the same command goes on from there; or get the file by other means and give it with --iso",
        ) from error
    except DeadlineExceeded:  # which is an OSError, too
        raise
    except OSError as error:
        raise HostError(f"{target.name} cannot be kept", why=str(error), fix="make room, and try again") from error
    if _size(part) != size or _digest(part) != sha256:
        found = f"{_size(part)} bytes with the SHA-256 {_digest(part)}"
        part.unlink()
        raise UsageError(
            f"{url} has another file now",
            why=f"what came has {found}, wanted are {size} and {sha256}",
            fix="get the medium by other means, and give it with --iso",
        )
    return part.rename(target)


def _receive(url: str, part: Path, size: int, deadline: Deadline, progress: Progress) -> None:
    """Append to what is there; a server that cannot continue sends all of it again."""
    if _size(part) >= size:
        return
    timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
    wanted = {"Range": f"bytes={_size(part)}-"} if _size(part) else {}
    with httpx.stream("GET", url, headers=wanted, timeout=timeout, follow_redirects=True) as answer:
        if answer.status_code not in {_OK, _PARTIAL}:
            if answer.status_code == _RANGE_WRONG:
                part.unlink()
            raise UsageError(
                f"{url} cannot be downloaded",
                why=f"the server says {answer.status_code} {answer.reason_phrase}",
                fix="links rotate: get the medium by other means, and give it with --iso",
            )
        mode = "ab" if answer.status_code == _PARTIAL else "wb"
        with part.open(mode) as file:
            for chunk in answer.iter_raw(_CHUNK):
                file.write(chunk)
                progress(file.tell(), size)
                if file.tell() > size:
                    return  # the digest tells
                if deadline.expired:
                    raise deadline.exceeded(f"the download of {url}", last=f"{file.tell()} of {size} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
