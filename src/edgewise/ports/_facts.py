"""What is true of the machine now: power, network, load, free disk; read for conditions such as ``battery ge 40``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

Fact: TypeAlias = str | float | int | bool
LOAD_IDLE_MAX = 0.3  # our choice: less than a third of the processors busy over the last minute
ROUTES = Path("/proc/net/route")
# How Linux names its network devices (systemd.net-naming-scheme): en, eth wired; wl wireless; ww mobile.
KINDS = (("wl", "wifi"), ("ww", "mobile"), ("ppp", "mobile"), ("en", "wired"), ("eth", "wired"))


class Facts(Protocol):
    """Facts by name, such as ``battery_percent``. A fact that cannot be told now is left out."""

    def read(self) -> Mapping[str, Fact]:
        """What is true now. Raises nothing: not to know is an answer."""


class MemoryFacts:
    """Facts that change only when told.

    >>> facts = MemoryFacts(battery_percent=40)
    >>> facts.tell(battery_percent=39, idle=True)
    >>> facts.read()
    {'battery_percent': 39, 'idle': True}
    """

    def __init__(self, **values: Fact) -> None:
        self._values = dict(values)

    def read(self) -> Mapping[str, Fact]:
        return dict(self._values)

    def tell(self, **values: Fact) -> None:
        self._values |= values

    def forget(self, *names: str) -> None:
        for name in names:
            self._values.pop(name, None)


class SystemFacts:
    """Facts of this machine.

    ``battery_percent`` (0 to 100) and ``charging`` where there is a battery; ``network`` (wired, wifi, mobile, other)
    of the default route, ``network_metered`` where that is mobile; ``load_share`` (running processes of the last minute
    over processors) and ``idle``; ``disk_free_mb`` of the folder's disk.

    Args:
        folder: on the disk that matters.
        stated: facts that a person states; they win, for the system cannot know whether a network is metered.
    """

    def __init__(self, folder: Path, stated: Mapping[str, Fact] | None = None) -> None:
        self._folder = folder
        self._stated = dict(stated or {})

    def read(self) -> Mapping[str, Fact]:
        found: dict[str, Fact] = {}
        for ask in (self._power, self._load, self._disk, self._network):
            # Whatever a machine cannot tell, in whichever way it says so, is left out.
            with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError, RuntimeError):
                found |= ask()
        return found | self._stated

    def _power(self) -> dict[str, Fact]:
        import psutil

        battery = psutil.sensors_battery()
        if battery is None:
            return {}
        found: dict[str, Fact] = {"battery_percent": round(battery.percent)}
        return found if battery.power_plugged is None else found | {"charging": bool(battery.power_plugged)}

    def _load(self) -> dict[str, Fact]:
        share = os.getloadavg()[0] / (os.cpu_count() or 1)
        return {"load_share": round(share, 1), "idle": share <= LOAD_IDLE_MAX}

    def _disk(self) -> dict[str, Fact]:
        return {"disk_free_mb": shutil.disk_usage(self._folder).free // 10_000_000 * 10}

    def _network(self) -> dict[str, Fact]:
        kind = network_kind(ROUTES.read_text())
        if kind is None:
            return {}
        return {"network": kind, "network_metered": True} if kind == "mobile" else {"network": kind}


def network_kind(routes: str) -> str | None:
    """The kind of the default route in the text of ``/proc/net/route``; None without one.

    >>> network_kind("Iface Destination Gateway Flags RefCnt Use Metric\\nwlan0 00000000 0100A8C0 0003 0 0 600\\n")
    'wifi'
    """
    rows = [line.split() for line in routes.splitlines()[1:]]
    default = [(int(row[6]), row[0]) for row in rows if len(row) > 6 and row[1] == "00000000"]
    if not default:
        return None
    _, name = min(default)
    return next((kind for start, kind in KINDS if name.startswith(start)), "other")
