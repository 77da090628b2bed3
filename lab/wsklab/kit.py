"""The kit: a zip that lets the driver prove itself on a Windows machine without a lab, and its way back.

`build_kit` packs the signed driver, `wskctl.exe`, the certificate, `run.cmd` and a page of instructions.
`read_kit_result` takes the `result.json` that comes back. The file has been on a foreign machine and in
somebody's mailbox: its size, form and texts are bounded, and nothing else is believed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from wsklab.errors import UsageError
from wsklab.pe_check import require_deployable
from wsklab.toolchain import BuildResult, Certificate

__all__ = ["KitCase", "KitDriver", "KitFinding", "KitResult", "KitRun", "KitStep", "build_kit", "read_kit_result"]

#: A result has some 60 kB; wskctl writes at most twice a megabyte.
RESULT_LIMIT: Final = 4 << 20

_DEEPEST: Final = 12

# zip has no time zone and starts in 1980; a fixed time makes equal inputs equal bytes.
_ZIP_TIME: Final = (2020, 1, 1, 0, 0, 0)

_README: Final = """\
wsklab kit
==========

Loads the kernel driver wsklab.sys on this machine, runs its core cases, unloads it, reloads it ten times,
and removes it. Use a machine that may crash.

1. Windows 10, Server 2016 or later, x64. Secure Boot off.
2. In an administrator's prompt:   bcdedit /set testsigning on      then restart.
3. Unpack this zip into a local folder, open an administrator's prompt there, and start:   run.cmd
4. Take result.json back and show it:   wsklab results import result.json

What run.cmd changes: two entries of the machine's certificate stores (Root and TrustedPublisher, "wsklab
test signing"), the folder C:\\wsklab. To take them back:

   certutil -delstore Root "wsklab test signing"
   certutil -delstore TrustedPublisher "wsklab test signing"
   rmdir /s /q C:\\wsklab

If "start" fails: 577 is test signing (step 2) or Secure Boot; 1275 is a policy that blocks drivers; 5 is a
prompt without administrator's rights.

driver   {driver}
wskctl   {control}
signer   {signer}   (SHA-256 of wsklab.cer)
"""

_Text = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Name = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
_Rule = Annotated[str, StringConstraints(max_length=32, pattern=r"^[A-Z]+-[A-Z]+(-[0-9]{3})?$")]
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Word = Annotated[int, Field(ge=0, lt=1 << 32)]
_Long = Annotated[int, Field(ge=0, lt=1 << 64)]


class _Model(BaseModel):
    # Fields may be added by a later wskctl; a reader of today ignores them.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class KitStep(_Model):
    """A step of run.cmd: `administrator`, `test_signing`, `create`, `start`, `reload_start_3`, ...

    `code` is its errorlevel (for `sc` the Win32 code); None when there was none.
    """

    name: _Name
    code: Annotated[int, Field(ge=-(1 << 31), lt=1 << 32)] | None


class KitFinding(_Model):
    """One thing that a case wrote down: an assertion (`text`, `held`), a record, or the ledger."""

    text: _Text = ""
    held: bool | None = None
    record: dict[_Name, _Text | _Long] | None = None
    ledger: dict[_Name, _Long] | None = None


class KitCase(_Model):
    """A case of the kit and the rule it is about."""

    rule: _Rule
    name: _Name
    verdict: Literal["passed", "failed", "not_run"]
    findings: Annotated[tuple[KitFinding, ...], Field(max_length=2000)] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """The assertions that did not hold."""
        return tuple(finding.text for finding in self.findings if finding.held is False)


class KitDriver(_Model):
    """What the loaded driver said about itself; `abi_fits` compares it with the kit's wskctl."""

    hello_status: _Word
    abi_fits: bool
    abi: _Word = 0
    provider_version: _Word = 0
    os_major: _Word = 0
    os_minor: _Word = 0
    os_build: _Word = 0
    flags: _Word = 0
    build_digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    build_label: _Text = ""


class KitRun(_Model):
    """The cases; `open_win32` is 0 when the driver's device could be opened."""

    started: datetime
    ended: datetime
    open_win32: _Word
    driver: KitDriver | None = None
    cases: Annotated[tuple[KitCase, ...], Field(max_length=500)] = ()


class KitIdentity(_Model):
    """Who ran the cases: wskctl and the system under it."""

    version: _Text
    sha256: _Digest | None
    driver_sha256: _Digest | None
    os_major: _Word
    os_minor: _Word
    os_build: _Word
    os_revision: _Word
    wine: _Text | None
    architecture: _Text


class KitResult(_Model):
    """`result.json`: one execution of the kit on one machine.

    Attributes:
        reported: when the result was written, by that machine's clock.
        computer, user: who, as Windows says.
        wskctl: the tool and the system.
        steps: what run.cmd did, in order.
        run: the cases; None when the driver did not start.
    """

    kind: Literal["wsklab-kit"]
    schema_: Annotated[Literal[1], Field(alias="schema")]
    reported: datetime
    computer: _Text | None
    user: _Text | None
    wskctl: KitIdentity
    steps: Annotated[tuple[KitStep, ...], Field(max_length=256)]
    run: KitRun | None

    @property
    def platform(self) -> Literal["windows", "wine"]:
        """Whether that was Windows or Wine: they are never mixed in one figure."""
        return "windows" if self.wskctl.wine is None else "wine"

    @property
    def build(self) -> str:
        """The system's build, such as `19045.5011`."""
        return f"{self.wskctl.os_build}.{self.wskctl.os_revision}"

    def step(self, name: str) -> KitStep | None:
        """A step by name."""
        return next((step for step in self.steps if step.name == name), None)

    @property
    def reloads(self) -> tuple[int, int]:
        """(starts and stops that succeeded, those that were tried) of the ten reloads."""
        tried = [step.code for step in self.steps if step.name.startswith("reload_")]
        return tried.count(0), len(tried)


def build_kit(build: BuildResult, certificate: Certificate, source: Path, target: Path) -> Path:
    """Write the kit's zip.

    Args:
        build: the signed driver and wskctl (`wsklab.toolchain.build_package`).
        certificate: the one that signed it.
        source: the folder `driver-src`, for `ctl/run.cmd`.
        target: the zip to write; replaced when it exists.

    Raises:
        UsageError: a file cannot be read or the zip not written, or the driver is not signed.
    """
    require_deployable(build.sys)
    try:
        script = (source / "ctl" / "run.cmd").read_text("ascii")
        files = {
            "run.cmd": _crlf(script),
            "README.txt": _crlf(
                _README.format(driver=build.driver_sha256, control=_sha256(build.ctl), signer=certificate.fingerprint)
            ),
            "wsklab.sys": build.sys.read_bytes(),
            "wskctl.exe": build.ctl.read_bytes(),
            "wsklab.cer": certificate.cer.read_bytes(),
        }
        part = target.with_name(target.name + ".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name, _ZIP_TIME)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
        part.replace(target)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the kit {target} cannot be written", why=str(error), fix="name another place") from error
    return target


def read_kit_result(path: Path) -> KitResult:
    """Read a `result.json`, believing nothing.

    Raises:
        UsageError: it is absent, too long, no JSON, nested too deep, or of another form; the first fault is named.
    """
    try:
        with path.open("rb") as file:
            data = file.read(RESULT_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}", why=str(error), fix="name the result.json of a kit") from error
    if len(data) > RESULT_LIMIT:
        raise UsageError(f"{path} is no result of the kit", why=f"more than {RESULT_LIMIT} bytes")
    try:
        # Depth first: pydantic's and json's own limits raise RecursionError at best.
        _check_depth(data)
        document: Any = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        return KitResult.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path} is no result of the kit", why=f"{place}: {first['msg']}") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UsageError(f"{path} is no result of the kit", why=str(error)[:200]) from error


def _check_depth(data: bytes) -> None:
    """Refuse deep nesting. Brackets in texts count too; no result has so many."""
    depth = 0
    for byte in data:
        if byte in b"[{":
            depth += 1
            if depth > _DEEPEST:
                raise ValueError(f"nested deeper than {_DEEPEST}")
        elif byte in b"]}":
            depth -= 1


def _refuse_constant(name: str) -> float:
    raise ValueError(f"not JSON: {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name appears twice")
    return result


def _crlf(text: str) -> bytes:
    """cmd.exe finds labels reliably only in files with its own line ends."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode("ascii")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
