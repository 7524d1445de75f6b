"""The device: decides in real time, keeps what is worth learning from, and updates itself all or nothing.

The names load on first use: `edge serve` needs none of the device itself, and must start fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewise.edge.device import Device
    from edgewise.edge.outbox import Outbox
    from edgewise.edge.update import Updater

__all__ = ["Device", "Outbox", "Updater"]

_HOMES = {"Device": "device", "Outbox": "outbox", "Updater": "update"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # asked once only
    return value
