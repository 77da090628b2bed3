"""Which runs need guests that reach each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsklab.resources import conformance_root
from wsklab.run_guests import wants_several


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("@pytest.mark.lab_guests(2)\ndef test_pair(lab_guests): ...\n", True),
        ("pytestmark = [pytest.mark.lab_guests(2)]\n", True),
        ("PAIR = pytest.mark.lab_guests(2)\n", True),
        ("@pytest.mark.lab_guests(3)\ndef test_three(lab_guests): ...\n", False),
        ("@pytest.mark.lab_guests('a', 'c')\ndef test_others(lab_guests): ...\n", False),
        ("@pytest.mark.lab_guests('a', 'a', 'a')\ndef test_three(lab_guests): ...\n", False),
        ("class TestPair:\n    @pytest.mark.lab_guests('a', 'b')\n    def test(self): ...\n", True),
        ('"""lab_guests(2) is explained here."""\n# pytest.mark.lab_guests(2)\n', False),
        ("def test_one(guest): ...\n", False),
    ],
)
def test_a_case_that_leases_several_guests_is_seen(tmp_path: Path, text: str, several: bool) -> None:
    """The mark with guests that the run has, in a file that is named or below a folder that is."""
    file = tmp_path / "deep" / "test_it.py"
    file.parent.mkdir()
    file.write_text(text)
    assert wants_several([file], {"a", "b"}, 2) is several
    assert wants_several([tmp_path], {"a", "b"}, 2) is several
    assert wants_several([], {"a", "b"}, 2) is False


@pytest.mark.parametrize(("each", "several"), [(1, False), (2, True)])
def test_our_own_cases_want_two_guests_of_a_profile(each: int, several: bool) -> None:
    """A run with one guest of each keeps its private wires: forks on them need no new identity."""
    assert wants_several([conformance_root()], {"wine-bookworm", "wine-trixie"}, each) is several
