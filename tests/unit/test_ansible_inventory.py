"""The inventory of running guests, run as Ansible runs it, with a wsklab that is a few lines of shell."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "ansible" / "inventory" / "guests.py"
SSH = ["ssh", "-o", "IdentityFile=/k", "-o", "ProxyCommand=env 'a b' proxy g %p", "Administrator@g"]


def _row(name: str, **changes: str) -> dict[str, Any]:
    """A guest as `wsklab list --json` shows it."""
    row = {
        "name": name, "profile": "wine-bookworm", "kind": "wine", "address": "192.168.213.10", "via": None, "ssh": SSH,
        "method": "boot", "why": "", "ready_s": 4.5, "dirty": "", "expires": "2030-01-01T00:00:00Z",
        "state": "running", "owner": "me", "purpose": "user",
    }  # fmt: skip
    return row | changes


def _ask(tmp_path: Path, document: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the script; its wsklab prints `document` and ends with `code`."""
    (tmp_path / "document").write_text(document)
    fake = tmp_path / "fake lab"
    fake.write_text(f'#!/bin/sh\n[ "$*" = "list --json" ] || exit 9\ncat {tmp_path / "document"}\nexit {code}\n')
    fake.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "ANSIBLE_WSKLAB": shlex.quote(str(fake))}
    return subprocess.run([str(SCRIPT), *words], env=environ, capture_output=True, text=True, check=False)


def test_groups_are_kinds_and_profiles(tmp_path: Path) -> None:
    """Every running guest is in the group of its kind and of its profile, whose names Ansible takes."""
    rows = [_row("a"), _row("w", kind="windows", profile="win11-24h2"), _row("off", state="off")]
    document = json.loads(_ask(tmp_path, json.dumps({"guests": rows}), "--list").stdout)

    assert document["guests"]["children"] == ["win11_24h2", "windows", "wine", "wine_bookworm"]
    assert {name: document[name]["hosts"] for name in document["guests"]["children"]} == {
        "wine": ["a"], "wine_bookworm": ["a"], "windows": ["w"], "win11_24h2": ["w"],
    }  # fmt: skip
    assert set(document["_meta"]["hostvars"]) == {"a", "w"}


def test_the_printed_ssh_command_is_what_ansible_gets(tmp_path: Path) -> None:
    """Host, user and options, quoted so that Ansible's splitting gives the same words back."""
    result = _ask(tmp_path, json.dumps({"guests": [_row("a")]}), "--host", "a")
    variables = json.loads(result.stdout)

    assert (variables["ansible_host"], variables["ansible_user"]) == ("g", "Administrator")
    assert shlex.split(variables["ansible_ssh_common_args"]) == SSH[1:-1]
    assert (variables["wsklab_kind"], variables["wsklab_owner"]) == ("wine", "me")
    assert json.loads(_ask(tmp_path, json.dumps({"guests": []}), "--host", "a").stdout) == {}


def test_no_guests_are_an_empty_inventory(tmp_path: Path) -> None:
    """A lab without guests is no error."""
    document = json.loads(_ask(tmp_path, '{"guests": []}', "--list").stdout)
    assert document == {"_meta": {"hostvars": {}}, "guests": {"children": []}}


@pytest.mark.parametrize(
    ("document", "said"),
    [("", "gave no document"), ("no json", "gave no document"), ('{"error": {"message": "no daemon"}}', "no daemon")],
)
def test_a_lab_that_fails_is_said_in_a_line(tmp_path: Path, document: str, said: str) -> None:
    """Ansible shows the script's standard error; there is no traceback in it."""
    result = _ask(tmp_path, document, "--list", code=3)
    assert (result.returncode, said in result.stderr, "Traceback" in result.stderr) == (1, True, False)


@pytest.mark.parametrize("words", [(), ("--list", "x"), ("--host",)])
def test_other_words_are_a_usage_error(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Only what Ansible calls."""
    assert _ask(tmp_path, "{}", *words).returncode == 2
