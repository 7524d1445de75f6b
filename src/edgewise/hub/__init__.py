"""The cloud half: it stores what devices send exactly once, judges, signs nothing but assignments, and rolls out.

The names load on first use, so that reading a use case needs no database library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise._late import late_names

if TYPE_CHECKING:
    from edgewise.hub._hub import Hub, HubConfig
    from edgewise.hub.api import create_app, create_device_app
    from edgewise.hub.door import LocalDoor
    from edgewise.hub.limits import Limits
    from edgewise.hub.serve import serve
    from edgewise.hub.store import Store
    from edgewise.hub.usecase_text import read_policy, read_usecase, usecase_schema

__all__ = [
    "Hub",
    "HubConfig",
    "Limits",
    "LocalDoor",
    "Store",
    "create_app",
    "create_device_app",
    "read_policy",
    "read_usecase",
    "serve",
    "usecase_schema",
]

__getattr__ = late_names(
    __name__,
    {
        "_hub": ("Hub", "HubConfig"),
        "api": ("create_app", "create_device_app"),
        "door": ("LocalDoor",),
        "limits": ("Limits",),
        "serve": ("serve",),
        "store": ("Store",),
        "usecase_text": ("read_policy", "read_usecase", "usecase_schema"),
    },
)
