"""The pytest plugin: conformance cases on leased guests.

How a run goes:

1. The controller reads `--wsklab-*`, asks the lab for a `GuestProvider` and opens the broker, which starts
   making all guests at the same time.
2. pytest collects; every item that asks for `guest` is repeated for each profile. Under xdist each worker
   collects the same items and gets the broker's socket.
3. An item's set-up leases its guest; the call runs the case; then everything that the case started is ended
   and judged; the tear-down gives the guest back, dirty when nobody knows its state.
4. An item that crashed or hung is run once more, alone on a fresh guest.
5. The tear-down's report carries the case's line to the controller, which writes it at once.
6. At the end the controller writes the document, and its exit code becomes pytest's.

The plugin does nothing in a pytest run without `--wsklab-profiles`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from wsklab.artifacts import visible
from wsklab.errors import LabError, UsageError
from wsklab.pytest_plugin import hooks, workers
from wsklab.pytest_plugin.attachment import Attachment, attachment
from wsklab.pytest_plugin.case import CASE, Case, Worker, case_name
from wsklab.pytest_plugin.fixtures import (
    LeasedGuest,
    guest,
    lab_guests,
    observe,
    peer,
    peer6,
    second_peer,
    second_peer6,
    wsk,
)
from wsklab.pytest_plugin.measure import Measure, measure
from wsklab.pytest_plugin.needs import (
    alone_on_a_fresh_guest,
    is_chosen,
    lacks,
    need_of,
    profile_of,
    profiles_for,
    rules_of,
)
from wsklab.pytest_plugin.observe import CaseOver, Observe
from wsklab.pytest_plugin.observed import ObservedClient
from wsklab.pytest_plugin.options import RunOptions, add_options, read_options
from wsklab.pytest_plugin.peer import Peer
from wsklab.pytest_plugin.scene import Scene, scene
from wsklab.pytest_plugin.schedule import in_order
from wsklab.pytest_plugin.session import SESSION, RunSession
from wsklab.results.model import CaseResult
from wsklab.rules import Catalogue, Rule, load_catalogue

__all__ = [
    "Attachment",
    "LeasedGuest",
    "Measure",
    "Observe",
    "ObservedClient",
    "Peer",
    "Scene",
    "attachment",
    "guest",
    "lab_guests",
    "measure",
    "observe",
    "peer",
    "peer6",
    "scene",
    "second_peer",
    "second_peer6",
    "wsk",
]

OPTIONS: pytest.StashKey[RunOptions] = pytest.StashKey()
CATALOGUE: pytest.StashKey[Catalogue] = pytest.StashKey()
WORKER: pytest.StashKey[Worker] = pytest.StashKey()
#: Whether this is an item's second attempt.
AGAIN: pytest.StashKey[bool] = pytest.StashKey()

#: The name under which a report carries a case's line.
LINE = "wsklab_case"
RULES = "wsklab_rules"

#: Guests of this kind are processes of the lab: a crash costs nobody anything, and is seen to its end.
_DISPOSABLE = "shim"

_MARK = re.compile(r"mark\.rule\(([^)]*)\)")
_RULE = re.compile(r"WSK-[A-Z]+-\d{3}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--wsklab-*`."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks for whoever makes guests."""
    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; register the markers."""
    for line in (
        "rule(*ids): the rules of the catalogue that a conformance case covers",
        "exclusive: the case needs the guest for itself",
        "reset(rung): what is done before the case: none, driver, fork or rebuild; from driver on it is exclusive",
        "lab_guests(*what): how many guests the case leases at once, or their profiles; the fixture of that name",
        "performance: the case states numbers (the fixture measure), and need not name a rule",
        "hazard: the case can crash the guest; run only with --wsklab-hazard",
    ):
        config.addinivalue_line("markers", line)
    try:
        config.stash[OPTIONS] = read_options(config)
    except UsageError as error:
        raise pytest.UsageError(f"{error.message}: {error.fix}") from error
    if not config.stash[OPTIONS].profiles:
        return
    config.stash[CATALOGUE] = load_catalogue()
    if config.pluginmanager.has_plugin("xdist") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(workers.ControllerHooks(config), "wsklab-workers")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Open the broker, in the controller."""
    config = session.config
    options = config.stash[OPTIONS]
    if not options.profiles or config.option.collectonly:
        return
    if hasattr(config, "workerinput"):
        config.stash[WORKER] = workers.connect(config, options, config.stash[CATALOGUE])
        return
    if not options.run_id:
        raise pytest.UsageError("a run needs --wsklab-run; `wsklab run` gives it one")
    provider = config.hook.pytest_wsklab_provider(config=config)
    if provider is None:
        raise pytest.UsageError("nobody makes guests for this pytest run: start it with `wsklab run`")
    shared = config.pluginmanager.has_plugin("dsession")
    run = RunSession(options, config.stash[CATALOGUE], provider, shared=shared, tell=hooks.teller(config))
    config.stash[SESSION] = run
    config.pluginmanager.register(_Recorder(run), "wsklab-recorder")
    run.start()
    if not shared:
        config.stash[WORKER] = Worker(
            options=options,
            catalogue=config.stash[CATALOGUE],
            leases=run.broker,
            links=workers.links_of(config, options),
            tell=_teller(config) if options.live else None,
        )


def _teller(config: pytest.Config) -> Callable[[str], None]:
    """Shows lines on pytest's own terminal."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def tell(line: str) -> None:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"  {visible(line)}")

    return tell


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat every case that asks for a guest, once per profile."""
    names = profiles_for(metafunc.definition, metafunc.config.stash[OPTIONS])
    if names and "guest" in metafunc.fixturenames:
        metafunc.parametrize("guest", names, ids=names, indirect=True, scope="function")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the rules that cases name, keep the selected cases, say what they need."""
    options = config.stash[OPTIONS]
    if not options.profiles:
        return
    catalogue = config.stash[CATALOGUE]
    try:
        wanted = catalogue.needed(options.rules) if options.rules else None
        rules = {item.nodeid: rules_of(item, catalogue, foreign=options.foreign) for item in items if profile_of(item)}
        needs = {item.nodeid: need_of(item) for item in items}
    except UsageError as error:
        if SESSION in config.stash:
            config.stash[SESSION].usage_error = True
        raise pytest.UsageError(f"{error.message}: {error.fix}") from error
    kept = [item for item in items if wanted is None or not profile_of(item) or wanted & set(rules[item.nodeid])]
    if options.cases:
        kept = [item for item in kept if is_chosen(case_name(item.nodeid, profile_of(item)), options.cases)]
        if not kept:
            if SESSION in config.stash:
                config.stash[SESSION].usage_error = True
            raise pytest.UsageError(
                f"no case has the name {', '.join(options.cases)}: `-- --collect-only -q` lists them"
            )
    dropped = [item for item in items if item not in kept]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    own = [needs[item.nodeid] for item in kept]
    worker = config.stash.get(WORKER, None)
    if worker is None:
        items[:] = kept
        return
    worker.leases.plan(own)
    if SESSION in config.stash:
        # in this process nobody else decides: profile by profile, as a worker would be given them
        run = config.stash[SESSION]
        order = {profile.name: number for number, profile in enumerate(options.profiles)}
        own = in_order(run.need(need.item) for need in own)
        own.sort(key=lambda need: order.get(need.profile, -1))
    by_id = {item.nodeid: item for item in kept}
    items[:] = [by_id[need.item] for need in own]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give the item its case; leave hazardous ones out."""
    worker = item.config.stash.get(WORKER, None)
    profile = profile_of(item)
    if worker is None or not profile:
        return
    case = Case(
        item=item.nodeid,
        case=case_name(item.nodeid, profile),
        profile=profile,
        rules=rules_of(item, worker.catalogue, foreign=worker.options.foreign),
        worker=worker,
        need=need_of(item),
        again=item.stash.get(AGAIN, False),
    )
    if case.again:
        case.need = alone_on_a_fresh_guest(case.need)
    item.stash[CASE] = case
    if worker.over:
        raise LabError("the run is over", why=worker.over)
    lacking = lacks(case.need, worker.options)
    if lacking:
        case.leave_out(lacking)
    hazard = item.get_closest_marker("hazard") is not None
    if hazard and not worker.options.hazard and worker.options.kind(profile) != _DISPOSABLE:
        case.leave_out("it can crash the guest: run it with --hazard, in guests that can be thrown away")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run an item; one that crashed or hung once more, alone on a fresh guest. Both outcomes are in its one line."""
    if item.config.stash.get(WORKER, None) is None or not profile_of(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    item.stash[AGAIN] = False
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    first = item.stash.get(CASE, None)
    if first is not None and first.is_suspect:
        item.stash[AGAIN] = True
        second = _line_of(runtestprotocol(item, log=False, nextitem=nextitem))
        _replace_line(reports, second)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _line_of(reports: list[pytest.TestReport]) -> CaseResult:
    """The line that a finished item's reports carry."""
    (line,) = (str(value) for report in reports for name, value in report.user_properties if name == LINE)
    return CaseResult.model_validate_json(line)


def _replace_line(reports: list[pytest.TestReport], second: CaseResult) -> None:
    """Put the outcome of the second attempt into the line of the first."""
    for report in reports:
        for number, (name, value) in enumerate(report.user_properties):
            if name == LINE:
                line = CaseResult.model_validate_json(str(value)).with_second(second)
                report.user_properties[number] = (LINE, line.model_dump_json(by_alias=True))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run the case, then end and judge everything that it started."""
    __tracebackhide__ = True
    case = pyfuncitem.stash.get(CASE, None)
    if case is None or case.observe is None:
        return (yield)
    if case.why_not and pyfuncitem.get_closest_marker("hazard") is not None:
        case.leave_out(case.why_not)
    if case.why_not:
        try:
            case.observe.not_run(case.why_not)
        except CaseOver:
            pytest.skip(case.why_not)
    left_out = ""
    try:
        result = yield
    except CaseOver as over:
        result = True
        left_out = over.not_run
    except AssertionError:
        case.judge()
        raise
    case.settle()
    if left_out:
        pytest.skip(left_out)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn exceptions into verdicts; hand the finished case to the controller."""
    report = yield
    case = item.stash.get(CASE, None)
    if case is None:
        return report
    if call.excinfo is not None:
        if call.excinfo.errisinstance(pytest.skip.Exception):
            case.skip(str(call.excinfo.value))
        else:
            case.fail(call.excinfo.value)
    if call.when == "setup":
        report.user_properties.append((RULES, json.dumps(case.rules)))
    if call.when == "teardown":
        report.user_properties.append((LINE, case.result().model_dump_json(by_alias=True)))
        if case.worker.over:
            item.session.shouldstop = case.worker.over
    return report


class _Recorder:
    """Hooks of the controller that take in what the reports carry."""

    def __init__(self, run: RunSession) -> None:
        self._run = run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Emitted for every phase of every item, in the controller also for those of workers."""
        for name, value in report.user_properties:
            if name == RULES and report.when == "setup":
                self._run.rules[report.nodeid] = tuple(json.loads(str(value)))
            if name == LINE and report.when == "teardown":
                self._run.add(str(value), str(getattr(report, "worker_id", "main")))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Emitted when a file was collected; a broken case file is a usage error."""
        self._run.usage_error = self._run.usage_error or report.failed

    def pytest_internalerror(self, excrepr: object) -> None:
        """Emitted when pytest itself, a plugin or a worker fails outside of any case: something was not run."""
        self._run.failed("InternalError", str(excrepr).strip().splitlines()[-1])

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Emitted when the user ends the run; other ways of ending it early are kinds of this exception, too."""
        self._run.interrupted = self._run.interrupted or excinfo.type is KeyboardInterrupt


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the run down; its exit code becomes pytest's."""
    worker = session.config.stash.get(WORKER, None)
    if worker is not None:
        worker.links.close()
        if hasattr(session.config, "workerinput"):
            worker.leases.close()
    run = session.config.stash.get(SESSION, None)
    if run is not None:
        document = run.finish(_selected(session.config), _rules_with_cases(session.config.args))
        session.exitstatus = document.exit_code


def _selected(config: pytest.Config) -> tuple[Rule, ...]:
    """The rules that must have a verdict: those asked for, else the core."""
    catalogue = config.stash[CATALOGUE]
    rules = config.stash[OPTIONS].rules
    if (config.stash[OPTIONS].cases or config.stash[OPTIONS].foreign) and not rules:
        return ()  # whoever names cases, or brings a driver and cases, asks for no verdict on others
    return catalogue.select(rules) if rules else catalogue.core


def _rules_with_cases(places: Sequence[str]) -> frozenset[str]:
    """The rules that the marks in the case files name: under xdist the controller collects nothing itself."""
    paths = [Path(place.partition("::")[0]) for place in places]
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("test_*.py")))
    marks = (mark for file in files for mark in _MARK.findall(file.read_text("utf-8")))
    return frozenset(rule_id for mark in marks for rule_id in _RULE.findall(mark))
