"""The error hierarchy, as drawn and as it is."""

from __future__ import annotations

import inspect
import traceback

import wsklab.errors as module
from wsklab.errors import HostFull, LabError


def drawn_tree() -> dict[str, str]:
    """Class name to parent name, from the drawing in the module's docstring."""
    tree: dict[str, str] = {}
    path: list[str] = []
    inside = False
    for line in (module.__doc__ or "").splitlines():
        text = line.strip()
        if text == "LabError":
            inside = True
            path = ["LabError"]
            continue
        if not inside or not text:
            continue
        branch = line.index("─ ") + 2
        name = line[branch:].split()[0]
        depth = (branch - 4) // 3
        tree[name] = path[depth - 1]
        path[depth:] = [name]
    return tree


def real_tree() -> dict[str, str]:
    """Class name to the parent inside the hierarchy, from the classes."""
    found: dict[str, str] = {}
    for name, thing in inspect.getmembers(module, inspect.isclass):
        if issubclass(thing, LabError) and thing is not LabError:
            found[name] = next(base.__name__ for base in thing.__bases__ if issubclass(base, LabError))
    return found


def test_drawing_equals_classes() -> None:
    """The tree in the docstring is the tree of the classes."""
    assert drawn_tree() == real_tree()


def test_every_error_is_exported() -> None:
    """`__all__` lists every class of the tree, sorted."""
    assert module.__all__ == sorted({"LabError", *real_tree()})


def test_every_error_is_explained() -> None:
    """Each class has a docstring of its own."""
    assert [name for name in module.__all__ if not vars(getattr(module, name)).get("__doc__")] == []


def test_a_traceback_ends_with_what_to_do() -> None:
    """Where nobody catches an error, its cause and its remedy are shown as well."""
    error = HostFull("no room", why="it is full", fix="make some")
    assert traceback.format_exception(error)[-3:] == [
        "wsklab.errors.HostFull: no room\n",
        "why: it is full\n",
        "fix: make some\n",
    ]
