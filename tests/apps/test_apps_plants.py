"""The data plan: nothing is on two sides, and the hold-out passes no device."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgewise.apps.factory.plants import Plan, find_data, generated_plan, make_plan, real_plan
from edgewise.wire import NotValid

DATA = os.environ.get("EDGEWISE_DATA", "")
needs_data = pytest.mark.skipif(not DATA, reason="EDGEWISE_DATA is not set: no real photographs to plan with")


def everything(plan: Plan) -> dict[str, list]:
    """All pictures of the plan by part."""
    return {
        "first": list(plan.first),
        "stream": [*plan.streamed, *(one for pictures in plan.reserve.values() for one in pictures)],
        "holdout": list({one.name: one for measure in plan.measures for one in measure.pictures}.values()),
    }


def check_sides(plan: Plan) -> None:
    parts = everything(plan)
    names = [one.name for pictures in parts.values() for one in pictures]
    assert len(names) == len(set(names))
    assert all(one.part == part for part, pictures in parts.items() for one in pictures)
    held = {(one.plant, one.group) for one in parts["holdout"]}
    learned = {(one.plant, one.group) for one in [*parts["first"], *parts["stream"]]}
    assert held
    assert not held & learned
    bytes_held = {one.data for one in parts["holdout"]}
    assert not bytes_held & {one.data for one in [*parts["first"], *parts["stream"]]}


@needs_data
@pytest.mark.parametrize("seed", range(5))
def test_no_group_of_real_pictures_is_on_two_sides(seed: int) -> None:
    check_sides(real_plan(DATA, seed, 5))


@pytest.mark.parametrize("seed", range(3))
def test_no_part_of_generated_pictures_is_on_two_sides(seed: int) -> None:
    check_sides(generated_plan(seed, 5, "quick"))


@needs_data
def test_the_real_plan_is_the_one_that_was_specified() -> None:
    plan = real_plan(DATA, 3, 5)
    rig = {one.group for one in plan.first}
    assert len(rig) == 5
    assert {one.label for one in plan.first} == {"none", "pitting"}
    assert not any(one.uncertain for one in plan.first)
    stream_a = [one for one in everything(plan)["stream"] if one.plant == "plant-a"]
    on_rig = [one for one in stream_a if one.group in rig]
    assert len(on_rig) == 60
    assert stream_a[:60] == on_rig, "KGT1 comes after the rig's new camera"
    assert [one.taken_at for one in on_rig] == sorted(one.taken_at for one in on_rig)
    assert len(stream_a) - 60 == 22
    measures = {measure.name: measure for measure in plan.measures}
    assert [name for name, one in measures.items() if not one.beside] == [
        "a_zoom2", "a_zoom1_scale", "a_zoom1_pitting", "b", "b_auc", "c",
    ]  # fmt: skip
    assert measures["a_zoom1_scale"].enlarge == (616, 258)
    assert len({one.group for one in measures["a_zoom2"].pictures}) == 5
    assert {one.label for one in measures["c"].pictures} == {
        "crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches",
    }  # fmt: skip
    assert {one.label for one in measures["b"].pictures} == {"free", "blowhole", "uneven", "break", "crack", "fray"}
    assert all(not one.uncertain for name in ("a_zoom2", "a_zoom1_pitting") for one in measures[name].pictures)


@needs_data
def test_about_a_third_of_the_groups_of_b_and_c_is_held_out() -> None:
    parts = everything(real_plan(DATA, 1, 5))
    for plant in ("plant-b", "plant-c"):
        held = {one.group for one in parts["holdout"] if one.plant == plant}
        rest = {one.group for one in parts["stream"] if one.plant == plant}
        assert 0.25 < len(held) / (len(held) + len(rest)) < 0.35


@needs_data
def test_both_the_data_root_and_the_factorys_own_folder_are_accepted() -> None:
    folder = find_data(DATA)
    assert real_plan(folder, 2, 3) == real_plan(folder, 2, 3)
    ours, theirs = real_plan(DATA, 2, 3), real_plan(folder, 2, 3)
    assert ours.by_name == theirs.by_name


def test_the_same_seed_gives_the_same_plan() -> None:
    assert generated_plan(4, 2, "quick") == generated_plan(4, 2, "quick")


def test_names_of_a_stream_grow_and_say_nothing_about_the_label() -> None:
    plan = generated_plan(1, 3, "quick")
    for plant in plan.plants:
        stream = [*(one for part in plan.stream[plant] for one in part), *plan.reserve[plant]]
        assert [one.name for one in stream] == sorted(one.name for one in stream)
        assert not any(one.label in one.name for one in stream)


def test_a_folder_without_the_data_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotValid, match="is not the factory's data") as error:
        make_plan(tmp_path, seed=1, rounds=2)
    assert error.value.code == "data_missing"
    with pytest.raises(NotValid, match="there is no such folder"):
        make_plan(tmp_path / "nowhere", seed=1, rounds=2)


def test_an_archive_that_lacks_a_listed_picture_is_refused(tmp_path: Path) -> None:
    for name in ("plant_a_ballscrew", "plant_b_magnetic_tile", "plant_c_hot_strip"):
        place = tmp_path / name
        place.mkdir()
        (place / "labels.csv").write_text("file,label,sequence,time,camera_zoom,uncertain\na.jpg,none,s,,part,0\n")
        with zipfile.ZipFile(place / "images.zip", "w"):
            pass
    with pytest.raises(NotValid, match="missing") as error:
        real_plan(tmp_path, 1, 2)
    assert error.value.code == "data_incomplete"


def test_wrong_rounds_and_sizes_are_refused() -> None:
    with pytest.raises(NotValid, match="0 rounds"):
        generated_plan(1, 0)
    with pytest.raises(NotValid, match="no size"):
        generated_plan(1, 2, "huge")


def test_a_random_choice_spends_neither_more_labels_nor_more_bytes() -> None:
    from edgewise.apps.factory._chains import Use, random_choice, use_of

    pictures = generated_plan(1, 2, "quick").of_round(1)["north"]
    for seed in range(20):
        room = Use(pictures=7, size_bytes=15_000)
        spent = use_of(random_choice(pictures, room, np.random.Generator(np.random.PCG64(seed))))
        assert spent.pictures <= 7
        assert spent.size_bytes <= 15_000
