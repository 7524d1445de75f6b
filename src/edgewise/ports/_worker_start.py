"""A worker's first module: ``python -m edgewise.ports._worker_start ORDER``.

A worker needs the error families of `wire` and none of its records, whose checkers take 13 MB and more than half of
its start. So the room is entered by its side door: a package of the same name and place, with the errors only. What
runs in a worker may import nothing else from there; a mistake ends the worker at once, in the first test.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types


def enter_by_the_side() -> None:
    """Let ``edgewise.wire`` be its errors, in this process."""
    found = importlib.util.find_spec("edgewise.wire")  # looks, and does not load it
    assert found is not None
    assert found.submodule_search_locations is not None
    room = types.ModuleType("edgewise.wire")
    room.__path__ = list(found.submodule_search_locations)
    room.__spec__ = found
    sys.modules["edgewise.wire"] = room
    errors = importlib.import_module("edgewise.wire.errors")
    for name in ("EdgewiseError", "NotNow", "NotTrusted", "NotValid"):
        setattr(room, name, getattr(errors, name))


if __name__ == "__main__":
    enter_by_the_side()
    importlib.import_module("edgewise.ports._worker_child").main(json.loads(sys.argv[1]))
