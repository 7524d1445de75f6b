"""How long the engine of rollouts takes to look at a large fleet, in the situations that cost it most."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass

import numpy as np
from rollout_parts.fleet import situations

from edgewise.hub.rollout import next_steps


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of one call: middle, least and most over the rounds, and the middle of the processor's time."""

    middle: float
    least: float
    most: float
    cpu: float
    steps: int


def timings(devices: int, rounds: int) -> dict[str, Timing]:
    """By situation; the fleet is given, and is built anew for none of the rounds."""
    result = {}
    for name, build in situations(devices).items():
        rollout, fleet, evidence, now = build()
        wall, cpu, steps = [], [], []
        gc.collect()
        for _ in range(rounds):
            began, cpu_began = time.perf_counter(), time.process_time()
            steps = next_steps(rollout, fleet, evidence, now)
            wall.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - cpu_began))
        result[name] = Timing(
            middle=float(np.median(wall)), least=min(wall), most=max(wall), cpu=float(np.median(cpu)), steps=len(steps)
        )
    return result
