"""The controller's side of a run: broker, lines, document."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from wsklab.artifacts import now, visible
from wsklab.deadline import Deadline
from wsklab.errors import LabError
from wsklab.lease_protocol import GuestHandle, GuestProvider
from wsklab.pytest_plugin.broker import Broker
from wsklab.pytest_plugin.case import case_name
from wsklab.pytest_plugin.leases import error_document
from wsklab.pytest_plugin.options import RunOptions
from wsklab.pytest_plugin.schedule import Need
from wsklab.results.buckets import BucketStore
from wsklab.results.history import History
from wsklab.results.model import CaseResult, CrashRow, GuestResult, RuleResult, RunDocument
from wsklab.results.store import RunDirectory
from wsklab.results.summary import document_of, without_bystanders
from wsklab.rules import Catalogue, Rule
from wsklab.verdict import CaseVerdict, RuleVerdict

__all__ = ["SESSION", "RunSession"]

#: How long another run of the home may keep the list of crashes.
_LOCK_S = 10.0


class RunSession:
    """One run, from the first guest to the document; lives in the controller.

    Args:
        provider: makes guests. shared: whether workers will connect to the broker.
        tell: shows a line to whoever watches the run.
    """

    def __init__(
        self,
        options: RunOptions,
        catalogue: Catalogue,
        provider: GuestProvider,
        *,
        shared: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.options = options
        self.catalogue = catalogue
        self.directory = RunDirectory(options.results, options.run_id)
        # a socket's path is short by law (107 bytes); the results folder may be deep
        self._runtime = Path(tempfile.mkdtemp(prefix="wsklab-"))
        self.address = self._runtime / "broker" if shared else None
        self.broker = Broker(
            provider,
            [profile.name for profile in options.profiles],
            each=options.each,
            machines=options.machines,
            processes=[profile.name for profile in options.profiles if profile.kind == "shim"],
            address=self.address,
            tell=tell,
        )
        self.cases: list[CaseResult] = []
        #: told in the document, without changing the exit code
        self.notes: list[dict[str, str]] = []
        #: the rules of every item that was set up, for one whose worker dies
        self.rules: dict[str, tuple[str, ...]] = {}
        self.usage_error = False
        self.lab_error = False
        self.interrupted = False
        self.document: RunDocument | None = None
        #: items that ran again because their first worker died
        self.reruns: set[str] = set()
        self._history = History.load(options.history)
        self._started = now()
        self._clock = time.monotonic()

    def start(self) -> None:
        """Open the broker; the guests are made while pytest collects."""
        self.broker.__enter__()

    def need(self, item: str) -> Need:
        """What an item needs, with what earlier runs say of its time."""
        known = self.broker.needs.get(item, Need(item=item))
        if not known.profile:
            return known
        seconds = self._history.expected_s(known.profile, case_name(item, known.profile))
        return known.model_copy(update={"seconds": seconds})

    def collection_differs(self, message: str) -> None:
        """Workers do not agree about the items: nothing can be handed out."""
        self.failed("CollectionDiffers", message)
        self.usage_error = True

    def failed(self, kind: str, message: str) -> None:
        """The run itself went wrong: whatever the cases say, not everything was decided."""
        self.notes.append({"class": kind, "message": visible(message), "why": "", "fix": "see the output of the run"})
        self.lab_error = True

    def add(self, line: str, worker: str) -> None:
        """Take the line that a worker's report carries."""
        case = CaseResult.model_validate_json(line)
        case = case.model_copy(update={"worker": worker, "rerun": case.item in self.reruns})
        if case.lab_fault:
            told = {"class": "LabFault", "message": case.lab_fault, "why": case.cause, "fix": "the case was run again"}
            self.notes.append({**told, "case": case.case, "profile": case.profile})
        self.cases.append(case)
        self.directory.append(case)

    def worker_died(self, item: str, message: str) -> bool:
        """A worker died while it ran an item; returns whether the item gets its second attempt."""
        if item not in self.reruns:
            self.reruns.add(item)
            self.notes.append(
                {"class": "WorkerDied", "message": visible(message), "why": "", "fix": "the case was run again"}
            )
            return True
        profile = next((own.name for own in self.options.profiles if f"[{own.name}" in item), "")
        note = visible(message)
        named = self.rules.get(item, ())
        lost = CaseResult(
            case=case_name(item, profile),
            item=item,
            profile=profile,
            kind=self.options.kind(profile),
            verdict=CaseVerdict.LAB_ERROR,
            message=note,
            rules=tuple(RuleResult(rule=rule, verdict=RuleVerdict.LAB_ERROR, notes=(note,)) for rule in named),
            started=now(),
        )
        self.add(lost.model_dump_json(by_alias=True), "main")
        return False

    def finish(self, selected: Sequence[Rule], with_cases: Collection[str] = ()) -> RunDocument:
        """Give the guests back and write everything down; for the arguments see `summary.rule_rows`."""
        try:
            self.broker.close()
        except LabError as error:
            # what a guest found at its end belongs into the document, not in its place
            self.notes.append(error_document(error))
            self.lab_error = True
        shutil.rmtree(self._runtime, ignore_errors=True)
        self.cases = list(without_bystanders(self.cases))
        failures = [{"profile": failure.profile, **error_document(failure.error)} for failure in self.broker.failures]
        # guests of one profile that failed for the same reason are one problem
        failures = [failure for number, failure in enumerate(failures) if failure not in failures[:number]]
        self.notes.extend(error_document(note) for note in self.broker.notes)
        self.document = document_of(
            run_id=self.options.run_id,
            started=self._started,
            wall_s=time.monotonic() - self._clock,
            results_dir=str(self.directory.path.absolute()),
            cases=self.cases,
            profiles={profile.name: profile.kind for profile in self.options.profiles},
            machines=self.options.machines,
            guests=[_guest(handle) for handle in self.broker.seen],
            catalogue=self.catalogue,
            selected=selected,
            with_cases=with_cases,
            problems=[*self.notes, *failures],
            kept=self.broker.kept,
            crashes=self._crashes(),
            size=(self.options.each, self.options.workers),
            lab_error=self.lab_error or bool(failures),
            never_ready=any(failure.never_ready for failure in self.broker.failures),
            allow_unimplemented=self.options.allow_unimplemented,
            usage_error=self.usage_error,
            interrupted=self.interrupted,
        )
        self.directory.finish(self.document, self.cases, self.catalogue)
        if self.options.history is not None:
            # another run of this home may have written it meanwhile
            history = History.load(self.options.history)
            history.add(self.cases)
            history.save(self.options.history)
        return self.document

    def _crashes(self) -> tuple[CrashRow, ...]:
        """The crashes of the run by bucket, counted among those that this home has seen before."""
        crashed = [case for case in self.cases if case.bucket and case.verdict is CaseVerdict.CRASHED]
        rows = []
        for name in dict.fromkeys(case.bucket for case in crashed):
            own = [case for case in crashed if case.bucket == name]
            row = CrashRow(
                bucket=name,
                cases=tuple(f"{case.profile} {case.case}" for case in own),
                example=own[0].message.splitlines()[0],
            )
            rows.append(self._counted(row, len(own)))
        return tuple(rows)

    def _counted(self, row: CrashRow, times: int) -> CrashRow:
        if self.options.buckets is None:
            return row
        store = BucketStore(self.options.buckets)
        try:
            known = row.bucket in store.all()
            for _ in range(times):
                bucket = store.add(
                    row.bucket, run=self.options.run_id, example=row.example, deadline=Deadline.after(_LOCK_S)
                )
        except LabError as error:
            self.notes.append(error_document(error))
            return row
        return row.model_copy(update={"first_seen": bucket.first_seen, "count": bucket.count, "is_new": not known})


#: Where the controller's config keeps its run.
SESSION: pytest.StashKey[RunSession] = pytest.StashKey()


def _guest(handle: GuestHandle) -> GuestResult:
    wanted: Mapping[str, Any] = handle.model_dump(include=set(GuestResult.model_fields))
    return GuestResult.model_validate(wanted)
