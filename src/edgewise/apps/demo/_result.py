"""Measuring beside the story – hold-out, baselines, bare runtime – and the report's values from all of it."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgewise import __version__
from edgewise.apps.demo._story import Story
from edgewise.apps.demo._timeline import Timeline
from edgewise.apps.factory.baselines import Baselines
from edgewise.apps.factory.holdout import Holdout, Score, WrongAnswer
from edgewise.apps.factory.plants import Picture, Plan
from edgewise.apps.report import TIMELINE_MAX, WrongPicture
from edgewise.frames import prepare
from edgewise.ports import OnnxRuntime, StoredBundle, read_bundle

BASELINES_S_MAX = 600.0
BARE_RUNS = 60
Values = dict[str, float | None]  # by measure


class Measuring:
    """Measures every round's champion on the hold-out and trains the baselines in a process of their own."""

    def __init__(self, plan: Plan, folder: Path, config: Mapping[str, Any], *, quick: bool) -> None:
        self._plan = plan
        self._folder = folder
        self._config = config
        self._quick = quick
        self._holdout = Holdout(plan)
        self._baselines: Baselines | None = None
        self._pool = ThreadPoolExecutor(1)
        self._measured: list[Future[Score]] = []
        self.beside: dict[int, dict[str, Values]] = {}
        self.newest: StoredBundle | None = None

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._baselines:
            self._baselines.close()

    def measure(self, folder: Path, timeline: Timeline) -> None:
        """Measure the bundle in this folder, beside the story: first the network before round 1, then one a round."""
        if self._baselines is None:
            every = not self._quick
            place = self._folder / "baselines"
            self._baselines = Baselines(self._plan, folder, place, config=self._config, every_round=every)
        self._measured.append(self._pool.submit(self._measure, folder, timeline, len(self._measured)))

    def _measure(self, folder: Path, timeline: Timeline, number: int) -> Score:
        self.newest = read_bundle(folder)
        score = self._holdout.score(self.newest)
        said = ", ".join(f"{name} {_shown(one['value'])}" for name, one in score.quality.items())
        timeline.say("report", f"hold-out after {f'round {number}' if number else 'the first model'}: {said}")
        return score

    @property
    def scores(self) -> list[Score]:
        """All measured so far, the first model's first; waits for those that are being measured."""
        return [one.result() for one in self._measured]

    def labelled(self, number: int, names: tuple[str, ...]) -> None:
        """Tell the baselines what the loop spent in this round; they start on the same."""
        assert self._baselines is not None
        self._baselines.submit(number, names)

    def wait_for_baselines(self, timeline: Timeline) -> None:
        """Until random upload and everything are trained and measured, too."""
        assert self._baselines is not None
        timeline.doing("the baselines train on the same budget")
        self.beside = self._baselines.wait(wait_s_max=BASELINES_S_MAX)
        last = self.beside[max(self.beside)]
        for kind, values in sorted(last.items()):
            said = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
            timeline.say("report", f"{kind}: {said}")

    @property
    def wrong(self) -> tuple[WrongAnswer, ...]:
        """What the newest network gets wrong on the hold-out."""
        return self.scores[-1].wrong


def result_of(story: Story, measuring: Measuring, *, quick: bool) -> dict[str, Any]:
    """The values of `report.json` (docs/report.md); `wall_s` is filled in at the very end."""
    plan = story.plan
    return {
        "data": plan.data,
        "wall_s": 0.0,
        "title": "edgewise demo: surface inspection",
        "data_text": plan.text,
        "seed": plan.seed,
        "quick": quick,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "version": __version__,
        "measures": {
            one.name: {"title": one.title, "plant": one.plant, "metric": one.metric, "note": one.note}
            for one in plan.measures
        },
        "start": {
            "quality": measuring.scores[0].quality,
            "beside": measuring.scores[0].beside,
            "labels_used": story.first_labels,
            "release": story.first_release_id,
        },
        "rounds": _rounds(story, measuring),
        "bytes_if_all_uploaded": sum(story.bytes_decided.values()),
        "offline": story.proofs.offline,
        "power_cut": story.proofs.power_cut,
        "bad_candidate": story.proofs.bad_candidate,
        "decision_latency_ms": latency(story, measuring),
        "waves": story.runs(),
        "timeline": [
            {"at_s": round(one.at_s, 2), "who": one.who, "text": one.text}
            for one in story.timeline.moments[:TIMELINE_MAX]
        ],
        "notes": notes(story, quick=quick),
    }


def _rounds(story: Story, measuring: Measuring) -> list[dict[str, Any]]:
    rows = []
    for done, score in zip(story.rounds, measuring.scores[1:], strict=True):
        beside = measuring.beside.get(done.number, {})
        quality = {
            name: {
                **one,
                "random": beside.get("random", {}).get(name),
                "everything": beside.get("everything", {}).get(name),
            }
            for name, one in score.quality.items()
        }
        rows.append(
            {
                "number": done.number,
                "quality": quality,
                "beside": score.beside,
                "bytes_uploaded": done.bytes_uploaded,
                "labels_used": done.labels_used,
                "bytes_decided": done.bytes_decided,
                "decisions": done.decisions,
                "sample_bytes": done.sample_bytes,
                "seconds": round(done.seconds, 1),
                "gate": done.gate,
                "gate_reasons": done.gate_reasons,
                "release": done.release,
            }
        )
    return rows


def latency(story: Story, measuring: Measuring) -> dict[str, float | int | None]:
    """Decisions as the devices timed them (picture bytes in memory to decision), beside the bare runtime.

    `bare_p50` times `InferenceSession.run` alone on prepared input, one thread, on the same hold-out pictures.
    """
    windows = [plant.status().get("latency_ms") or {} for plant in story.plants.values()]
    p50 = [window["p50"] for window in windows if window.get("p50") is not None]
    p99 = [window["p99"] for window in windows if window.get("p99") is not None]
    return {
        "p50": round(statistics.median(p50), 3) if p50 else None,
        "p99": round(max(p99), 3) if p99 else None,
        "bare_p50": bare_p50(measuring.newest, measuring_pictures(story.plan)) if measuring.newest else None,
        "decisions": sum(int(plant.status().get("decisions", 0)) for plant in story.plants.values()),
    }


def measuring_pictures(plan: Plan) -> list[Picture]:
    """Up to BARE_RUNS hold-out pictures."""
    return [picture for measure in plan.measures for picture in measure.pictures][:BARE_RUNS]


def bare_p50(bundle: StoredBundle, pictures: list[Picture]) -> float:
    """Median milliseconds of the runtime alone, without decoding, preparing, deciding or recording."""
    graph = bundle.manifest.graphs[0]
    session = OnnxRuntime().open(bundle.read_blob(bundle.manifest.blobs[graph.blob].sha256), threads=1)
    inputs = [prepare(one.data, one.media_type, graph.pre)[None] for one in pictures]
    for one in inputs[:5]:
        session.run(one)
    times = []
    for one in inputs:
        started = time.perf_counter()
        session.run(one)
        times.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(times), 3)


def notes(story: Story, *, quick: bool) -> list[str]:
    """The run's limits, in words."""
    found = [
        "Hold-outs are small: read the intervals, not only the values.",
        "Labels are the data's truth, given at once through the labelling API; people are slower and sometimes wrong.",
        "Trial, bake and contact times are seconds here so that the story fits into minutes; the rules are unchanged.",
    ]
    if quick:
        found.append("A quick run: fewer rounds, shorter trainings, baselines after the last round only.")
    held = [done.number for done in story.rounds if done.gate != "passed"]
    if held:
        found.append(
            f"The gate held the candidate of round {', '.join(map(str, held))}: the champion before it went on."
        )
    return found


def wrong_pictures(measuring: Measuring) -> list[WrongPicture]:
    """For the page: what the last network gets wrong, most confident first."""
    return [
        WrongPicture(
            title=f"{one.picture.plant}: {one.picture.label}, not {one.decision.label} ({one.decision.confidence:.0%})",
            data=one.picture.data,
            media_type="image/png" if one.picture.media_type == "image/png" else "image/jpeg",
        )
        for one in measuring.wrong
    ]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
