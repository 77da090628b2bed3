"""What is broken on purpose, a number of times: a few in CI, thousands in `tox -e soak` (`--cycles N`)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_home import LabCommand, furnish


@pytest.fixture(scope="session")
def cycles(pytestconfig: pytest.Config) -> int:
    """How often."""
    return int(pytestconfig.getoption("--cycles"))


#: From so many cycles on it is a soak: then everything is broken, and every scenario so often.
_SOAK = 200
_ROUNDS = 10


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each scenario once, or ten times in a soak."""
    soak = metafunc.config.getoption("--cycles") >= _SOAK
    if soak and metafunc.module.__name__.endswith("test_scenarios"):
        metafunc.parametrize("round_", range(_ROUNDS), indirect=True)


@pytest.fixture(autouse=True)
def round_(request: pytest.FixtureRequest) -> int:
    """Which time it is; of every test, because only a fixture that a test has can be given values."""
    return int(getattr(request, "param", 0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the scenarios only a few in CI: those that cost seconds."""
    if config.getoption("--cycles") >= _SOAK:
        return
    rare = [
        item
        for item in items
        if item.path.name == "test_scenarios.py"
        and not item.get_closest_marker("often")
        and item.name not in str(config.option.keyword or "")
    ]
    config.hook.pytest_deselected(items=rare)
    items[:] = [item for item in items if item not in rare]


@pytest.fixture
def rng() -> random.Random:
    """Repeatable as far as processes are: the seed is printed when a test fails."""
    seed = int(os.environ.get("WSKLAB_CHAOS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WSKLAB_CHAOS_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)  # noqa: S311 - repeatable on purpose


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabCommand]:
    """Commands on a home of the test's own; nothing of it survives."""
    if os.geteuid() != 0:
        pytest.skip("private mode needs root")
    home = tmp_path / "home"
    home.mkdir()
    furnish(home)
    made = LabCommand(home, tmp_path)
    yield made
    for row in made.ok("list", "--json")["guests"]:
        made.run("down", row["name"], "--json")
    made.ok("gc", "--json")
    assert made.processes() == []
    assert made.holder() is None
