"""What an image really is: a guest on it is started once, and asked over SSH."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from wsklab.answer_file import GUEST_ACCOUNT
from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import BootError, DeadlineExceeded, GuestError, HostFull, ImageError
from wsklab.factory import GuestFactory
from wsklab.guest import Claim, Guest
from wsklab.image.bake_wine import Bake, Baked
from wsklab.image.manifest import Manifest, WindowsFacts
from wsklab.image.provisioning import build_of, checks, require_step
from wsklab.image.store import Image
from wsklab.profile import GuestProfile

__all__ = ["COMMAND_S", "first_guest", "read_back"]

_SIGN_FILE: Final = r"C:\wsklab\token"
#: For one command in a guest whose services are still starting, in seconds on KVM.
COMMAND_S: Final = 60.0


def read_back(factory: GuestFactory, bake: Bake, *, owner: str, token: str) -> Baked:
    """Start a guest on the new disk, read every setting back, and put the guest away.

    Raises:
        ImageError: it does not start, it is another installation, or a setting is not as it was made.
    """
    bake.progress("read back", bake.deadline.elapsed_s, 0)
    with first_guest(factory, bake, owner=owner, account=GUEST_ACCOUNT) as (_, channel):
        _require_token(channel, token, factory.timeouts.after(COMMAND_S))
        for step in checks(GUEST_ACCOUNT):
            require_step(channel, step, factory.timeouts.after(COMMAND_S))
        build = build_of(channel, factory.timeouts.after(COMMAND_S))
        return Baked(cmdline="", host_key=channel.host_key, kernel_version=build, wine_version="", packages={})


@contextmanager
def first_guest(
    factory: GuestFactory, bake: Bake, *, owner: str, account: str, fix: str = "what the guest said is in the evidence"
) -> Iterator[tuple[Guest, Channel]]:
    """A guest on the disk that was just made, and a channel into it; it is put away afterwards.

    Raises:
        ImageError: it does not start, or something in it fails.
    """
    profile = bake.profile
    image = _unfinished(bake, account)
    run = f"image-{uuid.uuid4().hex[:12]}"
    with factory.home.run_alive(run):
        claim = Claim(owner=owner, purpose="run", run=run, name=f"check-{profile.name}", fresh=True)
        guest = _started(factory, profile, image, claim, bake.deadline)
        try:
            deadline = factory.timeouts.after(profile.boot_budget_s).sooner(bake.deadline.remaining_s)
            with guest.enter(deadline, ready_check=profile.ready_check) as channel:
                yield guest, channel
        except (GuestError, DeadlineExceeded) as error:
            what = "does not start" if isinstance(error, BootError) else "cannot be read back"
            raise ImageError(
                f"the new image of {profile.name} {what}",
                why=f"{error.message}: {error.why}" if error.why else error.message,
                fix=fix,
                evidence=error.evidence,
            ) from error
        finally:
            guest.destroy(factory.slots)


def _started(factory: GuestFactory, profile: GuestProfile, image: Image, claim: Claim, deadline: Deadline) -> Guest:
    """The guest; a host that has just filled up does not cost an installation: room is waited for."""

    def made() -> Guest | NotYet:
        try:
            return factory.create(profile, image, claim)
        except HostFull as error:
            return NotYet(f"{error.message}: {error.why}")

    return wait_until(made, deadline, what=f"room for a guest of {profile.name}")


def _unfinished(bake: Bake, account: str) -> Image:
    """The image before it has a manifest: its guests' host key is learned."""
    manifest = Manifest(
        profile=bake.profile.name,
        key=bake.key,
        inputs={},
        cmdline="",
        host_key="",
        kernel_version="",
        wine_version="",
        packages={},
        files={},
        built_at=datetime.now(UTC),
        seconds=0,
        windows=WindowsFacts.unknown(account),
    )
    return Image(
        profile=bake.profile.name,
        digest="",
        directory=bake.product,
        disk=bake.product / "disk.qcow2",
        kernel=None,
        initrd=None,
        cmdline="",
        manifest=manifest,
    )


def _require_token(channel: Channel, token: str, deadline: Deadline) -> None:
    said = channel.run(f"type {_SIGN_FILE}", deadline, check=False).stdout.strip()
    if said != token:
        raise ImageError(
            "the guest is not the one that was installed",
            why=f"it shows the token {said[:64]!r}, the installation has {token!r}",
            fix="does the disk hold an older system?",
        )
