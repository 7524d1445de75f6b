"""Reading COCO: boxes and masks of objects in pictures.

Source: Lin et al., Microsoft COCO, 2014, and cocodataset.org.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgewise.learn._dataset import PICTURE_ENDINGS, TrainingSample
from edgewise.learn._formats._coco_masks import Drawn, is_line, mask_in, png_of
from edgewise.learn._formats._reading import (
    Found,
    Reading,
    check_count,
    first_twice,
    grouped,
    load_json,
    made,
    starts_with,
)
from edgewise.learn._formats._tree import split_in, split_of
from edgewise.wire import Annotation, Box, NotValid
from edgewise.wire.codec import explain

LISTING = "annotations.json"
NOTHING = "none"  # the label of a picture without any object, where the file names none
ASKED = "boxes_asked"  # among our facts of a picture: whether a person was asked for boxes
Id = int | str


class _Foreign(BaseModel):
    """As much of another tool's record as is read here; whatever else it holds is passed over."""

    model_config = ConfigDict(allow_inf_nan=False, extra="ignore", frozen=True)


class _Category(_Foreign):
    id: Id
    name: str = Field(min_length=1, max_length=128, coerce_numbers_to_str=True)


class _Picture(_Foreign):
    id: Id
    file_name: str = Field(min_length=1)
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    label: str | None = Field(None, max_length=128, coerce_numbers_to_str=True)
    edgewise: dict[str, Any] | None = None


class _Object(_Foreign):
    id: Id | None = None
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float] | None = None  # x, y, width, height in pixels
    iscrowd: bool = False  # a crowd is a mask of many, and no box of one
    segmentation: Drawn = None


class _Listing(_Foreign):
    images: list[_Picture]
    annotations: list[_Object]
    categories: list[_Category]


def read(reading: Reading) -> Found | None:
    """All pictures of the lists of a folder (train, val), each with its boxes and one mask of all objects."""
    lists = _lists(reading)
    if not lists:
        return None
    samples: list[TrainingSample] = []
    for path, body in lists:
        samples += _One(path=path, several=len(lists) > 1, reading=reading).samples(body)
    return grouped(samples, reading, "coco")


def _lists(reading: Reading) -> list[tuple[Path, Any]]:
    """`annotations.json`, or all lists of the first of these places that has some: annotations/, the folder itself,
    the folders of its splits."""
    folder = reading.folder
    only = reading.path(LISTING)
    splits = [path for path in sorted(folder.iterdir()) if path.is_dir() and split_of(f"{path.name}/x")]
    for places in ([] if only is None else [[only]], [reading.lists(folder / "annotations")], [reading.lists(folder)]):
        if found := _coco_among([path for paths in places for path in paths], reading):
            return found
    return _coco_among([path for place in splits for path in reading.lists(place)], reading)


def _coco_among(paths: Sequence[Path], reading: Reading) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    for path in paths:
        body = load_json(path, reading.bounds) if starts_with(path, "{") else None
        if not isinstance(body, dict) or not {"images", "annotations"} <= set(body):
            continue
        if "categories" in body:
            found.append((path, body))
        else:
            reading.notes.count("files without categories were passed over", path.name)
    instances = [one for one in found if one[0].name.startswith("instances")]
    for path, _ in found if instances else ():
        if not path.name.startswith("instances"):
            reading.notes.count("files beside instances were passed over", path.name)
    return instances or found


@dataclass(frozen=True, kw_only=True)
class _One:
    """One list of a folder."""

    path: Path
    several: bool
    reading: Reading

    def samples(self, body: Any) -> list[TrainingSample]:
        try:
            listing = _Listing.model_validate(body)
        except ValidationError as error:
            raise self._wrong(f"it is not COCO: {explain(error)}", "labels_invalid") from error
        bounds = self.reading.bounds
        check_count(len(listing.images), bounds.rows_max, f"the pictures of {self.path}")
        if (twice := first_twice(str(item.id) for item in listing.images)) is not None:
            raise self._wrong(f"two pictures have the id {twice}; give each its own", "labels_invalid")
        if (twice := first_twice(str(item.id) for item in listing.categories)) is not None:
            raise self._wrong(f"two categories have the id {twice}; give each its own", "labels_invalid")
        objects = self._objects(listing)
        names = {item.id: item.name for item in listing.categories}
        files = [self._file(item.file_name) for item in listing.images]
        if (same := first_twice(files)) is not None:
            raise self._wrong(f"two pictures are the file {same}; join their objects", "two_labels")
        return [
            self._sample(item, file, objects.get(item.id, []), names)
            for item, file in zip(listing.images, files, strict=True)
        ]

    def _objects(self, listing: _Listing) -> dict[Id, list[_Object]]:
        """The objects of each picture."""
        pictures = {item.id for item in listing.images}
        names = {item.id: item.name for item in listing.categories}
        found: dict[Id, list[_Object]] = {}
        for item in listing.annotations:
            if item.category_id not in names:
                known = ", ".join(list(names.values())[:20]) or "none"
                raise self._wrong(
                    f"object {item.id} is of category {item.category_id}, which the file does not name; it names "
                    f"{known}",
                    "category_unknown",
                )
            if item.image_id not in pictures:
                raise self._wrong(
                    f"object {item.id} is of picture {item.image_id}, which is not in the file", "labels_invalid"
                )
            found.setdefault(item.image_id, []).append(item)
        return found

    @property
    def _near(self) -> str:
        place = self.path.parent.relative_to(self.reading.folder).as_posix()
        return "" if place in (".", "annotations") else place

    @property
    def _split(self) -> str:
        return split_of(f"{self._near}/x") or split_in(self.path.stem)

    def _file(self, name: str) -> str:
        where = f"{self.path}"
        found = self.reading.tree.need(name, where, split=self._split, near=self._near)
        if Path(found).suffix.lower() not in PICTURE_ENDINGS:
            raise self._wrong(f"{name} is no picture; COCO lists pictures", "picture_missing")
        return found

    def _sample(
        self, picture: _Picture, file: str, objects: Sequence[_Object], names: Mapping[Id, str]
    ) -> TrainingSample:
        where = f"{self.path}, {picture.file_name}"
        check_count(len(objects), self.reading.bounds.objects_max, f"the objects of {where}")
        facts = dict(picture.edgewise or {})
        asked = bool(facts.pop(ASKED, True))
        if self._split:
            facts.setdefault("split", self._split)
        single = [item for item in objects if not item.iscrowd]
        boxes = tuple(self._box(item, names[item.category_id], picture, where) for item in single)
        crowds = [names[item.category_id] for item in objects if item.iscrowd]
        told = ASKED in (picture.edgewise or {})
        asked = asked if told else bool(single) or not crowds
        named = str(facts.pop("id", "") or (file if self.several else picture.file_name))
        return made(
            named,
            picture.label or _shown(boxes, crowds),
            self.reading.opener(self.reading.tree.files[file]),
            media_type=PICTURE_ENDINGS[Path(file).suffix.lower()],
            facts=facts,
            annotation=_annotation(boxes, asked, where),
            mask=self._mask(objects, picture, where),
            where=str(self.path),
        )

    def _box(self, item: _Object, label: str, picture: _Picture, where: str) -> Box:
        if item.bbox is None:
            raise self._wrong(f"object {item.id} in {picture.file_name} has no bbox; it needs one", "labels_invalid")
        x, y, across, down = item.bbox
        width, height = picture.width, picture.height
        left, top = min(1.0, max(0.0, x / width)), min(1.0, max(0.0, y / height))
        right, bottom = max(0.0, min(1.0, (x + across) / width)), max(0.0, min(1.0, (y + down) / height))
        if not (left < right and top < bottom):
            raise self._wrong(
                f"the box {list(item.bbox)} in {picture.file_name} is empty or outside its {width} x {height} pixels; "
                "correct it",
                "box_outside",
            )
        if x < -1 or y < -1 or x + across > width + 1 or y + down > height + 1:
            self.reading.notes.count("boxes that reach out of their picture were cut at its border", where)
        return Box(label=label, x1=left, y1=top, x2=right, y2=bottom)

    def _mask(self, objects: Sequence[_Object], picture: _Picture, where: str) -> bytes | None:
        width, height = picture.width, picture.height
        if not any(item.segmentation for item in objects):
            return None
        check_count(width * height, self.reading.bounds.pixels_max, f"the pixels of {where}")
        for item in objects:
            if isinstance(item.segmentation, list) and any(map(is_line, item.segmentation)):
                self.reading.notes.count("polygons of less than three points were left out", where)
        drawn = [mask_in(item.segmentation, width, height, where) for item in objects]
        masks = [mask for mask in drawn if mask is not None]
        return png_of(np.logical_or.reduce(masks)) if masks else None

    def _wrong(self, text: str, code: str) -> NotValid:
        return NotValid(f"{self.path}: {text}", code=code)


def _annotation(boxes: tuple[Box, ...], asked: bool, where: str) -> Annotation | None:
    """None where nobody was asked for boxes, an empty tuple where none is there."""
    if not boxes and not asked:
        return None
    try:
        return Annotation(boxes=boxes)
    except ValidationError as error:
        raise NotValid(f"{where}: {explain(error)}", code="labels_invalid") from error


def _shown(boxes: Sequence[Box], crowds: Sequence[str]) -> str:
    """The label of a picture whose file names none: what covers most of it."""
    areas: dict[str, float] = {}
    for box in boxes:
        areas[box.label] = areas.get(box.label, 0.0) + (box.x2 - box.x1) * (box.y2 - box.y1)
    return max(sorted(areas), key=areas.__getitem__) if areas else crowds[0] if crowds else NOTHING
