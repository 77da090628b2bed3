"""Names for places in the driver that was really built, from its own debug file."""

from __future__ import annotations

from pathlib import Path

import pefile
import pytest

from wsklab.deadline import Deadline
from wsklab.errors import HostError
from wsklab.resources import driver_source_root
from wsklab.symbols import symbol_at
from wsklab.toolchain import build_driver


@pytest.fixture(scope="module")
def debug_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unstripped driver beside the deployed one."""
    built = build_driver(driver_source_root(), tmp_path_factory.mktemp("driver"), deadline=Deadline.after(300))
    found = built.sys.with_name(f"{built.sys.name}.debug")
    assert found.is_file(), sorted(built.sys.parent.iterdir())
    return found


def test_the_entry_point_has_its_name(debug_file: Path) -> None:
    """The entry of the image is DriverEntry, in main.c, at a line."""
    with pefile.PE(str(debug_file), fast_load=True) as image:
        entry = int(image.OPTIONAL_HEADER.AddressOfEntryPoint)
    symbol = symbol_at(debug_file, entry, Deadline.after(20))
    assert symbol is not None
    assert symbol.function == "DriverEntry"
    assert "main.c:" in symbol.line


def test_a_place_outside_has_no_name(debug_file: Path) -> None:
    """Nothing is made up."""
    assert symbol_at(debug_file, 0x7FFFFFF, Deadline.after(20)) is None


def test_text_is_no_debug_file(tmp_path: Path) -> None:
    """The wrong file is named."""
    path = tmp_path / "x.debug"
    path.write_text("text")
    with pytest.raises(HostError, match="debug file"):
        symbol_at(path, 0, Deadline.after(20))
