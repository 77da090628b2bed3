"""`debug CASE`: one case in this process, told live, on a guest that stays; and what to look at it with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wsklab.cli.run_command import perform
from wsklab.cli.runtime import Runtime
from wsklab.errors import UsageError

if TYPE_CHECKING:
    from wsklab.results.model import RunDocument

__all__ = ["debug_case", "is_case"]


def is_case(name: str) -> bool:
    """Whether a word names a case (`test_bind.py::test_bind[4]`) and no guest."""
    return "::" in name


def debug_case(cli: Runtime, name: str, profiles: list[str], driver: Path | None, pytest_args: list[str]) -> int:
    """Run the case once, whatever becomes of it, and say where everything is.

    Args:
        name: of the case, as results show it; `*` is anything.
        profiles: one of them; none: the first one of the settings.
    """
    wanted = profiles or list(cli.config().guests)[:1]
    if len(wanted) != 1:
        raise UsageError("a case is debugged on one guest", why=f"{len(wanted)} profiles were named", fix="name one")
    # whoever names one case wants that one, even if it can crash its guest
    wishes = {"cases": (name,), "hazard": True, "keep_all": True, "again": False, "live": True}
    wishes["allow_unimplemented"] = True
    sizes: dict[str, str | None] = {"workers": "0", "guests_each": "1"}
    document = perform(cli, wanted, sizes, driver, wishes, ["-s", *pytest_args], "off")
    cli.output.document(document.model_dump(mode="json", by_alias=True))
    _say_where(cli, document)
    return document.exit_code


def _say_where(cli: Runtime, document: RunDocument) -> None:
    for case in cli.services.cases(document):
        cli.output.line(f"{case.outcome}: {case.case} on {case.guest}")
        if case.message:
            cli.output.line(case.message)
        if case.evidence:
            cli.output.line(f"evidence: {Path(document.results_dir) / case.evidence}")
    for kept in document.kept:
        cli.output.line(f"{kept.name} is yours until {kept.expires}:")
        if kept.kind == "wine":
            cli.output.line(f"  wsklab debug {kept.name} --attach wsklab   stops the driver for gdb")
        else:
            cli.output.line(f"  wsklab debug {kept.name}   the ways to debug it")
        cli.output.line(f"  wsklab logs {kept.name} --follow")
        cli.output.line(f"  {kept.enter}")
        cli.output.line(f"  wsklab down {kept.name}   when done")
    if not document.kept:
        cli.output.note("no guest stayed: that of a shim ends with its run" if document.guests else "no guest was made")
