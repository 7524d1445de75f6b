"""The device: decides in real time, keeps what is worth learning from, and updates itself all or nothing.

The names load on first use: `edge serve` needs none of the device itself, and must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise._late import late_names

if TYPE_CHECKING:
    from edgewise.edge.device import Device
    from edgewise.edge.outbox import Outbox
    from edgewise.edge.update import Updater

__all__ = ["Device", "Outbox", "Updater"]

__getattr__ = late_names(__name__, {"device": ("Device",), "outbox": ("Outbox",), "update": ("Updater",)})
