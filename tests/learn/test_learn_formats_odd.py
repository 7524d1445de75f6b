"""Folders as they come from elsewhere: splits, links, odd values, things that are not understood."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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


# What was left out is told where it is used


def test_training_tells_what_the_reader_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n % 7},{'ok' if n % 2 else 'pit'}\n" for n in range(60))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text(",force,label\n" + rows)
    told: list[str] = []
    train_folder(tmp_path / "data", tmp_path / "bundle", tell=told.append)
    assert told == ["columns that only number the rows were left out: 1, first ''"]
