"""Formats of other tools: what goes out comes back, what has no place is said, what is wrong is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgewise.frames import decode_image
from edgewise.learn import WRITERS, TrainingSample, read_dataset, write_dataset
from edgewise.learn._formats._files import safe_name
from edgewise.wire import Annotation, Box, NotValid, Span, canonical, digest

SIDE = 20
LOSSLESS = ("csv", "parquet")


def picture(seed: int = 0) -> bytes:
    file = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE), np.uint8)
    Image.fromarray(values, "L").save(file, "PNG")
    return file.getvalue()


def mask_of(columns: int) -> bytes:
    file = io.BytesIO()
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[2:5, :columns] = 255
    Image.fromarray(values, "L").save(file, "PNG")
    return file.getvalue()


def sample(name: str, label: str = "pit", **changes: Any) -> TrainingSample:
    data = changes.pop("data", None) or picture(len(name))
    values: dict[str, Any] = {"group": name, "media_type": "image/png"}
    return TrainingSample(name=name, label=label, read=lambda: data, **{**values, **changes})


WHOLE = sample(
    "a/one",
    group="part 7",
    site="plant-a",
    device="cam-1",
    taken_at=datetime(2026, 5, 4, 8, tzinfo=UTC),
    annotation=Annotation(
        boxes=(Box(label="pit", x1=0.1, y1=0.2, x2=0.5, y2=0.4), Box(label="pore", x1=0, y1=0, x2=1, y2=1))
    ),
    columns={"inclusion_probability": "0.25", "labelled_by": "ann", "labelled_at": "2026-05-05T08:00:00+00:00"},
)


@pytest.mark.parametrize("form", [*LOSSLESS, "coco", "label-studio"])
def test_a_picture_comes_back_with_its_boxes_and_all_that_is_known_of_it(form: str, tmp_path: Path) -> None:
    written = write_dataset([WHOLE, sample("two", "good")], tmp_path / "out", form)
    assert (written.count, written.lost, written.left_out) == (2, (), ())
    one, two = sorted(read_dataset(tmp_path / "out").samples, key=lambda item: item.label, reverse=True)
    assert one.read() == WHOLE.read()
    assert (one.label, one.group, one.site, one.device) == ("pit", "part 7", "plant-a", "cam-1")
    assert one.taken_at == WHOLE.taken_at
    for name, value in WHOLE.columns.items():
        assert one.columns[name] == value
    assert one.annotation is not None
    assert WHOLE.annotation is not None
    told, meant = one.annotation.boxes or (), WHOLE.annotation.boxes or ()
    assert [box.label for box in told] == [box.label for box in meant]
    for ours, theirs in zip(told, meant, strict=True):
        assert [ours.x1, ours.y1, ours.x2, ours.y2] == pytest.approx([theirs.x1, theirs.y1, theirs.x2, theirs.y2])
    assert two.label == "good"
    assert two.site == ""


@pytest.mark.parametrize("form", [*LOSSLESS, "coco"])
def test_a_mask_comes_back_pixel_by_pixel(form: str, tmp_path: Path) -> None:
    png = mask_of(7)
    masked = sample("m", annotation=Annotation(mask=digest(png)), mask=lambda: png)
    write_dataset([masked, sample("n", "good")], tmp_path / "out", form)
    (back,) = [item for item in read_dataset(tmp_path / "out").samples if item.mask is not None]
    assert back.mask is not None
    assert back.annotation is not None
    assert back.annotation.boxes is None
    assert np.array_equal(decode_image(back.mask(), channels=1) > 0, decode_image(png, channels=1) > 0)


def test_what_a_folder_per_class_has_no_place_for_is_said_in_sentences(tmp_path: Path) -> None:
    written = write_dataset(
        [WHOLE, sample("row", data=canonical({"x": 1}), media_type="application/json")], tmp_path / "o", "imagefolder"
    )
    assert written.count == 1
    assert [text.split(" ")[0] for text in written.lost] == ["1", "boxes,", "device,"]
    (back,) = read_dataset(tmp_path / "o").samples
    assert (back.label, back.read()) == ("pit", WHOLE.read())


@pytest.mark.parametrize("form", LOSSLESS)
def test_rows_of_numbers_and_windows_come_back(form: str, tmp_path: Path) -> None:
    window = canonical({"power": [1.0, 2.0, 3.0]})
    spans = Annotation(spans=(Span(label="stale", start=1, end=3),))
    rows = [
        sample("r1", "ok", data=canonical({"x": 1.5, "y": -2}), media_type="application/json", site="s"),
        sample("w1", "stale", data=window, media_type="application/json", annotation=spans),
    ]
    write_dataset(rows, tmp_path / "out", form)
    back = {item.name: item for item in read_dataset(tmp_path / "out").samples}
    assert back["w1"].read() == window
    assert back["w1"].annotation == spans
    assert json.loads(back["r1"].read()) == {"x": 1.5, "y": -2.0}
    assert back["r1"].site == "s"


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(names, names.map(str.strip).filter(bool)), min_size=1, max_size=6),
    st.sampled_from(["csv", "parquet", "coco", "label-studio"]),
)
def test_any_name_and_label_comes_back_and_stays_in_its_folder(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str]], form: str
) -> None:
    folder = tmp_path_factory.mktemp("out") / "data"
    made = [sample(name, label, data=picture(place)) for place, (name, label) in enumerate(said)]
    write_dataset(made, folder, form)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["data"]
    back = {item.read(): item.label for item in read_dataset(folder).samples}
    assert back == {item.read(): item.label for item in made}


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../b", "C:\\windows\\x", "..", ""])
def test_a_name_never_leads_out_of_the_folder(name: str) -> None:
    parts = Path(safe_name(name, "image/png")).parts
    assert parts
    assert ".." not in parts
    assert not Path(safe_name(name, "image/png")).is_absolute()


def coco(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(picture())
    body: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE}],
        "categories": [{"id": 3, "name": "pit"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 2, 10, 5]}],
    }
    (folder / "instances.json").write_text(json.dumps(body | changes))
    return folder


def test_a_file_of_another_tool_is_read_with_polygons_runs_and_an_empty_picture(tmp_path: Path) -> None:
    polygon = {"segmentation": [[2, 2, 12, 2, 12, 7, 2, 7]]}
    runs = {"segmentation": {"size": [SIDE, SIDE], "counts": [0, 3, SIDE * SIDE - 3]}}
    objects = [
        {"id": n, "image_id": 1, "category_id": 3, "bbox": [2, 2, 10, 5], **drawn}
        for n, drawn in enumerate((polygon, runs))
    ]
    folder = coco(tmp_path / "c", annotations=objects)
    (one,) = read_dataset(folder).samples
    assert one.label == "pit"
    assert one.mask is not None
    mask = decode_image(one.mask(), channels=1)[:, :, 0] > 0
    assert mask[:3, 0].all(), "runs go down the columns"
    assert mask[4, 5]
    assert not mask[15, 15]
    (none,) = read_dataset(coco(tmp_path / "d", annotations=[])).samples
    assert none.label == "none"
    assert none.annotation == Annotation(boxes=())


def with_object(**changes: Any) -> Callable[[Path], object]:
    thing = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 2, 5, 5]} | changes
    return lambda folder: coco(
        folder, annotations=[{name: value for name, value in thing.items() if value is not None}]
    )


def cut_short(folder: Path) -> None:
    (folder / "instances.json").write_text('{"images": [], "annotations": [], "categories')


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a picture that is not there": (lambda folder: (folder / "a.png").unlink(), "picture_missing"),
    "no JSON": (cut_short, "labels_invalid"),
    "a box outside": (with_object(bbox=[30, 2, 5, 5]), "box_outside"),
    "an unknown category": (with_object(category_id=9), "category_unknown"),
    "an object of no picture": (with_object(image_id=8), "labels_invalid"),
    "short runs": (with_object(segmentation={"size": [SIDE, SIDE], "counts": [1, 2]}), "mask_invalid"),
    "an object without a box": (with_object(bbox=None), "labels_invalid"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_and_nothing_is_changed(case: str, tmp_path: Path) -> None:
    folder = coco(tmp_path / "c")
    spoil, code = BAD[case]
    spoil(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(NotValid) as caught:
        read_dataset(folder)
    assert caught.value.code == code
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def task(folder: Path, *annotations: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-a.png") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(picture())
    body = [{"id": 5, "data": {"image": image}, "annotations": list(annotations)}]
    (folder / "project-1.json").write_text(json.dumps(body))
    return folder


def choice(*labels: str, **about: Any) -> dict[str, Any]:
    value = {"type": "choices", "from_name": "l", "to_name": "image", "value": {"choices": list(labels)}}
    return {"result": [value], **about}


def test_the_newest_annotation_that_was_not_cancelled_counts(tmp_path: Path) -> None:
    said = [
        choice("pit", updated_at="2026-01-01T00:00:00Z", completed_by={"email": "ann@example.org"}),
        choice("good", updated_at="2026-02-01T00:00:00Z", completed_by={"email": "bob@example.org"}),
        choice("pore", updated_at="2026-03-01T00:00:00Z", was_cancelled=True),
    ]
    (one,) = read_dataset(task(tmp_path / "t", *said)).samples
    assert (one.label, one.columns["labelled_by"]) == ("good", "bob@example.org")


@pytest.mark.parametrize(
    ("said", "code"),
    [(choice("pit", "good"), "two_labels"), ({"result": []}, "labels_invalid"), ({}, "labels_invalid")],
)
def test_a_task_without_one_label_is_named(said: dict[str, Any], code: str, tmp_path: Path) -> None:
    with pytest.raises(NotValid) as caught:
        read_dataset(task(tmp_path / "t", said))
    assert caught.value.code == code


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(9))
    folder = coco(tmp_path / "c")
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(NotValid, match="not in the folder"):
        read_dataset(folder)


def test_a_folder_that_holds_something_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(NotValid, match="not an empty folder"):
        write_dataset([WHOLE], tmp_path, "csv")
    with pytest.raises(NotValid, match="there is no format"):
        write_dataset([WHOLE], tmp_path / "new", "yolo")
    assert set(WRITERS) == {"coco", "imagefolder", "csv", "parquet", "label-studio"}


def test_a_sample_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    def broken() -> bytes:
        raise OSError("the disk said no")

    lost = TrainingSample(name="lost", label="pit", group="g", read=broken, media_type="image/png")
    written = write_dataset([WHOLE, lost], tmp_path / "out", "coco")
    assert written.count == 1
    assert written.left_out == ("lost: the disk said no",)
