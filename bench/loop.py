"""Quality per plant, round by round: this loop beside random upload, everything, and HOG with a linear model.

`make bench NAME=loop` runs it; with EDGEWISE_DATA on real photographs, else on generated ones. The device's choice is
made in this process by the very function that a device runs (`edge.keep.select`), training is `learn.train` with the
loop's recipe; there is no gate, so a bad round shows. Writes `loop.json` and `loop.md` into the results folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from loop_tables import markdown
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edgewise.apps.factory._chains import Chain, Use, random_choice, samples_of, set_aside, train_bundle, use_of
from edgewise.apps.factory.holdout import Holdout, Key, enlarged, open_bundle, wanted_pictures
from edgewise.apps.factory.plants import Picture, Plan, make_plan
from edgewise.edge.keep import Credit, Seen, is_cold, remember, select
from edgewise.frames import decode_image, prepare
from edgewise.ports import Pipeline, SeededChance, StoredBundle
from edgewise.wire import Decision

SHARES = (0.05, 0.15, 0.30)
PERIOD_FRAMES = 64
LATENCY_RUNS = 300
HOG_SIDE = 128
NO_BUNDLE = "0" * 64  # a decision names its bundle; the floor has none
Values = dict[str, float | None]
Rows = list[dict[str, Any]]


def run_seed(order: Mapping[str, Any]) -> dict[str, Any]:
    """Everything for one seed, in a process of its own on one thread."""
    seed, rounds = order["seed"], order["rounds"]
    plan = make_plan(order["data"], seed=seed, rounds=rounds, size="quick" if order["quick"] else "full")
    holdout, config = Holdout(plan), order["config"]

    def say(text: str) -> None:
        print(f"seed {seed}: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a script's own output

    started = time.monotonic()
    kept_first = set_aside_whole(plan)
    first = train_bundle(samples_of(kept_first, new=False), plan, base=None, config=config, seed=seed)
    start = values_of(holdout, first)
    say(f"first network {words(start)} after {time.monotonic() - started:.0f} s")
    lines: dict[str, Rows] = {}
    uses: dict[float, list[dict[str, Use]]] = {}
    for share in order["shares"]:
        loop = LoopArm(plan, share, seed)
        name = f"loop {share:.0%}"
        lines[name] = run_chain(plan, holdout, first, kept_first, config, loop.of_round, say, name, floor=share == 0.15)
        uses[share] = loop.uses
        random = RandomArm(plan, loop.uses, seed)
        name = f"random {share:.0%}"
        lines[name] = run_chain(plan, holdout, first, kept_first, config, random.of_round, say, name)
    everything = EverythingArm(plan)
    lines["everything"] = run_chain(
        plan, holdout, first, list(plan.first), config, everything.of_round, say, "everything", floor=True
    )
    floor = floor_values(plan, kept_first)
    return {
        "seed": seed,
        "start": start,
        "start_floor": floor,
        "lines": lines,
        "latency_ms": latency_ms(plan, open_bundle(first)),
        "seconds": round(time.monotonic() - started, 1),
        "text": plan.text,
        "data": plan.data,
        "bytes_if_all_uploaded": plan.bytes_if_all_uploaded(),
        "measures": [one.name for one in plan.measures if not one.beside],
    }


def set_aside_whole(plan: Plan) -> list[Picture]:
    """The first network's pictures without a fifth of their groups, at least one group, chosen by the seed."""
    groups = sorted({one.group for one in plan.first})
    rng = np.random.Generator(np.random.PCG64([plan.seed, 50]))
    out = {groups[index] for index in rng.permutation(len(groups))[: max(1, round(0.2 * len(groups)))]}
    return [one for one in plan.first if one.group not in out]


class LoopArm:
    """What devices keep: one credit a plant, frames chosen period by period with the network that runs."""

    def __init__(self, plan: Plan, share: float, seed: int) -> None:
        self._plan = plan
        self._credits = {plant: Credit(share_of_bytes=share, bytes_per_day=1 << 40) for plant in plan.plants}
        self._chance = SeededChance(seed)
        self.uses: list[dict[str, Use]] = []

    def of_round(self, number: int, pipeline: Pipeline) -> tuple[list[Picture], list[Picture]]:
        """(pictures uploaded and labelled, those of them that are trained on)."""
        chosen: list[Picture] = []
        uses: dict[str, Use] = {}
        for plant, pictures in self._plan.of_round(number).items():
            kept = self._of_plant(plant, pictures, pipeline)
            uses[plant] = use_of(kept)
            chosen += kept
        self.uses.append(uses)
        return chosen, set_aside(chosen)

    def _of_plant(self, plant: str, pictures: Sequence[Picture], pipeline: Pipeline) -> list[Picture]:
        kept: list[Picture] = []
        remembered = None
        for begin in range(0, len(pictures), PERIOD_FRAMES):
            period = pictures[begin : begin + PERIOD_FRAMES]
            seen = []
            for picture in period:
                answer = pipeline.answer(picture.data, picture.media_type)
                decision = pipeline.decide(answer, None)
                seen.append(Seen(margin=decision.margin, size_bytes=len(picture.data), embedding=answer.embedding))
            now = period[-1].taken_at
            credit = self._credits[plant].earn(sum(one.size_bytes for one in seen))
            cold = is_cold(pipeline.manifest.provenance.sites, plant)
            picks = select(seen, credit.room(now), self._chance, remembered=remembered, cold=cold)
            for pick in picks:
                credit = credit.spend(seen[pick.index].size_bytes, now)
                kept.append(period[pick.index])
            remembered = remember(remembered, [seen[pick.index].embedding for pick in picks])
            self._credits[plant] = credit
        return kept


class RandomArm:
    """Random pictures for the same labels and bytes, a plant and round at a time."""

    def __init__(self, plan: Plan, uses: list[dict[str, Use]], seed: int) -> None:
        self._plan, self._uses, self._seed = plan, uses, seed
        self._room = dict.fromkeys(plan.plants, Use())

    def of_round(self, number: int, _pipeline: Pipeline) -> tuple[list[Picture], list[Picture]]:
        chosen: list[Picture] = []
        for index, (plant, pictures) in enumerate(self._plan.of_round(number).items()):
            rng = np.random.Generator(np.random.PCG64([self._seed, 40, number, index]))
            room = self._room[plant] + self._uses[number - 1][plant]
            drawn = random_choice(pictures, room, rng)
            self._room[plant] = room - use_of(drawn)
            chosen += drawn
        return chosen, set_aside(chosen)


class EverythingArm:
    """Every picture, all of it trained on: an upper bound that pays for no evaluation."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def of_round(self, number: int, _pipeline: Pipeline) -> tuple[list[Picture], list[Picture]]:
        pictures = [one for part in self._plan.of_round(number).values() for one in part]
        return pictures, pictures


def run_chain(
    plan: Plan,
    holdout: Holdout,
    first: StoredBundle,
    learned: Sequence[Picture],
    config: Mapping[str, Any],
    choose: Callable[[int, Pipeline], tuple[list[Picture], list[Picture]]],
    say: Callable[[str], None],
    name: str,
    *,
    floor: bool = False,
) -> Rows:
    """All rounds of one way to choose pictures: what it cost and what it reached after each."""
    chain = Chain(plan=plan, bundle=first, config=config, learned=list(learned))
    rows: Rows = []
    for number in range(1, plan.rounds + 1):
        labelled, taught = choose(number, open_bundle(chain.bundle))
        begin = time.monotonic()
        chain.step(taught)
        seconds = time.monotonic() - begin
        row = {
            "round": number,
            "labels": len(labelled),
            "bytes": use_of(labelled).size_bytes,
            "train_seconds": round(seconds, 2),
            "quality": values_of(holdout, chain.bundle),
        }
        if floor:
            row["floor"] = floor_values(plan, chain.learned)
        rows.append(row)
    say(f"{name}: {words(rows[-1]['quality'])}, {sum(row['labels'] for row in rows)} labels")
    return rows


def values_of(holdout: Holdout, bundle: StoredBundle) -> Values:
    score = holdout.score(bundle)
    return {name: one["value"] for name, one in (score.quality | score.beside).items()}


def floor_values(plan: Plan, pictures: Sequence[Picture]) -> Values:
    """HOG and logistic regression on the same labels, on the same hold-out."""
    known = [one for one in pictures if not one.uncertain]
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000, tol=1e-3)
    )
    model.fit(np.stack([features(one) for one in known]), [one.label for one in known])
    wanted = wanted_pictures(plan)
    scores = model.predict_proba(np.stack([features(picture, key[1]) for key, picture in wanted.items()]))
    labels = list(model.classes_)
    decisions: dict[Key, Decision] = {}
    for key, row in zip(wanted, scores, strict=True):
        order = np.argsort(-row)
        good = sum(float(row[labels.index(label)]) for label in plan.good_labels if label in labels)
        decisions[key] = Decision(
            label=labels[order[0]],
            confidence=float(row[order[0]]),
            defect=min(1.0, max(0.0, 1 - good)),
            margin=float(row[order[0]] - row[order[1]]),
            bundle=NO_BUNDLE,
        )
    score = Holdout(plan).score_decisions(decisions)
    return {name: one["value"] for name, one in (score.quality | score.beside).items()}


_FEATURES: dict[Key, NDArray[np.float64]] = {}


def features(picture: Picture, enlarge: tuple[int, int] | None = None) -> NDArray[np.float64]:
    """Histograms of oriented gradients of the grey picture at 128 × 128: 8 directions, 16-pixel cells, 2 × 2 blocks."""
    key = (picture.name, enlarge)
    if key not in _FEATURES:
        pixels = enlarged(decode_image(picture.data, channels=1), enlarge)[:, :, 0]
        small = np.asarray(Image.fromarray(pixels).resize((HOG_SIDE, HOG_SIDE), Image.Resampling.BILINEAR))
        _FEATURES[key] = hog(small, orientations=8, pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    return _FEATURES[key]


def latency_ms(plan: Plan, pipeline: Pipeline) -> dict[str, float]:
    """Whole decisions (decode, prepare, run, decide) beside the bare runtime on the same inputs, one thread."""
    whole, bare = [], []
    for index in range(LATENCY_RUNS):
        picture = plan.streamed[index % len(plan.streamed)]
        prepared = prepare(picture.data, picture.media_type, pipeline.graph.pre)[None]
        begin = time.perf_counter()
        pipeline.decide(pipeline.answer(picture.data, picture.media_type), None)
        middle = time.perf_counter()
        pipeline.run_prepared(prepared)
        whole.append((middle - begin) * 1000)
        bare.append((time.perf_counter() - middle) * 1000)
    return {
        "p50": round(statistics.median(whole), 3),
        "p99": round(float(np.quantile(whole, 0.99)), 3),
        "bare_p50": round(statistics.median(bare), 3),
    }


def words(values: Values) -> str:
    return " ".join(f"{name} {'–' if value is None else f'{value:.2f}'}" for name, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="two rounds, one share, short trainings: about 5 minutes")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (default 3)")
    parser.add_argument("--first-seed", type=int, default=3, help="0 to 2 chose the trainer's settings (default 3)")
    parser.add_argument("--seconds", type=float, help="training budget a round (default: the trainer's own; quick 4)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes at a time")
    parser.add_argument("--data", default=os.environ.get("EDGEWISE_DATA", ""), help="real data (default EDGEWISE_DATA)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    chosen = parser.parse_args()
    seconds = chosen.seconds or (4.0 if chosen.quick else None)
    orders = [
        {
            "seed": seed,
            "rounds": 2 if chosen.quick else 5,
            "shares": (0.15,) if chosen.quick else SHARES,
            "quick": chosen.quick,
            "data": chosen.data or None,
            "config": {} if seconds is None else {"seconds": seconds},
        }
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    ]
    begin = time.monotonic()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # a process a seed: threads would only take each other's cores
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
        seeds = list(pool.map(run_seed, orders))
    result = {
        "name": "loop",
        "data": seeds[0]["data"],
        "text": seeds[0]["text"],
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}",
        "command": "make bench NAME=loop" + (" (--quick)" if chosen.quick else ""),
        "config": orders[0]["config"],
        "seconds": round(time.monotonic() - begin, 1),
        "seeds": seeds,
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "loop.json").write_text(json.dumps(result, indent=1) + "\n")
    text = markdown(result)
    (chosen.out / "loop.md").write_text(text)
    print(text)  # noqa: T201 - a script's own output


if __name__ == "__main__":
    main()
