"""How good a bundle is on labelled samples: every metric with its interval, overall and by column."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewise.frames import baseline_of, true_boxes
from edgewise.frames import good_labels as good_labels_in
from edgewise.learn._dataset import Dataset, TrainingSample
from edgewise.learn._read import read_dataset
from edgewise.learn._recorded import Wanted, read_recorded
from edgewise.learn._train import check_unreadable
from edgewise.measure import score_sites, score_values
from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline, read_bundle
from edgewise.wire import (
    Box,
    BoxScore,
    ImageSpec,
    Metric,
    NotValid,
    Prediction,
    SiteScore,
    UseCase,
    digest,
    slice_facts,
    slices_of,
)

METRICS = ("balanced_accuracy", "macro_recall", "auc", "accuracy")
VALUE_METRICS = ("mae", "baseline", "skill", "coverage", "width", "pinball")
BOX_METRICS = ("recall", "precision", "average_precision", "centre_recall")
LEVEL = 0.9
VALUES_MAX = 20  # a column of more different values is no category; the group column is shown in any case
GROUPS_SHOWN_MAX = 500
NOT_CATEGORIES = frozenset({"file", "label", "uncertain", "id", "annotation"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    sample: TrainingSample
    prediction: Prediction
    quantiles: tuple[float, float, float] | None  # of a bundle that states values


def score(
    bundle: Path | str | StoredBundle,
    data_dir: Path | str,
    *,
    good: Sequence[str] = (),
    group: str | None = None,
    use_case: UseCase | None = None,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> dict[str, Any]:
    """The quality of a bundle on a folder of labelled data (see `read_dataset`).

    Args:
        bundle: its folder, or the bundle itself.
        good: labels of good parts; by default those the bundle was trained with and those with a usual name.
        group: column of near-copies, whole groups are resampled for the intervals; by default the one the bundle was
            trained with, where the data has it.
        use_case: whose slices are scored too, and whose zones say which hour it was.
    Returns:
        Plain values under stable keys, described in docs/learn.md.
    Raises:
        NotValid: the folder, a column or too many pictures cannot be read, or the bundle takes another kind of data.
        NotTrusted: the bundle is damaged.
    """
    stored = bundle if isinstance(bundle, StoredBundle) else read_bundle(Path(bundle))
    dataset = _read(stored, data_dir, good=good, group=group)
    remembered = stored.manifest.provenance.data.get("group_column")
    if group is None and isinstance(remembered, str) and remembered in dataset.samples[0].columns:
        dataset = _read(stored, data_dir, good=good, group=remembered)
    return score_samples(stored, dataset, good=good, use_case=use_case, progress=progress)


def _read(stored: StoredBundle, data_dir: Path | str, *, good: Sequence[str], group: str | None) -> Dataset:
    """The data, with the target's column for labels where the bundle states values and there is one."""
    states, wanted = stored.manifest.states, Wanted.of_bundle(stored.manifest)
    if wanted is not None:
        return read_recorded(data_dir, wanted).dataset
    if states is not None:
        try:
            return read_dataset(data_dir, group=group, target=states.target)
        except NotValid as error:
            if error.code != "column_missing":
                raise
    return read_dataset(data_dir, good=good, group=group)


def score_samples(
    bundle: StoredBundle,
    dataset: Dataset,
    *,
    good: Sequence[str] = (),
    use_case: UseCase | None = None,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> dict[str, Any]:
    """`score` for samples that are read already."""
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    takes_pictures = isinstance(pipeline.graph.pre, ImageSpec)
    if takes_pictures != dataset.samples[0].media_type.startswith("image/"):
        raise NotValid(
            f"the bundle {bundle.manifest.name} takes {'pictures' if takes_pictures else 'rows of numbers'}, "
            f"{dataset.source} holds {'rows of numbers' if dataset.is_table else 'pictures'}; give data of its kind",
            code="data_of_other_kind",
        )
    states = bundle.manifest.states
    good_labels = () if states is not None else tuple(good) or _good_labels(bundle, dataset)
    scored, laps_ms, unreadable = _answers(pipeline, dataset, good_labels, progress)
    certain = [item for item in scored if not item.sample.uncertain]
    uncertain = [item for item in scored if item.sample.uncertain]
    return {
        "bundle": bundle.digest,
        "data": dataset.source,
        "n": len(certain),
        **({} if states is None else {"target": states.target, "unit": states.unit, "nominal": states.coverage}),
        "good_labels": list(good_labels),
        "good_label": good_labels[0] if good_labels else None,
        "group_column": dataset.group_column,
        "level": LEVEL,
        **_plain(_overall(certain, good_labels)),
        "groups": _by_column(certain, dataset, good_labels),
        "slices": {} if use_case is None else _by_slice(certain, dataset, use_case, good_labels),
        "uncertain": _counted(uncertain, good_labels) if uncertain or states is None else {"n": 0},
        "latency_ms": round(statistics.median(laps_ms), 4),
        "unreadable": unreadable,
        "said": list(dataset.said),
    }


def _good_labels(bundle: StoredBundle, dataset: Dataset) -> tuple[str, ...]:
    """What the bundle remembers, and what has a usual name: a bundle is also asked about another plant's parts."""
    return tuple(dict.fromkeys([*good_labels_in(bundle.manifest), *dataset.good_labels]))


def _answers(
    pipeline: Pipeline, dataset: Dataset, good_labels: Sequence[str], progress: Callable[[str, float], None]
) -> tuple[list[_Scored], list[float], list[str]]:
    """One prediction for each readable sample, the time each took, and the names of the unreadable ones."""
    scored: list[_Scored] = []
    laps_ms: list[float] = []
    unreadable: list[str] = []
    for number, sample in enumerate(dataset.samples):
        progress("score", number / len(dataset.samples))
        try:
            data = sample.read()
            before = time.perf_counter()
            answer = pipeline.answer(data, sample.media_type)
            laps_ms.append((time.perf_counter() - before) * 1000)
        except (NotValid, OSError):
            unreadable.append(sample.name)
            check_unreadable(unreadable, len(dataset.samples))
            continue
        places = [pipeline.manifest.labels.index(label) for label in good_labels if label in pipeline.manifest.labels]
        defect = min(1.0, max(0.0, 1.0 - float(answer.scores[places].sum()))) if places else None
        states, decision = pipeline.manifest.states, pipeline.decide(answer, None)
        prediction = Prediction(
            sample=digest(f"{number}/{sample.name}".encode())[:32],
            site=_site(sample.site),
            group=sample.group,
            truth=sample.label,
            label=decision.label,
            defect=defect,
            stated=decision.stated,
            baseline=None if states is None else baseline_of(states, pipeline.graph.pre, data),
            boxes=decision.boxes,
            true_boxes=None if decision.boxes is None else _true_boxes(sample, good_labels),
        )
        quantiles = None if states is None else states.quantiles
        scored.append(_Scored(sample=sample, prediction=prediction, quantiles=quantiles))
    if not scored:
        raise NotValid(f"none of the samples of {dataset.source} can be read", code="pictures_unreadable")
    return scored, laps_ms, unreadable


def _site(text: str) -> str:
    """A column's value as a site's name: any character that a name cannot have becomes a dot.

    >>> _site("line 2/b")
    'line.2.b'
    """
    name = "".join(char if char.isascii() and (char.isalnum() or char in "._@:-") else "." for char in text)[:120]
    return name if name and name[0].isalnum() else f"x{name}"


def _overall(items: Sequence[_Scored], good_labels: Sequence[str]) -> SiteScore:
    predictions = [item.prediction for item in items]
    if items and items[0].quantiles is not None:
        return score_values(predictions, items[0].quantiles, level=LEVEL)[1]
    return score_sites(predictions, good_labels=good_labels, level=LEVEL)[1]


def _counted(items: Sequence[_Scored], good_labels: Sequence[str]) -> dict[str, Any]:
    return {"n": len(items), **_plain(_overall(items, good_labels))}


def _plain(score_of: SiteScore) -> dict[str, Any]:
    """Metrics as plain values. Without a good label nothing is known of good against defective: both are null."""
    if score_of.values is not None:
        return {name: _metric(getattr(score_of.values, name)) for name in VALUE_METRICS}
    values: dict[str, Any] = {name: _metric(getattr(score_of, name)) for name in METRICS}
    values["good_recall"] = None if score_of.good_recall is None else _metric(score_of.good_recall)
    values["recall"] = {label: {**_metric(metric), "n": metric.n} for label, metric in score_of.recall.items()}
    if score_of.boxes is not None:
        values["boxes"] = _boxes(score_of.boxes)
        values["boxes_of"] = {label: _boxes(one) for label, one in (score_of.boxes_of or {}).items()}
    return values


def _boxes(score_of: BoxScore) -> dict[str, Any]:
    measures = {name: _metric(getattr(score_of, name)) for name in BOX_METRICS}
    return {"n": score_of.n, "found": score_of.found, **measures}


def _true_boxes(sample: TrainingSample, good_labels: Sequence[str]) -> tuple[Box, ...] | None:
    """What is where in the sample; None where nobody said so, or the mask that says so cannot be read."""
    try:
        return true_boxes(sample.annotation, sample.label, is_good=sample.label in good_labels, read_mask=sample.mask)
    except (NotValid, OSError):
        return None


def _metric(metric: Metric) -> dict[str, float | None]:
    return {"value": metric.value, "low": metric.low, "high": metric.high}


def _by_column(items: Sequence[_Scored], dataset: Dataset, good_labels: Sequence[str]) -> dict[str, Any]:
    """Metrics for each value of each column with few values, and of the group column."""
    found: dict[str, Any] = {}
    if not items:
        return found
    for column in dict.fromkeys(name for item in items for name in item.sample.columns):
        if column in NOT_CATEGORIES:
            continue
        counts = Counter(item.sample.columns.get(column, "") for item in items)
        is_group = column == dataset.group_column
        if not (is_group and len(counts) <= GROUPS_SHOWN_MAX) and not _is_category(counts, len(items)):
            continue
        found[column] = {value: _counted(_with(items, column, value), good_labels) for value in sorted(counts)}
    return found


def _by_slice(
    items: Sequence[_Scored], dataset: Dataset, use_case: UseCase, good_labels: Sequence[str]
) -> dict[str, Any]:
    """Metrics for each slice of the use case. The columns of the data are the facts of its frames."""
    within = [slices_of(use_case.slices, _facts(item.sample, dataset, use_case)) for item in items]
    found: dict[str, Any] = {}
    for declared in use_case.slices:
        mine = [item for item, names in zip(items, within, strict=True) if declared.name in names]
        found[declared.name] = _counted(mine, good_labels)
    return found


def _facts(sample: TrainingSample, dataset: Dataset, use_case: UseCase) -> dict[str, Any]:
    return slice_facts(
        use_case.slices,
        use_case.data.fields,
        site=sample.site or None,
        zone=next((site.zone for site in use_case.sites if site.name == sample.site), None),
        group=sample.group if dataset.group_column is not None else "",
        device=sample.columns.get("device") or None,
        taken_at=_moment(sample.columns.get("taken_at", "")),
        facts={name: _value(text) for name, text in sample.columns.items() if text},
    )


def _moment(text: str) -> datetime | None:
    """The time in a column, None where it is none or its zone is not said."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else found


def _value(text: str) -> float | str:
    """A column's value as a fact: a number where it is one.

    >>> _value("2400"), _value("worn")
    (2400.0, 'worn')
    """
    try:
        return float(text)
    except ValueError:
        return text


def _with(items: Sequence[_Scored], column: str, value: str) -> list[_Scored]:
    return [item for item in items if item.sample.columns.get(column, "") == value]


def _is_category(counts: Mapping[str, int], n: int) -> bool:
    """Few values, each more than once on average: what a person would filter by."""
    return 2 <= len(counts) <= VALUES_MAX and len(counts) * 2 <= n
