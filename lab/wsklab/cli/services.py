"""How the commands reach the rest of the lab: one method per thing, imported when it is asked for.

This is the seam of the command tests: they hand the commands a subclass that answers with fakes.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import socket

    from rich.console import RenderableType

    from wsklab.assemble import Lab
    from wsklab.cli.output import Output
    from wsklab.cli.windows_images import InstallWishes
    from wsklab.config import LabConfig
    from wsklab.guest import Guest
    from wsklab.home import Home
    from wsklab.image.store import Image, ImageStore
    from wsklab.mode import ModeChoice
    from wsklab.pe_check import Finding
    from wsklab.profile import GuestProfile
    from wsklab.ready_times import ReadyTimes
    from wsklab.results.compare import Comparison
    from wsklab.results.model import CaseResult, RunDocument
    from wsklab.results.store import RunSummary
    from wsklab.run_guests import RunDrivers
    from wsklab.template import TemplateStore
    from wsklab.toolchain import BuildResult, ShimBuild

__all__ = ["Services"]

#: Budget for building, signing and checking the driver, in seconds at timeout factor 1.
_BUILD_S = 300.0


@contextmanager
def _naming(name: str, held: AbstractContextManager[object]) -> Iterator[str]:
    """Hold something, and give its name instead of it."""
    with held:
        yield name


class Services:
    """The real thing."""

    def lab(self, config: LabConfig) -> AbstractContextManager[Lab]:
        """The assembled lab: hypervisor connected, expired leases enforced."""
        from wsklab.assemble import Lab

        return Lab(config)

    def mode(self, config: LabConfig) -> ModeChoice:
        """Which libvirt daemon serves the guests, and why."""
        from wsklab.mode import choose_mode, observe_host

        return choose_mode(config.mode, observe_host())

    def home(self, config: LabConfig) -> Home:
        """The lab's home, made when it is missing; no hypervisor is touched."""
        from wsklab.config import default_home
        from wsklab.home import Home

        root = config.home or default_home(self.mode(config).mode, os.environ, Path.home())
        return Home.open(root.expanduser().absolute())

    def profiles(self) -> Mapping[str, GuestProfile]:
        """Every guest profile by name."""
        from wsklab.profile import load_profiles
        from wsklab.resources import images_root

        return load_profiles(images_root())

    def store(self, config: LabConfig) -> ImageStore:
        """The image store of the lab's home."""
        from wsklab.image.store import ImageStore

        return ImageStore(self.home(config).images)

    def templates(self, config: LabConfig) -> TemplateStore:
        """The templates of the lab's home."""
        from wsklab.template import TemplateStore

        return TemplateStore(self.home(config).templates)

    # -- guests --------------------------------------------------------------------------------

    def unfinished(self, lab: Lab) -> AbstractContextManager[str]:
        """A run, by its id, that lives as long as the command: whose guests are until they are ready.

        A command that is killed half-way leaves guests that nobody was told of; so they are of a run that is
        not alive, and `gc` takes them.
        """
        import uuid

        run = f"up-{uuid.uuid4().hex[:12]}"
        return _naming(run, lab.home.run_alive(run))

    def start_guest(
        self,
        lab: Lab,
        profile: GuestProfile,
        *,
        name: str,
        expires: str,
        run: str,
        fresh: bool,
        host: str,
        passthrough: Sequence[str] = (),
    ) -> Guest:
        """Start a guest that will belong to this user (`hand_over`); it boots when this returns.

        Args:
            host: where; "" is where there is room.
            passthrough: PCI addresses of network cards of this host that it gets.
        """
        from wsklab.guest import Claim
        from wsklab.passthrough import require_card

        cards = tuple(require_card(address) for address in passthrough)
        claim = Claim(
            owner=lab.owner, purpose="user", run=run, expires=expires, name=name, fresh=fresh, passthrough=cards
        )
        return lab.start_user_guest(profile, claim, host)

    def hand_over(self, guest: Guest) -> None:
        """From now on the guest is the user's, until its lease expires."""
        import dataclasses

        metadata = guest.domain.metadata()
        if metadata is not None:
            guest.domain.set_metadata(dataclasses.replace(metadata, run=""))

    def refill_spares(self, lab: Lab, profile: str) -> None:
        """Let a process of its own make the spares that the settings ask for; nobody waits for it."""
        from wsklab.deadline import Deadline
        from wsklab.process import spawn

        if not lab.config.up_spares or profile not in lab.profiles:
            return
        settings = [f"WSKLAB_HOME={lab.home.root}", f"WSKLAB_MODE={lab.choice.mode}"]
        settings += [f"WSKLAB_UP_SPARES={lab.config.up_spares}"]
        argv = ["setsid", "--fork", "env", *settings, *self.launcher(os.environ), "internal", "spares", profile]
        log = lab.home.cache / "spares.log"
        spawn(argv, stdout=log, stderr=log).wait(Deadline.after(10))

    def extend(self, guest: Guest, expires: str) -> str:
        """Let a user's lease end at `expires`, unless it ends later anyway; returns when it ends.

        Raises:
            UsageError: no lease that could be extended, or the guest is powered off.
        """
        from wsklab.user_lease import extend

        return extend(guest, expires)

    def expected_ready_s(self, lab: Lab, profile: GuestProfile, *, fresh: bool) -> float | None:
        """How long such guests took lately, in seconds."""
        return self._ready_times(lab).expected_s(profile.name, fresh=fresh)

    def wait_ready(self, lab: Lab, guest: Guest, profile: GuestProfile, *, fresh: bool) -> None:
        """Wait until a guest is ready and remember how long that took.

        Raises:
            BootError: it never became ready.
        """
        if guest.record.dirty:
            guest.renew()
        ready_s = guest.wait_ready(guest.timeouts.boot(profile.boot_budget_s), ready_check=profile.ready_check)
        guest.remember(ready_s=round(ready_s, 2))
        self._ready_times(lab).add(profile.name, ready_s, fresh=fresh)

    def _ready_times(self, lab: Lab) -> ReadyTimes:
        from wsklab.ready_times import ReadyTimes

        return ReadyTimes(lab.home.cache / "ready-times.json")

    def start_trace(self, guest: Guest, providers: Sequence[str]) -> None:
        """Trace a guest of kind windows from now on.

        Raises:
            UsageError: the guest does not know a provider. GuestCommandError: Windows refuses.
        """
        from wsklab.trace import start_trace

        with guest.open_channel(guest.timeouts.after(20)) as channel:
            start_trace(channel, providers, guest.timeouts.after(60))

    def destroy(self, lab: Lab, guest: Guest) -> None:
        """Remove a guest and everything of it."""
        guest.destroy(lab.slots)

    def in_use(self, guest: Guest) -> AbstractContextManager[None]:
        """Around work inside a guest: the end of its lease is told as such; see `user_lease.in_use`."""
        from wsklab.user_lease import in_use

        return in_use(guest)

    def connect(self, guest: Guest, port: int, timeout_s: float) -> socket.socket:
        """A connection to a port of a guest, from inside its namespace where it has one."""
        from wsklab.deadline import Deadline
        from wsklab.network import connect

        return connect(guest.via, (guest.address[0], port), Deadline.after(timeout_s))

    def deploy(
        self,
        lab: Lab,
        guest: Guest,
        file: Path,
        *,
        service: str,
        control: Path | None,
        start: bool,
        verifier: str = "off",
    ) -> str:
        """Bring a driver into a guest as a kernel service and start it; returns the service's name.

        A guest is restarted when Plug and Play wants that.

        Args:
            file: a driver image, or the INF of a driver package, which Plug and Play gets.
            service: its name; "" takes the file's.
            control: `wskctl.exe`, for our own driver.
            verifier: how Driver Verifier watches it.

        Raises:
            UsageError: the file is not a driver image, or the guest is dirty. DriverServiceError: the guest
                refuses it, or does not let go of an older driver; then it is dirty.
        """
        from wsklab.deploy import DriverPackage, deploy, deploy_verified, install_package
        from wsklab.errors import DeadlineExceeded, GuestError, UsageError
        from wsklab.pe_check import require_deployable
        from wsklab.restart import restart_guest

        package_of_pnp = file.suffix.lower() == ".inf"
        if not package_of_pnp:
            require_deployable(file)
        if guest.record.dirty:
            raise UsageError(
                f"guest {guest.name} is dirty: nothing is tested on it any more",
                why=guest.record.dirty,
                fix=f"look at it, then `wsklab down {guest.name}` and `wsklab up {guest.record.profile}`",
            )
        package = DriverPackage(image=file, service=service or file.stem, control=control)
        try:
            with self.in_use(guest):
                if verifier != "off" and not package_of_pnp:
                    deploy_verified(guest, package, verifier, lab.profile(guest.record.profile), lab.timeouts)
                    return package.service
                restart = False
                with guest.open_channel(lab.timeouts.after(20)) as channel:
                    if package_of_pnp:
                        restart = install_package(channel, file, lab.timeouts)
                    else:
                        deploy(channel, package, lab.timeouts, start=start)
                if restart:
                    restart_guest(guest, lab.timeouts.after(lab.profile(guest.record.profile).boot_budget_s))
        except (GuestError, DeadlineExceeded) as error:
            if not isinstance(error, GuestError) or error.dirty:
                guest.remember(dirty=f"{error.message}: {error.why}" if error.why else error.message)
            raise
        return package.service

    # -- images, driver, run -------------------------------------------------------------------

    def build_driver(
        self, config: LabConfig, source: Path | None, step: Callable[[str], None], *, failures: bool = False
    ) -> BuildResult:
        """Build, sign and check our driver and wskctl; what was built before is found again.

        Args:
            source: the folder of the driver's source; None: the lab's own.
            step: told what is going on.
            failures: the test build that can fail on purpose.

        Raises:
            ToolchainError: it does not build, or a check fails; the check is named.
        """
        from wsklab.deadline import Deadline
        from wsklab.resources import driver_source_root
        from wsklab.toolchain import build_package

        home = self.home(config)
        deadline = Deadline.after(_BUILD_S * (config.timeout_scale or 1.0))
        place = source or driver_source_root()
        return build_package(place, home.driver, home.keys, deadline, failures=failures, progress=step)

    def build_shim(self, config: LabConfig, step: Callable[[str], None], *, failures: bool = False) -> ShimBuild:
        """Build the kernel shim with our driver; raises as `build_driver`."""
        from wsklab.deadline import Deadline
        from wsklab.resources import driver_source_root
        from wsklab.toolchain import build_shim

        home = self.home(config)
        return build_shim(driver_source_root(), home.driver, Deadline.after(_BUILD_S), failures=failures, progress=step)

    def make_kit(self, config: LabConfig, built: BuildResult, target: Path) -> Path:
        """Write the zip for a Windows machine.

        Raises:
            UsageError: it cannot be written, or the driver is not signed.
        """
        from wsklab.kit import build_kit
        from wsklab.resources import driver_source_root
        from wsklab.toolchain import make_certificate

        return build_kit(built, make_certificate(self.home(config).keys), driver_source_root(), target)

    def check_driver(self, file: Path, *, ours: bool) -> Sequence[Finding]:
        """What Windows would say about a driver image; the allow-list of imports is for ours only."""
        from wsklab.pe_check import check_pe
        from wsklab.resources import driver_source_root

        return check_pe(file, driver_source_root() / "imports.toml" if ours else None)

    def ensure_image(self, lab: Lab, profile: GuestProfile, output: Output) -> None:
        """Bake a profile's image when it is absent or stale, showing progress; by sudo where we are not root."""
        found = lab.store.find(profile)
        if found is not None:
            if profile.kind == "windows":
                from wsklab.cli.windows_images import warn_of_licence

                warn_of_licence(found, output)
            return
        if os.geteuid() != 0 and profile.kind != "windows":  # an installation needs no root, but a medium
            self.bake_as_root(lab, profile.name, output)
            return
        from wsklab.cli.output import stages

        with output.progress(f"image {profile.name}") as step:
            lab.ensure_image(profile, stages(step))

    def install_windows(self, lab: Lab, profile: GuestProfile, wishes: InstallWishes, output: Output) -> Image:
        """The image of a Windows, installed from its medium; see `windows_images.install`."""
        from wsklab.cli.windows_images import install

        build = functools.partial(self.build_driver, lab.config, None)
        return install(lab, profile, wishes, output, build)

    def import_windows(
        self, lab: Lab, profile: GuestProfile, disk: Path, *, account: str, provision: bool, output: Output
    ) -> Image:
        """The image of a Windows that somebody else installed; see `windows_images.bring`."""
        from wsklab.cli.windows_images import bring

        build = functools.partial(self.build_driver, lab.config, None)
        return bring(lab, profile, disk, account=account, provision=provision, output=output, build=build)

    def bake_as_root(self, lab: Lab, profile: str, output: Output) -> None:
        """Bake by sudo, into the same home: the bake makes a root file system.

        Raises:
            ImageError: sudo refused, or the bake failed (it said why).
        """
        from wsklab.errors import ImageError

        output.note(f"image {profile}: baking needs root, which sudo gives")
        settings = [f"WSKLAB_HOME={lab.home.root}", f"WSKLAB_MODE={lab.choice.mode}"]
        argv = ["env", *settings, *self.launcher(os.environ), "image", "build", profile]
        try:
            why = f"sudo ended with {self.as_root(argv)}"
        except OSError as error:
            why = f"baking needs root, and sudo cannot be started: {error.strerror}"
        if lab.store.find(lab.profile(profile)) is None:
            raise ImageError(
                f"the image of {profile} was not made",
                why=why,
                fix=f"sudo wsklab image build {profile}",
            )

    def as_root(self, argv: Sequence[str]) -> int:
        """Run a command by sudo on the user's terminal; its output goes to standard error. Returns its exit code.

        Raises:
            OSError: there is no sudo.
        """
        actions = [(os.POSIX_SPAWN_DUP2, sys.stderr.fileno(), sys.stdout.fileno())]
        child = os.posix_spawnp("sudo", ["sudo", *argv], os.environ, file_actions=actions)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def sizes(self, lab: Lab, profiles: Sequence[GuestProfile]) -> tuple[int, int]:
        """Guests of each profile and workers of a run, as the settings say or as this host allows.

        A shim guest is a process: where a run has no others and nobody said how many, each worker gets its own, and a
        driver that dies takes no case of another worker with it.
        """
        from wsklab.admission import Room, fitting, shims_for, workers_for
        from wsklab.lease import SlotClaim

        room = Room.of_host(lab.home.root)
        each = lab.config.guests_each
        if each == "auto":
            wanted = [SlotClaim.of(profile, lab.owner) for profile in profiles if not profile.static]
            each = fitting(room, wanted, lab.slots.claims(), lab.limits)
        workers = lab.config.workers
        carries = [profile.shared_leases for profile in profiles] * each
        workers = workers_for(carries, room.cores) if workers == "auto" else workers
        if "guests_each" not in lab.config.model_fields_set and all(profile.kind == "shim" for profile in profiles):
            each = shims_for(workers, len(profiles))
        return each, workers

    def run_suite(
        self,
        lab: Lab,
        *,
        profiles: Sequence[GuestProfile],
        drivers: RunDrivers,
        results: Path,
        workers: int,
        wishes: Mapping[str, Any],
        pytest_args: Sequence[str],
        output: TextIO,
        cleaned: list[str],
        verifier: str = "off",
        trace: Sequence[str] = (),
    ) -> RunDocument:
        """Run the conformance cases on guests of these profiles; the guests are gone when this returns.

        Args:
            wishes: further fields of `RunOptions`.
            output: where pytest writes.
            cleaned: gets a line about what was put away.
        """
        from wsklab.pytest_plugin.suite import named_paths, options_of, run_suite
        from wsklab.ready_links import ReadyLinks
        from wsklab.resources import conformance_root
        from wsklab.results.store import new_run_id
        from wsklab.run_guests import run_provider, run_timeouts

        run_id = new_run_id()
        options = options_of(
            [(profile.name, profile.kind) for profile in profiles],
            machines=[profile.name for profile in profiles if profile.static],
            run_id=run_id,
            results=results.absolute(),
            history=lab.home.cache / "durations.json",
            buckets=lab.home.root / "crashes.json",
            scale=run_timeouts(lab, profiles).scale,
            **wishes,
        )
        with lab.home.run_alive(run_id):
            folder = results.absolute() / run_id / "evidence" / "guests"
            named = named_paths(pytest_args)
            links = ReadyLinks() if workers <= 1 else None  # several workers are processes of their own
            pool = run_provider(
                lab, profiles=profiles, drivers=drivers, run_id=run_id, evidence=folder, links=links,
                cases=[conformance_root(), *named], each=options.each, verifier=verifier, trace=trace,
            )  # fmt: skip
            try:
                return run_suite(pool, options, links=links, workers=workers, extra=pytest_args, output=output)
            finally:
                pool.close()
                cleaned.append(f"the guests of run {run_id}")

    # -- results -------------------------------------------------------------------------------

    def runs(self, root: Path) -> tuple[RunSummary, ...]:
        """The runs in a results folder, the latest first."""
        from wsklab.results.store import list_runs

        return list_runs(root)

    def load_run(self, root: Path, run_id: str) -> RunDocument:
        """The document of one run.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        from wsklab.results.store import load_run

        return load_run(root, run_id).document

    def cases(self, document: RunDocument) -> Sequence[CaseResult]:
        """The cases of a run that has just ended."""
        from wsklab.results.store import load_run

        return load_run(Path(document.results_dir).parent, document.run_id).cases

    def compare_runs(self, root: Path, first: str, second: str) -> tuple[Comparison, ...]:
        """What differs between two runs, guests or drivers; see `results.compare`.

        Raises:
            UsageError: a side is not there, or means several where one is wanted.
        """
        from wsklab.results.compare import compare, parse_side
        from wsklab.results.store import load_run

        a, b = parse_side(first), parse_side(second)
        return compare(load_run(root, a.run_id), load_run(root, b.run_id), a, b)

    def import_kit(self, file: Path, root: Path, *, by: str) -> RunDocument:
        """Keep what the kit brought back as a run.

        Raises:
            UsageError: no result of the kit, or it has been imported before.
        """
        from wsklab.results.from_kit import import_kit_result
        from wsklab.rules import load_catalogue

        return import_kit_result(file, root, load_catalogue(), by=by)

    def matrix(self, document: RunDocument) -> RenderableType:
        """A run for the terminal."""
        from wsklab.results.matrix import render_matrix
        from wsklab.rules import load_catalogue

        return render_matrix(document, load_catalogue())

    # -- programs of the host ------------------------------------------------------------------

    def launcher(self, environ: Mapping[str, str]) -> list[str]:
        """The command line that starts this program again, from any folder and shell."""
        path = environ.get("WSKLAB_INTERNAL_LAUNCHER", "")
        if path:
            return [path]
        source = str(Path(__file__).resolve().parents[2])
        return ["env", f"PYTHONPATH={source}", sys.executable, "-m", "wsklab"]

    def reproduce(
        self, lab: Lab, pytest_args: Sequence[str], *, options: Mapping[str, str], flags: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """A command line that starts such a run again, from any folder; what chooses guests and cases is left out.

        Args:
            options: of the run, with their values; flags: those without.
        """
        from wsklab.pytest_plugin.suite import named_paths

        settings = ["env", f"WSKLAB_HOME={lab.home.root}", f"WSKLAB_MODE={lab.choice.mode}"]
        program = self.launcher(os.environ)
        program = program[1:] if program[:1] == ["env"] else program
        chosen = [word for option in options.items() for word in option]
        files = [str(path) for path in named_paths(pytest_args)]
        return (*settings, *program, "run", *chosen, *flags, "--", *files)

    def become(self, argv: Sequence[str]) -> None:
        """Replace this process; returns never."""
        sys.stdout.flush()
        os.execvp(argv[0], list(argv))  # noqa: S606 - the user's own terminal goes to ssh

    def has_service_manager(self) -> bool:
        """Whether systemd runs this host."""
        from wsklab.mode import observe_host

        return observe_host().service_manager

    def write_units(self, units: Mapping[Path, str]) -> None:
        """Write systemd's files.

        Raises:
            HostError: a folder cannot be written.
        """
        from wsklab.errors import HostError
        from wsklab.home import write_text

        for path, text in units.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, text)
            except OSError as error:
                raise HostError(f"cannot write {path}", why=str(error), fix="run it as its owner") from error

    def run_host_command(self, argv: Sequence[str], timeout_s: float) -> None:
        """Run a command that mends the host.

        Raises:
            HostCommandError: it failed.
        """
        from wsklab.deadline import Deadline
        from wsklab.process import run

        run(list(argv), deadline=Deadline.after(timeout_s))
