"""Names of a package that load on first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def late_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` (PEP 562): each name is fetched from its module when it is first asked for.

    Args:
        package: its ``__name__``.
        homes: the names by module, below the package.

    >>> late_names("edgewise.edge", {"unit": ("user_unit",)})("tune")
    Traceback (most recent call last):
    AttributeError: module 'edgewise.edge' has no attribute 'tune'
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def fetch(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        setattr(sys.modules[package], name, value)  # asked once only
        return value

    return fetch
