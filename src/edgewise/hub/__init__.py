"""The cloud half: it stores what devices send exactly once, judges, signs nothing but assignments, and rolls out.

The names load on first use, so that reading a use case needs no database library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewise.hub._hub import Hub, HubConfig
    from edgewise.hub.api import create_app, create_device_app
    from edgewise.hub.door import LocalDoor
    from edgewise.hub.limits import Limits
    from edgewise.hub.serve import serve
    from edgewise.hub.store import Store
    from edgewise.hub.usecase_text import read_usecase, usecase_schema

__all__ = [
    "Hub",
    "HubConfig",
    "Limits",
    "LocalDoor",
    "Store",
    "create_app",
    "create_device_app",
    "read_usecase",
    "serve",
    "usecase_schema",
]

_HOME_OF = {
    "Hub": "_hub",
    "HubConfig": "_hub",
    "Limits": "limits",
    "LocalDoor": "door",
    "Store": "store",
    "create_app": "api",
    "create_device_app": "api",
    "read_usecase": "usecase_text",
    "serve": "serve",
    "usecase_schema": "usecase_text",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value  # asked once only
    return value
