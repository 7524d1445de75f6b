"""Data in and out of a real hub by the command line, with everything that is known of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import loop_world
from edgewise.cli._app import build
from edgewise.hub import revisions
from edgewise.hub.samples import ImportedSample
from edgewise.hub.samples import import_samples as bring
from edgewise.hub.store import samples as sample_rows
from edgewise.learn import TrainingSample, read_dataset, write_dataset
from edgewise.wire import Annotation, Box, NotValid, digest


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

        def call(*words: str, code: int = 0) -> str:
            found = CliRunner().invoke(build("data"), ["data", *words, *who], catch_exceptions=False)
            assert found.exit_code == code, found.output
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


def freeze(world: Any) -> str:
    with world.store.write() as connection:
        return revisions.freeze(connection, "parts", now=world.hub.now())[0]


def test_a_revision_is_exported_by_its_number_or_digest_as_it_was_frozen(world: Any, run: Any, tmp_path: Path) -> None:
    write_dataset([made(place) for place in range(8)], tmp_path / "in", "csv")
    run("import", str(tmp_path / "in"), "--use-case", "parts")
    first = freeze(world)
    write_dataset([replace(made(place), label="scratch") for place in range(8)], tmp_path / "again", "csv")
    run("import", str(tmp_path / "again"), "--use-case", "parts")
    world.tick()
    second = freeze(world)
    rows = json.loads(run("revisions", "--use-case", "parts", "-o", "json"))
    assert [(row["number"], row["digest"]) for row in rows] == [(2, second), (1, first)]
    labels = {}
    for named in ("1", first, first[:10], "2"):
        target = tmp_path / f"out {named}"
        run("export", "--use-case", "parts", "--revision", named, "-o", str(target))
        back = read_dataset(target)
        assert back.said == ()
        assert {one.columns["labelled_by"] for one in back.samples} == {"admin"}
        labels[named] = set(back.labels)
    assert labels == {"1": {"crack", "ok"}, first: {"crack", "ok"}, first[:10]: {"crack", "ok"}, "2": {"scratch"}}
    with pytest.raises(NotValid, match=f"no revision '7'; it has 2 .{second[:12]}., 1"):
        run("export", "--use-case", "parts", "--revision", "7", "-o", str(tmp_path / "none"))


def test_one_sample_with_two_labels_is_refused_with_both_and_nothing_is_stored(
    world: Any, run: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture(1))
    (folder / "labels.csv").write_text("file,label,site,id\na.png,ok,a,one\na.png,crack,a,two\n")
    with pytest.raises(NotValid, match=r"a\.png has two labels, 'ok' and 'crack'"):
        run("import", str(folder), "--use-case", "parts")
    with world.store.read() as connection:
        assert sample_rows.page(connection, use_case="parts") == []


def test_two_pictures_of_one_name_are_two_samples(run: Any, tmp_path: Path) -> None:
    for place, label in enumerate(("ok", "crack")):
        (tmp_path / "in" / label).mkdir(parents=True)
        (tmp_path / "in" / label / "a.png").write_bytes(picture(place))
    (tmp_path / "in" / "labels.csv").write_text("file,label,site,id\nok/a.png,ok,a,x\ncrack/a.png,crack,a,x\n")
    assert run("import", str(tmp_path / "in"), "--use-case", "parts").startswith("2 labelled samples")


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(world: Any, run: Any, tmp_path: Path) -> None:
    write_dataset([made(place) for place in range(4)], tmp_path / "in", "csv")
    (tmp_path / "in" / "images" / "p0.png").write_bytes(b"")
    (tmp_path / "in" / "images" / "p2.png").write_bytes(bytes(64_000_001))
    said = run("import", str(tmp_path / "in"), "--use-case", "parts", code=1)
    assert said.startswith("2 labelled samples are at the hub")
    assert "p0: the file is empty" in said
    assert "p2: " in said
    assert "has more than 64000000 bytes" in said
    with world.store.read() as connection:
        held = sample_rows.page(connection, use_case="parts")
    assert sorted(row.frame for row in held) == ["p1", "p3"]


def test_a_blob_that_is_gone_is_named_by_the_export_and_the_rest_goes_on(world: Any, run: Any, tmp_path: Path) -> None:
    write_dataset([made(place) for place in range(4)], tmp_path / "in", "csv")
    run("import", str(tmp_path / "in"), "--use-case", "parts")
    world.store.blobs.delete(digest(picture(2)))
    said = run("export", "--use-case", "parts", "-o", str(tmp_path / "out"), code=1)
    assert said.startswith("3 samples are in")
    assert len(read_dataset(tmp_path / "out").samples) == 3


def test_what_the_hub_has_no_place_for_is_told(run: Any, tmp_path: Path) -> None:
    told = replace(made(0), weight=2.0, device="cam-1", columns={"device": "cam-1"})
    write_dataset([told], tmp_path / "in", "csv")
    assert "device, weight were left out" in run("import", str(tmp_path / "in"), "--use-case", "parts")


def test_every_command_that_reads_a_folder_tells_what_was_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n % 2 * 50 + n / 80},{'ok' if n % 2 else 'pit'},{n // 4}\n" for n in range(80))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "labels.csv").write_text(",force,label,group\n" + rows)
    bundle = str(tmp_path / "bundle")
    for words in (
        ["learn", "train", "--data", str(folder), "-o", bundle],
        ["score", bundle, "--data", str(folder)],
        ["assess", "data", str(folder)],
        ["data", "convert", str(folder), str(tmp_path / "out"), "--format", "csv"],
    ):
        found = CliRunner().invoke(build(words[0]), words)
        assert found.exit_code == 0, found.output
        assert "columns that only number the rows were left out" in " ".join(found.output.split()), words


def test_samples_that_wait_for_a_label_go_out_as_tasks_and_their_labels_come_back(
    world: Any, run: Any, tmp_path: Path
) -> None:
    blob = world.store.blobs.put(picture(5))
    about = {"use_case": "parts", "site": "a", "blob": blob, "taken_at": world.hub.now(), "media_type": "image/png"}
    bring(world.store, [ImportedSample(frame="f", **about)], who="ann", now=world.hub.now())
    run("export", "--use-case", "parts", "--unlabelled", "--format", "label-studio", "-o", str(tmp_path / "tasks"))
    listing = tmp_path / "tasks" / "tasks.json"
    (task,) = json.loads(listing.read_text())
    assert task["annotations"] == []
    task["annotations"] = [{"result": [{"type": "choices", "value": {"choices": ["ok"]}}]}]
    listing.write_text(json.dumps([task]))
    said = run("import", str(tmp_path / "tasks"), "--use-case", "parts")
    assert said.startswith("1 labelled samples are at the hub, 1 of them were there")
    with pytest.raises(NotValid, match="goes with --format label-studio"):
        run("export", "--use-case", "parts", "--unlabelled", "-o", str(tmp_path / "csv"))
