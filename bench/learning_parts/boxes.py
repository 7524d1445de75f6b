"""Found boxes on real ceramic tiles with pixel masks, beside a threshold and the network that only tells classes.

All defects are one class. Tiles that look alike are never on two sides of the split; 40 % of them are held out. The
threshold is the one that a person would write first: the connected parts that are darker or brighter than the tile by
so many deviations, as many as find most on the training side. Intervals redraw whole groups over all seeds.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.frames import decode_image, mask_boxes, true_boxes
from edgewise.learn import TrainingSample, train
from edgewise.learn._dataset import grouped_part
from edgewise.measure import score_sites
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline
from edgewise.wire import Annotation, FoundBox, Metric, Prediction, SiteScore, digest, plain

PLANT = Path("manufacturing") / "plant_b_magnetic_tile"
GOOD, DEFECT = "free", "defect"
HELD_OUT = 0.4
STEPS = 300
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEVIATIONS = (2.0, 2.5, 3.0, 4.0, 5.0)
ARMS = {"boxes": "the trainer boxes", "threshold": "a threshold", "vision": "the trainer vision"}


def tiles(data: str) -> list[TrainingSample]:
    """All tiles; every defect is one class, and where it is says its mask."""
    folder = Path(data) / PLANT
    with zipfile.ZipFile(folder / "images.zip") as archive, (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
        names = set(archive.namelist())
        read = {name: archive.read(name) for row in rows for name in (row["file"], row["mask"]) if name in names}
    return [
        TrainingSample(
            name=row["file"],
            label=GOOD if row["label"] == GOOD else DEFECT,
            group=row["part_group"],
            read=partial(bytes, read[row["file"]]),
            annotation=Annotation(mask=digest(read[row["mask"]])) if row["mask"] in read else None,
            mask=partial(bytes, read[row["mask"]]) if row["mask"] in read else None,
        )
        for row in rows
    ]


def all_figures(data: str, seeds: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """Each arm over all seeds, on tiles that it was not trained on."""
    found: dict[str, list[Prediction]] = {name: [] for name in ARMS}
    given = tiles(data)
    for seed in seeds:
        kept, part = grouped_part(given, share=HELD_OUT, seed=seed)
        taught, held = [given[index] for index in kept], [given[index] for index in part]
        for name, answer in _arms(taught, seed).items():
            found[name] += [_prediction(sample, answer(sample), seed) for sample in held]
        say(f"boxes, seed {seed}: {len(taught)} tiles taught, {len(held)} held out")
    scores = {name: score_sites(items, good_labels=[GOOD])[1] for name, items in found.items()}
    return {name: plain(score) for name, score in scores.items()} | {"table": _table(scores)}


Answer = Callable[[TrainingSample], tuple[str, tuple[FoundBox, ...] | None]]


def _arms(taught: list[TrainingSample], seed: int) -> dict[str, Answer]:
    cut = _cut(taught)

    def by_threshold(sample: TrainingSample) -> tuple[str, tuple[FoundBox, ...]]:
        boxes = threshold_boxes(sample, cut)
        return (DEFECT if boxes else GOOD), boxes

    finds = _trained(taught, "boxes", {"steps": STEPS}, seed)
    return {"boxes": finds, "threshold": by_threshold, "vision": _trained(taught, "vision", {}, seed)}


def _trained(taught: list[TrainingSample], trainer: str, config: dict[str, Any], seed: int) -> Answer:
    made = train(taught, now=NOW, trainer=trainer, good_labels=[GOOD], seed=seed, config=config)
    stored = StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)
    pipeline = open_pipeline(stored.manifest, stored.digest, stored.read_blob, OnnxRuntime())

    def answer(sample: TrainingSample) -> tuple[str, tuple[FoundBox, ...] | None]:
        decision = pipeline.judge(sample.read(), sample.media_type, None).decision
        return decision.label, decision.boxes

    return answer


def threshold_boxes(sample: TrainingSample, deviations: float) -> tuple[FoundBox, ...]:
    """The connected parts of a tile that differ from it by so many deviations, the largest ones first."""
    pixels = decode_image(sample.read(), channels=1)[:, :, 0].astype(np.float64)
    odd = np.abs(pixels - np.median(pixels)) > deviations * pixels.std()
    found = mask_boxes(odd.astype(np.uint8), DEFECT)[:32]
    return tuple(FoundBox(**plain(box), score=round((box.x2 - box.x1) * (box.y2 - box.y1), 6)) for box in found)


def _cut(taught: list[TrainingSample]) -> float:
    """As many deviations as find most on the training side."""

    def worth(deviations: float) -> float:
        items = [_prediction(one, (DEFECT, threshold_boxes(one, deviations)), 0) for one in taught]
        score = score_sites(items, good_labels=[GOOD])[1].boxes
        return 0.0 if score is None else score.average_precision.value or 0.0

    return max(DEVIATIONS, key=worth)


def _prediction(sample: TrainingSample, said: tuple[str, tuple[FoundBox, ...] | None], seed: int) -> Prediction:
    label, boxes = said
    truth = true_boxes(sample.annotation, sample.label, is_good=sample.label == GOOD, read_mask=sample.mask)
    return Prediction(
        sample=digest(f"{seed}/{sample.name}".encode())[:32],
        site="here",
        group=sample.group,
        truth=sample.label,
        label=label,
        boxes=boxes,
        true_boxes=None if boxes is None else truth,
    )


def _table(scores: dict[str, SiteScore]) -> list[str]:
    lines = [
        "| | pictures | balanced accuracy | true boxes | recall | precision | average precision | centre recall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, score in scores.items():
        told = score.boxes
        boxes = (
            ["–"] * 5
            if told is None
            else [str(told.n), *map(_said, (told.recall, told.precision, told.average_precision, told.centre_recall))]
        )
        lines.append(f"| {ARMS[name]} | {score.n} | {_said(score.balanced_accuracy)} | {' | '.join(boxes)} |")
    return lines


def _said(metric: Metric) -> str:
    if metric.value is None:
        return "–"
    between = "" if metric.low is None else f" ({metric.low:.2f} to {metric.high:.2f})"
    return f"{metric.value:.2f}{between}"
