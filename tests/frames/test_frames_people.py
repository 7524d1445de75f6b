"""People out of pictures: what is blurred cannot be read any more, and what is not blurred is as it was."""

from __future__ import annotations

import importlib.resources
import io
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from edgewise.frames import CannotMakePrivate, decode_image, made_private, make_private
from edgewise.frames._detect import Finds
from edgewise.frames._people import treated
from edgewise.frames._pixels import CELLS_MAX, blur_boxes, crop_region, downscale, grown
from edgewise.wire import DataPolicy, PrivateSettings


def noise(height: int = 120, width: int = 160, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A photograph of a person that scikit-image ships (NASA, public domain)."""
    pytest.importorskip("cv2", reason="the extra `camera` brings OpenCV")
    pytest.importorskip("skimage", reason="the extra `bench` brings scikit-image and its photographs")
    data = (importlib.resources.files("skimage") / "data" / "astronaut.png").read_bytes()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((256, 256)))


FACE = (86, 31, 139, 84)  # of the portrait at 256 x 256, as a person would draw it


def test_a_found_face_is_blurred_with_a_margin_and_all_other_pixels_stay(portrait):
    made = made_private(png(portrait), "image/png", ["strip-metadata", "blur-faces"])
    after = decode_image(made.data, channels=3)
    left, top, right, bottom = FACE
    assert made.found["face"] >= 1
    changed = (after != portrait).any(axis=2)
    assert changed[top:bottom, left:right].mean() > 0.95
    assert changed.mean() < 0.35
    assert not changed[:, :20].any()
    assert not changed[230:].any()
    detail, was = after[top:bottom, left:right].astype(float), portrait[top:bottom, left:right].astype(float)
    # Sharp detail is gone: what is left between neighbours is a twentieth of what was there.
    assert np.square(np.diff(detail, 2, axis=0)).mean() < 0.05 * np.square(np.diff(was, 2, axis=0)).mean()


def test_a_picture_with_a_face_is_not_kept_at_all_where_faces_are_dropped(portrait):
    with pytest.raises(CannotMakePrivate) as refused:
        make_private(png(portrait), "image/png", ["drop-faces"])
    assert refused.value.code == "face_found"
    flat = png(np.full((100, 100, 3), 90, np.uint8))
    assert make_private(flat, "image/png", ["drop-faces"])[0]


def test_no_face_of_a_jpeg_survives_in_its_thumbnail_or_metadata(portrait):
    small = io.BytesIO()
    Image.fromarray(portrait).resize((64, 64)).save(small, "JPEG")
    exif = Image.Exif()
    exif[0x010E] = "Eileen"
    file = io.BytesIO()
    Image.fromarray(portrait).save(file, "JPEG", quality=95, exif=exif.tobytes() + small.getvalue())
    made, media_type = make_private(file.getvalue(), "image/jpeg", ["blur-faces"])
    assert media_type == "image/jpeg"
    assert b"Exif" not in made
    assert b"Eileen" not in made
    assert made.count(b"\xff\xd8\xff") == 1


@given(seed=st.integers(0, 99), wide=st.integers(1, 90), high=st.integers(1, 90), channels=st.sampled_from([1, 3]))
def test_nothing_but_a_few_means_is_left_of_a_box_and_nothing_changes_outside(seed, wide, high, channels):
    pixels = noise(channels=channels, seed=seed)
    box = (10, 12, 10 + wide, 12 + high)
    after = blur_boxes(pixels, [box])
    inside = np.zeros(pixels.shape[:2], bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    assert np.array_equal(after[~inside], pixels[~inside])
    part = after[box[1] : box[3], box[0] : box[2]]
    assert len(np.unique(part[:, :, 0])) <= max(6 * CELLS_MAX**2, 256)
    # White noise has a deviation of 74 levels. A mean over a cell of n pixels has 74/sqrt(n), and blurring takes more.
    cell = max(-(-max(wide, high) // CELLS_MAX), min(8, max(wide, high)))
    if wide >= 16 and high >= 16:
        assert part.astype(float).std() < 1.7 * 74 / cell + 2


def test_two_boxes_with_the_same_means_look_the_same_afterwards():
    """Irreversible in effect: detail that the means do not hold is not in the result in any form."""
    one = np.full((96, 96, 1), 128, np.uint8)
    checks = ((np.indices((96, 96)).sum(axis=0) % 2) * 100).astype(np.uint8)[:, :, None]
    other = (78 + checks).astype(np.uint8)  # the mean of every cell is 128 as well
    assert np.array_equal(blur_boxes(one, [(0, 0, 96, 96)]), blur_boxes(other, [(0, 0, 96, 96)]))
    shifted = np.roll(noise(96, 96, 1), 1, axis=0)
    assert np.abs(blur_boxes(shifted, [(0, 0, 96, 96)]).astype(int) - 127).max() < 40


def test_boxes_that_overlap_or_touch_the_edge_are_all_unreadable():
    pixels = noise()
    boxes = [grown(box, 0.5, pixels.shape) for box in ((0, 0, 40, 40), (20, 20, 60, 60), (140, 100, 160, 120))]
    after = blur_boxes(pixels, boxes)
    for left, top, right, bottom in boxes:
        assert after[top:bottom, left:right].astype(float).std() < 25


@given(
    st.tuples(st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0.55, 1), st.floats(0.55, 1)),
    st.integers(12, 50),
    st.integers(12, 50),
)
def test_no_pixel_from_outside_the_region_stays(region, width, height):
    pixels = np.zeros((height, width, 2), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = np.arange(width), np.arange(height)[:, None]
    try:
        inside = crop_region(pixels, region)
    except CannotMakePrivate:
        # A whole pixel could have fitted between any two edges that are two pixels apart.
        assert min((region[2] - region[0]) * width, (region[3] - region[1]) * height) < 2
        return
    assert inside.size
    assert inside[:, :, 0].min() >= region[0] * width - 1e-6
    assert inside[:, :, 0].max() + 1 <= region[2] * width + 1e-6
    assert inside[:, :, 1].min() >= region[1] * height - 1e-6
    assert inside[:, :, 1].max() + 1 <= region[3] * height + 1e-6


def test_a_region_without_a_whole_pixel_makes_nothing_private_and_says_so():
    with pytest.raises(CannotMakePrivate, match=r"no whole pixel of a picture of 12 x 12; make private.region larger"):
        crop_region(np.zeros((12, 12, 1), np.uint8), (0.45, 0.0, 0.55, 1.0))


def test_a_large_picture_becomes_small_and_a_small_one_stays():
    assert downscale(noise(300, 100), 60).shape == (60, 20, 3)
    assert np.array_equal(downscale(noise(30, 10), 60), noise(30, 10))
    made, _ = make_private(png(noise()), "image/png", ["downscale"], PrivateSettings(side_max=32))
    assert decode_image(made, channels=3).shape == (24, 32, 3)


def test_without_opencv_a_policy_that_blurs_keeps_nothing_and_says_what_to_install():
    """Fail closed: a fresh interpreter that cannot import it, because ours may have it already."""
    program = (
        "import sys, io, numpy as np; sys.modules['cv2'] = None\n"
        "from PIL import Image\n"
        "from edgewise.frames import make_private, CannotMakePrivate\n"
        "file = io.BytesIO(); Image.new('RGB', (40, 40)).save(file, 'PNG')\n"
        "try:\n    make_private(file.getvalue(), 'image/png', ['blur-faces'])\n"
        "except CannotMakePrivate as error:\n    print(error.code, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith("detector_missing")
    assert "edgewise[camera]" in said


def test_what_may_be_a_face_is_blurred_or_the_frame_is_dropped_as_the_policy_says():
    pixels, seen, found = noise(), Finds(sure=(), unsure=((10, 10, 40, 40),)), Counter()
    assert (treated(pixels, seen, "face", PrivateSettings(), found) != pixels).any()
    assert found == {"face": 1}
    with pytest.raises(CannotMakePrivate) as refused:
        treated(pixels, seen, "face", PrivateSettings(uncertain="drop"), found)
    assert refused.value.code == "uncertain"


@pytest.mark.parametrize(
    "data",
    [
        {"data_class": "person-image"},
        {"data_class": "person-image", "transforms": ["strip-metadata", "grey"]},
        {"data_class": "measurement", "transforms": ["blur-faces"]},
        {"data_class": "product-image", "transforms": ["hide-identifiers"]},
        {"private": {"region": [0.5, 0, 0.4, 1]}},
        {"private": {"identifiers": "keep"}},
    ],
)
def test_a_policy_that_cannot_work_is_refused_when_it_is_written(data):
    with pytest.raises(ValidationError):
        DataPolicy.model_validate(data)
