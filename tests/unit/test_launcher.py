"""The launcher: what it does on the second start, what it installs, when it asks. Stubs stand for dpkg and apt."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534

#: A program that writes its name and arguments into calls.txt and then does what the test says.
STUB = """#!/bin/bash
printf '%s\\n' "${0##*/} $*" >>"$CALLS"
"""


@dataclasses.dataclass
class Answer:
    """What the launcher said, and the programs that it called."""

    code: int
    out: str
    err: str
    calls: list[str]


class Checkout:
    """A copy of the launcher with its lists, and a PATH of stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "stubs"
        self.calls = folder / "calls.txt"
        self.bin.mkdir()
        (folder / "lab").mkdir()
        shutil.copy(ROOT / "wsklab", folder / "wsklab")
        shutil.copytree(ROOT / "requirements", folder / "requirements")
        (folder / "requirements/debian-packages.txt").write_text("# comment\nqemu-system-x86\n\ncmake # why\n")
        self.stub("dpkg-query", "printf 'cmake installed\\nqemu-system-x86 config-files\\n'")
        self.stub("apt-get")

    def stub(self, name: str, body: str = "") -> None:
        """A program of that name at the front of the PATH."""
        path = self.bin / name
        path.write_text(STUB + body + "\n")
        path.chmod(0o755)

    def environment(self, name: str = ".venv") -> None:
        """A virtual environment whose Python shows how it was called, without a stamp."""
        path = self.folder / name / "bin"
        path.mkdir(parents=True)
        (path / "python").write_text(
            'exec /usr/bin/env -i /bin/bash -c \'printf "%s\\n" "$@"\' -- '
            '"$PYTHONPATH" "$WSKLAB_INTERNAL_LAUNCHER" "$@"\n'
        )
        (path / "python").write_text("#!/bin/bash\n" + (path / "python").read_text())
        (path / "python").chmod(0o755)

    def stamp(self, name: str = ".venv", *lists: str) -> None:
        """Say that the environment is made from today's lists."""
        names = lists or ("build.lock", "runtime.lock", "debian-packages.txt")
        texts = [(self.folder / "requirements" / part).read_text().rstrip("\n") for part in names]
        (self.folder / name / "wsklab.stamp").write_text("\n".join([str(self.folder), *texts]) + "\n")

    def start(self, *argv: str, user: int | None = None) -> Answer:
        """Run the launcher without a terminal."""
        self.calls.write_text("")
        self.calls.chmod(0o666)
        result = subprocess.run(
            [str(self.folder / "wsklab"), *argv],
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), "CALLS": str(self.calls)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            user=user,
        )
        return Answer(result.returncode, result.stdout, result.stderr, self.calls.read_text().splitlines())


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    """A checkout that every user can enter (pytest's own folders are 0700)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Checkout(folder)


def unprivileged() -> int | None:
    """A user id for the child: nobody when the tests run as root, else our own."""
    return NOBODY if os.geteuid() == 0 else None


def test_second_start_calls_nothing_but_python(checkout: Checkout) -> None:
    """With a current stamp neither dpkg nor apt is called; Python gets the arguments as they are."""
    checkout.environment()
    checkout.stamp()

    answer = checkout.start("up", "a b", "--json", "--", "--yes")

    assert (answer.code, answer.calls) == (0, [])
    assert answer.out.splitlines() == [
        f"{checkout.folder}/lab", f"{checkout.folder}/wsklab", "-m", "wsklab", "up", "a b", "--json", "--", "--yes",
    ]  # fmt: skip


def test_consent_is_the_launchers_own_option(checkout: Checkout) -> None:
    """--yes does not reach the command; behind -- it belongs to somebody else."""
    checkout.environment()
    checkout.stamp()

    assert checkout.start("run", "--yes", "--json").out.splitlines()[2:] == ["-m", "wsklab", "run", "--json"]


def test_selftest_is_tox_in_its_own_environment(checkout: Checkout) -> None:
    """`selftest` starts tox from the development lock; arguments go to tox."""
    checkout.environment(".venv-dev")
    checkout.stamp(".venv-dev", "build.lock", "dev.lock", "debian-packages.txt", "debian-packages-test.txt")

    answer = checkout.start("selftest", "-e", "unit")

    assert answer.out.splitlines()[2:] == ["-m", "tox", "run", "-e", "unit"]


def test_missing_packages_need_consent(checkout: Checkout) -> None:
    """A user who cannot be asked gets exit code 2, told what is missing; nothing is installed."""
    answer = checkout.start("list", user=unprivileged())

    assert (answer.code, answer.out) == (2, "")
    assert "qemu-system-x86" in answer.err
    assert "needs your consent" in answer.err
    assert [call for call in answer.calls if call.startswith("apt-get") and " -y" in call] == []


def test_json_mode_answers_with_a_document(checkout: Checkout) -> None:
    """Under --json the refusal is a document on standard output, the talk is on standard error."""
    answer = checkout.start("list", "--json", user=unprivileged())

    document = json.loads(answer.out)
    assert (answer.code, document["schema"], document["error"]["class"]) == (2, 1, "UsageError")


@pytest.mark.skipif(os.geteuid() != 0, reason="a user's consent is never taken as given")
def test_root_without_a_terminal_installs_what_is_missing(checkout: Checkout) -> None:
    """In CI and containers only missing packages are installed, without recommended ones."""
    checkout.stub("apt-get", 'case "$*" in *" -y "*) exit 1 ;; esac')

    answer = checkout.start("list")

    installs = [call for call in answer.calls if " -y " in call]
    assert installs == ["apt-get install --no-install-recommends -q -y qemu-system-x86"]
    assert (answer.code, answer.out) == (3, "")


def test_changed_lock_is_noticed(checkout: Checkout) -> None:
    """A stamp of another lock is not current: packages are looked at again."""
    checkout.environment()
    checkout.stamp()
    lock = checkout.folder / "requirements/runtime.lock"
    lock.write_text(lock.read_text() + "# changed\n")

    answer = checkout.start("list", user=unprivileged())

    assert [call.split()[0] for call in answer.calls][:1] == ["dpkg-query"]


@pytest.mark.parametrize("path", ["requirements/runtime.lock", "requirements/dev.lock", "requirements/build.lock"])
def test_locks_are_complete(path: str) -> None:
    """Every locked package has an exact version and hashes; no index, no host, no local path."""
    entries = (ROOT / path).read_text().replace("\\\n", " ").splitlines()
    packages = [entry for entry in entries if entry and not entry.startswith("#")]

    assert [entry for entry in packages if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert [entry for entry in entries if "://" in entry or entry.startswith(("-", "/"))] == []


def test_runtime_lock_serves_the_declared_dependencies() -> None:
    """Each dependency of pyproject.toml is in the runtime lock, and the development lock agrees with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {requirement.split(">")[0] for requirement in project["dependencies"]}
    runtime, dev = (
        versions((ROOT / "requirements" / name).read_text().splitlines()) for name in ("runtime.lock", "dev.lock")
    )

    assert declared - set(runtime) == set()
    assert {name: dev.get(name) for name in runtime} == runtime


def versions(lines: Sequence[str]) -> dict[str, str]:
    """Name to version of a lock file."""
    heads = [line.split()[0] for line in lines if "==" in line and not line.startswith((" ", "#"))]
    return dict(head.split("==", 1) for head in heads)
