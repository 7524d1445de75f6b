"""Writing COCO, with our own facts in fields that other tools pass over."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgewise.frames import decode_image
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._formats._coco import ASKED, LISTING
from edgewise.learn._formats._coco_masks import object_of
from edgewise.learn._formats._files import Written, facts_of, mask_of, write_contents
from edgewise.wire import Box, NotValid


def write(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`images/` and `annotations.json`; a picture's label and facts are fields that other tools pass over."""
    pictures = [sample for sample in samples if sample.media_type.startswith("image/")]
    names, failed = write_contents(pictures, folder / "images")
    categories = _categories(pictures)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for index, name in names.items():
        sample = pictures[index]
        try:
            height, width = decode_image((folder / "images" / name).read_bytes(), channels=1).shape[:2]
        except NotValid as error:
            (folder / "images" / name).unlink()
            failed.append(f"{sample.name}: {error}")
            continue
        about = {"id": index + 1, "file_name": name, "width": width, "height": height, "label": sample.label}
        asked = sample.annotation is not None and sample.annotation.boxes is not None
        images.append(about | {"edgewise": facts_of(sample) | {"id": sample.name, ASKED: asked}})
        for box in (sample.annotation.boxes or ()) if sample.annotation else ():
            objects.append(_object(len(objects) + 1, index + 1, categories[box.label], box, width, height))
        if (drawn := _drawn(sample, (height, width), failed)) is not None:
            about = {"id": len(objects) + 1, "image_id": index + 1, "category_id": categories[sample.label]}
            objects.append(about | {"iscrowd": 1} | drawn)
    listed = [{"id": number, "name": label} for label, number in categories.items()]
    body = {"images": images, "annotations": objects, "categories": listed}
    text = json.dumps(body, indent=1, ensure_ascii=False)
    (folder / LISTING).write_bytes(text.encode("utf-8", "replace"))
    return Written(count=len(images), lost=tuple(_lost(samples, pictures)), left_out=tuple(failed))


def _lost(samples: Sequence[TrainingSample], pictures: Sequence[TrainingSample]) -> list[str]:
    lost = []
    if len(pictures) < len(samples):
        lost.append(f"{len(samples) - len(pictures)} samples are no pictures: COCO has no place for them")
    if any(sample.annotation and (sample.annotation.spans or sample.annotation.values) for sample in pictures):
        lost.append("spans and values of pictures were left out: COCO has no place for them")
    return lost


def _categories(samples: Iterable[TrainingSample]) -> dict[str, int]:
    found: set[str] = set()
    for sample in samples:
        found.add(sample.label)
        found |= {box.label for box in (sample.annotation.boxes or ())} if sample.annotation else set()
    return {label: number for number, label in enumerate(sorted(found), 1)}


def _object(number: int, picture: int, category: int, box: Box, width: int, height: int) -> dict[str, Any]:
    x, y = box.x1 * width, box.y1 * height
    across, down = (box.x2 - box.x1) * width, (box.y2 - box.y1) * height
    about = {"id": number, "image_id": picture, "category_id": category, "iscrowd": 0, "segmentation": []}
    return about | {"bbox": [x, y, across, down], "area": across * down}


def _drawn(sample: TrainingSample, size: tuple[int, int], failed: list[str]) -> dict[str, Any] | None:
    """The mask as an object; None where there is none, or nothing in it. One that does not fit is named."""
    png = mask_of(sample, failed)
    if png is None:
        return None
    try:
        mask = decode_image(png, channels=1)[:, :, 0] > 0
    except NotValid as error:
        failed.append(f"the mask of {sample.name}: {error}")
        return None
    if mask.shape != size:
        failed.append(f"the mask of {sample.name} has {mask.shape} pixels, the picture {size}; draw it again")
        return None
    return object_of(mask) if mask.any() else None
