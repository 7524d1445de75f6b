"""The plan on generated pictures: four plants of `world.py`, the first network from the one without drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgewise.apps.factory._plan import (
    Measure,
    Part,
    Picture,
    Plan,
    check_rounds,
    cut_reserve,
    cut_rounds,
    index_pictures,
    split_groups,
)
from edgewise.apps.factory.world import GOOD, NAMES, PLANTS, Shot, make_plants
from edgewise.wire import NotValid

FIRST_PLANT = "north"
HOLDOUT_SHARE = 0.35
TEXT = "GENERATED pictures, no photographs: four plants of machined surfaces made from the seed (apps/factory/world.py)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How many pictures a generated run has: of the first plant for the first network, then of each plant."""

    first: int
    each: int


SIZES = {"full": Size(first=420, each=320), "quick": Size(first=420, each=240)}


def generated_plan(seed: int, rounds: int, size: str = "full") -> Plan:
    """The plan on generated pictures; the same seed, rounds and size give the same plan, byte for byte.

    Args:
        size: a key of SIZES.
    Raises:
        NotValid: an unknown size, or a wrong number of rounds.
    """
    check_rounds(rounds)
    if size not in SIZES:
        raise NotValid(f"there is no size {size!r}; known are {', '.join(SIZES)}", code="bad_size")
    chosen = SIZES[size]
    counts = dict.fromkeys(NAMES, chosen.each) | {FIRST_PLANT: chosen.first + chosen.each}
    plants = make_plants(seed, counts)
    early, plants[FIRST_PLANT] = _cut_at_part(plants[FIRST_PLANT], chosen.first)
    streams, held = {}, {}
    for index, (name, shots) in enumerate(plants.items()):
        rng = np.random.Generator(np.random.PCG64([seed, 30, index]))
        kept, part = split_groups(shots, lambda shot: shot.group, lambda shot: shot.label, rng, HOLDOUT_SHARE)
        streams[name] = _pictures(name, "stream", sorted(kept, key=lambda shot: shot.taken_at))
        held[name] = _pictures(name, "holdout", sorted(part, key=lambda shot: shot.taken_at))
    first = _pictures(FIRST_PLANT, "first", early)
    cut = {name: cut_reserve(items) for name, items in streams.items()}
    return Plan(
        data="generated",
        text=TEXT,
        seed=seed,
        rounds=rounds,
        plants=NAMES,
        good_labels=(GOOD,),
        first=first,
        stream={name: cut_rounds(rest, rounds) for name, (rest, _) in cut.items()},
        reserve={name: reserve for name, (_, reserve) in cut.items()},
        measures=tuple(
            Measure(
                name=plant.name, title=f"Plant {plant.name}", plant=plant.name, metric="balanced_accuracy",
                pictures=held[plant.name], note="no drift" if plant.drift == "none" else plant.drift,
            )
            for plant in PLANTS
        ),
        size=size,
        by_name=index_pictures(first, *streams.values(), *held.values()),
    )  # fmt: skip


def _cut_at_part(shots: Sequence[Shot], count: int) -> tuple[list[Shot], list[Shot]]:
    """The first `count` shots, plus the rest of the last part among them, and what follows."""
    end = count
    while end < len(shots) and shots[end].group == shots[count - 1].group:
        end += 1
    return list(shots[:end]), list(shots[end:])


def _pictures(plant: str, part: Part, shots: Sequence[Shot]) -> tuple[Picture, ...]:
    return tuple(
        Picture(
            name=f"{plant}-{part}-{index:05d}.jpg",
            plant=plant,
            data=shot.data,
            label=shot.label,
            group=shot.group,
            taken_at=shot.taken_at,
            uncertain=False,
            part=part,
            source=f"{shot.group}/{index}",
        )
        for index, shot in enumerate(shots)
    )
