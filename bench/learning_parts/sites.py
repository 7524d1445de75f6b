"""What a variant for a site is worth, and what the gate says of it: `python -m learning_parts.sites` in `bench`.

The pictures' world of the learning benchmark (`world.py`): a network trained on all sites before any drift; then each
site drifts, its device takes the frames that its bounds allow, and its sums make a variant. Both are examined on parts
that nothing else saw, and judged by the gate on labelled parts of that site's stream, as many as a site has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from learning_parts.rounds import MADE_AT, WHOLE, Opened, World, first_bundle, for_site
from learning_parts.world import FIRST_CLASSES, GOOD, ROUNDS, SITES, Crop, SitePlan, base_crops, examination, stream

from edgewise.edge._norm_looks import NormLimits
from edgewise.measure import judge_site_variant, score_sites
from edgewise.ports import StoredBundle
from edgewise.wire import Prediction, Scorecard, UseCase

SEEDS = (10, 11, 12, 13, 14)  # nothing was chosen on them
ROUND = ROUNDS - 2  # every drift has its full strength; the seventh class is there at two sites
EXAM_PARTS = 60  # of each class
LABELLED = (40, 160)  # parts of a site's stream that are labelled for the gate
LIMITS = NormLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One site of one seed."""

    seed: int
    drift: str
    base: float
    variant: float
    results: dict[int, str]  # the gate's word, by how many labelled parts


def rows_of(seed: int) -> list[Row]:
    """Each site's variant of one network, examined and judged."""
    world = World(seed=seed, base=base_crops(seed), streams={}, examinations={})
    first = first_bundle(world, WHOLE)  # as the trainer makes it by default
    return [_row(seed, first, site) for site in SITES]


def _row(seed: int, first: StoredBundle, site: SitePlan) -> Row:
    seen = stream(seed, site, ROUND, frames=LIMITS.frames * LIMITS.every)
    variant, _ = for_site(first, site, seen[LIMITS.every - 1 :: LIMITS.every])
    exam = [crop for crop in examination(seed, site, ROUND + 1, EXAM_PARTS) if crop.label in FIRST_CLASSES]
    recalls = [_macro(Opened.of(bundle).recalls(exam)) for bundle in (first, variant)]
    labelled = _one_a_part(
        stream(seed + 1000, site, ROUND, frames=5 * max(LABELLED))
    )  # a part is in four frames on average
    cards = [_card(bundle, labelled, site.name) for bundle in (first, variant)]
    results = {count: _judged(cards, count, site.name) for count in LABELLED}
    return Row(seed=seed, drift=site.drift, base=recalls[0], variant=recalls[1], results=results)


def _macro(recalls: dict[str, float]) -> float:
    return sum(recalls.values()) / len(recalls)


def _one_a_part(crops: Sequence[Crop]) -> list[Crop]:
    """The first frame of each part of a class that the network knows."""
    first = {crop.group: crop for crop in reversed(crops)}
    return [crop for crop in reversed(first.values()) if crop.label in FIRST_CLASSES][: max(LABELLED)]


def _card(bundle: StoredBundle, crops: Sequence[Crop], site: str) -> Scorecard:
    opened = Opened.of(bundle)
    told = opened.look(crops).scores.argmax(axis=1)
    predictions = tuple(
        Prediction(sample=f"{at:032x}", site=site, group=crop.group, truth=crop.label, label=opened.labels[int(place)])
        for at, (crop, place) in enumerate(zip(crops, told, strict=True))
    )
    sites, overall = score_sites((), good_labels=(GOOD,))
    return Scorecard(bundle=bundle.digest, made_at=MADE_AT, sites=sites, overall=overall, predictions=predictions)


def _judged(cards: Sequence[Scorecard], count: int, site: str) -> str:
    use_case = UseCase.model_validate({
        "name": "surfaces", "app": "factory",
        "outcome": {"goal": "find defects", "labels": list(FIRST_CLASSES), "good_labels": [GOOD]},
        "people": {"owner": "a", "approver": "b", "oversight": "line"}, "sites": [{"name": site}],
    })  # fmt: skip
    base, variant = (card.model_copy(update={"predictions": card.predictions[:count]}) for card in cards)
    return judge_site_variant(variant, base, site=site, use_case=use_case, now=MADE_AT).result


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown: by drift, and what the gate let pass."""
    lines = [
        "| drift | base | variant | gain, lowest to highest of the seeds | passed at "
        + " / ".join(f"{count} parts" for count in LABELLED)
        + " |",
        "|---|---|---|---|---|",
    ]
    for site in SITES:
        mine = [row for row in rows if row.drift == site.drift]
        gains = [row.variant - row.base for row in mine]
        passed = " / ".join(
            f"{sum(row.results[count] == 'passed' for row in mine)} of {len(mine)}" for count in LABELLED
        )
        lines.append(
            f"| {site.drift} | {_mean([row.base for row in mine]):.3f} | {_mean([row.variant for row in mine]):.3f} | "
            f"{_mean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f}) | {passed} |"
        )
    for count in LABELLED:
        through = [row.variant - row.base for row in rows if row.results[count] == "passed"]
        held = [row.variant - row.base for row in rows if row.results[count] != "passed"]
        words = f"At {count} labelled parts the gate passed {len(through)} of {len(rows)}"
        if through:
            words += f", on average {_mean(through):+.3f}, the worst {min(through):+.3f}"
        lines += ["", words + (f"; those that it held {_mean(held):+.3f} on average." if held else ".")]
    return lines


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def site_figures(seeds: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """All rows and the table."""
    rows: list[Row] = []
    for seed in seeds:
        rows += rows_of(seed)
        say(f"sites: seed {seed} done, mean gain so far {_mean([row.variant - row.base for row in rows]):+.3f}")
    return {"rows": [asdict(row) for row in rows], "table": table(rows)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    say("\n".join(site_figures(parser.parse_args().seeds, say)["table"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
