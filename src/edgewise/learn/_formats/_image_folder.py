"""ImageFolder: one folder of pictures per class, as torchvision and many others read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgewise.learn._dataset import TrainingSample
from edgewise.learn._formats._files import Written, facts_of, safe_name, write_contents


def write(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`LABEL/NAME`; there is no place for anything else than the label."""
    pictures = [sample for sample in samples if sample.media_type.startswith("image/")]
    placed = [
        replace(
            sample, name=f"{_folder_of(sample.label)}/{safe_name(sample.name, sample.media_type).replace('/', '_')}"
        )
        for sample in pictures
    ]
    names, failed = write_contents(placed, folder)
    lost = []
    if len(pictures) < len(samples):
        lost.append(f"{len(samples) - len(pictures)} samples are no pictures: a folder per class has no place for them")
    if any(sample.annotation is not None for sample in pictures):
        lost.append("boxes, spans, values and masks were left out: a folder per class has no place for them")
    if facts := sorted({name for sample in pictures for name in facts_of(sample)}):
        lost.append(f"{', '.join(facts)} were left out: a folder per class has no place for them")
    return Written(count=len(names), lost=tuple(lost), left_out=tuple(failed))


def _folder_of(label: str) -> str:
    return safe_name(label, "image/jpeg").removesuffix(".jpg").replace("/", "_")
