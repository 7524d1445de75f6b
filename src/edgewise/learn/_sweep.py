"""Many trainings with different settings, compared on one frozen part, the winner measured again on another.

The best of many looks better than it is on the part that it was chosen by. So the labelled groups are split once into
three: all runs train on the first, are compared on the second, and only the winner meets the third.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgewise.learn._dataset import TrainingSample, grouped_part
from edgewise.learn._executor import Executor
from edgewise.learn._read import read_dataset
from edgewise.learn._task import Made, Task, as_training, with_robustness
from edgewise.learn._trainer import VALUE_TRAINERS, Cancelled, Progress
from edgewise.learn._variants import make_variants
from edgewise.measure import macro_mean
from edgewise.ports import FolderBlobs, OnnxRuntime, StoredBundle, open_pipeline
from edgewise.wire import DatasetRevision, EdgewiseError, LabelledSample, NotValid, Order, digest, revision_digest

RUNS_MAX = 200
LEVEL = 0.9
PART_MIN = 8  # samples to compare on: with fewer, chance decides
Value = str | int | float | bool


class SweepPlan(BaseModel):
    """What is tried. Each setting is one value of each axis, over the order's own config; all share the seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    axes: dict[str, tuple[Value, ...]] = Field(min_length=1, max_length=12)
    draw: int | None = Field(None, ge=1, le=RUNS_MAX, description="so many of the grid, by lot; all without it")
    seeds: tuple[int, ...] = Field((0,), min_length=1, max_length=10)
    compare_share: float = Field(0.2, gt=0, lt=0.45)
    confirm_share: float = Field(0.2, gt=0, lt=0.45)

    @property
    def settings(self) -> list[dict[str, Value]]:
        """The settings that are tried, in the order of the grid.

        >>> SweepPlan(axes={"a": (1, 2), "b": ("x", "y")}).settings[1]
        {'a': 1, 'b': 'y'}
        """
        grid = [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]
        if self.draw is None or self.draw >= len(grid):
            return grid
        drawn = sorted(random.Random(self.seeds[0]).sample(range(len(grid)), self.draw))
        return [grid[index] for index in drawn]


def read_plan(value: Any) -> SweepPlan:
    """A plan from plain values, such as a YAML file's.

    Raises:
        NotValid: what is wrong with it, or it asks for too many runs.
    """
    try:
        plan = SweepPlan.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise NotValid(
            f"the sweep's {place} is wrong: {first['msg']}; see docs/learn.md, Sweeps", code="sweep_invalid"
        ) from None
    runs = len(plan.settings) * len(plan.seeds)
    if runs > RUNS_MAX:
        raise NotValid(
            f"the sweep has {runs} runs, at most {RUNS_MAX} are made; set draw, or take fewer values or seeds",
            code="sweep_too_large",
        )
    return plan


def plan_of(text: Value) -> SweepPlan:
    """A plan as it stands in an order's config: JSON.

    Raises:
        NotValid: as `read_plan` says.
    """
    try:
        return read_plan(json.loads(str(text)))
    except ValueError as error:
        raise NotValid(f"config sweep is no JSON: {error}; see docs/learn.md, Sweeps", code="sweep_invalid") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One setting.

    Attributes:
        config: its values of the axes.
        recall: macro recall on the part to compare on, the mean of its seeds; None where every run failed.
        low, high: interval over groups.
        behind: how far it is behind the best, with the interval of the paired difference; None for the best itself.
        errors: one sentence for each run that failed.
    """

    config: Mapping[str, Value]
    recall: float | None
    low: float | None = None
    high: float | None = None
    behind: tuple[float, float | None, float | None] | None = None
    seconds: float = 0.0
    bytes: int = 0
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """What a sweep found.

    Attributes:
        tried: all settings, the best one first.
        confirmed: macro recall of the winner on the part that nothing was chosen by, with its interval.
        frozen: digest of the part to compare on.
    """

    best: Made
    tried: tuple[Tried, ...]
    confirmed: tuple[float, float | None, float | None]
    frozen: str
    counts: tuple[int, int, int]

    def lines(self) -> list[str]:
        """A sentence for each setting, the best first, for a candidate's log."""
        told = [
            f"sweep: {len(self.tried)} settings, trained on {self.counts[0]}, compared on {self.counts[1]} samples "
            f"({self.frozen[:12]}…); the winner on {self.counts[2]} more: macro recall {_metric(self.confirmed)}"
        ]
        for one in self.tried:
            words = ", ".join(f"{name} {value}" for name, value in one.config.items())
            told.append(f"sweep: {words}: {_metric((one.recall, one.low, one.high))}")
        return told


def run_sweep(task: Task, plan: SweepPlan, blobs: FolderBlobs, executor: Executor, go_on: Progress) -> Swept:
    """All runs of a plan, as many at a time as the executor can.

    Args:
        task: its revision is split; its order's config is what the axes vary.
        blobs: hold the samples.
    Raises:
        NotValid: too few groups to compare on, or every run failed. Cancelled: `go_on` raised it.
    """
    if task.order.trainer in VALUE_TRAINERS:
        raise NotValid(
            f"a sweep compares recalls of classes, and the trainer {task.order.trainer} states values; train with each "
            "setting by --config, and compare with `edgewise score`",
            code="config_invalid",
        )
    train, compare, confirm = _parts(task, plan, blobs)
    runs = [(number, seed) for number in range(len(plan.settings)) for seed in plan.seeds]
    made: dict[tuple[int, int], Made | EdgewiseError] = {}
    done = 0

    def one(run: tuple[int, int]) -> None:
        nonlocal done
        number, seed = run
        config = {**task.order.config, **plan.settings[number]}
        order = task.order.model_copy(update={"config": config, "seed": seed, "variants": (), "robustness": None})
        part = Task(order=order, revision=train, base=task.base, now=task.now)
        try:
            made[run] = executor.run(part, blobs, lambda what, _share: go_on(what, done / len(runs)))
        except EdgewiseError as error:
            made[run] = error
        done += 1

    with ThreadPoolExecutor(max_workers=executor.parallel) as pool:
        waiting = [pool.submit(one, run) for run in runs]
        try:
            for future in waiting:
                future.result()
        except Cancelled:
            for future in waiting:
                future.cancel()
            raise
    found = _ranked(plan, made, compare, confirm, len(train.samples))
    trained_on = [as_training(line, blobs.get, new=False) for line in train.samples]
    return replace(found, best=_with_variants(found.best, task, trained_on, confirm))


def _with_variants(
    best: Made, task: Task, samples: Sequence[TrainingSample], confirm: Sequence[TrainingSample]
) -> Made:
    bundle = StoredBundle(manifest=best.bundle.manifest, digest=best.bundle.digest, blobs=best.bundle.blobs)
    made = Made(
        bundle=best.bundle, variants=make_variants(bundle, task.order.variants, samples, base_int8=task.base_int8)
    )
    return with_robustness(made, task.order, confirm, [one.name for one in confirm])


def _parts(task: Task, plan: SweepPlan, blobs: FolderBlobs) -> tuple[Any, list[TrainingSample], list[TrainingSample]]:
    lines = task.revision.samples
    everything = [as_training(line, blobs.get, new=False) for line in lines]
    rest, confirm = grouped_part(everything, share=plan.confirm_share, seed=plan.seeds[0])
    others = [everything[index] for index in rest]
    kept, compare = grouped_part(others, share=plan.compare_share / (1 - plan.confirm_share), seed=plan.seeds[0])
    if min(len(confirm), len(compare)) < PART_MIN:
        raise NotValid(
            f"of {len(lines)} labelled samples {len(compare)} are left to compare on and {len(confirm)} to measure the "
            f"winner on, {PART_MIN} each are needed; label more groups, or train without a sweep",
            code="sweep_too_small",
        )
    train = task.revision.model_copy(update={"samples": tuple(lines[rest[index]] for index in kept)})
    return train, [others[index] for index in compare], [everything[index] for index in confirm]


def _ranked(
    plan: SweepPlan,
    made: Mapping[tuple[int, int], Made | EdgewiseError],
    compare: Sequence[TrainingSample],
    confirm: Sequence[TrainingSample],
    trained_on: int,
) -> Swept:
    shares: dict[int, np.ndarray] = {}
    errors: dict[int, list[str]] = {}
    for (number, _seed), one in sorted(made.items(), key=lambda item: item[0]):
        if isinstance(one, EdgewiseError):
            errors.setdefault(number, []).append(str(one))
        else:
            shares.setdefault(number, np.zeros((0, len(compare))))
            shares[number] = np.vstack([shares[number], _right(one, compare)])
    if not shares:
        first = next(iter(errors.values()))[0]
        raise NotValid(f"every run of the sweep failed, the first one because {first}", code="sweep_failed")
    right = {number: rows.mean(axis=0) for number, rows in shares.items()}
    recalls = {number: _recall(one, compare) for number, one in right.items()}
    order = sorted(right, key=lambda number: (-recalls[number][0], number))
    best = order[0]
    tried = [
        Tried(
            config=plan.settings[number],
            recall=recalls[number][0],
            low=recalls[number][1],
            high=recalls[number][2],
            behind=None if number == best else _recall(right[best] - right[number], compare),
            **_cost([one for (its, _), one in made.items() if its == number and isinstance(one, Made)]),
            errors=tuple(errors.get(number, ())),
        )
        for number in order
    ]
    tried += [
        Tried(config=plan.settings[number], recall=None, errors=tuple(texts))
        for number, texts in errors.items()
        if number not in right
    ]
    winner = next(
        one
        for (number, _), one in sorted(made.items(), key=lambda item: item[0])
        if number == best and isinstance(one, Made)
    )
    return Swept(
        best=winner,
        tried=tuple(tried),
        confirmed=_recall(_right(winner, confirm), confirm),
        frozen=digest("\n".join(sorted(sample.name for sample in compare)).encode()),
        counts=(trained_on, len(compare), len(confirm)),
    )


def _right(made: Made, samples: Sequence[TrainingSample]) -> np.ndarray:
    """1 where the bundle says the right label, float64 (N,); what cannot be read is wrong for every run alike."""
    bundle = StoredBundle(manifest=made.bundle.manifest, digest=made.bundle.digest, blobs=made.bundle.blobs)
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    found = np.zeros(len(samples))
    for index, sample in enumerate(samples):
        try:
            answer = pipeline.answer(sample.read(), sample.media_type)
        except (NotValid, OSError):
            continue
        found[index] = bundle.manifest.labels[int(answer.scores.argmax())] == sample.label
    return found


def _recall(values: np.ndarray, samples: Sequence[TrainingSample]) -> tuple[float, float | None, float | None]:
    """Macro recall on samples, or a paired difference of two, with its interval over whole groups."""
    found = macro_mean(values, [one.label for one in samples], [one.group for one in samples], level=LEVEL)
    assert found.value is not None, "there are samples"
    return found.value, found.low, found.high


def _cost(made: Sequence[Made]) -> dict[str, Any]:
    seconds = statistics.mean(one.bundle.metrics.get("seconds", 0.0) for one in made)
    return {"seconds": round(seconds, 2), "bytes": sum(len(data) for data in made[0].bundle.blobs.values())}


def _metric(value: tuple[float | None, float | None, float | None]) -> str:
    if value[0] is None:
        return "failed"
    if value[1] is None or value[2] is None:
        return f"{value[0]:.3f}"
    return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"


def sweep_folder(
    data_dir: Path | str,
    plan: SweepPlan,
    executor: Executor,
    *,
    good: Sequence[str] = (),
    group: str | None = None,
    trainer: str | None = None,
    go_on: Progress = lambda _what, _share: None,
) -> Swept:
    """A sweep over the labelled data of a folder (see `read_dataset`), without any hub.

    Raises:
        NotValid: as `read_dataset` and `run_sweep` say.
    """
    dataset = read_dataset(data_dir, good=good, group=group)
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        blobs = FolderBlobs(Path(folder))
        revision = DatasetRevision(use_case="sweep", made_at=now, samples=_lines(dataset.samples, blobs))
        order = Order(
            id="0" * 32,
            use_case="sweep",
            revision=revision_digest(revision),
            trainer=trainer or ("tabular" if dataset.is_table else "vision"),
            good_labels=dataset.good_labels,
            made_at=now,
        )
        return run_sweep(Task(order=order, revision=revision, base=None, now=now), plan, blobs, executor, go_on)


def _lines(samples: Sequence[TrainingSample], blobs: FolderBlobs) -> tuple[LabelledSample, ...]:
    """Samples of a folder as lines of a revision; their bytes are put into `blobs`."""
    return tuple(
        LabelledSample(
            sample=digest(f"{number}/{sample.name}".encode())[:32],
            blob=blobs.put(sample.read()),
            media_type=sample.media_type,
            label=sample.label,
            site="here",
            group=sample.group,
            weight=sample.weight,
        )
        for number, sample in enumerate(samples)
        if not sample.uncertain
    )
