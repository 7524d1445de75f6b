"""The trainer that tells a number ahead: from a window of the past to quantiles of the target at a horizon."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import Literal

import numpy as np

from edgewise.frames import CLOCK, SERIES_TYPE, baseline_of, past_takes, prepare
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._quantiles import asked_of, learn_quantiles
from edgewise.learn._recorded import BLOCK_HOURS, block_of
from edgewise.learn._trainer import ConfigValue, Fitted, Job, number
from edgewise.wire import NotValid, PastSpec, States

PROBE_COUNT = 64
HORIZON_S_MAX = 366 * 86_400.0
NO_SERIES = "the trainer `forecast` takes windows of a series"


class ForecastTrainer:
    """The value of a target some time after the end of a window of a recorded series.

    Config: `horizon_s`, `columns` (channels, separated by commas; the target is one of them), `step_s`, and those of
    the trainer `regression`. The labels are what the target was at the horizon; they come from the series itself.
    """

    @property
    def task(self) -> Literal["value"]:
        return "value"

    def fit(self, job: Job) -> Fitted:
        """The trees for these windows. See `Trainer.fit`."""
        started_s = time.perf_counter()
        asked = asked_of(job.config)
        horizon_s = _needed(job.config, "horizon_s", high=HORIZON_S_MAX)
        step_s = _needed(job.config, "step_s", high=HORIZON_S_MAX)
        columns = _columns(job.config, asked.target)
        kept: list[TrainingSample] = []
        windows: list[bytes] = []
        unreadable: list[str] = []
        for sample in job.samples:
            data = sample.read() if sample.media_type == SERIES_TYPE else b""
            fits = len(data) >= 4 * len(columns) and len(data) % (4 * len(columns)) == 0
            if fits and (not windows or len(data) == len(windows[0])):
                kept.append(sample)
                windows.append(data)
            else:
                unreadable.append(sample.name)
        if not kept:
            raise NotValid(
                f"{NO_SERIES} of {len(columns)} channels, and none of the {len(job.samples)} samples is one; for rows "
                "use `regression`, and look at config columns",
                code="bad_series",
            )
        spec = _spec(windows, columns, step_s=step_s, horizon_s=horizon_s)
        inputs = np.stack([prepare(data, SERIES_TYPE, spec) for data in windows])
        draft = States(target=asked.target, spread=1, mean=0, now=asked.target)
        baseline = np.array([baseline_of(draft, spec, data) for data in windows], np.float64)
        kept = _in_blocks(kept, job.config)
        learned = learn_quantiles(job, asked, inputs, kept, baseline=baseline, horizon_s=horizon_s, now=asked.target)
        return Fitted(
            graph=learned.graph,
            input="input",
            scores="scores",
            embedding=None,
            pre=spec,
            reference=learned.reference,
            probe=inputs[:: max(1, len(inputs) // PROBE_COUNT)][:PROBE_COUNT],
            metrics={**learned.metrics, "fit_seconds": time.perf_counter() - started_s},
            log=(
                f"{len(kept)} windows of {spec.length} steps, {len(spec.takes)} numbers of each; interval calibrated "
                f"on {learned.calibrated} groups, moved by {learned.shift:+.4g} {asked.unit}".rstrip(),
            ),
            libraries={name: metadata.version(name) for name in ("lightgbm", "onnxmltools")},
            facts={
                "columns": len(columns),
                "trees": asked.trees,
                "target": asked.target,
                **{name: job.config[name] for name in ("hop_s", "block_hours") if name in job.config},
            },
            unreadable=tuple(unreadable),
            states=learned.states,
        )


def _in_blocks(samples: list[TrainingSample], config: Mapping[str, ConfigValue]) -> list[TrainingSample]:
    """Windows that are no part of a group are of the block of time in which they end: neighbours share most of it."""
    hours = number(config, "block_hours", BLOCK_HOURS, low=0.01, high=1e6)
    return [
        replace(one, group=f"block {block_of(one.taken_at, hours)}")
        if one.group in ("", one.name) and one.taken_at is not None
        else one
        for one in samples
    ]


def _needed(config: Mapping[str, ConfigValue], key: str, *, high: float) -> float:
    if key not in config:
        raise NotValid(f"a forecast needs config {key}, in seconds", code="config_invalid")
    return number(config, key, 0.0, low=1e-3, high=high)


def _columns(config: Mapping[str, ConfigValue], target: str) -> tuple[str, ...]:
    told = config.get("columns")
    names = tuple(name.strip() for name in told.split(",")) if isinstance(told, str) else ()
    if target not in names or len(set(names)) != len(names) or "" in names:
        raise NotValid(
            f"config columns is {told!r}, needs the names of the windows' channels, separated by commas, and "
            f"{target!r} among them",
            code="config_invalid",
        )
    return names


def _spec(windows: list[bytes], columns: tuple[str, ...], *, step_s: float, horizon_s: float) -> PastSpec:
    """How these windows are looked at, each channel by its own mean and deviation; the clock as it is."""
    held = np.stack([np.frombuffer(data, "<f4") for data in windows]).reshape(len(windows), len(columns), -1)
    if not np.isfinite(held).all():
        raise NotValid("a window holds a number that is not finite; record the series again", code="bad_series")
    mean = held.mean(axis=(0, 2), dtype=np.float64)
    std = held.std(axis=(0, 2), dtype=np.float64)
    plain = np.array([name in CLOCK for name in columns])
    length = held.shape[2]
    return PastSpec(
        columns=columns,
        length=length,
        step_s=step_s,
        takes=past_takes(columns, length, step_s=step_s, horizon_s=horizon_s),
        mean=tuple(float(value) for value in np.where(plain, 0.0, mean)),
        std=tuple(float(value) for value in np.where(plain | (std == 0), 1.0, std)),
    )
