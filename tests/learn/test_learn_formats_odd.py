"""Folders as they come from elsewhere: splits, links, odd values, things that are not understood."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgewise.learn import TrainingSample, read_dataset, train_folder, write_dataset
from edgewise.learn._formats import ReadBounds
from edgewise.wire import Annotation, Box, NotValid, loads

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


# A folder per class


def test_splits_above_the_classes_are_splits_and_not_classes(tmp_path: Path) -> None:
    found = read_dataset(put(tmp_path, "train/ok/a.png", "train/pit/b.png", "val/ok/c.png", "test/d.png"))
    assert [(one.name, one.label, one.columns["split"]) for one in found.samples] == [
        ("train/ok/a.png", "ok", "train"),
        ("train/pit/b.png", "pit", "train"),
        ("val/ok/c.png", "ok", "val"),
    ]
    assert found.said == (
        "pictures of a split that are in no class folder were left out: 1, first test/d.png",
        "folders taken for splits, and those below them for classes: 1, first test, train, val",
    )


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("train/a.png", "test/b.png"), {"train", "test"}),  # classes that have these names
        (("train/x/a.png", "car/b.png"), {"train", "car"}),
        (("trains/x/a.png",), {"trains"}),
    ],
)
def test_a_class_may_have_the_name_of_a_split(names: tuple[str, ...], labels: set[str], tmp_path: Path) -> None:
    assert set(read_dataset(put(tmp_path, *names)).labels) == labels


def test_what_is_in_no_class_or_no_picture_is_told(tmp_path: Path) -> None:
    folder = put(tmp_path, "ok/a.png", "loose.png", "__MACOSX/ok/b.png")
    (folder / "ok" / "film.gif").write_bytes(b"GIF89a")
    found = read_dataset(folder)
    assert [one.name for one in found.samples] == ["ok/a.png"]
    assert set(found.said) == {
        "pictures in no class folder were left out: 1, first loose.png",
        "hidden files were left out: 1, first __MACOSX/ok/b.png",
        "files ending in .gif were left out: 1, first ok/film.gif",
    }


def test_labels_that_look_alike_as_folders_stay_apart_and_are_told(tmp_path: Path) -> None:
    samples = [sample("a", "x/y"), sample("bb", "x_y"), sample("ccc", "X_Y")]
    written = write_dataset(samples, tmp_path / "out", "imagefolder")
    assert len(read_dataset(tmp_path / "out").labels) == 3
    assert any("'x/y' became folder" in line for line in written.lost)


# Links and bounds


def linked(folder: Path, name: str, to: Path) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(to)


@pytest.mark.parametrize("shape", ["csv", "csv list", "class", "class folder", "coco list", "mask"])
def test_a_link_out_of_the_folder_is_refused_in_every_format(shape: str, tmp_path: Path) -> None:
    secret = put(tmp_path / "secret", "s.png")
    folder = put(tmp_path / "in", "ok/a.png")
    if shape == "csv":
        (folder / "labels.csv").write_text("file,label\nb.png,ok\n")
        linked(folder, "b.png", secret / "s.png")
    elif shape == "csv list":
        (secret / "labels.csv").write_text("x,label\n1,ok\n")
        linked(folder, "labels.csv", secret / "labels.csv")
    elif shape == "class":
        linked(folder, "ok/b.png", secret / "s.png")
    elif shape == "class folder":
        linked(folder, "pit", secret)
    elif shape == "coco list":
        (secret / "l.json").write_text('{"images": [], "annotations": [], "categories": []}')
        linked(folder, "annotations/l.json", secret / "l.json")
    else:
        digest = "a" * 64
        (folder / "labels.csv").write_text(f'file,label,annotation\nok/a.png,ok,"{{""mask"":""{digest}""}}"\n')
        linked(folder, f"masks/{digest}.png", secret / "s.png")
    assert "is a link out of the folder" in str(refused(folder)) or "leads out of it" in str(refused(folder))


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    folder = put(tmp_path, "ok/a.png")
    linked(folder, "pit/b.png", folder / "ok" / "a.png")
    assert len(read_dataset(folder).samples) == 2


@pytest.mark.parametrize(
    "bounds", [{"files_max": 1}, {"rows_max": 1}, {"list_bytes_max": 10}, {"columns_max": 1}], ids=str
)
def test_more_than_the_bounds_is_refused(bounds: dict[str, int], tmp_path: Path) -> None:
    (put(tmp_path, "a.png", "b.png") / "labels.csv").write_text("file,label\na.png,ok\nb.png,pit\n")
    assert refused(tmp_path, bounds=ReadBounds(**bounds)).code == "data_too_large"


def test_a_file_that_is_too_large_is_an_error_of_that_sample(tmp_path: Path) -> None:
    (one,) = read_dataset(put(tmp_path, "ok/a.png"), bounds=ReadBounds(file_bytes_max=20)).samples
    with pytest.raises(NotValid, match="has more than 20 bytes"):
        one.read()


# Lists


def test_a_table_keeps_ids_devices_times_and_doubts(tmp_path: Path) -> None:
    head, row = "force,label,id,device,taken_at,site,uncertain,weight", "2,ok,p-1,7,2026-05-04T08:00:00Z,3,yes,2.5"
    (tmp_path / "labels.csv").write_text(f"{head}\n{row}\n")
    (one,) = read_dataset(tmp_path).samples
    assert loads(one.read()) == {"force": 2.0}, "a device or a site that is a number is no feature"
    assert (one.name, one.device, one.site, one.uncertain, one.weight) == ("p-1", "7", "3", True, 2.5)
    assert one.taken_at is not None


def test_the_column_that_only_numbers_rows_is_no_feature(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(",force,label\n0,2,ok\n1,3,pit\n")
    found = read_dataset(tmp_path)
    assert loads(found.samples[1].read()) == {"force": 3.0}
    assert found.said == ("columns that only number the rows were left out: 1, first ''",)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("force,label,weight\n2,ok,heavy\n", "weight is 'heavy'"),
        ("force,label,weight\n2,ok,-1\n", "needs to be a number above 0"),
        ("force,label,taken_at\n2,ok,monday\n", "taken_at is 'monday'"),
        ("force,force,label\n2,3,ok\n", "two columns 'force'"),
        ("file,label\na.png,ok\nx/b.png,ok\n", "'x/b.png', which is not in the folder"),
        ("file,label,annotation\na.png,ok,nonsense\n", "the annotation is not valid"),
    ],
)
def test_a_wrong_cell_gets_a_sentence(text: str, word: str, tmp_path: Path) -> None:
    (put(tmp_path, "a.png") / "labels.csv").write_text(text)
    assert word in str(refused(tmp_path))


def test_an_annotation_of_a_thousand_boxes_fits_in_a_cell(tmp_path: Path) -> None:
    third = 1 / 3
    many = tuple(Box(label="p" * 60, x1=third / n, y1=third / n, x2=0.9 + third / 10, y2=0.9) for n in range(1, 1001))
    write_dataset([sample("a", "p", annotation=Annotation(boxes=many))], tmp_path / "out", "csv")
    (one,) = read_dataset(tmp_path / "out").samples
    assert one.annotation == Annotation(boxes=many)


def test_labels_and_groups_that_are_numbers_in_parquet_are_read_as_people_write_them(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"force": [1.5, float("nan")], "label": [0, 1], "patient": [7, 8], "scan": [b"x", None]}
    parquet.write_table(arrow.table(columns), tmp_path / "labels.parquet")
    found = read_dataset(tmp_path)
    assert [(one.label, one.group) for one in found.samples] == [("0", "7"), ("1", "8")]
    assert [loads(one.read()) for one in found.samples] == [{"force": 1.5}, {}]
    assert found.said == ("cells of kind bytes were left out: 1, first column scan",)


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


def test_a_name_that_several_files_have_is_asked_about(tmp_path: Path) -> None:
    listing(put(tmp_path, "a/1.png", "b/1.png"), "annotations.json", ["1.png"], "pit")
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


# Label Studio


def task(folder: Path, *results: dict[str, Any], image: str = "a.png", **changes: Any) -> Path:
    put(folder, "a.png")
    body = {"id": 5, "data": {"image": image}, "annotations": [{"result": list(results)}]} | changes
    (folder / "project-1.json").write_text(json.dumps([body]))
    return folder


CHOICE = {"type": "choices", "value": {"choices": ["pit"]}}


def region(kind: str, size: tuple[int, int] | None = (200, 100), **value: Any) -> dict[str, Any]:
    told = {} if size is None else {"original_width": size[0], "original_height": size[1]}
    return {"type": kind, "value": {kind: ["pit"], **value}, **told}


def test_polygons_ellipses_and_turned_rectangles_become_boxes_and_it_is_said(tmp_path: Path) -> None:
    found = read_dataset(
        task(
            tmp_path,
            region("polygonlabels", points=[[10, 10], [30, 20], [20, 50]]),
            region("ellipselabels", x=50, y=50, radiusX=10, radiusY=20),
            region("rectanglelabels", x=50, y=10, width=10, height=40, rotation=90),
        )
    )
    (one,) = found.samples
    assert one.annotation is not None
    told = [(box.x1, box.y1, box.x2, box.y2) for box in one.annotation.boxes or ()]
    assert told[0] == pytest.approx((0.1, 0.1, 0.3, 0.5))
    assert told[1] == pytest.approx((0.4, 0.3, 0.6, 0.7))
    # 20 by 40 pixels, turned a quarter about their upper left corner at (100, 10): 40 to its left, 20 down.
    assert told[2] == pytest.approx((0.3, 0.1, 0.5, 0.3))
    assert [line.split(":")[0] for line in found.said] == [
        "polygons became the boxes around them",
        "ellipses became the boxes around them",
        "turned regions became the upright boxes around them",
    ]


def test_regions_that_are_not_understood_are_told(tmp_path: Path) -> None:
    found = read_dataset(
        task(tmp_path, CHOICE, region("brushlabels", rle=[1]), region("keypointlabels", x=1, y=2), region(
            "rectanglelabels", None, x=1, y=1, width=9, height=9, rotation=45
        ))
    )  # fmt: skip
    assert found.samples[0].annotation is None
    assert [line.split(":")[0] for line in found.said] == [
        "regions of kind 'brushlabels' were left out",
        "regions of kind 'keypointlabels' were left out",
        "turned regions of a picture whose size is not told were left out",
    ]


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("part-a.png", None),
        ("/data/upload/1/part-a.png", None),
        ("/data/upload/1/0a1b2c3d-a.png", "a.png"),
        ("http://[x/a.png", "a.png"),
        ("/data/local-files/?d=images%2Fa.png", "a.png"),
        ("s3://bucket/a.png", "a.png"),
    ],
)
def test_a_task_means_the_file_of_its_name_and_no_other(image: str, found: str | None, tmp_path: Path) -> None:
    folder = task(tmp_path, CHOICE, image=image)
    if found is None:
        assert refused(folder).code == "picture_missing"
    else:
        assert read_dataset(folder).samples[0].read() == (folder / found).read_bytes()


def test_tasks_that_nobody_labelled_are_told(tmp_path: Path) -> None:
    (put(tmp_path, "a.png") / "t.json").write_text(
        json.dumps(
            [
                {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [CHOICE]}]},
                {"id": 2, "data": {"image": "b.png"}, "annotations": [], "predictions": [{"result": [CHOICE]}]},
                {"id": 3, "data": {"image": "c.png"}},
            ]
        )
    )
    found = read_dataset(tmp_path)
    assert len(found.samples) == 1
    assert found.said == (
        "tasks with a prediction alone were left out: 1, first task 2",
        "tasks with no annotation that counts were left out: 1, first task 3",
    )


def test_the_labelling_page_is_xml_whatever_the_labels_are(tmp_path: Path) -> None:
    label = 'a "b" <c> & é'
    box = Box(label="only <box>", x1=0, y1=0, x2=1, y2=1)
    write_dataset([sample("a", label, annotation=Annotation(boxes=(box,)))], tmp_path / "out", "label-studio")
    page = ElementTree.parse(tmp_path / "out" / "labels.xml")
    assert [one.get("value") for one in page.iter("Choice")] == [label]
    assert {one.get("value") for one in page.iter("Label")} == {label, "only <box>"}


ODD_TASKS: dict[str, Callable[[Path], Path]] = {
    "no region's value": lambda folder: task(folder, {"type": "rectanglelabels"}),
    "a place in words": lambda folder: task(folder, region("rectanglelabels", x="a", y=1, width=2, height=3)),
    "no width": lambda folder: task(folder, region("rectanglelabels", x=1, y=1, height=3)),
    "no label of it": lambda folder: task(
        folder, {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 2, "height": 3, "rectanglelabels": []}}
    ),
    "empty": lambda folder: task(folder, region("rectanglelabels", x=1, y=1, width=0, height=3)),
    "a span without steps": lambda folder: task(folder, region("timeserieslabels", start=5, end=5)),
    "times instead of steps": lambda folder: task(folder, region("timeserieslabels", start="10:00", end="11:00")),
    "choices that are a word": lambda folder: task(folder, {"type": "choices", "value": {"choices": "pit"}}),
    "annotations that are a word": lambda folder: task(folder, annotations="x"),
    "data that is a list": lambda folder: task(folder, data=[1]),
    "meta that is a list": lambda folder: task(folder, CHOICE, meta=[1]),
    "no file": lambda folder: task(folder, data={"text": "hello"}, annotations=[{"result": [CHOICE]}]),
}


@pytest.mark.parametrize("case", ODD_TASKS)
def test_an_odd_value_in_a_task_is_an_error_for_people(case: str, tmp_path: Path) -> None:
    assert "task 5" in str(refused(ODD_TASKS[case](tmp_path)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    level=st.sampled_from(["task", "annotation", "result", "value"]),
    name=st.text(max_size=3),
    value=JSON,
    data=st.data(),
)
def test_whatever_stands_in_a_field_of_a_task_it_is_read_or_refused(
    level: str, name: str, value: Any, data: st.DataObject, tmp_path: Path
) -> None:
    put(tmp_path, "a.png")
    result = region("rectanglelabels", x=1, y=1, width=9, height=9, rotation=3)
    body = {"id": 5, "data": {"image": "a.png"}, "annotations": [{"result": [CHOICE, result]}]}
    places = {"task": body, "annotation": body["annotations"][0], "result": result, "value": result["value"]}
    held: Any = places[level]
    held[data.draw(st.sampled_from([*held, name, "meta", "completed_by", "updated_at", "original_width"]))] = value
    (tmp_path / "project.json").write_text(json.dumps([body]))
    with contextlib.suppress(NotValid):  # and nothing else
        read_dataset(tmp_path)


# What was left out is told where it is used


def test_training_tells_what_the_reader_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n % 7},{'ok' if n % 2 else 'pit'}\n" for n in range(60))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text(",force,label\n" + rows)
    told: list[str] = []
    train_folder(tmp_path / "data", tmp_path / "bundle", tell=told.append)
    assert told == ["columns that only number the rows were left out: 1, first ''"]
