"""The data plan of the factory: which picture trains the first network, passes a device, or is only measured on."""

from __future__ import annotations

from pathlib import Path

from edgewise.apps.factory._generated import SIZES, generated_plan
from edgewise.apps.factory._plan import Measure, Picture, Plan
from edgewise.apps.factory._real import find_data, real_plan

__all__ = ["SIZES", "Measure", "Picture", "Plan", "find_data", "generated_plan", "make_plan", "real_plan"]


def make_plan(data_root: Path | str | None, *, seed: int, rounds: int, size: str = "full") -> Plan:
    """The plan on real photographs where a folder is named, else on generated pictures.

    Args:
        data_root: the data root or the factory's own folder in it; None or empty for generated pictures.
        size: for generated pictures, a key of SIZES; real data is taken whole.
    Raises:
        NotValid: the folder does not hold the data.
    """
    if data_root:
        return real_plan(data_root, seed, rounds)
    return generated_plan(seed, rounds, size)
