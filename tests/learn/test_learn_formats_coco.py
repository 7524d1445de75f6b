"""COCO as it comes from elsewhere: splits, files beside it, odd values."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgewise.learn import TrainingSample, read_dataset, write_dataset
from edgewise.wire import Annotation, NotValid

SIDE = 20


def picture(seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE), np.uint8), "L").save(file, "PNG")
    return file.getvalue()


def put(folder: Path, *names: str) -> Path:
    """Pictures of these names, each of its own content."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(sum(name.encode())))
    return folder


def sample(name: str, label: str, **changes: Any) -> TrainingSample:
    return TrainingSample(
        name=name, label=label, read=lambda: picture(len(name)), **{"group": name, "media_type": "image/png", **changes}
    )


def refused(folder: Path, **options: Any) -> NotValid:
    with pytest.raises(NotValid) as caught:
        read_dataset(folder, **options)
    return caught.value


# COCO


def listing(folder: Path, name: str, files: list[str], label: str, **changes: Any) -> None:
    body = {
        "images": [{"id": n, "file_name": file, "width": SIDE, "height": SIDE} for n, file in enumerate(files)],
        "categories": [{"id": 3, "name": label}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 3, "bbox": [2, 2, 10, 5]}],
    }
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(body | changes))


@pytest.mark.parametrize(
    ("lists", "places"),
    [
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), ("train2017", "val2017")),
        (("train.json", "val.json"), ("images/train", "images/val")),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ("train", "valid")),
    ],
)
def test_each_split_gets_its_own_pictures_where_their_names_are_the_same(
    lists: tuple[str, str], places: tuple[str, str], tmp_path: Path
) -> None:
    put(tmp_path, f"{places[0]}/1.png", f"{places[1]}/1.png")
    listing(tmp_path, lists[0], ["1.png"], "pit")
    listing(tmp_path, lists[1], ["1.png"], "pore")
    found = read_dataset(tmp_path).samples
    assert {(one.label, one.columns["split"]) for one in found} == {("pit", "train"), ("pore", "val")}
    for one, place in zip(sorted(found, key=lambda one: one.columns["split"]), places, strict=True):
        assert one.read() == (tmp_path / place / "1.png").read_bytes()
        assert one.name == f"{place}/1.png"


def test_a_picture_of_another_split_is_never_taken(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/2.png")
    listing(tmp_path, "annotations/instances_train.json", ["1.png"], "pit")
    listing(tmp_path, "annotations/instances_val.json", ["2.png"], "pit")
    assert "'2.png', which is not in the folder, or of its split val" in str(refused(tmp_path))


@pytest.mark.parametrize("places", [("a", "b"), ("images", "data"), ("train", "val")])
def test_a_name_that_several_files_have_is_asked_about(places: tuple[str, str], tmp_path: Path) -> None:
    listing(put(tmp_path, *(f"{place}/1.png" for place in places)), "annotations.json", ["1.png"], "pit")
    assert refused(tmp_path).code == "picture_ambiguous"


def test_captions_and_keypoints_beside_instances_are_passed_over_and_told(tmp_path: Path) -> None:
    listing(put(tmp_path, "1.png"), "annotations/instances_all.json", ["1.png"], "pit")
    listing(tmp_path, "annotations/person_keypoints.json", ["1.png"], "person")
    (tmp_path / "annotations" / "captions.json").write_text('{"images": [], "annotations": []}')
    found = read_dataset(tmp_path)
    assert [one.label for one in found.samples] == ["pit"]
    assert len(found.said) == 2


@pytest.mark.parametrize("said", [None, Annotation(boxes=())])
@pytest.mark.parametrize("form", ["csv", "parquet", "coco", "label-studio"])
def test_not_asked_and_none_there_both_come_back(form: str, said: Annotation | None, tmp_path: Path) -> None:
    write_dataset([sample("a", "ok", annotation=said)], tmp_path / "out", form)
    (one,) = read_dataset(tmp_path / "out").samples
    assert one.annotation == said


OBJECT = {"id": 1, "image_id": 0, "category_id": 3, "bbox": [2, 2, 10, 5]}
ODD: dict[str, dict[str, Any]] = {
    "a box of words": {"annotations": [OBJECT | {"bbox": ["a", 2, 3, 4]}]},
    "a box of three": {"annotations": [OBJECT | {"bbox": [2, 3, 4]}]},
    "a box that is no number": {"annotations": [OBJECT | {"bbox": [float("nan"), 2, 3, 4]}]},
    "an object of no picture's id": {"annotations": [{k: v for k, v in OBJECT.items() if k != "image_id"}]},
    "an id that is a list": {"annotations": [OBJECT | {"image_id": [1]}]},
    "objects that are none": {"annotations": None},
    "an object that is a number": {"annotations": [7]},
    "no size": {"images": [{"id": 0, "file_name": "1.png"}]},
    "a size of zero": {"images": [{"id": 0, "file_name": "1.png", "width": 0, "height": SIDE}]},
    "facts that are a word": {
        "images": [{"id": 0, "file_name": "1.png", "width": SIDE, "height": SIDE, "edgewise": "x"}]
    },
    "a name that is a number": {"images": [{"id": 0, "file_name": 7, "width": SIDE, "height": SIDE}]},
    "a category without a name": {"categories": [{"id": 3}]},
    "an empty category": {"categories": [{"id": 3, "name": ""}]},
    "two pictures of one id": {"images": [{"id": 0, "file_name": "1.png", "width": SIDE, "height": SIDE}] * 2},
    "odd polygons": {"annotations": [OBJECT | {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}]},
    "runs that are a number": {"annotations": [OBJECT | {"segmentation": {"size": 3, "counts": 4}}]},
    "runs of damaged text": {"annotations": [OBJECT | {"segmentation": {"size": [SIDE, SIDE], "counts": "~é"}}]},
    "too many pixels to draw": {
        "images": [{"id": 0, "file_name": "1.png", "width": 10**6, "height": 10**6}],
        "annotations": [OBJECT | {"segmentation": [[1, 2, 3, 4, 5, 6]]}],
    },
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_value_in_coco_is_an_error_for_people(case: str, tmp_path: Path) -> None:
    listing(put(tmp_path, "1.png"), "annotations.json", ["1.png"], "pit", **ODD[case])
    assert "annotations.json" in str(refused(tmp_path)) or "1.png" in str(refused(tmp_path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(["images", "annotations", "categories"]), data=st.data())
def test_whatever_stands_in_a_field_of_coco_it_is_read_or_refused(
    part: str, data: st.DataObject, tmp_path: Path
) -> None:
    put(tmp_path, "1.png")
    listing(tmp_path, "annotations.json", ["1.png"], "pit")
    body = json.loads((tmp_path / "annotations.json").read_text())
    body[part][0][data.draw(st.sampled_from([*sorted(body[part][0]), "segmentation", "iscrowd", "edgewise"]))] = (
        data.draw(JSON)
    )
    (tmp_path / "annotations.json").write_text(json.dumps(body))
    with contextlib.suppress(NotValid):  # and nothing else
        read_dataset(tmp_path)
