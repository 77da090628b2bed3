#!/usr/bin/env python3
"""Ansible's inventory of running guests: what `wsklab list --json` says, as Ansible wants it.

    ansible -i ansible/inventory/guests.py wine -m ansible.builtin.raw -a 'sc query'

The command is `./wsklab` of this checkout, else `wsklab` on the PATH; ANSIBLE_WSKLAB names another one (a command
line). Only the standard library is used: Ansible may run this with any Python 3.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Under emulation a login takes seconds.
_CONNECT_S = 60

_LIST_S = 120

_HELP = "usage: guests.py --list | --host NAME"


def main(arguments: list[str]) -> int:
    """Print the inventory, or one host's variables."""
    if arguments == ["--list"]:
        print(json.dumps(inventory(running_guests()), indent=2))
    elif len(arguments) == 2 and arguments[0] == "--host":
        print(json.dumps(inventory(running_guests())["_meta"]["hostvars"].get(arguments[1], {}), indent=2))
    else:
        print(_HELP, file=sys.stderr)
        return 2
    return 0


def running_guests() -> list[dict[str, Any]]:
    """The guests that can be logged in to.

    Raises:
        SystemExit: wsklab is not there or failed; its own words are on standard error.
    """
    argv = [*wsklab(), "list", "--json"]
    try:
        answer = subprocess.run(argv, stdout=subprocess.PIPE, timeout=_LIST_S, check=False)
        document = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"guests.py: {shlex.join(argv)} gave no document: {error}") from error
    if "error" in document:
        raise SystemExit(f"guests.py: {shlex.join(argv)}: {document['error']['message']}")
    # nobody says of a machine that exists already whether it is on: it is asked
    return [row for row in document["guests"] if row["state"] == "running" or row["method"] == "static"]


def wsklab() -> list[str]:
    """The command line of wsklab."""
    named = os.environ.get("ANSIBLE_WSKLAB", "")
    if named:
        return shlex.split(named)
    launcher = Path(__file__).resolve().parents[2] / "wsklab"
    return [str(launcher)] if os.access(launcher, os.X_OK) else ["wsklab"]


def inventory(guests: list[dict[str, Any]]) -> dict[str, Any]:
    """Groups by kind and by profile, and everything about each guest, in one document (no --host calls follow)."""
    groups: dict[str, list[str]] = {}
    for row in guests:
        for name in (row["kind"], row["profile"]):
            groups.setdefault(group_name(name), []).append(row["name"])
    return {
        "_meta": {"hostvars": {row["name"]: variables(row) for row in guests}},
        "guests": {"children": sorted(groups)},
        **{name: {"hosts": hosts} for name, hosts in groups.items()},
    }


def group_name(name: str) -> str:
    """`wine-bookworm` as a group: Ansible's group names are identifiers."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{text}" if text[:1].isdigit() else text


def variables(row: dict[str, Any]) -> dict[str, Any]:
    """How Ansible reaches a guest (the printed ssh command line, taken apart), and what the lab knows of it."""
    *options, target = row["ssh"][1:]
    user, _, host = target.rpartition("@")
    known = {f"wsklab_{key}": row[key] for key in ("profile", "kind", "owner", "purpose", "expires", "dirty")}
    return {
        "ansible_connection": "ssh",
        "ansible_host": host,
        "ansible_user": user,
        "ansible_ssh_common_args": shlex.join(options),
        "ansible_timeout": _CONNECT_S,
        # both kinds speak Windows: no /bin/sh around a command, and no terminal that would change its output
        "ansible_shell_type": "cmd",
        "ansible_ssh_use_tty": False,
        **known,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
