"""Installs a Windows from its medium, unattended, in a guest, and makes an image of the disk.

A guest on an empty disk with two discs: the medium and the answer disc. It is watched until its scripts say that it is
sealed and it goes off; the disk becomes the image; then a guest on that image is started once, and every setting is
read back over SSH. No Windows has been installed by this yet: see docs/windows.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from wsklab import offline_disk, qemu_img
from wsklab.answer_file import AnswerSettings
from wsklab.deadline import Deadline
from wsklab.domain_xml import DiskSpec
from wsklab.errors import DeadlineExceeded, DomainGone, HostError, HypervisorError, ImageError, LabError
from wsklab.factory import GuestFactory, StartPlan
from wsklab.guest import Claim, Guest
from wsklab.hypervisor.protocol import DomainEventKind, DomainState, EventSubscription
from wsklab.image.answer_disc import REPORTS, DiscContent, disc_files
from wsklab.image.bake_wine import Bake, Baked
from wsklab.image.install_checks import recipe_of
from wsklab.image.install_state import InstallState, make_password, read_state, write_password, write_state
from wsklab.image.install_watch import End, InstallationWatch, KeyPresses, Limits, Sample
from wsklab.image.manifest import WindowsFacts
from wsklab.image.read_back import read_back
from wsklab.image.windows_media import WindowsMedium
from wsklab.lease import expiry_after
from wsklab.media import write_disc
from wsklab.picture import as_png
from wsklab.profile import GuestProfile

__all__ = ["ENDED", "LOGS", "Installer"]

#: In the folder of an installation that failed: how it ended, for `doctor --report`.
ENDED: Final = "ended.json"

_TICK_S: Final = 1.0
_ENTER: Final = 28
#: A picture of the screen is taken so often, and one is kept so often; in seconds.
_LOOK_S: Final = 5.0
_KEEP_S: Final = 60.0
_PICTURES_MAX: Final = 200
#: Pictures that were just seen are no news: a caret blinks, and dots run in circles.
_RECENT: Final = 12

#: What Setup and our scripts leave on the disk, by path in the guest (sheet b.1).
LOGS: Final = {
    "Windows/Panther/setupact.log": "panther/setupact.log",
    "Windows/Panther/setuperr.log": "panther/setuperr.log",
    "Windows/Panther/UnattendGC/setupact.log": "panther/unattendgc-setupact.log",
    "Windows/Panther/UnattendGC/setuperr.log": "panther/unattendgc-setuperr.log",
    "$WINDOWS.~BT/Sources/Panther/setupact.log": "panther/copy-setupact.log",
    "$WINDOWS.~BT/Sources/Panther/setuperr.log": "panther/copy-setuperr.log",
    REPORTS: "provision.jsonl",
}
_LOG_LIMIT: Final = 64 << 20
#: Fetching logs and putting things away, after the time of the installation is over.
_AFTER_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """A builder for the image store: `store.build(profile, builder=Installer(...))`.

    Attributes:
        factory: makes the guests.
        medium: what is installed.
        control: `wskctl.exe`.
        certificate: the certificate that signs test drivers, DER.
        openssh: the unpacked Win32-OpenSSH package, or None.
        virtio: the unpacked virtio-win medium, or None.
        ensure_network: makes the network that the guests are on.
        owner: whose guests they are while they are there.
        evidence: folder that gets what is left of installations that failed.
        limits: when waiting is over, in seconds on KVM; None: as they come.
    """

    factory: GuestFactory
    medium: WindowsMedium
    control: Path
    certificate: Path
    openssh: Path | None
    virtio: Path | None = None
    ensure_network: Callable[[], None]
    owner: str
    evidence: Path
    limits: Limits | None = None

    def __call__(self, bake: Bake) -> Baked:
        """Install, make the disk, read back.

        Raises:
            ImageError: it did not get through; `evidence` names the folder with pictures and logs.
        """
        self.ensure_network()
        guest, state = self._resumed(bake) or self._started(bake)
        try:
            if not state.sealed:
                state = self._watched(bake, guest, state)
            bake.progress("disk", bake.deadline.elapsed_s, 0)
            qemu_img.compress(guest.directory / "overlay.qcow2", bake.product / "disk.qcow2", bake.deadline)
        except BaseException:
            self._drop(guest, state)
            raise
        facts = self._read_back(bake, guest, state)
        guest.destroy(self.factory.slots)
        return replace(facts, windows=self._facts(bake.profile, state, facts.kernel_version))

    def _read_back(self, bake: Bake, guest: Guest, state: InstallState) -> Baked:
        """What the image is. An installation that is complete costs an hour: it is kept when a look at it fails."""
        # it is off, and a small host has no room for what it promised beside the guest that is asked
        self.factory.slots.release(guest.record.slot, guest.directory)
        try:
            return read_back(self.factory, bake, owner=self.owner, token=state.token)
        except LabError as error:
            error.fix = (
                f"{error.fix}; the installation is kept until its lease ends: the same command asks it again, "
                f"`wsklab down {guest.name}` drops it"
            )
            raise
        except BaseException:
            self._drop(guest, state)
            raise

    def _drop(self, guest: Guest, state: InstallState) -> None:
        """An installation that comes to nothing leaves nothing, its password included."""
        guest.destroy(self.factory.slots)
        (self.factory.home.keys / state.password_file).unlink(missing_ok=True)

    def _facts(self, profile: GuestProfile, state: InstallState, build: str) -> WindowsFacts:
        evaluation = self.medium.image.is_evaluation
        days = timedelta(days=recipe_of(profile).evaluation_days)
        return WindowsFacts(
            edition=self.medium.image.edition,
            build=build,
            medium_sha256=self.medium.sha256,
            evaluation=evaluation,
            licence_expires=state.started_at + days if evaluation else None,
            password_file=state.password_file,
            acceleration=str(self.factory.acceleration),
        )

    # -- the guest -----------------------------------------------------------------------------

    def _name(self, profile: GuestProfile) -> str:
        return f"install-{profile.name}"

    def _resumed(self, bake: Bake) -> tuple[Guest, InstallState] | None:
        """The installation that a killed build has left, if it is the same; another one is put away."""
        name = self._name(bake.profile)
        for guest in self.factory.existing():
            if guest.name != name:
                continue
            state = read_state(guest.directory)
            same = state is not None and (state.inputs, state.medium_sha256) == (bake.key, self.medium.sha256)
            if state is not None and same and (state.sealed or guest.domain.state() is DomainState.RUNNING):
                return guest, state
            guest.destroy(self.factory.slots)
        return None

    def _started(self, bake: Bake) -> tuple[Guest, InstallState]:
        profile = bake.profile
        token = secrets.token_hex(16)
        password = make_password()
        state = InstallState(
            inputs=bake.key,
            medium_sha256=self.medium.sha256,
            token=token,
            password_file=f"{profile.name}-{token[:8]}.password",
            started_at=datetime.now(UTC),
        )
        files = disc_files(self._disc(profile, token, password, bake.public_key))
        write_password(self.factory.home.keys / state.password_file, password)

        def prepare(directory: Path) -> None:
            write_disc(directory / "answer.iso", files, label="wsklab")
            patch = self.medium.boot_patch
            if patch is not None:
                qemu_img.create_overlay(self.medium.path, directory / "medium.qcow2", bake.deadline)
                qemu_img.patch(directory / "medium.qcow2", patch.offset, patch.content, bake.deadline)
            write_state(directory, state)

        # a lease of its own: who kills the build does not kill an hour of installing, and gc ends what nobody continues
        span = timedelta(seconds=bake.deadline.remaining_s + 3600)
        claim = Claim(owner=self.owner, purpose="user", name=self._name(profile), expires=expiry_after(span))
        plan = StartPlan(discs=self._discs(), prepare=prepare)
        return self.factory.create(profile, None, claim, plan), state

    def _discs(self) -> tuple[DiskSpec, ...]:
        iso = DiskSpec(path=self.medium.path.absolute(), format="raw", device="cdrom", foreign=True)
        if self.medium.boot_patch is not None:
            iso = DiskSpec(path=Path("medium.qcow2"), device="cdrom", backing=(iso.path,), backing_format="raw")
        return iso, DiskSpec(path=Path("answer.iso"), format="raw", device="cdrom")

    def _disc(self, profile: GuestProfile, token: str, password: str, public_key: Path) -> DiscContent:
        recipe = recipe_of(profile)
        return DiscContent(
            settings=AnswerSettings(
                firmware=profile.firmware,
                image_index=self.medium.image.index,
                language=self.medium.image.language,
                product_key=self.medium.product_key,
                computer_name=profile.name[:15].rstrip("-"),
                password=SecretStr(password),
                hardware_check_bypass=recipe.hardware_check_bypass,
            ),
            recipe=recipe,
            token=token,
            control=self.control,
            public_key=public_key.read_text(encoding="utf-8"),
            certificate=self.certificate.read_bytes(),
            openssh=self.openssh,
            virtio=self.virtio,
        )

    # -- watching ------------------------------------------------------------------------------

    def _watched(self, bake: Bake, guest: Guest, state: InstallState) -> InstallState:
        """Wait until it is sealed; the state then.

        Raises:
            ImageError: it ended in any other way, or its time is over.
        """
        scale = self.factory.timeouts.scale
        wanted = self.limits or Limits()
        limits = replace(wanted, dialog_s=wanted.dialog_s * scale, hang_s=wanted.hang_s * scale)
        watch = InstallationWatch(state.token, recipe_of(bake.profile).stages, limits)
        keys = None if self.medium.boot_patch is not None else KeyPresses(bake.profile.firmware, scale, wanted.prompt_s)
        screen = _Screen(guest)
        with _events(self.factory) as events:
            try:
                while True:
                    state = _count_restarts(events, guest, state)
                    sample = _sample(guest, state, screen)
                    end = watch.feed(sample)
                    bake.progress(watch.stage, sample.at_s, watch.expected_s * scale)
                    if end is End.SEALED:
                        break
                    if end is not None:
                        raise self._failed(bake, guest, f"{end.name.lower()}:{watch.stage}", str(end), watch.reason)
                    if bake.deadline.expired:
                        reason = f"it was in the stage {watch.stage}"
                        raise self._failed(bake, guest, f"late:{watch.stage}", "its time is over", reason)
                    if keys is not None and keys.due(sample):
                        guest.domain.send_keys([_ENTER])
            except (HypervisorError, DomainGone) as error:
                raise self._failed(bake, guest, f"host:{watch.stage}", error.message, error.why) from error
        state = state.model_copy(update={"sealed": True})
        write_state(guest.directory, state)
        return state

    def _failed(self, bake: Bake, guest: Guest, word: str, end: str, reason: str) -> ImageError:
        """The error, with everything that tells why in a folder that stays; `word` is for `doctor --report`."""
        name = bake.profile.name
        folder = self.evidence / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(LabError):
            (folder / "last.png").write_bytes(as_png(guest.domain.screenshot()))
        known = {"profile": name, "end": word, "reason": reason, "medium_sha256": self.medium.sha256}
        (folder / ENDED).write_text(json.dumps(known), encoding="utf-8")
        tail = guest.console.tail()
        for source in (guest.console.path, guest.directory / "screens", guest.directory / "domain.xml"):
            with contextlib.suppress(OSError):
                copy = shutil.copytree if source.is_dir() else shutil.copyfile
                copy(source, folder / source.name)
        missing: dict[str, str] = {}
        try:
            guest.domain.destroy()
            targets = {path: folder / target for path, target in LOGS.items()}
            deadline = Deadline.after(_AFTER_S)
            missing = offline_disk.copy_out(guest.directory / "overlay.qcow2", targets, deadline, limit=_LOG_LIMIT)
        except LabError as error:
            missing = {"the guest's disk": f"{error.message}: {error.why}"}
        return ImageError(
            f"{name} could not be installed: {end}",
            why=reason or "see the pictures",
            fix=f"last.png in {folder} shows the screen; Setup's own logs, as far as there are any, are in panther",
            evidence={"folder": str(folder), "console": tail, "missing": missing},
        )


@contextlib.contextmanager
def _events(factory: GuestFactory) -> Iterator[EventSubscription]:
    events = factory.hypervisor.subscribe()
    try:
        yield events
    finally:
        events.close()


def _count_restarts(events: EventSubscription, guest: Guest, state: InstallState) -> InstallState:
    """Wait for a moment, counting the guest's restarts; a changed state is written down."""
    tick = Deadline.after(_TICK_S)
    counted = state
    while (event := events.get(tick)) is not None:
        if event.domain == guest.record.uuid and event.kind is DomainEventKind.REBOOTED:
            counted = counted.model_copy(update={"restarts": counted.restarts + 1})
    if counted is not state:
        write_state(guest.directory, counted)
    return counted


def _sample(guest: Guest, state: InstallState, screen: _Screen) -> Sample:
    """What is seen now.

    Raises:
        HostError: QEMU has stopped the guest because the host's disk is full or broken.
    """
    domain_state = guest.domain.state()
    if domain_state is DomainState.PAUSED:
        raise HostError(
            "the guest was stopped by an error of the host's disk",
            why=f"{shutil.disk_usage(guest.directory).free >> 20} MiB are free at {guest.directory}",
            fix="make room, and start the build again",
        )
    at_s = (datetime.now(UTC) - state.started_at).total_seconds()
    running = domain_state not in {DomainState.OFF, DomainState.CRASHED}
    return Sample(
        at_s=at_s,
        console=guest.console.text(),
        disk_bytes=(guest.directory / "overlay.qcow2").stat().st_blocks * 512,
        screen=screen.look(at_s) if running else "",
        restarts=state.restarts,
        running=running,
    )


@dataclass(slots=True)
class _Screen:
    """The guest's screen: which picture is news, and one kept a minute."""

    guest: Guest
    _recent: list[str] = field(default_factory=list)
    _news: str = ""
    _looked_at: float = float("-inf")
    _kept_at: float = float("-inf")

    def look(self, at_s: float) -> str:
        """A word that changes when the picture is one that was not just seen."""
        if at_s < self._looked_at + _LOOK_S:
            return self._news
        self._looked_at = at_s
        try:
            picture = self.guest.domain.screenshot()
        except (HypervisorError, DeadlineExceeded):
            return self._news  # at a restart there is none for a moment
        digest = hashlib.sha256(picture).hexdigest()
        if digest in self._recent:
            return self._news
        self._news = digest
        self._recent = [*self._recent[1 - _RECENT :], digest]
        if at_s >= self._kept_at + _KEEP_S:
            self._keep(at_s, picture)
        return self._news

    def _keep(self, at_s: float, picture: bytes) -> None:
        self._kept_at = at_s
        folder = self.guest.directory / "screens"
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(HypervisorError):
            (folder / f"{at_s:06.0f}.png").write_bytes(as_png(picture))
        for old in sorted(folder.iterdir())[:-_PICTURES_MAX]:
            old.unlink()
