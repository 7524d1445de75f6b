"""A whole fleet in one process under one seed, and a TCP proxy that misbehaves on command."""

from edgewise.sim._evidence import CHECKS, Evidence, broken
from edgewise.sim._faults import Faults, PowerCut
from edgewise.sim._fleet import Fleet, FleetResult, run_fleet
from edgewise.sim._proxy import FaultProxy, Weather

__all__ = [
    "CHECKS",
    "Evidence",
    "FaultProxy",
    "Faults",
    "Fleet",
    "FleetResult",
    "PowerCut",
    "Weather",
    "broken",
    "run_fleet",
]
