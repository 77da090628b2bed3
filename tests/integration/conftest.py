"""What the tests of this folder share."""

from __future__ import annotations

import pytest
from local_wine import Prepared, prepare


@pytest.fixture(scope="session")
def prepared_wine(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """What every driver under a Wine of this host begins with."""
    return prepare(tmp_path_factory.mktemp("wine"))
