"""Measuring a bundle on the hold-out: the same pictures after every round, seen by no trainer and no gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgewise.apps.factory._plan import Measure, Picture, Plan
from edgewise.frames import decide, decode_image, prepare_image
from edgewise.measure import score_sites, wilson
from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline
from edgewise.wire import Decision, ImageSpec, Metric, NotValid, Prediction, SiteScore, digest, record_digest

LEVEL = 0.9  # of the intervals
BATCH = 32
Key = tuple[str, tuple[int, int] | None]  # a picture and the size it is enlarged to


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongAnswer:
    """A hold-out picture that the bundle named wrongly."""

    picture: Picture
    decision: Decision


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What one bundle reached on the hold-out.

    Attributes:
        quality: by measure `plant`, `metric`, `value`, `low`, `high`, `n`: the report's keys, without the baselines.
        beside: the same for numbers that are shown but are not measures of every run.
        wrong: what it got wrong, plants in turn and most confident first; pictures whose label is in doubt are not
            among them.
    """

    quality: dict[str, dict[str, Any]]
    beside: dict[str, dict[str, Any]]
    wrong: tuple[WrongAnswer, ...]


@dataclass(slots=True)
class Holdout:
    """A plan's hold-out with its pictures prepared once a spec: measuring again costs only the network's time."""

    plan: Plan
    _prepared: dict[str, dict[Key, NDArray[np.float32]]] = field(default_factory=dict)

    def score(self, bundle: StoredBundle | Pipeline) -> Score:
        """Everything that the plan's measures ask for.

        Raises:
            NotValid: the bundle takes no pictures, or does not answer as its manifest says.
        """
        pipeline = bundle if isinstance(bundle, Pipeline) else open_bundle(bundle)
        return self.score_decisions(self._decide(pipeline))

    def score_decisions(self, decisions: Mapping[Key, Decision]) -> Score:
        """The same for decisions that something else than a bundle made, one for each of `wanted_pictures`."""
        scored = {one.name: self._measure(one, decisions) for one in self.plan.measures}
        return Score(
            quality={one.name: scored[one.name] for one in self.plan.measures if not one.beside},
            beside={one.name: scored[one.name] for one in self.plan.measures if one.beside},
            wrong=self._wrong(decisions),
        )

    def _decide(self, pipeline: Pipeline) -> dict[Key, Decision]:
        spec = pipeline.graph.pre
        if not isinstance(spec, ImageSpec):
            raise NotValid("this bundle takes rows of numbers, the hold-out holds pictures", code="bad_frame")
        prepared = self._prepared.setdefault(record_digest(spec), {})
        wanted = wanted_pictures(self.plan)
        for key, picture in wanted.items():
            if key not in prepared:
                prepared[key] = _prepare(picture, key[1], spec)
        keys = list(wanted)
        found: dict[Key, Decision] = {}
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            scores, _ = pipeline.run_prepared(np.stack([prepared[key] for key in part]))
            for key, row in zip(part, scores, strict=True):
                found[key] = decide(row, pipeline.manifest, bundle=pipeline.bundle, release=None).record()
        return found

    def _measure(self, measure: Measure, decisions: Mapping[Key, Decision]) -> dict[str, Any]:
        answers = [decisions[picture.name, measure.enlarge] for picture in measure.pictures]
        metric = _metric(measure, answers, self.plan.good_labels)
        return {
            "plant": measure.plant,
            "metric": measure.metric,
            "value": metric.value,
            "low": metric.low,
            "high": metric.high,
            "n": len(answers),
        }

    def _wrong(self, decisions: Mapping[Key, Decision]) -> tuple[WrongAnswer, ...]:
        good = set(self.plan.good_labels)
        found: dict[str, WrongAnswer] = {}
        for measure in self.plan.measures:
            for picture in measure.pictures:
                decision = decisions[picture.name, measure.enlarge]
                both_good = picture.label in good and decision.label in good
                if decision.label != picture.label and not both_good and not picture.uncertain and not measure.enlarge:
                    found[picture.name] = WrongAnswer(picture=picture, decision=decision)
        ranked = sorted(found.values(), key=lambda one: (-one.decision.confidence, one.picture.name))
        # Plants take turns: the first few that a page shows should not all come from the plant with the most pictures.
        turns: dict[str, int] = {}
        places: list[tuple[int, int]] = []
        for one in ranked:
            turns[one.picture.plant] = turns.get(one.picture.plant, 0) + 1
            places.append((turns[one.picture.plant], len(places)))
        return tuple(ranked[place] for _, place in sorted(places))


def wanted_pictures(plan: Plan) -> dict[Key, Picture]:
    """Every hold-out picture by its name and the size to enlarge it to, each once however many measures ask for it."""
    return {(picture.name, one.enlarge): picture for one in plan.measures for picture in one.pictures}


def enlarged(pixels: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """uint8 (H, W, C) brought to this width and height, bicubic; unchanged for None.

    >>> enlarged(np.zeros((4, 6, 1), np.uint8), (12, 8)).shape
    (8, 12, 1)
    """
    if size is None:
        return pixels
    plain = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    larger = np.asarray(plain.resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)
    return larger.reshape(size[1], size[0], pixels.shape[2])


def measure_holdout(bundle: StoredBundle | Pipeline, plan: Plan) -> dict[str, dict[str, Any]]:
    """The plan's measures for one bundle; to measure several, keep a `Holdout`, which prepares the pictures once.

    Returns:
        by measure: `plant`, `metric`, `value`, `low`, `high` (of a 90 % interval over groups) and `n`.
    """
    return Holdout(plan).score(bundle).quality


def open_bundle(bundle: StoredBundle) -> Pipeline:
    """The bundle ready to answer on one thread."""
    return open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())


def _prepare(picture: Picture, enlarge: tuple[int, int] | None, spec: ImageSpec) -> NDArray[np.float32]:
    return prepare_image(enlarged(decode_image(picture.data, channels=spec.channels), enlarge), spec, None)


def _metric(measure: Measure, answers: Sequence[Decision], good_labels: Sequence[str]) -> Metric:
    if measure.metric == "called_defective":
        return wilson(sum(one.label not in good_labels for one in answers), len(answers), LEVEL)
    predictions = [
        Prediction(
            sample=digest(picture.name.encode())[:32],
            site=measure.plant,
            group=picture.group,
            truth=picture.label,
            label=answer.label,
            defect=answer.defect,
        )
        for picture, answer in zip(measure.pictures, answers, strict=True)
    ]
    _, overall = score_sites(predictions, good_labels=good_labels, level=LEVEL)
    return _chosen(measure, overall)


def _chosen(measure: Measure, score: SiteScore) -> Metric:
    if measure.metric == "recall":
        return score.recall.get(measure.of_label or "", Metric(value=None))
    if measure.metric == "auc":
        return score.auc
    return score.macro_recall if measure.metric == "macro_recall" else score.balanced_accuracy
