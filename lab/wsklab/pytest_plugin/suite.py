"""Start a run: what `wsklab run` calls once it has a lab that makes guests."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TextIO

import pytest

from wsklab.artifacts import visible
from wsklab.errors import HostError, UsageError
from wsklab.lease_protocol import GuestHandle, GuestProvider
from wsklab.pytest_plugin.links import GuestLink
from wsklab.pytest_plugin.options import Profile, RunOptions
from wsklab.ready_links import ReadyLinks
from wsklab.resources import conformance_root
from wsklab.results.model import RunDocument
from wsklab.results.store import load_run
from wsklab.rules import load_catalogue

__all__ = ["named_paths", "run_suite", "suite_arguments"]

PLUGIN = "wsklab.pytest_plugin"

#: A warning in a case is an error, but for the one that says that this process has imported wsklab already.
SETTINGS = """\
[pytest]
addopts = --strict-markers --strict-config --import-mode=importlib
xfail_strict = true
filterwarnings =
    error
    ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning
"""


class _Provider:
    """Hands the lab's guests to the plugin, and what is open into them already.

    Args:
        terminal: where pytest writes, past what it captures.
    """

    def __init__(self, provider: GuestProvider, links: ReadyLinks | None, terminal: TextIO) -> None:
        self._provider = provider
        self._links = links
        self._terminal = terminal

    def pytest_wsklab_provider(self, config: pytest.Config) -> GuestProvider:  # noqa: ARG002 - the hook's signature
        """See `hooks.pytest_wsklab_provider`."""
        return self._provider

    def pytest_wsklab_link(
        self,
        config: pytest.Config,  # noqa: ARG002 - the hook's signature
        handle: GuestHandle,
        scale: float,
    ) -> GuestLink | None:
        """See `hooks.pytest_wsklab_link`."""
        ready = self._links.take(handle.name) if self._links is not None else None
        if ready is None:
            return None
        from wsklab.pytest_plugin.channel_link import link_over  # noqa: PLC0415 - only where there is a guest

        return link_over(handle, scale, ready)

    def pytest_wsklab_tell(self, line: str) -> None:
        """See `hooks.pytest_wsklab_tell`."""
        # pytest may be in the middle of a line of dots; a terminal that is gone is no matter of the guests'
        with contextlib.suppress(OSError, ValueError):
            self._terminal.write(f"\n  {visible(line)}\n")


def _uncaptured(output: TextIO) -> contextlib.AbstractContextManager[TextIO]:
    """A way to what stands behind a text file: while a case runs, pytest puts another file there."""
    try:
        return open(os.dup(output.fileno()), "w", buffering=1, encoding=output.encoding)  # noqa: PTH123 - a descriptor
    except (OSError, ValueError):  # in memory, as in a test
        return contextlib.nullcontext(output)


def suite_arguments(
    options: RunOptions,
    *,
    cases: Path,
    settings: Path,
    workers: int,
    plugins: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> list[str]:
    """pytest's command line for a run.

    Args:
        settings: a file with `SETTINGS`.
        workers: xdist workers; 1 runs everything in this process.
        plugins: modules that stand in for parts of the lab.
        extra: what the user wrote behind `--`.
    """
    own = [
        f"--wsklab-profiles={','.join(profile.words for profile in options.profiles)}",
        f"--wsklab-run={options.run_id}",
        f"--wsklab-results={options.results.absolute()}",
        f"--wsklab-history={options.history.absolute() if options.history else ''}",
        f"--wsklab-buckets={options.buckets.absolute() if options.buckets else ''}",
        f"--wsklab-rules={options.rules}",
        f"--wsklab-guests-each={options.each}",
        f"--wsklab-workers={max(workers, 1)}",
        f"--wsklab-require={','.join(options.require)}",
        f"--wsklab-scale={options.scale}",
        f"--wsklab-lease-timeout={options.lease_s}",
        f"--wsklab-reproduce={json.dumps(options.reproduce)}",
        *(f"--wsklab-case={name}" for name in options.cases),
    ]
    for chosen, option in (
        (options.allow_unimplemented, "--wsklab-allow-unimplemented"),
        (options.foreign, "--wsklab-foreign"),
        (options.hazard, "--wsklab-hazard"),
        (options.keep_failed, "--wsklab-keep-failed"),
        (options.keep_all, "--wsklab-keep-all"),
        (options.live, "--wsklab-live"),
        (not options.again, "--wsklab-no-again"),
    ):
        if chosen:
            own.append(option)
    given = () if options.foreign else (cases,)
    loaded = [] if _has_entry_point() else ["-p", PLUGIN]
    for plugin in plugins:
        loaded += ["-p", plugin]
    # which worker runs what is decided by `schedule`, whatever the word behind --dist
    spread = ["-n", str(workers), "--dist", "load"] if workers > 1 else ["-p", "no:xdist"]
    return [
        *loaded,
        "-c",
        str(settings),
        # case files of the user's own lie elsewhere: without a common root pytest would forget their names
        f"--rootdir={_root([*given, *named_paths(extra)])}",
        "-p",
        "no:cacheprovider",
        # whoever watches one case wants its own line, and not a page of the lab's
        *(("--tb=short",) if options.live else ()),
        *spread,
        *own,
        *extra,
        *map(str, given),
    ]


def run_suite(
    provider: GuestProvider,
    options: RunOptions,
    *,
    links: ReadyLinks | None = None,
    workers: int = 0,
    cases: Path | None = None,
    plugins: Sequence[str] = (),
    extra: Sequence[str] = (),
    output: TextIO | None = None,
) -> RunDocument:
    """Run the conformance cases and return the run's document; its `exit_code` is the run's.

    Everything is on disk in `<results>/<run id>/` when this returns.

    Args:
        provider: makes guests; closed at the end.
        links: what it leaves open into them for cases that run in this process.
        workers: how many cases run at the same time; 0 and 1 run everything in this process.
        cases: folder of the cases; None: the lab's own.
        extra: more pytest arguments, as the user gave them.
        output: where pytest writes; None: standard output. Under `--json` give standard error.

    Raises:
        UsageError: no rule matches, or the cases of a driver that is not ours are not named.
        HostError: pytest ended without writing the run down.
    """
    if options.rules:
        load_catalogue().select(options.rules)
    if options.foreign and not named_paths(extra):
        raise UsageError(
            "nothing to run: the driver is not ours, and the conformance cases are about ours",
            fix="name the driver's own cases behind `--`: see docs/own-driver.md",
        )
    folder = options.results.absolute() / options.run_id
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "pytest.ini"
    settings.write_text(SETTINGS)
    arguments = suite_arguments(
        options,
        cases=cases or conformance_root(),
        settings=settings,
        workers=workers,
        plugins=plugins,
        extra=extra,
    )
    shown = output or sys.stdout
    shown.flush()
    with contextlib.redirect_stdout(shown), _uncaptured(shown) as terminal:
        code = int(pytest.main(arguments, plugins=[_Provider(provider, links, terminal)]))
    if not (folder / "run.json").is_file():
        raise HostError(
            "the run wrote no results",
            why=f"pytest ended with {code} before the first case",
            fix="read what it printed above",
            evidence={"arguments": arguments},
        )
    return load_run(options.results, options.run_id).document


def options_of(profiles: Sequence[tuple[str, str]], *, machines: Collection[str] = (), **more: object) -> RunOptions:
    """Options from pairs of profile name and kind; the rest as keywords of `RunOptions`.

    Args:
        machines: the profiles that stand for static machines.
    """
    chosen = [Profile(name=name, kind=kind, static=name in machines) for name, kind in profiles]
    return RunOptions.model_validate({"profiles": chosen, **more})


def named_paths(words: Sequence[str]) -> list[Path]:
    """The files and folders among pytest arguments, as the user wrote them."""
    return [path.absolute() for word in words if word[:1] != "-" and (path := Path(word.partition("::")[0])).exists()]


def _root(paths: Sequence[Path]) -> str:
    return os.path.commonpath([path if path.is_dir() else path.parent for path in (own.absolute() for own in paths)])


def _has_entry_point() -> bool:
    """Whether an installed wsklab announces the plugin to pytest by itself."""
    return any(point.value == PLUGIN for point in importlib.metadata.entry_points(group="pytest11"))
