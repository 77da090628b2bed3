"""The examples that `tox -e soak` draws for the unit tests; everywhere else they are the same every time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("soak", max_examples=5000, deadline=None, print_blob=True)
