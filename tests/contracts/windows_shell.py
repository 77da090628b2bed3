r"""A Windows as seen through cmd: `sc`, `reg`, `verifier`, `bcdedit`, `certutil`, `pnputil`, `shutdown`, with state.

Outputs and exit codes are those of the project's fact sheet; where it gives none they are marked. Orchestration only:
what passes here says nothing about Windows. Speaks over a real SSH server on loopback (`WindowsSsh`).
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from local_ssh import LocalSsh

SC_TEXT = {
    2: "The system cannot find the file specified.",
    5: "Access is denied.",
    126: "The specified module could not be found.",
    193: "%1 is not a valid Win32 application.",
    577: "Windows cannot verify the digital signature for this file.",
    1056: "An instance of the service is already running.",
    1060: "The specified service does not exist as an installed service.",
    1062: "The service has not been started.",
    1072: "The specified service has been marked for deletion.",
    1073: "The specified service already exists.",
    1275: "This driver has been blocked from loading",
}


@dataclass
class Service:
    path: str
    running: bool = False
    deleted: bool = False


@dataclass
class WindowsShell:
    """The machine.

    Attributes:
        load: what loading a driver file gives: a Win32 code, 0 when it runs.
        watches: whether Driver Verifier does what it says.
        verifier_code: the exit code of `verifier` settings.
        restarts: whether `shutdown /r` restarts.
        open_handles: deleting a service only marks it.
        dumps: small dumps, the newest last.
        providers: registered providers of Event Tracing; session: those of the session that runs, into `traced`.
    """

    load: Callable[[str], int] = lambda _path: 0
    watches: bool = True
    verifier_code: int | None = None
    restarts: bool = True
    open_handles: bool = False
    secure_boot: bool = False
    boot_time: int = 133_000_000_000_000_000
    services: dict[str, Service] = field(default_factory=dict)
    registry: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    bcd: dict[str, str] = field(default_factory=lambda: {"testsigning": "No"})
    certificates: dict[str, list[str]] = field(default_factory=dict)
    drivers: list[str] = field(default_factory=list)
    verified: set[str] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)
    boot_mode: str = "persistent"
    pnputil_code: int = 0
    history: list[str] = field(default_factory=list)
    dumps: list[str] = field(default_factory=list)
    providers: dict[str, str] = field(default_factory=dict)
    session: list[str] = field(default_factory=list)
    traced: str = ""

    def run(self, line: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error of a command line."""
        self.history.append(line)
        words = [word.strip('"') for word in shlex.split(line, posix=False)]
        program = words[0].rsplit("\\", 1)[-1].lower().removesuffix(".exe")
        command = getattr(self, f"_{program}", None)
        if command is None:
            # sheet: cmd's own message; 9009 is what a batch file sees, `cmd /c` ends with 1
            return (
                1,
                "",
                f"'{words[0]}' is not recognized as an internal or external command,\r\n"
                "operable program or batch file.\r\n",
            )
        code, text = command(words[1:])
        return code, text.replace("\n", "\r\n"), ""

    # -- services: exit codes are Win32 errors (f.3) --

    def _sc(self, words: list[str]) -> tuple[int, str]:
        verb, name = words[0].lower(), words[1]
        service = self.services.get(name)
        if verb == "create":
            if "type=" not in words or "binPath=" not in words:
                return 1639, "DESCRIPTION:\n        Creates a service entry\n"
            if service is not None:
                return self._failed("CreateService", 1072 if service.deleted else 1073)
            self.services[name] = Service(words[words.index("binPath=") + 1])
            return 0, "[SC] CreateService SUCCESS\n"
        if service is None:
            function = {"query": "EnumQueryServicesStatus:OpenService"}.get(verb, "OpenService")
            return self._failed(function, 1060)
        return self._on_service(verb, name, service)

    def _on_service(self, verb: str, name: str, service: Service) -> tuple[int, str]:  # noqa: PLR0911 - a table of verbs
        if verb == "query":
            return 0, self._status(name, service)
        if verb == "start":
            code = 1056 if service.running else self.load(service.path)
            if code:
                return self._failed("StartService", code)
            service.running = True
            return 0, self._status(name, service)
        if verb == "stop":
            if not service.running:
                return self._failed("ControlService", 1062)
            service.running = False
            return 0, self._status(name, service)
        if verb == "delete":
            if self.open_handles:
                service.deleted = True
            else:
                del self.services[name]
            return 0, "[SC] DeleteService SUCCESS\n"
        return 1639, "ERROR:  Unrecognized command\n"

    @staticmethod
    def _failed(function: str, code: int) -> tuple[int, str]:
        return code, f"[SC] {function} FAILED {code}:\n\n{SC_TEXT.get(code, 'An error.')}\n\n"

    @staticmethod
    def _status(name: str, service: Service) -> str:
        state = "4  RUNNING" if service.running else "1  STOPPED"
        code = 0 if service.running else 1077
        return (
            f"\nSERVICE_NAME: {name}\n        TYPE               : 1  KERNEL_DRIVER\n"
            f"        STATE              : {state}\n"
            f"        WIN32_EXIT_CODE    : {code}  (0x{code:x})\n        SERVICE_EXIT_CODE  : 0  (0x0)\n"
        )

    # -- registry, boot store, certificates --

    def _reg(self, words: list[str]) -> tuple[int, str]:
        verb, key = words[0].lower(), words[1]
        name = words[words.index("/v") + 1] if "/v" in words else ""
        if verb == "add":
            self.registry[key.lower(), name.lower()] = (words[words.index("/t") + 1], words[words.index("/d") + 1])
            return 0, "The operation completed successfully.\n"
        if verb == "delete" and not name:
            gone = [
                known for known in self.registry if known[0] == key.lower() or known[0].startswith(f"{key.lower()}\\")
            ]
            for known in gone:
                del self.registry[known]
            return (0, "The operation completed successfully.\n") if gone else (1, "ERROR: The system was unable ...\n")
        kind, data = self.registry.get((key.lower(), name.lower()), ("", ""))
        if not kind:
            return 1, "ERROR: The system was unable to find the specified registry key or value.\n"
        if verb == "delete":
            del self.registry[key.lower(), name.lower()]
            return 0, "The operation completed successfully.\n"
        return 0, f"\n{key}\n    {name}    {kind}    {data}\n\n"

    def _bcdedit(self, words: list[str]) -> tuple[int, str]:
        if words[0] == "/enum":
            lines = [f"{name:<24}{value}" for name, value in self.bcd.items()]
            return 0, "\nWindows Boot Loader\n-------------------\n" + "\n".join(lines) + "\n"
        _, _, name, value = words
        if name == "testsigning" and self.secure_boot:
            return 1, (
                "An error has occurred setting the element data.\nThe value is protected by Secure Boot policy and "
                "cannot be modified or deleted.\n"
            )
        self.bcd[name] = {"on": "Yes", "off": "No"}.get(value.lower(), value)
        return 0, "The operation completed successfully.\n"

    def _certutil(self, words: list[str]) -> tuple[int, str]:
        store, file = words[-2:]
        self.certificates.setdefault(store, []).append(file)
        done = "CertUtil: -addstore command completed successfully."
        return 0, f"{store}\nCertificate added to store.\n{done}\n"

    # -- Driver Verifier: 0, 1, or 2 for "restart needed" (f.6) --

    def _verifier(self, words: list[str]) -> tuple[int, str]:
        if words[0] == "/query":
            running = {
                service.path.rsplit("\\", 1)[-1].lower() for service in self.services.values() if service.running
            }
            names = sorted(self.verified & running) if self.watches else []
            return 0, "Verified Drivers:\n" + "".join(f"  Module: {name} (load: 1 / unload: 0)\n" for name in names)
        if self.verifier_code is not None:
            return self.verifier_code, "Verifier: the command line is not valid.\n"
        if words[0] == "/bootmode":
            self.boot_mode = words[1]
            return 2, "The system must be restarted.\n"
        if words[0] == "/reset":
            self.pending.clear()
            return 2, ""
        name = words[-1].lower()
        if words[0] == "/volatile":
            self.verified.add(name)
            return 0, ""
        self.pending[name] = words[0]
        return 2, "You must restart this computer for the changes to take effect.\n"

    # -- Event Tracing: commands and registry of Microsoft's documentation; exit codes and texts are assumed --

    def _logman(self, words: list[str]) -> tuple[int, str]:
        done = "The command completed successfully.\n"
        if words[:2] == ["query", "providers"]:
            guid = self.providers.get(words[2])
            table = f"\nProvider                                 GUID\n{'-' * 79}\n{words[2]:<40} {guid}\n\n"
            return (0, table + done) if guid else (0x80070490, "\nError:\nElement not found.\n")
        if words[-1] != "-ets":
            return 0x80070057, "Error:\nThe parameter is incorrect.\n"
        if words[0] == "stop":
            if not self.session:
                return 0x80300002, "\nError:\nData Collector Set was not found.\n"
            self.session = []
            return 0, done
        named = words[words.index("-p") + 1]
        if words[0] == "create":
            self.session = [named]
            self.traced = words[words.index("-o") + 1]
        else:
            self.session.append(named)
        return 0, done

    # -- the rest --

    def _pnputil(self, words: list[str]) -> tuple[int, str]:
        self.drivers.append(words[1])
        text = "Driver package added successfully.\nPublished Name:         oem7.inf\n"
        if self.pnputil_code not in {0, 259, 3010}:
            text = "Failed to add driver package: The hash for the file is not present in the specified catalog file.\n"
        return self.pnputil_code, f"Microsoft PnP Utility\n\nAdding driver package:  {words[1]}\n{text}"

    def _wskctl(self, words: list[str]) -> tuple[int, str]:
        if words != ["hello"]:
            return 2, ""
        return 0, json.dumps({"boot_time": self.boot_time, "uptime_ms": 1000}) + "\n"

    def talk(self, request: dict[str, object]) -> dict[str, object]:
        """One answer of `wskctl stdio`: who it is; there is no device."""
        if request["verb"] == "hello":
            system = {"os_major": 10, "os_minor": 0, "os_build": 20348, "os_revision": 587, "wine": None}
            who = {"protocol": 1, "version": "0", "pid": 4, "architecture": "amd64"}
            times = {"boot_time": self.boot_time, "uptime_ms": 1000}
            return {"id": request["id"], "ok": True, **who, **system, **times}
        return {"id": request["id"], "ok": False, "error": "win32", "message": "no device", "status": 0, "win32": 2}

    def _dir(self, words: list[str]) -> tuple[int, str]:
        if words[:2] != ["/b", "/o-d"] or not self.dumps:
            return 1, "File Not Found\n"
        return 0, "".join(f"{name}\n" for name in reversed(self.dumps))

    def start_anew(self, *, asked: bool = True) -> None:
        """Another boot; one that nobody asked for leaves a dump."""
        self._shutdown(["/r"])
        if not asked:
            self.dumps.append(f"112626-{len(self.dumps)}.dmp")

    def _shutdown(self, words: list[str]) -> tuple[int, str]:
        if "/r" in words and self.restarts:
            self.boot_time += 600_000_000
            self.verified = set(self.pending)
            for service in self.services.values():
                service.running = False
            self.services = {name: service for name, service in self.services.items() if not service.deleted}
        return 0, ""

    def _mkdir(self, _words: list[str]) -> tuple[int, str]:
        return 0, ""


class WindowsSsh(LocalSsh):
    """The shell behind a real SSH server; files come by SFTP, as in every guest."""

    def __init__(self, folder: Path, shell: WindowsShell) -> None:
        super().__init__(folder, {})
        self.shell = shell

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        if command.endswith("wskctl.exe stdio"):
            self._converse(channel)
            return
        made = re.fullmatch(r'if not exist "?([^"]+)"? mkdir "?([^"]+)"?', command)
        if made:
            (self.root / made[2].replace("\\", "/")).mkdir(parents=True, exist_ok=True)
            code, out, err = 0, "", ""
        else:
            booted = self.shell.boot_time
            code, out, err = self.shell.run(command)
            if self.shell.boot_time != booted:
                self.cut()  # connections die with the old boot, and the answer with them
                return
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.sendall(out.encode("cp437"))
            channel.sendall_stderr(err.encode("cp437"))
            channel.send_exit_status(code)
            channel.close()

    def _converse(self, channel: paramiko.Channel) -> None:
        """`wskctl stdio` until its input ends."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            for line in channel.makefile("r"):
                channel.sendall(json.dumps(self.shell.talk(json.loads(line))).encode() + b"\n")
            channel.send_exit_status(0)
            channel.close()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._listener.getsockname()[1])
