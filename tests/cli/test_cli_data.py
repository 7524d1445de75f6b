"""Data in and out of a real hub by the command line, with everything that is known of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build
from edgewise.hub.store import samples as sample_rows
from edgewise.learn import TrainingSample, read_dataset, write_dataset
from edgewise.wire import Annotation, Box, digest


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16), np.uint8), "L").save(file, "PNG")
    return file.getvalue()


def made(place: int) -> TrainingSample:
    data, mask = picture(place), picture(100 + place)
    box = Box(label="crack", x1=0.1, y1=0.1, x2=0.5, y2=0.5)
    return TrainingSample(
        name=f"p{place}",
        label="crack" if place % 2 else "ok",
        group=f"part {place // 2}",
        read=lambda: data,
        media_type="image/png",
        site="ab"[place % 2],
        taken_at=datetime(2026, 3, 1, place, tzinfo=UTC),
        annotation=Annotation(boxes=(box,), mask=digest(mask)) if place % 2 else None,
        mask=(lambda: mask) if place % 2 else None,
    )


@pytest.fixture
def world() -> Iterator[Any]:
    made_world = loop_world.LoopWorld(usecase=loop_world.a_usecase(data={"data_class": "product-image"}))
    yield made_world
    made_world.hub.close()


@pytest.fixture
def run(world: Any) -> Iterator[Any]:
    with loop_world.served(world.hub) as url:
        who = ["--hub", url, "--token", world.hub.tokens.text("admin")]

        def call(*words: str) -> str:
            found = CliRunner().invoke(build("data"), ["data", *words, *who], catch_exceptions=False)
            assert found.exit_code == 0, found.output
            return str(found.output)

        yield call


@pytest.mark.parametrize("form", ["csv", "coco", "parquet"])
def test_what_is_brought_in_can_be_taken_out_again_and_brought_in_again(
    form: str, world: Any, run: Any, tmp_path: Path
) -> None:
    write_dataset([made(place) for place in range(6)], tmp_path / "in", form)
    assert run("import", str(tmp_path / "in"), "--use-case", "parts").startswith("6 labelled samples are at the hub, 0")
    assert run("import", str(tmp_path / "in"), "--use-case", "parts").startswith("6 labelled samples are at the hub, 0")
    with world.store.read() as connection:
        held = sample_rows.page(connection, use_case="parts")
    assert sorted(row.frame for row in held) == [f"p{place}" for place in range(6)], "the same once more adds nothing"

    run("export", "--use-case", "parts", "--format", form, "-o", str(tmp_path / "out"))
    back = {item.read(): item for item in read_dataset(tmp_path / "out").samples}
    for place in range(6):
        ours, theirs = made(place), back[picture(place)]
        assert (theirs.label, theirs.group, theirs.site, theirs.taken_at) == (
            ours.label,
            ours.group,
            ours.site,
            ours.taken_at,
        )
        assert (theirs.mask is None) == (ours.mask is None)
        assert theirs.columns["labelled_by"] == "admin"
    said = run("import", str(tmp_path / "out"), "--use-case", "parts")
    assert said.startswith("6 labelled samples are at the hub, 6 of them were there"), "known by their own ids"
    with world.store.read() as connection:
        assert len(sample_rows.page(connection, use_case="parts")) == 6


def test_labels_of_another_tool_come_back_to_the_samples_that_were_taken_out(
    world: Any, run: Any, tmp_path: Path
) -> None:
    write_dataset([made(place) for place in range(4)], tmp_path / "in", "csv")
    run("import", str(tmp_path / "in"), "--use-case", "parts")
    run("export", "--use-case", "parts", "--format", "label-studio", "-o", str(tmp_path / "tasks"))
    listing = tmp_path / "tasks" / "tasks.json"
    listing.write_text(listing.read_text().replace('"ok"', '"scratch"'))
    run("import", str(tmp_path / "tasks"), "--use-case", "parts")
    with world.store.read() as connection:
        labels = sorted(row.label for row in sample_rows.page(connection, use_case="parts"))
    assert labels == ["crack", "crack", "scratch", "scratch"]


def test_a_site_that_nobody_named_is_asked_for_and_nothing_is_stored(world: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "ok").mkdir(parents=True)
    (tmp_path / "in" / "ok" / "a.png").write_bytes(picture(1))
    with loop_world.served(world.hub) as url:
        who = ["--hub", url, "--token", world.hub.tokens.text("admin")]
        found = CliRunner().invoke(build("data"), ["data", "import", str(tmp_path / "in"), "--use-case", "parts", *who])
    assert found.exit_code != 0
    assert "name it with --site" in str(found.exception)
    with world.store.read() as connection:
        assert sample_rows.page(connection, use_case="parts") == []


def test_a_folder_is_converted_without_a_hub(tmp_path: Path) -> None:
    write_dataset([made(place) for place in range(4)], tmp_path / "in", "csv")
    words = ["data", "convert", str(tmp_path / "in"), str(tmp_path / "out"), "--format", "imagefolder"]
    found = CliRunner().invoke(build("data"), words)
    assert found.exit_code == 0, found.output
    assert "4 samples are in" in found.output
    assert "boxes, spans, values and masks were left out" in found.output
    assert len(read_dataset(tmp_path / "out").samples) == 4
