"""What `wskctl provision` reports is read strictly: wrong settings, reports that are none, imported disks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsklab.channel.fake import Ended, FakeChannel
from wsklab.deadline import Deadline, Timeouts
from wsklab.errors import ImageError
from wsklab.image.import_disk import Importer
from wsklab.image.provisioning import build_of, checks, edition_of, require_step, run_step, steps

KEY = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"


def report(*settings: dict[str, Any], ok: bool = True) -> Ended:
    return Ended(stdout=json.dumps({"step": "x", "settings": settings, "ok": ok, "changed": False}), exit_code=not ok)


def setting(name: str, *, ok: bool, why: str = "") -> dict[str, Any]:
    made = {"name": name, "wanted": "1", "before": None, "after": None if not ok else "1", "ok": ok}
    return {**made, "why": why} if why else made


def channel(**steps: Ended) -> FakeChannel:
    """`quiet` and `quiet --check` by their first words."""
    return FakeChannel(
        {rf"C:\wsklab\wskctl.exe provision {name.replace('_', '-')}": end for name, end in steps.items()}
    )


def soon() -> Deadline:
    return Deadline.after(1)


def test_looking_changes_nothing() -> None:
    """The command says so; doing has no such word."""
    fake = FakeChannel()
    fake.commands = {r"C:\wsklab\wskctl.exe provision quiet --check": report(setting("a", ok=True))}
    assert run_step(fake, "quiet", soon(), look=True) is None
    assert fake.history == [r"C:\wsklab\wskctl.exe provision quiet --check"]
    with pytest.raises(ImageError, match="does not report on the step quiet"):
        run_step(fake, "quiet", soon(), look=False)


def test_what_is_wrong_is_named_with_its_reason() -> None:
    """Name, what is wanted, what is, why."""
    end = report(setting("good", ok=True), setting("testsigning", ok=False, why="Secure Boot"), ok=False)
    wrong = run_step(channel(boot=end), "boot", soon(), look=False)
    assert wrong is not None
    assert wrong.words == ("testsigning: wanted 1, is None (Secure Boot)",)
    with pytest.raises(ImageError) as caught:
        require_step(FakeChannel({r"C:\wsklab\wskctl.exe provision boot --check": end}), "boot", soon())
    assert "testsigning" in caught.value.why


def test_not_well_without_a_reason_is_not_well() -> None:
    """`ok` false and every setting fine: somebody lies."""
    wrong = run_step(channel(boot=report(setting("a", ok=True), ok=False)), "boot", soon(), look=False)
    assert wrong is not None
    assert "names nothing" in wrong.words[0]


@pytest.mark.parametrize(
    "said", ["", "nonsense", "[]", "{}", '{"settings": 3, "ok": true}', '{"settings": [{}], "ok": true}']
)
def test_a_report_that_is_none(said: str) -> None:
    """What a guest says is not trusted."""
    with pytest.raises(ImageError, match="does not report"):
        run_step(channel(boot=Ended(stdout=said)), "boot", soon(), look=False)


def test_the_system_says_what_it_is() -> None:
    """Numbers as reg prints them, decimal and hexadecimal."""
    lines = {"CurrentBuildNumber": ("SZ", "20348"), "UBR": ("DWORD", "0x24b"), "EditionID": ("SZ", "ServerStandard")}
    fake = FakeChannel(
        {
            f'reg query "{KEY}" /v {name}': Ended(stdout=f"\r\n{KEY}\r\n    {name}    REG_{kind}    {value}\r\n\r\n")
            for name, (kind, value) in lines.items()
        }
    )
    assert (build_of(fake, soon()), edition_of(fake, soon())) == ("20348.587", "ServerStandard")
    fake.commands[f'reg query "{KEY}" /v UBR'] = Ended(stdout="ERROR")
    with pytest.raises(ImageError, match="does not say its UBR"):
        build_of(fake, soon())


def test_an_imported_disk_that_lacks_something(tmp_path: Path) -> None:
    """All that is missing is told at once, with the way to mend it."""
    factory: Any = type("Factory", (), {"timeouts": Timeouts()})()
    importer = Importer(
        factory=factory, disk=tmp_path / "mine.qcow2", account="me", provision=False,
        control=tmp_path, certificate=tmp_path, owner="o",
    )  # fmt: skip
    ends = {step: report(setting("a", ok=True)) for step in checks("me")}
    ends["boot"] = report(setting("testsigning", ok=False), ok=False)
    ends["quiet"] = report(setting("wuauserv", ok=False), ok=False)
    fake = FakeChannel({rf"C:\wsklab\wskctl.exe provision {step} --check": end for step, end in ends.items()})
    with pytest.raises(ImageError, match=r"mine\.qcow2 is not as guests of the lab have to be") as caught:
        importer._require(fake)
    assert "boot: testsigning" in caught.value.why
    assert "quiet: wuauserv" in caught.value.why
    assert "--provision" in caught.value.fix


def test_provisioning_does_more_than_asking() -> None:
    """The certificate has a file to come from."""
    assert set(checks("me")) < set(steps("me"))
    assert any(step.startswith("trust --file") for step in steps("me"))
