"""Three plants of real photographs: what the loop gains over random upload at equal bytes and labels, plant by plant.

The plan of `apps/factory` (grouped splits, five rounds), the devices' own choice with 15 % of the bytes, and pictures
by lot for the same labels and bytes; both train as the loop does. After the last round both look at the same held-out
pictures. The gain of a plant is the mean over seeds, its interval is that of `gains`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from learning_parts.gains import Gain, Pair, Statistic, gain_of
from loop import LoopArm, RandomArm, set_aside_whole

from edgewise.apps.factory._chains import Chain, samples_of, train_bundle, use_of
from edgewise.apps.factory.holdout import open_bundle
from edgewise.apps.factory.plants import Measure, Picture, Plan, make_plan
from edgewise.measure._intervals import weighted_auc
from edgewise.measure._rows import Rows, rows_of
from edgewise.ports import Pipeline, StoredBundle
from edgewise.wire import Prediction, digest

SHARE = 0.15
ROUNDS = 5
JUDGED = ("a_zoom2", "b", "c")  # one measure a plant; the others are shown
WORST = -0.02
ARMS = ("loop", "random")


def one_seed(data: str, seed: int) -> dict[str, Any]:
    """What both arms answer on the hold-out after the last round, and what they cost."""
    plan = make_plan(data, seed=seed, rounds=ROUNDS)
    kept = set_aside_whole(plan)
    first = train_bundle(samples_of(kept, new=False), plan, base=None, config={}, seed=seed)
    loop = LoopArm(plan, SHARE, seed)
    found = {"loop": run_arm(plan, first, kept, loop.of_round)}
    found["random"] = run_arm(plan, first, kept, RandomArm(plan, loop.uses, seed).of_round)
    return {"seed": seed, "good": plan.good_labels, "arms": found}


def run_arm(
    plan: Plan,
    first: StoredBundle,
    learned: Sequence[Picture],
    choose: Callable[[int, Pipeline], tuple[list[Picture], list[Picture]]],
) -> dict[str, Any]:
    """All rounds of one way to choose: labels and bytes by plant, and answers by measure."""
    chain = Chain(plan=plan, bundle=first, config={}, learned=list(learned))
    cost = {plant: {"labels": 0, "bytes": 0} for plant in plan.plants}
    for number in range(1, plan.rounds + 1):
        labelled, taught = choose(number, open_bundle(chain.bundle))
        chain.step(taught)
        for plant in plan.plants:
            use = use_of([one for one in labelled if one.plant == plant])
            cost[plant]["labels"] += use.pictures
            cost[plant]["bytes"] += use.size_bytes
    return {"cost": cost, "answers": _answers(plan, open_bundle(chain.bundle))}


def _answers(plan: Plan, pipeline: Pipeline) -> dict[str, list[tuple[str, str, str, str, float]]]:
    """By measure: (picture, group, truth, label, P(defect)) of each picture."""
    seen: dict[str, tuple[str, float]] = {}
    found = {}
    for measure in shown(plan.measures):
        for picture in measure.pictures:
            if picture.name not in seen:
                decision = pipeline.decide(pipeline.answer(picture.data, picture.media_type), None)
                seen[picture.name] = decision.label, float(decision.defect or 0.0)
        found[measure.name] = [(one.name, one.group, one.label, *seen[one.name]) for one in measure.pictures]
    return found


def shown(measures: Sequence[Measure]) -> list[Measure]:
    """Those that compare with a truth, on pictures as they are."""
    return [one for one in measures if one.enlarge is None and one.metric != "called_defective"]


METRICS = {
    "a_zoom2": "balanced_accuracy",
    "a_zoom1_pitting": "macro_recall",
    "a_kgt1_pitting": "macro_recall",
    "b": "balanced_accuracy",
    "b_auc": "auc",
    "c": "macro_recall",
}


def gains(runs: Sequence[Mapping[str, Any]]) -> dict[str, Gain]:
    """What the loop gains over random upload, by measure."""
    return {name: gain_of([_pair(run, name, metric) for run in runs]) for name, metric in METRICS.items()}


def _pair(run: Mapping[str, Any], name: str, metric: str) -> Pair:
    rows = [rows_of([_prediction(*one) for one in run["arms"][arm]["answers"][name]], run["good"]) for arm in ARMS]
    ours, theirs = (_statistic(one, metric) for one in rows)
    return Pair(ours=ours, theirs=theirs, groups=tuple(one.group or one.sample for one in rows[0].predictions))


def _statistic(rows: Rows, metric: str) -> Statistic:
    if metric == "auc":
        return weighted_auc(np.array([one.defect or 0.0 for one in rows.predictions]), ~rows.truth_good)
    return (rows.balanced() if metric == "balanced_accuracy" else rows.macro()).mean()


def _prediction(picture: str, group: str, truth: str, label: str, defect: float) -> Prediction:
    return Prediction(
        sample=digest(picture.encode())[:32], site="here", group=group, truth=truth, label=label, defect=defect
    )


def all_seeds(data: str, seeds: Sequence[int], jobs: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every seed, some at a time."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(one_seed, data, seed) for seed in seeds]
        found = []
        for future in waiting:
            found.append(future.result())
            say(f"plants, seed {found[-1]['seed']}: {_words(gains(found[-1:]))}")
    return found


def _words(found: Mapping[str, Gain]) -> str:
    return ", ".join(f"{name} {100 * one.value:+.1f}" for name, one in found.items())


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Quality by measure, and the gain with its interval, as Markdown."""
    lines = ["| measure | loop | random | gain, points (90 %) | by seed |", "|---|---|---|---|---|"]
    for name, one in gains(runs).items():
        seeds = ", ".join(f"{100 * value:+.1f}" for value in one.seeds)
        mark = "**" if name in JUDGED else ""
        lines.append(
            f"| {mark}{name}, {METRICS[name].replace('_', ' ')}{mark} | {one.values[0]:.3f} | {one.values[1]:.3f} "
            f"| {one.points} | {seeds} |"
        )
    for arm in ARMS:
        for plant in runs[0]["arms"][arm]["cost"]:
            labels = [run["arms"][arm]["cost"][plant]["labels"] for run in runs]
            size = [run["arms"][arm]["cost"][plant]["bytes"] for run in runs]
            lines.append(f"- {arm}, {plant}: {np.mean(labels):.0f} labels, {np.mean(size) / 1000:.0f} KB")
    return lines


def missed(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each figure that is not reached."""
    found = gains(runs)
    sure = [name for name in JUDGED if found[name].low > 0]
    told = []
    if 2 * len(sure) < len(JUDGED):
        told.append(
            f"the gain over random upload is surely above 0 at {len(sure)} of {len(JUDGED)} plants, needed at half"
        )
    for name in JUDGED:
        if found[name].value < WORST:
            told.append(f"{name} loses {-100 * found[name].value:.1f} points to random upload, allowed 2")
    return told
