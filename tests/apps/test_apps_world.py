"""Generated plants: the same seed gives the same bytes, and the pictures are what they say they are."""

from __future__ import annotations

from collections import defaultdict

import pytest

from edgewise.apps.factory.world import KNOWN, NAMES, PLANTS, make_plants
from edgewise.frames import decode_image
from edgewise.wire import NotValid


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others() -> None:
    assert make_plants(5, 8) == make_plants(5, 8)
    ours, theirs = make_plants(5, 8), make_plants(6, 8)
    assert all(ours[name][0].data != theirs[name][0].data for name in NAMES)


def test_a_plant_does_not_depend_on_what_the_others_make() -> None:
    assert make_plants(3, {"west": 6})["west"] == make_plants(3, 6)["west"]


def test_pictures_are_grey_and_of_their_plants_size() -> None:
    for plant, shots in zip(PLANTS, make_plants(1, 2).values(), strict=True):
        assert decode_image(shots[0].data, channels=1).shape == (plant.height, plant.width, 1)


def test_a_part_is_seen_in_one_to_three_consecutive_frames_with_one_label() -> None:
    for shots in make_plants(2, 60).values():
        seen = defaultdict(list)
        for index, shot in enumerate(shots):
            seen[shot.group].append(index)
        assert all(len(places) <= 3 and places[-1] - places[0] == len(places) - 1 for places in seen.values())
        assert all(len({shots[index].label for index in places}) == 1 for places in seen.values())
        times = [shot.taken_at for shot in shots]
        assert times == sorted(times)


def test_every_plant_has_good_parts_and_its_own_defects() -> None:
    for plant, shots in zip(PLANTS, make_plants(4, 150).values(), strict=True):
        assert {shot.label for shot in shots} == {"none", *plant.defects}
    assert "chatter" not in KNOWN


def test_an_unknown_plant_and_a_wrong_number_are_refused() -> None:
    with pytest.raises(NotValid, match="no generated plant nowhere"):
        make_plants(1, {"nowhere": 3})
    with pytest.raises(NotValid, match="needs 0 to"):
        make_plants(1, -1)
