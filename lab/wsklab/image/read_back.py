"""What an image really is: a guest on it is started once, and asked over SSH."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from wsklab.answer_file import GUEST_ACCOUNT
from wsklab.channel.protocol import Channel
from wsklab.deadline import Deadline, NotYet, wait_until
from wsklab.errors import BootError, DeadlineExceeded, GuestError, HostFull, ImageError
from wsklab.factory import GuestFactory
from wsklab.guest import Claim, Guest
from wsklab.image.bake_wine import Bake, Baked
from wsklab.image.manifest import Manifest
from wsklab.image.store import Image
from wsklab.profile import GuestProfile

__all__ = ["CHECKS", "read_back"]

#: Steps of `wskctl provision` that are asked whether all is as they want it.
CHECKS: Final = ("crash-control", "boot", "quiet", "firewall", f"account --user {GUEST_ACCOUNT}")

_CONTROL: Final = r"C:\wsklab\wskctl.exe"
_SIGN_FILE: Final = r"C:\wsklab\token"
_VERSION_KEY: Final = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_COMMAND_S: Final = 60.0


def read_back(factory: GuestFactory, bake: Bake, *, owner: str, token: str) -> Baked:
    """Start a guest on the new disk, read every setting back, and put the guest away.

    Raises:
        ImageError: it does not start, it is another installation, or a setting is not as it was made.
    """
    profile = bake.profile
    image = _unfinished(bake)
    run = f"image-{uuid.uuid4().hex[:12]}"
    with factory.home.run_alive(run):
        claim = Claim(owner=owner, purpose="run", run=run, name=f"check-{profile.name}", fresh=True)
        guest = _started(factory, profile, image, claim, bake.deadline)
        try:
            bake.progress("read back", bake.deadline.elapsed_s, 0)
            deadline = factory.timeouts.after(profile.boot_budget_s).sooner(bake.deadline.remaining_s)
            with guest.enter(deadline, ready_check=profile.ready_check) as channel:
                _require_token(channel, token, factory.timeouts.after(_COMMAND_S))
                for step in CHECKS:
                    _require_step(channel, step, factory.timeouts.after(_COMMAND_S))
                build = _build_of(channel, factory.timeouts.after(_COMMAND_S))
                host_key = channel.host_key
        except (GuestError, DeadlineExceeded) as error:
            what = "does not start" if isinstance(error, BootError) else "cannot be read back"
            raise ImageError(
                f"the new image of {profile.name} {what}",
                why=f"{error.message}: {error.why}" if error.why else error.message,
                fix="what the guest said is in the evidence",
                evidence=error.evidence,
            ) from error
        finally:
            guest.destroy(factory.slots)
    return Baked(cmdline="", host_key=host_key, kernel_version=build, wine_version="", packages={})


def _started(factory: GuestFactory, profile: GuestProfile, image: Image, claim: Claim, deadline: Deadline) -> Guest:
    """The guest; a host that has just filled up does not cost an installation: room is waited for."""

    def made() -> Guest | NotYet:
        try:
            return factory.create(profile, image, claim)
        except HostFull as error:
            return NotYet(f"{error.message}: {error.why}")

    return wait_until(made, deadline, what=f"room for a guest of {profile.name}")


def _unfinished(bake: Bake) -> Image:
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


def _require_step(channel: Channel, step: str, deadline: Deadline) -> None:
    """Every setting of a step, as `wskctl provision --check` reports it.

    Raises:
        ImageError: one is otherwise, or the report is none.
    """
    result = channel.run(f"{_CONTROL} provision {step} --check", deadline, check=False)
    try:
        document: Any = json.loads(result.stdout)
        wrong = [
            f"{setting['name']}: wanted {setting['wanted']}, is {setting['after']}"
            + (f" ({setting['why']})" if setting.get("why") else "")
            for setting in document["settings"]
            if setting["ok"] is not True
        ]
        if not wrong and document["ok"] is not True:
            wrong = ["it says that not all is well, and names nothing"]
    except (ValueError, KeyError, TypeError) as error:
        said = (result.stderr or result.stdout).strip()[:200]
        raise ImageError(
            f"wskctl in the guest does not report on the step {step}",
            why=f"{error}; it ended with {result.exit_code}: {said}",
        ) from error
    if wrong:
        raise ImageError(
            f"the new image is not as it was made: step {step}",
            why="; ".join(wrong[:5]),
            fix="the settings are in the evidence",
            evidence={"settings": document["settings"]},
        )


def _build_of(channel: Channel, deadline: Deadline) -> str:
    """Build and revision, as the system says: `20348.587`."""
    values = {}
    for name in ("CurrentBuildNumber", "UBR"):
        said = channel.run(f'reg query "{_VERSION_KEY}" /v {name}', deadline).stdout
        found = re.search(rf"^\s+{name}\s+REG_\w+\s+(\S+)", said, re.MULTILINE)
        if found is None:
            raise ImageError(f"the guest does not say its {name}", why=said.strip()[:200])
        values[name] = int(found[1], 0)
    return f"{values['CurrentBuildNumber']}.{values['UBR']}"
