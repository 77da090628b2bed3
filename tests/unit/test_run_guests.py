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
        ("class TestPair:\n    @pytest.mark.lab_guests('a', 'b')\n    def test(self): ...\n", True),
        ('"""lab_guests(2) is explained here."""\n# pytest.mark.lab_guests(2)\n', False),
        ("def test_one(guest): ...\n", False),
    ],
)
def test_a_case_that_leases_several_guests_is_seen(tmp_path: Path, text: str, several: bool) -> None:
    """The mark where pytest would take it from, in a file that is named or below a folder that is."""
    file = tmp_path / "deep" / "test_it.py"
    file.parent.mkdir()
    file.write_text(text)
    assert wants_several([file]) is several
    assert wants_several([tmp_path]) is several
    assert wants_several([]) is False


def test_the_suite_is_read_without_an_error() -> None:
    """Whatever stands in our own cases."""
    assert wants_several([conformance_root()]) in {True, False}
