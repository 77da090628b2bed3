"""What stands on the answer disc of a Windows installation: the answer file, the scripts that it calls, their needs.

The scripts are a few lines of cmd: they call `wskctl provision`, tell the lab over the first serial port where they
are, and leave every report in `C:\\wsklab\\provision.jsonl`. They run in two passes: *specialise* as SYSTEM, before
any user exists; *first logon* as the lab's administrator, once before and once after a restart, then to seal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsklab.answer_file import (
    ANSWER_FILE_NAME,
    FIRST_LOGON_SCRIPT,
    GUEST_ACCOUNT,
    SPECIALISE_SCRIPT,
    AnswerSettings,
    render_answer_file,
)
from wsklab.errors import ImageError
from wsklab.image.install_watch import marker
from wsklab.image.virtio import AGENT, virtio_files
from wsklab.windows_recipe import OpenSshSource, WindowsRecipe

__all__ = ["FOLDER", "REPORTS", "DiscContent", "disc_files"]

#: The folder on the disc, and the one in the guest that its files are copied to.
FOLDER: Final = "wsklab"
_GUEST_FOLDER: Final = r"C:\wsklab"
#: Where the scripts keep the reports of all steps, as the guest's disk has it.
REPORTS: Final = "wsklab/provision.jsonl"

_OPENSSH: Final = "openssh"
_VIRTIO: Final = "virtio"
_CAPABILITY: Final = "OpenSSH.Server~~~~0.0.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscContent:
    """What a disc is made from.

    Attributes:
        settings: of the answer file.
        recipe: of the release.
        token: what the guest says when it is sealed.
        control: `wskctl.exe`.
        public_key: the lab's key, one line.
        certificate: the certificate that signs test drivers, DER.
        openssh: the unpacked Win32-OpenSSH package, or None where the release has a server of its own.
        virtio: the unpacked virtio-win medium, or None: no virtio drivers, no guest agent.
    """

    settings: AnswerSettings
    recipe: WindowsRecipe
    token: str
    control: Path
    public_key: str
    certificate: bytes
    openssh: Path | None
    virtio: Path | None = None


def disc_files(content: DiscContent) -> Mapping[str, bytes | Path]:
    """Every file of the disc by its path.

    Raises:
        ImageError: the release needs the OpenSSH package and there is none, or it is not one.
        UsageError: the virtio medium is none.
    """
    source = _ssh_source(content)
    files: dict[str, bytes | Path] = {
        ANSWER_FILE_NAME: render_answer_file(content.settings),
        SPECIALISE_SCRIPT.replace("\\", "/"): _script(_specialise()),
        FIRST_LOGON_SCRIPT.replace("\\", "/"): _script(
            _first_logon(source, content.token, virtio=content.virtio is not None)
        ),
        f"{FOLDER}/wskctl.exe": content.control,
        f"{FOLDER}/key.pub": content.public_key.strip().encode() + b"\n",
        f"{FOLDER}/signing.cer": content.certificate,
    }
    if source == "package" and content.openssh is not None:
        for path in sorted(content.openssh.rglob("*")):
            if path.is_file():
                files[f"{FOLDER}/{_OPENSSH}/{path.relative_to(content.openssh).as_posix()}"] = path
    if content.virtio is not None:
        for name, path in virtio_files(content.virtio, content.recipe).items():
            files[f"{FOLDER}/{_VIRTIO}/{name}"] = path
    return files


def _ssh_source(content: DiscContent) -> OpenSshSource:
    """The first source of the release that can be had: a package only when it is there."""
    for source in content.recipe.openssh:
        if source != "package":
            return source
        if content.openssh is not None:
            if not (content.openssh / "sshd.exe").is_file():
                raise ImageError(
                    f"{content.openssh} is no Win32-OpenSSH package",
                    why="it has no sshd.exe",
                    fix="give the folder that OpenSSH-Win64.zip unpacks to",
                )
            return "package"
    raise ImageError(
        "this release needs the Win32-OpenSSH package",
        why="it brings no SSH server along and there is no other source",
        fix="unpack OpenSSH-Win64.zip and give its folder with --openssh",
    )


def _specialise() -> Sequence[str]:
    return (
        _say("stage", "specialise"),
        f"if not exist {_GUEST_FOLDER} mkdir {_GUEST_FOLDER}",
        f'xcopy "%DISC%*" {_GUEST_FOLDER}\\ /E /I /Y /Q >nul',
        *_steps(("crash-control", "boot", "quiet", 'trust --file "%DISC%signing.cer"', "firewall")),
    )


def _first_logon(source: OpenSshSource, token: str, *, virtio: bool) -> Sequence[str]:
    package = f' --from "{_GUEST_FOLDER}\\{_OPENSSH}"' if source == "package" else ""
    capability = (
        (f"dism.exe /Online /Quiet /NoRestart /Add-Capability /CapabilityName:{_CAPABILITY}",)
        if source == "capability"
        else ()
    )
    account = f"account --user {GUEST_ACCOUNT}"
    run_once = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\RunOnce"
    again = (
        "crash-control --check",
        "boot --check",
        "quiet",
        "firewall --check",
        f"account --user {GUEST_ACCOUNT} --check",
    )
    return (
        f"if exist {_GUEST_FOLDER}\\sealing goto seal",
        _say("stage", "provisioning"),
        *capability,
        *_steps((account, f'ssh --file "{_GUEST_FOLDER}\\key.pub"{package}')),
        *(_agent() if virtio else ()),
        f"echo 1 >{_GUEST_FOLDER}\\sealing",
        f'reg.exe add {run_once} /v wsklab /t REG_SZ /d "cmd.exe /c {_GUEST_FOLDER}\\first-logon.cmd" /f >nul',
        "shutdown.exe /r /t 5 /f",
        "exit /b 0",
        ":seal",
        _say("stage", "seal"),
        *_steps((*again, f"seal --token {token}")),
        _say("sealed", token),
        "shutdown.exe /s /t 5 /f",
        "exit /b 0",
    )


def _agent() -> Sequence[str]:
    """Drivers first: the agent's line is one of theirs. What counts is whether its service is there afterwards."""
    folder = rf"{_GUEST_FOLDER}\{_VIRTIO}"
    return (
        rf"pnputil.exe /add-driver {folder}\*.inf /subdirs /install >>{_GUEST_FOLDER}\virtio.log 2>&1",
        rf"msiexec.exe /i {folder}\{AGENT} /qn /norestart",
        "sc.exe query QEMU-GA >nul",
        "if not errorlevel 1 goto agent-is-there",
        _say("failed", "agent"),
        "exit /b 1",
        ":agent-is-there",
    )


def _steps(steps: Sequence[str]) -> Sequence[str]:
    """Calls of `wskctl provision`; the first that fails is told and ends the script, so that the lab need not wait."""
    return [line for step in steps for line in (f"call :step {step}", "if errorlevel 1 exit /b 1")]


def _say(kind: str, text: str) -> str:
    # the redirection comes first: behind a digit it would be read as the number of a handle
    return f">%PORT% echo {marker(kind, text)}"


def _script(lines: Sequence[str]) -> bytes:
    """A script for cmd: CRLF, its own folder in DISC, the serial port in PORT."""
    head = (
        "@echo off",
        "rem made by wsklab: lab/wsklab/image/answer_disc.py",
        "setlocal",
        "set DISC=%~dp0",
        "if not defined PORT set PORT=COM1",
    )
    tail = (
        "exit /b 0",
        ":step",
        f'"%DISC%wskctl.exe" provision %* >>{_GUEST_FOLDER}\\provision.jsonl 2>&1',
        "if not errorlevel 1 exit /b 0",
        _say("failed", "%1"),
        "exit /b 1",
    )
    return "".join(f"{line}\r\n" for line in (*head, *lines, *tail)).encode("ascii")
