"""The device: decides in real time, keeps what is worth learning from, and updates itself all or nothing."""

from edgewise.edge.device import Device
from edgewise.edge.outbox import Outbox
from edgewise.edge.update import Updater

__all__ = ["Device", "Outbox", "Updater"]
