"""Who makes the guests of a run: the hypervisor those with a machine, the host itself those of kind shim."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from wsklab.assemble import Lab
from wsklab.deadline import Timeouts
from wsklab.deploy import OWN_SERVICE, DriverPackage
from wsklab.guest import Claim
from wsklab.lease_protocol import GuestProvider
from wsklab.machine_pool import MachinePool
from wsklab.pool import GuestPool
from wsklab.profile import GuestProfile
from wsklab.ready_links import ReadyLinks
from wsklab.shim_pool import MixedPool, ShimPool
from wsklab.toolchain import BuildResult, ShimBuild
from wsklab.trace import require_tracing
from wsklab.verifier import require_ability

__all__ = ["RunDrivers", "run_provider", "run_timeouts", "wants_several"]

_SEVERAL = re.compile(r"""^[^"'#\n]*\bpytest\.mark\.lab_guests\(([^()]*)\)""", re.MULTILINE)

#: The suffix of a driver for the shim.
_SHIM_DRIVER = ".so"


class RunDrivers:
    """The builds that a run needs.

    Args:
        windows: for guests with a machine, static ones too; None where the run has none.
        shim: for shim guests; None where the run has none.
        chosen: the user's own driver instead of ours, for those guests that can load it.
        service: the name of its service; one that is not our driver's says that it is no build of ours.
    """

    def __init__(
        self,
        *,
        windows: BuildResult | None,
        shim: ShimBuild | None,
        chosen: Path | None = None,
        service: str = OWN_SERVICE,
    ) -> None:
        self.service = service
        self.windows = windows
        self.shim = shim
        self.image = None if chosen is not None and chosen.suffix == _SHIM_DRIVER else chosen
        self.shim_image = chosen if chosen is not None and chosen.suffix == _SHIM_DRIVER else None

    @property
    def foreign(self) -> bool:
        """Whether the run is about a driver that does not answer to our requests."""
        return self.service != OWN_SERVICE

    def package(self, image: Path, control: Path | None = None) -> DriverPackage:
        """What is loaded into guests."""
        return DriverPackage(image=image, service=self.service, control=control, foreign=self.foreign)


def run_timeouts(lab: Lab, profiles: Sequence[GuestProfile]) -> Timeouts:
    """The run's timeout factor; a run without machines needs no probe of this host's virtualisation."""
    if any(profile.has_image for profile in profiles):
        return lab.timeouts
    # nor is a static machine slowed by this host's lack of it
    return Timeouts(scale=lab.config.timeout_scale or 1.0)


def wants_several(cases: Sequence[Path], profiles: Collection[str], each: int) -> bool:
    """Whether any case in these files and folders leases several guests at once that this run has.

    Guests are started before pytest has collected anything, so the files are looked at for the mark.

    Args:
        profiles: of the run. each: how many guests it has of each.
    """
    files = [file for path in cases for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    marks = (words for file in files for words in _SEVERAL.findall(file.read_text(encoding="utf-8", errors="replace")))
    return any(_are_there(words.split(","), profiles, each) for words in marks)


def _are_there(words: Sequence[str], profiles: Collection[str], each: int) -> bool:
    """Whether a run has the guests of a mark: a number of them, or one of each profile that it names."""
    named = Counter(word.strip(" \n\"'") for word in words if word.strip())
    only = next(iter(named), "")
    if only.isdigit():
        return int(only) <= each
    return all(name in profiles and count <= each for name, count in named.items())


def run_provider(
    lab: Lab,
    *,
    profiles: Sequence[GuestProfile],
    drivers: RunDrivers,
    run_id: str,
    evidence: Path,
    cases: Sequence[Path] = (),
    each: int = 1,
    verifier: str = "off",
    trace: Sequence[str] = (),
    links: ReadyLinks | None = None,
) -> GuestProvider:
    """The provider of a run's guests. The hypervisor is connected only where a profile needs it.

    Args:
        evidence: a directory for what dirty guests leave behind.
        cases: files and folders of the cases: where one of them leases several guests and the run has them, all its
            guests can reach each other; else each fork has a wire of its own.
        each: how many guests the run has of each profile.
        verifier: how Driver Verifier watches the driver.
        trace: providers of Event Tracing that guests are traced by.
        links: gets what is open into guests with a machine once they are ready; None: nobody in this process wants it.

    Raises:
        UsageError: guests of a profile do not have this verifier mode, or cannot be traced.
    """
    for profile in profiles:
        require_tracing(profile, trace)
        if verifier != "off":
            require_ability(profile, verifier)
    machines = {profile.name: profile for profile in profiles if profile.has_image}
    processes = {profile.name: profile for profile in profiles if profile.kind == "shim"}
    static = tuple(profile.name for profile in profiles if profile.static)
    timeouts = run_timeouts(lab, profiles)
    makers: dict[str, GuestProvider] = {}
    if processes and drivers.shim is not None:
        shim = ShimPool(
            profiles=processes,
            build=drivers.shim,
            package=drivers.package(drivers.shim_image or drivers.shim.driver),
            timeouts=timeouts,
            folder=lab.home.runs / run_id,
            evidence=evidence,
        )
        makers.update(dict.fromkeys(processes, shim))
    if static and drivers.windows is not None:
        there = MachinePool(
            take=lab.machines.take,
            names=static,
            claim=Claim(owner=lab.owner, purpose="run", run=run_id),
            package=drivers.package(drivers.image or drivers.windows.sys, drivers.windows.ctl),
            slots=lab.slots,
            evidence=evidence,
            symbols=_symbols(drivers),
            verifier=verifier,
            trace=trace,
        )
        makers.update(dict.fromkeys(static, there))
    if machines and drivers.windows is not None:
        pool = GuestPool(
            profiles=machines,
            start=lab.start_guest,
            stop=lab.stop_starting,
            spares=lab.config.run_spares,
            links=links,
            claim=Claim(owner=lab.owner, purpose="run", run=run_id, together=wants_several(cases, machines, each)),
            package=drivers.package(drivers.image or drivers.windows.sys, drivers.windows.ctl),
            slots=lab.slots,
            events=lab.site().hypervisor.subscribe(),
            timeouts=timeouts,
            evidence=evidence,
            symbols=_symbols(drivers),
            verifier=verifier,
            trace=trace,
        )
        makers.update(dict.fromkeys(machines, pool))
    return MixedPool(makers)


def _symbols(drivers: RunDrivers) -> Path | None:
    """The debug file of the driver that guests with a machine run: beside our builds, signed or not."""
    assert drivers.windows is not None
    image = drivers.image or drivers.windows.sys
    beside = (image.with_name(f"{image.name}.debug"), image.parent.parent / f"{image.name}.debug")
    return next((path for path in beside if path.is_file()), None)
