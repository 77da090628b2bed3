"""How the user's own OpenSSH reaches a guest: as one command line, and as a piece of ssh_config(5)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsklab.assemble import Lab
    from wsklab.cli.runtime import Runtime
    from wsklab.guest import Guest

_SSH_PORT = 22

__all__ = ["SshAccess", "proxy_argv", "ssh_access", "ssh_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAccess:
    """What OpenSSH has to be told; every value is written as ssh_config(5) reads it.

    Attributes:
        name: the guest's name, which is the alias in a configuration.
        host: what is connected to; only a label where a ProxyCommand does the connecting.
        user: the account in the guest.
        options: keyword and value, in order.
    """

    name: str
    host: str
    user: str
    options: tuple[tuple[str, str], ...]

    def argv(self) -> list[str]:
        """A command line that works from any folder, in any shell, with an empty environment."""
        words = [word for key, value in self.options for word in ("-o", f"{key}={value}")]
        return ["ssh", *words, f"{self.user}@{self.host}"]

    def config(self) -> str:
        """A `Host` section."""
        lines = [f"Host {self.name}", f"    HostName {self.host}", f"    User {self.user}"]
        return "\n".join([*lines, *(f"    {key} {value}" for key, value in self.options)]) + "\n"


def ssh_access(cli: Runtime, lab: Lab, guest: Guest) -> SshAccess:
    """The access to one guest.

    Where the guest's address exists only in a network namespace, the connection goes through
    `wsklab proxy`; the host key is the one that was made with the image, pinned under the guest's name.

    Raises:
        FileNotFoundError: the guest's directory went away meanwhile.
    """
    options = [("IdentityFile", _quoted(_key_for_ssh(guest))), ("IdentitiesOnly", "yes"), ("LogLevel", "ERROR")]
    if guest.address[1] != _SSH_PORT:
        options.append(("Port", str(guest.address[1])))
    if guest.record.host_key:
        known = guest.directory / "known_hosts"
        _write_once(known, f"{guest.name} {guest.record.host_key}\n")
        options += [("UserKnownHostsFile", _quoted(known)), ("HostKeyAlias", guest.name)]
    elif guest.record.method == "static":  # its key is kept at the first meeting, which is not this one
        options += [("UserKnownHostsFile", "/dev/null"), ("StrictHostKeyChecking", "yes")]
    else:
        options += [("UserKnownHostsFile", "/dev/null"), ("StrictHostKeyChecking", "no")]
    if guest.via.jump:
        *ssh, host = guest.via.jump
        options.append(("ProxyCommand", f"{_percent(shlex.join(ssh))} -W [%h]:%p {_percent(shlex.quote(host))}"))
    if guest.via.netns is None:
        return SshAccess(name=guest.name, host=guest.address[0], user=guest.record.user, options=tuple(options))
    options.append(("ProxyCommand", f"{_percent(shlex.join(proxy_argv(cli, lab, guest)))} %p"))
    return SshAccess(name=guest.name, host=guest.name, user=guest.record.user, options=tuple(options))


def proxy_argv(cli: Runtime, lab: Lab, guest: Guest) -> list[str]:
    """The command that connects its standard streams to a port of a guest, the port as its last word missing."""
    settings = [f"WSKLAB_HOME={lab.home.root}", f"WSKLAB_MODE={lab.choice.mode}"]
    return ["env", *settings, *cli.services.launcher(cli.environ), "proxy", guest.name]


def ssh_config(accesses: Iterable[SshAccess], home: Path) -> str:
    """The sections of all guests, with what the file is good for."""
    head = (
        f"# The guests of wsklab in {home}, as they are now: `wsklab list --ssh-config` writes this anew.\n"
        "# Use: ssh -F THIS-FILE NAME, or a line `Include THIS-FILE` at the top of ~/.ssh/config.\n"
    )
    return head + "".join(f"\n{access.config()}" for access in accesses)


def _key_for_ssh(guest: Guest) -> Path:
    """The guest's key as OpenSSH takes it: a key of this user that others may read is refused (ssh(1), FILES).

    In a shared home the group may read it; its owner then gets a private copy beside the guest's files.
    """
    try:
        status = guest.key.stat()
    except OSError:
        return guest.key  # ssh itself says best what is wrong with it
    if status.st_uid != os.geteuid() or not status.st_mode & 0o077:
        return guest.key
    copy = guest.directory / f"key-{status.st_uid}"
    if not copy.exists():
        with os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(guest.key.read_bytes())
    return copy


def _write_once(path: Path, text: str) -> None:
    """Write a file unless it says that already; in a shared home its maker may be another user."""
    from wsklab.home import write_text

    if not path.exists() or path.read_text() != text:
        write_text(path, text)


def _quoted(path: Path) -> str:
    """A file name as a value: ssh replaces `%x` in it, splits it at blanks and takes quotes away."""
    text = _percent(str(path))
    if not any(char.isspace() or char in "\"'\\" for char in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _percent(text: str) -> str:
    return text.replace("%", "%%")
