"""COCO: boxes and masks of objects in pictures. Source: Lin et al., Microsoft COCO, 2014, and cocodataset.org."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgewise.frames import decode_image
from edgewise.learn._dataset import PICTURE_ENDINGS, TrainingSample
from edgewise.learn._formats._files import Written, contents_of, facts_of, load_json, made, starts_with, write_contents
from edgewise.wire import Annotation, Box, NotValid

LISTING = "annotations.json"
NOTHING = "none"  # the label of a picture without any object, where the file names none
Mask = NDArray[np.bool_]  # (height, width)


def find(folder: Path) -> Path | None:
    """The file with the objects: `annotations.json`, or one below `annotations/` or beside the pictures."""
    places = [folder / LISTING, *sorted((folder / "annotations").glob("*.json")), *sorted(folder.glob("*.json"))]
    for path in places:
        if path.is_file() and starts_with(path, "{"):
            body = load_json(path)
            if isinstance(body, dict) and {"images", "annotations", "categories"} <= set(body):
                return path
    return None


def read(folder: Path, listing: Path) -> list[TrainingSample]:
    """All pictures of the file and of those beside it (train, val), each with its boxes and one mask of all objects."""
    files = contents_of(folder)
    beside = sorted(listing.parent.glob("*.json")) if listing.parent.name == "annotations" else [listing]
    samples: list[TrainingSample] = []
    for path in beside:
        samples += _read_one(path, files)
    return samples


def _read_one(path: Path, files: Mapping[str, Path]) -> list[TrainingSample]:
    body = load_json(path)
    try:
        names = {item["id"]: str(item["name"]) for item in body["categories"]}
        objects: dict[Any, list[Mapping[str, Any]]] = {}
        for item in body["annotations"]:
            if item["category_id"] not in names:
                raise NotValid(
                    f"{path}: object {item.get('id')} is of category {item['category_id']}, which the file does not "
                    f"name; it names {', '.join(names.values()) or 'none'}",
                    code="category_unknown",
                )
            objects.setdefault(item["image_id"], []).append(item)
        pictures = {item["id"]: item for item in body["images"]}
        if lost := [str(name) for name in objects if name not in pictures]:
            raise NotValid(f"{path}: objects of picture {lost[0]}, which is not in the file", code="labels_invalid")
        return [_sample(path, item, objects.get(name, []), names, files) for name, item in pictures.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise NotValid(
            f"{path} is not COCO: {type(error).__name__} {error}; it needs images, annotations and categories with "
            "their ids",
            code="labels_invalid",
        ) from error


def _sample(
    path: Path, picture: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], names: Mapping[Any, str],
    files: Mapping[str, Path],
) -> TrainingSample:  # fmt: skip
    name = str(picture["file_name"])
    if name not in files:
        raise NotValid(
            f"{path} names {name!r}, which is not in the folder; put the pictures beside it or into images/",
            code="picture_missing",
        )
    width, height = int(picture["width"]), int(picture["height"])
    single = [item for item in objects if not item.get("iscrowd")]  # a crowd is a mask of many, and no box of one
    boxes = tuple(_box(path, name, item, names[item["category_id"]], width, height) for item in single)
    areas: dict[str, float] = {}
    for box in boxes:
        areas[box.label] = areas.get(box.label, 0.0) + (box.x2 - box.x1) * (box.y2 - box.y1)
    crowds = [names[item["category_id"]] for item in objects if item.get("iscrowd")]
    shown = max(sorted(areas), key=areas.__getitem__) if areas else crowds[0] if crowds else NOTHING
    label = str(picture.get("label") or shown)
    drawn = [mask for item in objects if (mask := _mask(path, item.get("segmentation"), width, height)) is not None]
    facts = dict(picture.get("edgewise") or {})
    return made(
        str(facts.pop("id", "") or name),
        label,
        files[name].read_bytes,
        media_type=PICTURE_ENDINGS[files[name].suffix.lower()],
        facts=facts,
        annotation=None if crowds and not single else Annotation(boxes=boxes),
        mask=_png(np.logical_or.reduce(drawn)) if drawn else None,
        where=str(path),
    )


def _box(path: Path, name: str, item: Mapping[str, Any], label: str, width: int, height: int) -> Box:
    x, y, across, down = (float(value) for value in item["bbox"])
    left, top = max(0.0, x / width), max(0.0, y / height)
    right, bottom = min(1.0, (x + across) / width), min(1.0, (y + down) / height)
    if not (left < right and top < bottom):
        raise NotValid(
            f"{path}: the box {item['bbox']} in {name} is empty or outside its {width} x {height} pixels; correct it",
            code="box_outside",
        )
    return Box(label=label, x1=left, y1=top, x2=right, y2=bottom)


def _mask(path: Path, drawn: Any, width: int, height: int) -> Mask | None:
    """Polygons, or runs: uncompressed, or as the text of the COCO tools."""
    if not drawn:
        return None
    if isinstance(drawn, Mapping):
        rows, columns = (int(value) for value in drawn["size"])
        counts = drawn["counts"]
        runs = _runs_of_text(counts) if isinstance(counts, str) else [int(value) for value in counts]
        if (rows, columns) != (height, width) or sum(runs) != rows * columns or min(runs, default=0) < 0:
            raise NotValid(
                f"{path}: a mask of {rows} x {columns} with runs of {sum(runs)} pixels in a picture of {height} x "
                f"{width}; they need to agree",
                code="mask_invalid",
            )
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return np.asarray(values.reshape(columns, rows).T, dtype=np.bool_)
    canvas = Image.new("1", (width, height))
    for polygon in drawn:
        if len(polygon) >= 6:
            ImageDraw.Draw(canvas).polygon([float(value) for value in polygon], fill=1)
    return np.asarray(canvas, dtype=np.bool_)


def _runs_of_text(text: str) -> list[int]:
    """Runs from the COCO tools' text: groups of five bits, the sixth says that more follow; from the fourth run
    on each is told as the difference to the one before the last.

    >>> _runs_of_text("52203")
    [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place >= len(text) or shift > 60:
                raise NotValid("the runs of a mask end in the middle of a number; export it again", code="mask_invalid")
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            more, shift, place = bool(bits & 32), shift + 5, place + 1
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _png(mask: Mask) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255, "L").save(file, "PNG", optimize=False)
    return file.getvalue()


def write(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`images/` and `annotations.json`; a picture's label and facts are fields that other tools pass over."""
    pictures = [sample for sample in samples if sample.media_type.startswith("image/")]
    names, failed = write_contents(pictures, folder / "images")
    lost = [f"{len(samples) - len(pictures)} samples are no pictures: COCO has no place for them"]
    lost = lost if len(pictures) < len(samples) else []
    if any(sample.annotation and (sample.annotation.spans or sample.annotation.values) for sample in pictures):
        lost.append("spans and values of pictures were left out: COCO has no place for them")
    categories = _categories(pictures)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for index, name in names.items():
        sample = pictures[index]
        try:
            height, width = decode_image((folder / "images" / name).read_bytes(), channels=1).shape[:2]
        except NotValid as error:
            failed.append(f"{sample.name}: {error}")
            continue
        about = {"id": index + 1, "file_name": name, "width": width, "height": height, "label": sample.label}
        images.append(about | {"edgewise": facts_of(sample) | {"id": sample.name}})
        for box in (sample.annotation.boxes or ()) if sample.annotation else ():
            objects.append(_object(len(objects) + 1, index + 1, categories[box.label], box, width, height))
        if sample.mask is not None:
            objects += _masked(len(objects) + 1, index + 1, categories[sample.label], sample.mask())
    listed = [{"id": number, "name": label} for label, number in categories.items()]
    body = {"images": images, "annotations": objects, "categories": listed}
    (folder / LISTING).write_text(json.dumps(body, indent=1, ensure_ascii=False), encoding="utf-8")
    return Written(count=len(images), lost=tuple(lost), left_out=tuple(failed))


def _categories(samples: Iterable[TrainingSample]) -> dict[str, int]:
    found = {sample.label for sample in samples}
    for sample in samples:
        found |= {box.label for box in (sample.annotation.boxes or ())} if sample.annotation else set()
    return {label: number for number, label in enumerate(sorted(found), 1)}


def _object(number: int, picture: int, category: int, box: Box, width: int, height: int) -> dict[str, Any]:
    x, y = box.x1 * width, box.y1 * height
    across, down = (box.x2 - box.x1) * width, (box.y2 - box.y1) * height
    about = {"id": number, "image_id": picture, "category_id": category, "iscrowd": 0, "segmentation": []}
    return about | {"bbox": [round(value, 4) for value in (x, y, across, down)], "area": round(across * down, 2)}


def _masked(number: int, picture: int, category: int, png: bytes) -> list[dict[str, Any]]:
    """The whole mask as one object of uncompressed runs."""
    mask = decode_image(png, channels=1)[:, :, 0] > 0
    if not mask.any():
        return []
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
    about = {"id": number, "image_id": picture, "category_id": category, "iscrowd": 1, "area": int(mask.sum())}
    return [
        about | {"bbox": box, "segmentation": {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}}
    ]
