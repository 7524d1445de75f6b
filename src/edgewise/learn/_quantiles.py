"""Three quantiles of a number by boosted trees, their interval corrected on groups that nothing was fitted on."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from edgewise.learn._balance import sample_weights
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._trainer import ConfigValue, Floats, Job, number, whole
from edgewise.learn._trees import export_quantiles
from edgewise.measure import correction, groups_needed
from edgewise.wire import NotValid, States, value_of

CALIBRATION_SHARE = 0.25  # of the groups
# With as few groups as a coverage needs the correction is the worst of them all; with twice as many it is no longer.
CALIBRATION_TIMES = 2
GROUPS_LEARNED_MIN = 3  # below it the trees would know one part, or one day, by heart
TREES_MAX = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a config asks of a bundle that states values."""

    target: str
    unit: str
    coverage: float
    above: float | None
    below: float | None
    trees: int
    learning_rate: float
    depth: int

    @property
    def quantiles(self) -> tuple[float, float, float]:
        """The interval's ends around the median.

        >>> Asked(
        ...     target="p", unit="", coverage=0.8, above=None, below=None, trees=1, learning_rate=1, depth=1
        ... ).quantiles
        (0.1, 0.5, 0.9)
        """
        tail = round((1 - self.coverage) / 2, 6)
        return tail, 0.5, round(1 - tail, 6)


def asked_of(config: Mapping[str, ConfigValue]) -> Asked:
    """What a config asks for: `target`, `unit`, `coverage`, `above`, `below`, `trees`, `learning_rate`, `depth`.

    Raises:
        NotValid: a setting of another kind, or out of its bounds.
    """
    limits = {
        name: number(config, name, 0.0, low=-1e300, high=1e300) if name in config else None
        for name in ("above", "below")
    }
    return Asked(
        target=_text(config, "target", "value"),
        unit=_text(config, "unit", ""),
        coverage=number(config, "coverage", 0.9, low=0.5, high=0.99),
        trees=whole(config, "trees", 160, low=1, high=TREES_MAX),
        learning_rate=number(config, "learning_rate", 0.06, low=1e-4, high=1.0),
        depth=whole(config, "depth", 5, low=1, high=16),
        **limits,
    )


def _text(config: Mapping[str, ConfigValue], key: str, default: str) -> str:
    value = config.get(key, default)
    if not isinstance(value, str) or len(value) > 256:
        raise NotValid(f"config {key} is {value!r}, needs to be a text", code="config_invalid")
    return value


def truth_of(samples: Sequence[TrainingSample], target: str) -> NDArray[np.float64]:
    """The labels as numbers, float64 (N,).

    Raises:
        NotValid: one is none, or all are the same.
    """
    values = np.array([value_of(one.label, f"{target} of {one.name}") for one in samples], np.float64)
    if len(values) and float(np.ptp(values)) == 0:
        raise NotValid(
            f"{target} is {values[0]:g} in all {len(values)} samples; there is nothing to learn, give data in which it "
            "changes",
            code="target_constant",
        )
    return values


def split_groups(samples: Sequence[TrainingSample], coverage: float, seed: int) -> tuple[list[int], list[int]]:
    """Places (learned on, calibrated on): whole groups only, drawn by the seed.

    Raises:
        NotValid: too few groups for the coverage.
    """
    names = sorted({(one.site, one.group) for one in samples})
    needed = groups_needed(coverage)
    if len(names) < needed + GROUPS_LEARNED_MIN:
        raise NotValid(
            f"there are {len(names)} groups; an interval of {coverage:.0%} takes {needed} to calibrate on and "
            f"{GROUPS_LEARNED_MIN} to learn from; name a column of groups, record more, or ask for a smaller coverage",
            code="too_few_groups",
        )
    wanted = max(CALIBRATION_TIMES * needed, round(CALIBRATION_SHARE * len(names)))
    count = max(needed, min(wanted, len(names) // 2))
    held = set(random.Random(seed).sample(names, count))
    inside = [(one.site, one.group) in held for one in samples]
    return [n for n, yes in enumerate(inside) if not yes], [n for n, yes in enumerate(inside) if yes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """Trees for three quantiles, as a graph and as LightGBM has them, and what the bundle states by them."""

    graph: bytes
    boosters: tuple[Any, ...]
    shift: float
    states: States
    metrics: Mapping[str, float]
    calibrated: int  # groups

    def reference(self, prepared: Floats) -> tuple[Floats, None]:
        """What the graph has to give, computed without it."""
        return np.asarray(_moved(_raw(self.boosters, prepared), self.shift), np.float32), None


def learn_quantiles(
    job: Job,
    asked: Asked,
    inputs: Floats,
    samples: Sequence[TrainingSample],
    *,
    baseline: NDArray[np.float64] | None = None,
    horizon_s: float | None = None,
    now: str | None = None,
) -> Learned:
    """Trees for these inputs.

    Args:
        inputs: float32 (N, F), prepared.
        samples: N, whose labels are the target's values.
        baseline: float64 (N,), what a forecast has to beat; the training's mean without it.
        horizon_s, now: of a forecast, as in `States`.
    Raises:
        NotValid: labels that are no numbers or all the same, or too few groups.
    """
    truth = truth_of(samples, asked.target)
    learned, held = split_groups(samples, asked.coverage, job.seed)
    truth_of([samples[n] for n in learned], f"of what is learned from, {asked.target}")
    weights = sample_weights(samples, by_class=False)
    boosters: list[Any] = []
    for place, share in enumerate(asked.quantiles):
        settings = {
            "objective": "quantile",
            "alpha": share,
            "learning_rate": asked.learning_rate,
            "max_depth": asked.depth,
            "num_leaves": 2**asked.depth,
            "min_data_in_leaf": max(1, min(20, len(learned) // 40)),
            "seed": job.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }

        def go_on(state: Any, done: int = place) -> None:
            job.progress("train", 0.1 + 0.8 * (done + (state.iteration + 1) / asked.trees) / 3)

        part = lightgbm.Dataset(inputs[learned], truth[learned], weight=weights[learned])
        boosters.append(lightgbm.train(settings, part, asked.trees, callbacks=[go_on]))
    names = [f"{samples[n].site}\0{samples[n].group}" for n in held]
    raw = _raw(boosters, inputs[held])
    shift = correction(truth[held], raw, names, asked.coverage)
    job.progress("export", 0.95)
    low, high = np.quantile(truth[learned], [asked.quantiles[0], asked.quantiles[2]])
    spread = float(high - low) or float(np.ptp(truth))
    states = States(
        target=asked.target,
        unit=asked.unit,
        quantiles=asked.quantiles,
        horizon_s=horizon_s,
        spread=spread,
        mean=float(truth[learned].mean()),
        now=now,
        correction=shift,
        calibrated_on=len(set(names)),
        above=asked.above,
        below=asked.below,
    )
    errors = np.abs(raw[:, 1] - truth[held])
    beaten = np.abs((np.full(len(truth), states.mean) if baseline is None else baseline)[held] - truth[held]).mean()
    metrics = {
        "validation_mae": float(errors.mean()),
        "validation_skill": 1 - float(errors.mean() / beaten) if beaten > 0 else 0.0,
        "correction": shift,
    }
    graph = export_quantiles(boosters, inputs.shape[1], shift)
    return Learned(
        graph=graph,
        boosters=tuple(boosters),
        shift=shift,
        states=states,
        metrics=metrics,
        calibrated=len(set(names)),
    )


def _raw(boosters: Sequence[Any], inputs: Floats) -> NDArray[np.float64]:
    """The trees' quantiles in rising order (N, 3): three models may cross (Chernozhukov et al., Econometrica 2010)."""
    return np.sort(np.stack([one.predict(inputs) for one in boosters], axis=1), axis=1)


def _moved(raw: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    return np.sort(raw + np.array([-shift, 0.0, shift]), axis=1)
