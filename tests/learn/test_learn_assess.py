"""Readiness: what is planted into clean data is found and named, and clean data is left alone."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.learn import Dataset, TrainingSample, write_dataset
from edgewise.learn._assess import Assessment, assess, page
from edgewise.wire import NotValid, canonical


def picture(seed: int, label: str, light: float = 1.0) -> bytes:
    rng = np.random.default_rng(seed)
    values = 120 + np.repeat(np.repeat(rng.normal(0, 18, (16, 16)), 4, 0), 4, 1)
    if label == "pit":
        row, column = rng.integers(16, 44, 2)
        values[row : row + 10, column : column + 10] -= 90
    if label == "line":
        row = int(rng.integers(8, 52))
        values[row : row + 4, :] += 90
    file = io.BytesIO()
    Image.fromarray(np.clip(light * values, 0, 255).astype(np.uint8), "L").save(file, "PNG")
    return file.getvalue()


def one(number: int, label: str, *, data: bytes | None = None, light: float = 1.0, **changes: object) -> TrainingSample:
    body = data or picture(number, label, light)
    values: dict[str, object] = {"group": f"part {number}", "site": "ab"[number % 2], "media_type": "image/png"}
    return TrainingSample(name=f"s{number}", label=label, read=lambda: body, **(values | changes))  # type: ignore[arg-type]


LABELS = ("ok", "ok", "pit", "line")


def clean(count: int = 120, seed: int = 0) -> list[TrainingSample]:
    return [one(1000 * seed + number, LABELS[number // 2 % 4]) for number in range(count)]


def looked(samples: Sequence[TrainingSample], **more: float) -> Assessment:
    return assess(Dataset(source="made", samples=tuple(samples), good_labels=("ok",)), **more)  # type: ignore[arg-type]


def codes(found: Assessment, *severities: str) -> set[str]:
    return {finding.code for finding in found.findings if not severities or finding.severity in severities}


@pytest.mark.parametrize("seed", range(3))
def test_clean_data_is_ready(seed: int) -> None:
    found = looked(clean(seed=seed))
    assert found.word == "ready", found.findings
    assert found.by_site["a"] == {"line": 15, "ok": 30, "pit": 15}
    assert found.plain_recall is not None
    assert found.plain_recall > 0.8


Planting = Callable[[list[TrainingSample]], list[TrainingSample]]


def unreadable() -> bytes:
    raise OSError("the disk said no")


def broken(number: int) -> TrainingSample:
    return TrainingSample(name=f"b{number}", label="ok", group="b", read=unreadable, media_type="image/png", site="a")


def with_splits(samples: list[TrainingSample], *, torn: bool) -> list[TrainingSample]:
    both = [one(n, "ok", columns={"split": "train" if n % 3 else "test"}) for n in range(500, 530)]
    first = both[0].read()
    return samples + both + ([one(530, "ok", data=first, columns={"split": "test"})] if torn else [])


def darker_copy(samples: list[TrainingSample]) -> list[TrainingSample]:
    return [*samples, one(900, "ok", data=picture(0, "ok", 0.8))]


def darker_site(samples: list[TrainingSample]) -> list[TrainingSample]:
    return [one(number, sample.label, light=1 - 0.5 * (number % 2)) for number, sample in enumerate(samples)]


PLANTED: dict[str, tuple[Planting, str, str]] = {
    "two labels of one content": (lambda s: [*s, one(900, "pit", data=s[0].read())], "two_labels", "not ready"),
    "a copy under another group": (lambda s: [*s, one(900, "ok", data=s[0].read())], "copies", "usable with care"),
    "the same part a little darker": (darker_copy, "near_copies", "usable with care"),
    "many unreadable files": (lambda s: [*s, *(broken(n) for n in range(30))], "unreadable", "not ready"),
    "an unreadable file": (lambda s: [*s, broken(1)], "unreadable", "usable with care"),
    "a class of three": (lambda s: [*s, *(one(n, "dent") for n in range(900, 903))], "rare_class", "usable with care"),
    "one class alone": (lambda _: [one(n, "ok") for n in range(20)], "one_class", "not ready"),
    "a split that leaks": (lambda s: with_splits(s, torn=True), "leak", "not ready"),
    "no groups": (lambda s: [one(n, x.label, group=f"s{n}") for n, x in enumerate(s)], "no_groups", "usable with care"),
    "a darker site": (darker_site, "sites_differ", "usable with care"),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_planted_is_found(case: str) -> None:
    plant, code, word = PLANTED[case]
    found = looked(plant(clean()))
    assert code in codes(found)
    assert found.word == word


def test_a_split_that_keeps_its_sides_apart_is_no_finding() -> None:
    assert not {"leak", "group_leak"} & codes(looked(with_splits(clean(), torn=False)))


@pytest.mark.parametrize("seed", range(3))
def test_most_wrong_labels_are_found_and_few_right_ones_doubted(seed: int) -> None:
    samples = clean(240, seed=seed)
    rng = np.random.default_rng(seed)
    wrong = {int(place) for place in rng.choice(len(samples), 12, replace=False)}
    other = {"ok": "pit", "pit": "line", "line": "ok"}
    spoilt = [
        one(1000 * seed + place, other[x.label], data=x.read()) if place in wrong else x
        for place, x in enumerate(samples)
    ]
    (finding,) = [item for item in looked(spoilt).findings if item.code == "labels_doubtful"]
    named = {int(name[1:]) - 1000 * seed for name in finding.samples}
    assert len(named & wrong) >= 8
    assert len(named - wrong) <= 8


def test_how_many_labels_are_needed_is_said_or_that_it_cannot_be() -> None:
    (enough,) = [f for f in looked(clean(), target=0.5).findings if f.code.startswith("labels_")]
    assert enough.code in ("labels_enough", "labels_needed")
    noise = [one(n, LABELS[n // 2 % 4], data=picture(n, "ok")) for n in range(120)]
    assert "labels_needed_unknown" in codes(looked(noise, target=0.95))


def test_rows_of_numbers_are_assessed_too() -> None:
    rng = np.random.default_rng(0)

    def row(number: int) -> TrainingSample:
        label = ("ok", "hot")[number % 2]
        body = canonical({"t": float(rng.normal(2.0 * (number % 2), 1)), "u": float(rng.normal())})
        return TrainingSample(
            name=f"r{number}", label=label, group=f"g{number // 3}", read=lambda: body, media_type="application/json"
        )

    found = looked([row(number) for number in range(120)])
    assert found.plain_recall is not None
    assert found.plain_recall > 0.7
    assert "near_copies" not in codes(found)


def test_nothing_that_can_be_read_is_said_in_one_sentence() -> None:
    with pytest.raises(NotValid, match="none of the 2 samples can be read, first b0: the disk said no"):
        looked([broken(0), broken(1)])


def test_the_page_loads_nothing_and_escapes_what_people_wrote() -> None:
    samples = [*clean(60), one(901, "<script>alert(1)</script>")]
    text = page(looked(samples))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"(src|href)=|url\(|@import", text)


def test_the_command_prints_a_report_writes_a_page_and_fails_where_data_is_not_ready(tmp_path: Path) -> None:
    write_dataset(clean(40), tmp_path / "good", "csv")
    words = ["assess", "data", str(tmp_path / "good"), "--html", str(tmp_path / "r.html")]
    shown = CliRunner().invoke(build("assess"), words)
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines()[:-1])) <= 80, "the last line is a path of the test"
    assert "<h1>Readiness of good</h1>" in (tmp_path / "r.html").read_text()
    write_dataset([*clean(40), one(900, "pit", data=clean(1)[0].read())], tmp_path / "bad", "csv")
    raw = CliRunner().invoke(build("assess"), ["assess", "data", str(tmp_path / "bad"), "-o", "json"])
    assert raw.exit_code == 1
    assert json.loads(raw.output)["word"] == "not ready"
