"""Reading labelled folders: every shape that is allowed, and one clear sentence for every one that is not."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgewise.learn import good_labels_of, read_dataset
from edgewise.learn._dataset import grouped_part
from edgewise.wire import NotValid, loads


def test_a_zip_beside_a_list_is_read(pictures: Path, world: Any) -> None:
    dataset = read_dataset(pictures)
    assert len(dataset.samples) == 72
    assert dataset.labels == world.labels
    assert dataset.good_labels == ("none",)
    assert dataset.group_column == "part_group"
    assert len(dataset.uncertain) == 3
    assert not {sample.name for sample in dataset.uncertain} & {sample.name for sample in dataset.certain}
    first = dataset.samples[0]
    assert first.read() == world.surface("none", 0)
    assert first.media_type == "image/png"
    assert first.columns["shift"] == "a"


@pytest.mark.parametrize("inside", ["", "images"])
def test_a_folder_of_pictures_beside_a_list_is_read(tmp_path: Path, pictures: Path, inside: str) -> None:
    shutil.copy(pictures / "labels.csv", tmp_path)
    with zipfile.ZipFile(pictures / "images.zip") as archive:
        archive.extractall(tmp_path / inside)
    unzipped, zipped = read_dataset(tmp_path), read_dataset(pictures)
    assert [sample.read() for sample in unzipped.samples] == [sample.read() for sample in zipped.samples]


def test_one_folder_per_class_is_read(tmp_path: Path, world: Any) -> None:
    for label in ("good", "dent"):
        (tmp_path / label).mkdir()
        for number in range(2):
            (tmp_path / label / f"{number}.png").write_bytes(world.surface("none", number))
    dataset = read_dataset(tmp_path)
    assert [(sample.name, sample.label) for sample in dataset.samples] == [
        ("dent/0.png", "dent"),
        ("dent/1.png", "dent"),
        ("good/0.png", "good"),
        ("good/1.png", "good"),
    ]
    assert dataset.good_labels == ("good",)
    assert dataset.group_column is None
    assert len({sample.group for sample in dataset.samples}) == 4


def test_a_list_without_files_is_a_table(table: Path) -> None:
    dataset = read_dataset(table)
    assert dataset.is_table
    assert set(loads(dataset.samples[0].read())) == {"force", "speed", "noise"}
    assert set(loads(dataset.samples[7].read())) == {"force", "noise"}, "an empty cell is a missing value"
    assert dataset.group_column == "group"


def test_the_group_column_can_be_named(pictures: Path) -> None:
    dataset = read_dataset(pictures, group="shift")
    assert dataset.group_column == "shift"
    assert {sample.group for sample in dataset.samples} == {"a", "b"}


def test_several_usual_words_are_good_together() -> None:
    assert good_labels_of(["free", "none", "pit"]) == ("free", "none")
    assert good_labels_of(["OK", "pit"]) == ("OK",)
    assert good_labels_of(["free", "none", "pit"], ["none"]) == ("none",)


def _folder_without(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name.replace("_csv", ".csv").replace("_zip", ".zip")).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "code", "word"),
    [
        ({}, "data_missing", "labels.csv"),
        ({"labels_csv": "file,kind\na.png,x\n"}, "column_missing", "`label`"),
        ({"labels_csv": "file,label\na.png,x\n"}, "picture_missing", "a.png"),
        ({"labels_csv": "file,label\na.png,\n"}, "labels_invalid", "line 2"),
        ({"labels_csv": "file,label\na.png\n"}, "labels_invalid", "line 2"),
        ({"labels_csv": "paint,label\nred,x\n"}, "column_missing", "numeric"),
        ({"labels_csv": "file,label\n"}, "data_empty", "no labelled samples"),
        ({"labels_csv": "file,label\na.png,x\n", "images_zip": "not a zip"}, "zip_unreadable", "images.zip"),
    ],
)
def test_each_wrong_folder_gets_a_sentence(tmp_path: Path, files: dict[str, str], code: str, word: str) -> None:
    with pytest.raises(NotValid) as caught:
        read_dataset(_folder_without(tmp_path, **files))
    assert caught.value.code == code
    assert word in str(caught.value)


def test_wrong_options_get_a_sentence(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(NotValid, match="is not a folder"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(NotValid, match="no column 'colour'"):
        read_dataset(pictures, group="colour")
    with pytest.raises(NotValid, match="good label 'fine' does not occur; the labels are none, scratch, spot"):
        read_dataset(pictures, good=["fine"])


def test_a_list_in_another_encoding_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("file,label\na.png,Öl\n".encode("latin-1"))
    with pytest.raises(NotValid, match="UTF-8"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_a_part_holds_whole_groups_and_leaves_every_label(seed: int, world: Any) -> None:
    samples = world.surfaces(12)
    kept, part = grouped_part(samples, share=0.2, seed=seed)
    assert sorted(kept + part) == list(range(len(samples)))
    assert not {samples[i].group for i in kept} & {samples[i].group for i in part}
    assert {samples[i].label for i in kept} == set(world.labels)
    assert 0 < len(part) <= 0.3 * len(samples)


def test_a_label_of_one_group_is_never_taken_out_of_training(tmp_path: Path, world: Any) -> None:
    world.write_csv(
        tmp_path / "labels.csv", ["x", "label", "group"], [[i, "rare" if i < 3 else "ok", i // 3] for i in range(60)]
    )
    samples = read_dataset(tmp_path).samples
    for seed in range(20):
        _, part = grouped_part(samples, share=0.2, seed=seed)
        assert all(samples[index].label != "rare" for index in part)
