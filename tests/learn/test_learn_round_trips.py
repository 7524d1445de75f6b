"""Any samples, through any two formats: what both have a place for comes back, and what has none is said."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgewise.frames import decode_image
from edgewise.learn import TrainingSample, read_dataset, write_dataset
from edgewise.wire import Annotation, Box, canonical, digest, loads

SIDE = 16
KEEP_FACTS = ("csv", "parquet", "coco", "label-studio")
FORMS = (*KEEP_FACTS, "imagefolder")
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)
TEXT = WORDS.map(str.strip).filter(bool)


@cache
def picture(seed: int) -> bytes:
    file = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE), np.uint8)
    Image.fromarray(values, "L").save(file, "PNG")
    return file.getvalue()


@cache
def mask(columns: int) -> bytes:
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[3:9, :columns] = 255
    file = io.BytesIO()
    Image.fromarray(values, "L").save(file, "PNG")
    return file.getvalue()


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, y1 = draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9))
    across, down = draw(st.floats(0.001, 0.1)), draw(st.floats(0.001, 0.1))
    return Box(label=draw(TEXT), x1=x1, y1=y1, x2=x1 + across, y2=y1 + down)


@st.composite
def annotations(draw: st.DrawFn) -> Annotation | None:
    """None, an empty tuple for "none is there", and boxes."""
    if draw(st.booleans()):
        return None
    return Annotation(boxes=tuple(draw(st.lists(boxes(), max_size=3))))


MOMENTS = st.integers(0, 10**9).map(lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "site": TEXT,
        "device": TEXT,
        "taken_at": MOMENTS,
        "uncertain": st.booleans(),
        "weight": st.floats(0.01, 100),
        "own": TEXT,
        "labelled_by": TEXT,
    },
)


@st.composite
def pictures(draw: st.DrawFn) -> list[TrainingSample]:
    made = []
    for place in range(draw(st.integers(1, 4))):
        facts = draw(FACTS)
        columns = {name: facts.pop(name) for name in ("own", "labelled_by") if name in facts}
        annotation, drawn = draw(annotations()), draw(st.sampled_from([0, 0, 5]))
        name = draw(WORDS)
        if drawn:
            annotation = (annotation or Annotation()).model_copy(update={"mask": digest(mask(drawn))})
        made.append(
            TrainingSample(
                name=name,
                label=draw(TEXT),
                group=draw(st.sampled_from([name, "part 7"])),
                read=lambda place=place: picture(place),
                media_type="image/png",
                columns=columns,
                annotation=annotation,
                mask=(lambda drawn=drawn: mask(drawn)) if drawn else None,
                **facts,
            )
        )
    return made


def through(samples: Sequence[TrainingSample], folder: Path, form: str) -> list[TrainingSample]:
    written = write_dataset(samples, folder, form)
    assert written.count == len(samples)
    assert written.left_out == ()
    found = read_dataset(folder)
    if form != "imagefolder":
        assert found.said == ()
    return list(found.samples)


def known(sample: TrainingSample, masks: bool) -> dict[str, Any]:
    said = sample.annotation
    about: dict[str, Any] = {
        "label": sample.label,
        "name": sample.name,
        "group": sample.group,
        "site": sample.site,
        "device": sample.device,
        "taken_at": sample.taken_at,
        "uncertain": sample.uncertain,
        "weight": sample.weight,
        "own": sample.columns.get("own"),
        "labelled_by": sample.columns.get("labelled_by"),
        "boxes": None if said is None or said.boxes is None else [box.label for box in said.boxes],
    }
    drawn = sample.mask() if masks and sample.mask is not None else None
    return about | {"mask": None if drawn is None else (decode_image(drawn, channels=1) > 0).tobytes()}


def corners(sample: TrainingSample) -> list[float]:
    found = (sample.annotation.boxes or ()) if sample.annotation else ()
    return [one for box in found for one in (box.x1, box.y1, box.x2, box.y2)]


@pytest.mark.parametrize("second", KEEP_FACTS)
@pytest.mark.parametrize("first", KEEP_FACTS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_samples=pictures())
def test_pictures_come_back_whole_through_any_two_formats(
    first: str, second: str, given_samples: list[TrainingSample], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("two")
    masks = "label-studio" not in (first, second)
    back = through(through(given_samples, folder / "first", first), folder / "second", second)
    wanted = {one.read(): one for one in given_samples}
    assert len(back) == len(wanted)
    for one in back:
        assert known(one, masks) == known(wanted[one.read()], masks)
        assert corners(one) == pytest.approx(corners(wanted[one.read()]), abs=1e-9)


@pytest.mark.parametrize("first", FORMS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_samples=pictures())
def test_two_labels_never_become_one_class_folder(
    first: str, given_samples: list[TrainingSample], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("classes")
    back = through(through(given_samples, folder / "first", first), folder / "second", "imagefolder")
    label_of = {one.read(): one.label for one in given_samples}
    pairs = {(label_of[one.read()], one.label) for one in back}
    assert len(back) == len(given_samples)
    assert len(pairs) == len({was for was, _ in pairs}) == len({now for _, now in pairs})


NUMBERS = st.dictionaries(
    st.sampled_from(["force", "speed", "x y", "ä"]),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1),
    min_size=1,
)


@st.composite
def rows(draw: st.DrawFn) -> list[TrainingSample]:
    """Rows of numbers, and here and there a picture between them."""
    made = []
    for place in range(draw(st.integers(1, 5))):
        if draw(st.integers(0, 4)) == 0:
            content, kind = picture(place), "image/png"
        else:
            content, kind = canonical(draw(NUMBERS)), "application/json"
        made.append(
            TrainingSample(
                name=f"n{place}",
                label=draw(TEXT),
                group="g",
                read=lambda content=content: content,
                media_type=kind,
                device=draw(st.sampled_from([None, "press-1"])),
                taken_at=draw(st.none() | MOMENTS),
                uncertain=draw(st.booleans()),
                columns=draw(st.sampled_from([{}, {"paint": "red"}])),
                annotation=draw(st.sampled_from([None, Annotation(values=(1.5,))])),
            )
        )
    return made


@pytest.mark.parametrize("second", ["csv", "parquet"])
@pytest.mark.parametrize("first", ["csv", "parquet"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_rows=rows())
def test_rows_of_numbers_come_back_with_all_that_is_known_of_them(
    first: str, second: str, given_rows: list[TrainingSample], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, back = tmp_path_factory.mktemp("rows"), given_rows
    for place, form in enumerate((first, second)):
        assert write_dataset(back, folder / str(place), form).count == len(given_rows)
        back = list(read_dataset(folder / str(place)).samples)
    for one, wanted in zip(back, given_rows, strict=True):
        assert one.media_type == wanted.media_type
        if one.media_type == "application/json":
            assert loads(one.read()) == loads(wanted.read())
        else:
            assert one.read() == wanted.read()
        assert known(one, False) == known(wanted, False)
        assert one.columns.get("paint") == wanted.columns.get("paint")
        assert (one.annotation and one.annotation.values) == (wanted.annotation and wanted.annotation.values)
