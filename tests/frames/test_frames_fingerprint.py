"""Fingerprints: a picture saved again, resized or at another exposure is near; a stranger is not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from edgewise.frames import decode_image, fingerprint, likeness, near_from, usual
from edgewise.wire import NotValid


def surface(seed: int) -> Image.Image:
    """Feed marks of one machine with grain of the part."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:120, 0:160]
    values = 120 + 30 * np.sin(rows / 3) + np.repeat(np.repeat(rng.normal(0, 14, (40, 40)), 3, 0), 4, 1)
    values += 25 * np.sin(columns / rng.uniform(4, 14) + rng.uniform(0, 6))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8), "L")


def pixels(picture: Image.Image, **saving: Any) -> NDArray[np.uint8]:
    file = io.BytesIO()
    picture.save(file, **({"format": "JPEG", "quality": 90} | saving))
    return decode_image(file.getvalue(), channels=1)


MARKS = np.stack([fingerprint(pixels(surface(seed))) for seed in range(40)])
SHARED = usual(MARKS)
ALIKE = likeness(MARKS, MARKS, SHARED) - 2 * np.eye(len(MARKS), dtype=np.float32)
NEAR = near_from(ALIKE.max(axis=1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", ["saved again", "resized", "darker", "brighter", "flat"])
def test_the_same_picture_in_another_form_is_near(how: str, seed: int) -> None:
    picture = surface(seed)
    other = {
        "saved again": lambda: pixels(picture, quality=50),
        "resized": lambda: pixels(picture.resize((130, 100))),
        "darker": lambda: pixels(ImageEnhance.Brightness(picture).enhance(0.6)),
        "brighter": lambda: pixels(ImageEnhance.Brightness(picture).enhance(1.3)),
        "flat": lambda: pixels(ImageEnhance.Contrast(picture).enhance(0.6)),
    }[how]()
    assert likeness(fingerprint(other)[None], MARKS[seed][None], SHARED)[0, 0] >= NEAR


def test_strangers_are_not_near_although_they_share_most_of_what_is_in_them() -> None:
    plain = likeness(MARKS, MARKS, np.zeros(len(SHARED), np.float32)) - 2 * np.eye(len(MARKS), dtype=np.float32)
    assert plain.max() > ALIKE.max(), "what all share makes strangers alike"
    assert ALIKE.max() < NEAR


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3]), st.integers(0, 255))
def test_any_picture_has_one_and_an_even_one_has_nothing_in_it(
    height: int, width: int, colours: int, grey: int
) -> None:
    mark = fingerprint(np.full((height, width, colours), grey, np.uint8))
    assert mark.shape == (4096,)
    assert not mark.any()
    assert np.isfinite(likeness(mark[None], MARKS[:2], SHARED)).all()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 2), (0, 4, 1)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotValid, match="needs"):
        fingerprint(np.zeros(shape, np.uint8))


def test_the_bound_follows_how_alike_strangers_are() -> None:
    assert near_from(np.full(100, 0.86)) == 0.965
    assert near_from(np.full(100, 0.0)) == 0.80
    assert near_from(np.full(100, 0.999)) == 0.99
    assert near_from(np.array([])) == 0.99
