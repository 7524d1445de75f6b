"""How soon a drift is seen, for how few bytes and false alarms: `python -m learning_parts.drift` in `bench`.

The pictures' world of the learning benchmark (`world.py`), a network trained on it, and a fleet of bursty streams: a
device-day is 75 parts of one to seven frames each, about 300 frames, drawn from pools of embedded parts of its site.
1,000 healthy devices for 44 days; 40 devices for each drift, which begins on day 14 for good. Everything goes through
the product's own parts: `Sketcher`, the sketch's bytes, `yardstick`, `find_change`, `cohort_days`.

Peers look at the same streams: Kolmogorov–Smirnov and PSI on confidence, chi-squared on classes, MMD on embeddings;
each at the textbook's threshold (how many healthy devices alarm) and at one that no healthy device reaches.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from learning_parts import world
from learning_parts.generated import interval
from learning_parts.rounds import PLAIN, Opened, World, first_bundle
from numpy.typing import NDArray
from scipy import stats

from edgewise.edge._day_sketch import GREY, LIGHT_EVERY
from edgewise.frames import prepare
from edgewise.measure import MEAN_DAYS, Sketcher, Yardstick, cohort_days, find_change, light_of, yardstick
from edgewise.measure._sketch import confidence_bin
from edgewise.wire import DaySketch
from edgewise.wire.sketch import BINS, STEPS

SEEDS = (9, 10, 11)  # settings were chosen on seeds 0 and 3 to 5
PARTS = 75  # of a device-day
HEALTHY, DRIFTED, COHORT = 1000, 40, 10
BEFORE, LOOKED = 14, 30  # days before a drift, and days in which a false alarm counts
POOL_PARTS, DRIFT_PARTS = 1200, 300  # of a site
DRIFT_SITES = 4  # at which each drift happens
PEER_HEALTHY, PEER_DRIFTED, PEER_REFERENCE = 100, 20, 600
NEW_SHARE = 0.05
GROSS = ("blur", "contrast", "noise", "material")
WITHIN = {**dict.fromkeys(GROSS, 2), "class prior": 7, "light": 7, "new defect": 7}
NEEDED = {**dict.fromkeys(GROSS, 1.0), "class prior": 0.95, "light": 0.95, "new defect": 0.70}
FALSE_MAX, BYTES_MAX = 3, 150
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Parts of one site and state: per part what a sketch sums, and the frames themselves for the peers."""

    parts: Ints  # (P, 1 + 16 + classes + 6 + 12)
    frames: list[NDArray[np.int64]]  # of each part, places in the next three
    embeddings: NDArray[np.float32]
    confidence: NDArray[np.float32]
    lights: NDArray[np.int64]  # (frames, 3)


@dataclass(kw_only=True, slots=True)
class Maker:
    """Makes pools with one network."""

    opened: Opened
    sketcher: Sketcher
    rng: np.random.Generator

    @classmethod
    def of(cls, seed: int) -> Maker:
        base = world.base_crops(seed)
        made = World(seed=seed, base=base, streams={}, examinations={})
        opened = Opened.of(first_bundle(made, PLAIN))
        look = opened.look(base)
        return cls(
            opened=opened,
            sketcher=Sketcher.fit(look.embeddings, look.scores.argmax(axis=1)),
            rng=np.random.default_rng([seed, 77]),
        )

    def pool(
        self, site: world.SitePlan, parts: int, shares: Mapping[str, float], *, drift: str = "none", gain: float = 1.0
    ) -> Pool:
        names, weights = list(shares), list(shares.values())
        plan, drifted = replace(site, drift=drift), 0.0 if drift == "none" else 1.0
        crops, owners = list[world.Crop](), list[int]()
        for number in range(parts):
            label = str(self.rng.choice(names, p=weights))
            frames = int(self.rng.integers(1, 8))
            crops += world._part(self.rng, plan, label, drifted, "", frames=frames)
            owners += [number] * frames
        if gain != 1.0:
            crops = [replace(crop, data=_brighter(crop.data, gain)) for crop in crops]
        look = self.opened.look(crops)
        decided, confidence = look.scores.argmax(axis=1), look.scores.max(axis=1)
        classes = len(self.opened.labels)
        owner = np.array(owners)
        found = []
        for number in range(parts):
            mine = owner == number
            one = self.sketcher.sketch(look.embeddings[mine], decided[mine], confidence[mine], classes)
            found.append([one.count, *one.sums, *one.classes, *one.novelty, *one.confidence])
        return Pool(
            parts=np.array(found, np.int64),
            frames=[np.flatnonzero(owner == number) for number in range(parts)],
            embeddings=look.embeddings,
            confidence=confidence,
            lights=np.array([light_of(prepare(crop.data, "image/png", GREY)[0]) for crop in crops]),
        )


def _brighter(data: bytes, gain: float) -> bytes:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        field = np.asarray(picture, np.float32) / 255
    return world._png(field * np.float32(gain))


def _pools(maker: Maker) -> tuple[list[Pool], dict[str, list[Pool]]]:
    """Of each site as it was, and of each drift at some sites."""
    usual = world.shares_of(world.SITES[0], 0)
    prior = world.shares_of(next(site for site in world.SITES if site.drift == "class prior"), world.FULL_FROM)
    kinds: dict[str, dict[str, Any]] = {
        "blur": {"drift": "blur"},
        "contrast": {"drift": "contrast"},
        "noise": {"drift": "noise and light"},
        "material": {"drift": "new material"},
        "light": {"gain": 1.04},
        "class prior": {"shares": prior},
        "new defect": {"shares": {world.NEW_CLASS: 1.0}},
    }
    healthy = [maker.pool(site, POOL_PARTS, usual) for site in world.SITES]
    drifted = {
        kind: [maker.pool(site, DRIFT_PARTS, **({"shares": usual} | how)) for site in world.SITES[:DRIFT_SITES]]
        for kind, how in kinds.items()
    }
    return healthy, drifted


def _day(rng: np.random.Generator, before: Pool, after: Pool | None, share: float) -> list[tuple[Pool, int]]:
    """The parts of a day; a share of them from the pool of the drift."""
    new = rng.random(PARTS) < share if after is not None else np.zeros(PARTS, bool)
    return [
        (pool, int(rng.integers(len(pool.parts))))
        for pool in (after if one and after is not None else before for one in new)
    ]


def _sketch(parts: Sequence[tuple[Pool, int]], classes: int) -> DaySketch:
    total = np.sum([pool.parts[place] for pool, place in parts], axis=0).tolist()
    lights = np.concatenate([pool.lights[pool.frames[place]] for pool, place in parts])[::LIGHT_EVERY]
    looked, brightness, contrast = lights.sum(axis=0).tolist()
    at = 17 + classes
    made = DaySketch(
        count=total[0],
        sums=tuple(total[1:17]),
        classes=tuple(total[17:at]),
        novelty=tuple(total[at : at + STEPS]),
        confidence=tuple(total[at + STEPS : at + STEPS + BINS]),
        light=(looked, brightness, contrast),
    )
    return DaySketch.decode(made.encode())


@dataclass(kw_only=True, slots=True)
class Stream:
    """One device's days."""

    parts: list[list[tuple[Pool, int]]]
    days: list[DaySketch]


def _stream(
    rng: np.random.Generator, classes: int, before: Pool, after: Pool | None, share: float, days: int
) -> Stream:
    parts = [_day(rng, before, after if day >= BEFORE else None, share) for day in range(days)]
    return Stream(parts=parts, days=[_sketch(one, classes) for one in parts])


def one_seed(seed: int, *, healthy: int = HEALTHY, peers: bool = True) -> dict[str, Any]:
    """All figures of one seed, as plain values."""
    started_s = time.perf_counter()
    maker = Maker.of(seed)
    pools, drifts = _pools(maker)
    rng, classes = np.random.default_rng([seed, 78]), len(maker.opened.labels)
    fleet = [_stream(rng, classes, pools[n % len(pools)], None, 0.0, BEFORE + LOOKED) for n in range(healthy)]
    changed = {
        kind: [
            _stream(rng, classes, pools[n % DRIFT_SITES], after[n % DRIFT_SITES],
                    NEW_SHARE if kind == "new defect" else 1.0, BEFORE + 7)
            for n in range(DRIFTED)
        ]
        for kind, after in drifts.items()
    }  # fmt: skip
    measured = yardstick([stream.days for stream in (*fleet, *(one for kind in changed.values() for one in kind))])
    assert measured is not None
    sizes = [len(day.encode()) for stream in fleet[:50] for day in stream.days]
    false = sum(_delay(measured, [stream]) is not None for stream in fleet)
    cohorts = [fleet[at : at + COHORT] for at in range(0, healthy, COHORT)]
    return {
        "seed": seed,
        "false_devices": false,
        "healthy": healthy,
        "false_cohorts": sum(_delay(measured, group) is not None for group in cohorts),
        "cohorts": len(cohorts),
        "bytes": [min(sizes), round(statistics.mean(sizes), 1), max(sizes)],
        "text_bytes_max": math.ceil(max(sizes) * 4 / 3),
        "delays": {kind: [_delay(measured, [one]) for one in streams] for kind, streams in changed.items()},
        "cohort_delays": {
            kind: [_delay(measured, streams[at : at + COHORT]) for at in range(0, DRIFTED, COHORT)]
            for kind, streams in changed.items()
        },
        "peers": _peers(fleet[:PEER_HEALTHY], changed) if peers else {},
        "seconds": round(time.perf_counter() - started_s, 1),
    }


def _delay(measured: Yardstick, streams: Sequence[Stream]) -> int | None:
    """Days from the drift's first to the alarm, 1 for the same day; None without an alarm."""
    members = [(measured.white(one.days), measured.weights(one.days)) for one in streams]
    days, weights = members[0] if len(members) == 1 else cohort_days(members)
    alarm = find_change(days, weights, widths=measured.widths).first_alarm(MEAN_DAYS)
    return None if alarm is None else alarm - BEFORE + 1


Score = Callable[[Sequence[tuple[Pool, int]], Sequence[Sequence[tuple[Pool, int]]]], float]


def _confidences(parts: Sequence[tuple[Pool, int]]) -> NDArray[np.float32]:
    return np.concatenate([pool.confidence[pool.frames[place]] for pool, place in parts])


def _ks(day: Sequence[tuple[Pool, int]], first: Sequence[Sequence[tuple[Pool, int]]]) -> float:
    reference = np.concatenate([_confidences(one) for one in first])
    return float(-np.log10(max(stats.ks_2samp(_confidences(day), reference, method="asymp").pvalue, 1e-300)))


def _psi(day: Sequence[tuple[Pool, int]], first: Sequence[Sequence[tuple[Pool, int]]]) -> float:
    counts = [
        np.bincount(confidence_bin(values), minlength=BINS) + 0.5
        for values in (_confidences(day), np.concatenate([_confidences(one) for one in first]))
    ]
    now, usual = (one / one.sum() for one in counts)
    return float(((now - usual) * np.log(now / usual)).sum())


def _classes_of(parts: Sequence[tuple[Pool, int]]) -> NDArray[np.int64]:
    width = parts[0][0].parts.shape[1] - 17 - STEPS - BINS
    return np.sum([pool.parts[place, 17 : 17 + width] for pool, place in parts], axis=0)


def _chi2(day: Sequence[tuple[Pool, int]], first: Sequence[Sequence[tuple[Pool, int]]]) -> float:
    usual = np.sum([_classes_of(one) for one in first], axis=0) + 0.5
    found = stats.chi2_contingency(np.stack([_classes_of(day) + 0.5, usual]))
    return float(-np.log10(max(found.pvalue, 1e-300)))


def _mmd(day: Sequence[tuple[Pool, int]], first: Sequence[Sequence[tuple[Pool, int]]]) -> float:
    """Squared MMD with a Gaussian kernel of the reference's mean distance."""
    reference = np.concatenate([_embeddings(one) for one in first])[:: max(len(first) // 2, 1)][:PEER_REFERENCE]
    now = _embeddings(day)

    def squares(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
        return (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T

    own = squares(reference, reference)
    width = float(own.mean())
    means = [np.exp(-one / width).mean() for one in (squares(now, now), own, squares(now, reference))]
    return float(means[0] + means[1] - 2 * means[2])


def _embeddings(parts: Sequence[tuple[Pool, int]]) -> NDArray[np.float32]:
    return np.concatenate([pool.embeddings[pool.frames[place]] for pool, place in parts])


PEERS: dict[str, tuple[Score, float | None, int]] = {  # score of a day, textbook threshold, bytes a day
    "KS on confidence": (_ks, 2.0, 1200),
    "PSI on confidence": (_psi, 0.2, 12),
    "chi² on classes": (_chi2, 2.0, 12),
    "MMD on embeddings": (_mmd, None, 48_000),
}


def _peers(fleet: Sequence[Stream], changed: Mapping[str, Sequence[Stream]]) -> dict[str, Any]:
    found = {}
    for name, (score, textbook, size) in PEERS.items():
        devices = fleet if name != "MMD on embeddings" else fleet[: PEER_HEALTHY // 2]
        highest = [max(score(day, one.parts[:BEFORE]) for day in one.parts[BEFORE:]) for one in devices]
        bar = max(highest)
        shares = {}
        for kind, streams in changed.items():
            over = [
                any(score(day, one.parts[:BEFORE]) > bar for day in one.parts[BEFORE : BEFORE + WITHIN[kind]])
                for one in streams[:PEER_DRIFTED]
            ]
            shares[kind] = sum(over) / len(over)
        false = None if textbook is None else sum(one > textbook for one in highest) / len(highest)
        found[name] = {"bytes": size, "false_at_textbook": false, "found": shares}
    return found


def drift_figures(seeds: Sequence[int] = SEEDS, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Every figure over the seeds, with what is missed."""
    runs = []
    for seed in seeds:
        runs.append(one_seed(seed))
        say(f"seed {seed}: {runs[-1]['false_devices']} false of {HEALTHY}, {runs[-1]['seconds']} s")
    return {"runs": runs, "found": summed_up(runs), "missed": missed(runs)}


def summed_up(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By drift: the share found in time, with its interval over seeds, and the median day."""
    found: dict[str, Any] = {}
    for kind, within in WITHIN.items():
        delays = [delay for run in runs for delay in run["delays"][kind]]
        in_time = [delay for delay in delays if delay is not None and delay >= 1]
        found[kind] = {
            "within_days": within,
            "found": interval([_share(run["delays"][kind], within) for run in runs]),
            "seeds": [_share(run["delays"][kind], within) for run in runs],
            "median_day": statistics.median(in_time) if in_time else None,
            "early": sum(delay is not None and delay < 1 for delay in delays),
            "cohort_day_1": [_share(run["cohort_delays"][kind], 1) for run in runs],
            "peers": {
                name: statistics.mean(run["peers"][name]["found"][kind] for run in runs)
                for name in (PEERS if all(run["peers"] for run in runs) else ())
            },
        }
    return found


def _share(delays: Sequence[int | None], within: int) -> float:
    return sum(delay is not None and 1 <= delay <= within for delay in delays) / len(delays)


def missed(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each figure that is missed on any seed."""
    told = []
    for run in runs:
        for kind, needed in NEEDED.items():
            share = _share(run["delays"][kind], WITHIN[kind])
            if share < needed:
                told.append(f"seed {run['seed']}: {kind} {share:.0%} in {WITHIN[kind]} days, needed {needed:.0%}")
        cohort = _share(run["cohort_delays"]["new defect"], 1)
        if cohort < 1:
            told.append(f"seed {run['seed']}: {cohort:.0%} of cohorts see a new defect on day 1, needed 100%")
        if run["false_devices"] * 1000 > FALSE_MAX * run["healthy"]:
            told.append(f"seed {run['seed']}: {run['false_devices']} false of {run['healthy']}, allowed {FALSE_MAX}")
        if run["text_bytes_max"] > BYTES_MAX:
            told.append(f"seed {run['seed']}: {run['text_bytes_max']} bytes, allowed {BYTES_MAX}")
    return told


def table(found: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures as Markdown."""
    peers = list(PEERS)
    lines = [
        f"| drift | in days | found (95 %) | median day | cohort of {COHORT}, day 1 | {' | '.join(peers)} |",
        "|---|---|---|---|---|" + "---|" * len(peers),
    ]
    for kind, one in found.items():
        mean, low, high = one["found"]
        bars = " | ".join(f"{one['peers'][name]:.0%}" if name in one["peers"] else "–" for name in peers)
        day_1 = statistics.mean(one["cohort_day_1"])
        lines.append(
            f"| {kind} | {one['within_days']} | {mean:.0%} ({max(low, 0):.0%} to {min(high, 1):.0%}) "
            f"| {one['median_day']} | {day_1:.0%} | {bars} |"
        )
    false = [run["false_devices"] for run in runs]
    cohorts = ", ".join(str(run["false_cohorts"]) for run in runs)
    lines += [
        "",
        f"False devices of {HEALTHY} in {LOOKED} days, by seed: {', '.join(map(str, false))}; "
        f"false cohorts of {runs[0]['cohorts']}: {cohorts}.",
        f"Bytes a device-day: {runs[0]['bytes'][1]:.0f} (most {max(run['bytes'][2] for run in runs)}), "
        f"as text {max(run['text_bytes_max'] for run in runs)}.",
    ]
    for name in peers if all(run["peers"] for run in runs) else ():
        rates = [run["peers"][name]["false_at_textbook"] for run in runs]
        if None not in rates:
            lines.append(f"{name} at the textbook's threshold: {statistics.mean(rates):.0%} of healthy devices alarm.")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, help="a JSON file for every figure")
    options = parser.parse_args()
    figures = drift_figures(options.seeds, lambda line: sys.stdout.write(line + "\n"))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1))
    lines = [*table(figures["found"], figures["runs"]), "", *(f"- missed: {one}" for one in figures["missed"])]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
