"""Crashes by bucket: when each was first and last seen, how often, and in which runs.

One JSON file per lab home, changed under a lock and replaced whole. A damaged file is set aside, never overwritten.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsklab.artifacts import now, visible, write_atomic
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import HostError
from wsklab.home import FileLock

__all__ = ["Bucket", "BucketStore"]

#: Runs kept per bucket, the newest; the count goes on.
_RUNS_KEPT: Final = 20
_NAME_LIMIT: Final = 200


class Bucket(BaseModel):
    """One group of crashes.

    Attributes:
        name: see `wsklab.bugcheck.bucket_of`.
        count: crashes seen.
        first_seen, last_seen: RFC 3339, UTC.
        runs: run ids, oldest first.
        example: one crash of it, in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    count: Annotated[int, Field(ge=1)]
    first_seen: str
    last_seen: str
    runs: tuple[str, ...]
    example: str


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    buckets: dict[str, Bucket] = Field(default_factory=dict)


class BucketStore:
    """The buckets of one lab home.

    Args:
        path: the file; its folder is made when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> Mapping[str, Bucket]:
        """Every bucket by name.

        Raises:
            HostError: the file cannot be read or is damaged.
        """
        return self._read().buckets

    def add(self, name: str, *, run: str, example: str, deadline: Deadline) -> Bucket:
        """Count one crash.

        Args:
            name: its bucket.
            run: the run that saw it.
            example: the crash in words; kept for a bucket that is new.
            deadline: how long to wait for another writer.

        Raises:
            HostError: the file cannot be read or written. DeadlineExceeded: another writer keeps the lock.
        """
        name, moment = visible(name, _NAME_LIMIT), now()
        with self._locked(deadline):
            file = self._read()
            known = file.buckets.get(name)
            runs = known.runs if known is not None else ()
            bucket = Bucket(
                name=name,
                count=known.count + 1 if known is not None else 1,
                first_seen=known.first_seen if known is not None else moment,
                last_seen=moment,
                runs=(runs if run in runs else (*runs, run))[-_RUNS_KEPT:],
                example=known.example if known is not None else visible(example),
            )
            changed = _File(buckets={**file.buckets, name: bucket})
            try:
                write_atomic(self._path, changed.model_dump_json(indent=1) + "\n")
            except OSError as error:
                raise HostError(f"cannot write {self._path}", why=str(error)) from error
        return bucket

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise HostError(f"cannot read {self._path}", why=str(error)) from error
        except ValidationError as error:
            raise HostError(
                f"the list of crashes {self._path} is damaged",
                why=str(error.errors(include_url=False)[0]["msg"]),
                fix="move the file away; a new one is begun",
            ) from error

    @contextlib.contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._path.with_name(f".{self._path.name}.lock"))

        def taken() -> bool | NotYet:
            return lock.try_acquire() or NotYet("another process counts a crash")

        try:
            wait_until(taken, deadline, what="the lock of the list of crashes")
            yield
        finally:
            lock.release()
