"""xdist: what the controller tells its workers, and what happens when one dies."""

from __future__ import annotations

from typing import Any

import pytest

from wsklab.lease_protocol import GuestHandle
from wsklab.pytest_plugin.case import Worker
from wsklab.pytest_plugin.lease_client import LeaseClient
from wsklab.pytest_plugin.links import GuestLink, Links
from wsklab.pytest_plugin.options import RunOptions
from wsklab.pytest_plugin.schedule import GuestScheduling
from wsklab.pytest_plugin.session import SESSION
from wsklab.rules import Catalogue

__all__ = ["ControllerHooks", "connect", "links_of"]


def links_of(config: pytest.Config, options: RunOptions) -> Links:
    """The links of this process."""

    def make(handle: GuestHandle) -> GuestLink:
        given: GuestLink | None = config.hook.pytest_wsklab_link(config=config, handle=handle, scale=options.scale)
        if given is not None:
            return given
        # only where there is a guest: a unit-test run must not pay for it
        from wsklab.pytest_plugin.channel_link import open_link  # noqa: PLC0415

        return open_link(handle, options.scale)

    return Links(make)


def connect(config: pytest.Config, options: RunOptions, catalogue: Catalogue) -> Worker:
    """The worker's conversation with the broker."""
    if options.broker is None:
        raise pytest.UsageError("the controller gave this worker no broker")
    return Worker(
        options=options,
        catalogue=catalogue,
        leases=LeaseClient(options.broker),
        links=links_of(config, options),
        name=str(getattr(config, "workerinput", {}).get("workerid", "worker")),
    )


class ControllerHooks:
    """Hooks that exist only when xdist is there; registered in the controller of a distributed run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a new worker where the broker is."""
        run = node.config.stash.get(SESSION, None)
        if run is not None and run.address is not None:
            node.workerinput["wsklab_broker"] = str(run.address)
            node.workerinput["wsklab_run"] = run.options.run_id

    @pytest.hookimpl
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> Any:
        """Our own order; see `schedule`."""
        from xdist.workermanage import parse_tx_spec_config  # noqa: PLC0415 - only where xdist is

        run = config.stash.get(SESSION, None)
        if run is None:
            return None
        return GuestScheduling(
            len(parse_tx_spec_config(config)), run.need, each=run.options.each, complain=run.collection_differs
        )

    @pytest.hookimpl
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """A worker died: its case is run once more, elsewhere."""
        run = self._config.stash.get(SESSION, None)
        if run is not None and run.worker_died(crashitem, str(report.longrepr)):
            report.outcome = "rerun"  # type: ignore[assignment] # counted as neither passed nor failed
            sched.mark_test_pending(crashitem)

    @pytest.hookimpl
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """The word for a case that is run again."""
        if str(report.outcome) == "rerun":
            return "rerun", "R", "RERUN (its worker died)"
        return None
