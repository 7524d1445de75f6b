"""Label Studio's exports: regions of all kinds, names of files, odd values."""

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

from edgewise.learn import TrainingSample, read_dataset, write_dataset
from edgewise.wire import Annotation, Box, Decision, NotValid

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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


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


def test_what_a_bundle_decided_is_a_prediction_and_never_a_label(tmp_path: Path) -> None:
    decision = Decision(label="pore", confidence=0.7, margin=0.4, bundle="b" * 64, release="parts-3")
    samples = [sample("a", "", decision=decision), sample("bb", "ok", decision=decision)]
    assert write_dataset(samples, tmp_path / "out", "label-studio").count == 2
    first, second = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert first["annotations"] == []
    assert len(second["annotations"]) == 1
    for one in (first, second):
        (said,) = one["predictions"]
        assert (said["model_version"], said["score"]) == ("parts-3", 0.7)
        assert said["result"][0]["value"] == {"choices": ["pore"]}
    found = read_dataset(tmp_path / "out")
    assert [one.label for one in found.samples] == ["ok"]
    assert found.said == ("tasks with a prediction alone were left out: 1, first task 1",)
    with pytest.raises(NotValid, match="a has no label, and csv has no place for such"):
        write_dataset(samples, tmp_path / "none", "csv")


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
