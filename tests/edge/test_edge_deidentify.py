"""Folders made private: whole copies beside the originals, what cannot be made private is refused and listed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgewise.cli import main
from edgewise.edge.deidentify import Recipe, deidentify
from edgewise.frames import decode_image
from edgewise.wire import NotValid, PrivateSettings

NAME = "Ada-Lovelace"
PLAIN = Recipe(transforms=("strip-metadata",), settings=PrivateSettings(identifiers="mask"), key=b"k" * 32)
USECASE = """
name: press
app: factory
outcome: {goal: find bad parts, labels: [good, bad], good_labels: [good]}
people: {owner: a, approver: b, oversight: line}
sites: [{name: north}]
"""


def picture() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010E] = NAME
    Image.fromarray(pixels).save(file, "JPEG", exif=exif.tobytes())
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of everything, with a name in each file and somewhere in a file's name."""
    source = tmp_path / "in"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.jpg").write_bytes(picture())
    (source / "deep" / "ada@example.com.jpg").write_bytes(picture())
    rows = {"load": 1, "operator": NAME, "note": f"{NAME} called", "mail": "ada@example.com"}
    (source / "deep" / "er" / "row.json").write_text(json.dumps(rows))
    (source / "rows.jsonl").write_text("".join(json.dumps(rows) + "\n" for _ in range(3)))
    (source / "table.csv").write_text(f"load,operator,shift\n1.5,{NAME},late\n2,{NAME},early\n")
    (source / "notes.docx").write_bytes(NAME.encode())
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + NAME.encode())
    (source / "ragged.csv").write_text(f"a,b\n1,2,{NAME}\n")
    (source / "link.jpg").symlink_to(source / "a.jpg")
    (source / "linked").symlink_to(source / "deep")
    return source


def everything(target: Path) -> bytes:
    files = [path for path in target.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() + str(path.relative_to(target)).encode() for path in files)


def test_every_file_has_a_private_copy_or_is_listed_as_refused(folder, tmp_path):
    before = everything(folder)
    report = deidentify(folder, tmp_path / "out", PLAIN)
    refused = {file.name: file.code for file in report.files if file.action == "refused"}
    assert refused == {
        "broken.png": "unreadable",
        "link.jpg": "link",
        "linked": "link",
        "notes.docx": "kind_unknown",
        "ragged.csv": "ragged",
    }
    written = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert written == sorted(file.name for file in report.files if file.action == "private")
    assert len(written) == 5
    out = everything(tmp_path / "out")
    assert NAME.encode() not in out
    assert b"ada@" not in out
    assert everything(folder) == before
    original, copy = (
        decode_image(picture(), channels=3),
        decode_image((tmp_path / "out" / "a.jpg").read_bytes(), channels=3),
    )
    assert np.array_equal(original, copy)


def test_the_report_counts_by_kind_and_names_no_value(folder, tmp_path):
    report = deidentify(folder, tmp_path / "out", PLAIN)
    text = json.dumps(report.plain({"profile": "people"})) + report.page({"profile": "people"})
    assert NAME not in text
    assert "ada@" not in text
    summary = report.summary()
    assert (summary["files"], summary["private"], summary["refused"]) == (10, 5, 5)
    assert summary["found"]["name"] == 1 + 3 + 2
    assert summary["found"]["text"] == 1 + 3 + 2


def test_a_dry_run_finds_the_same_and_writes_nothing(folder, tmp_path):
    dry = deidentify(folder, tmp_path / "out", PLAIN, dry_run=True)
    assert not (tmp_path / "out").exists()
    assert dry.files == deidentify(folder, tmp_path / "out", PLAIN).files


def test_nothing_is_ever_written_in_place_or_over_something(folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for target in (folder, folder / "private", tmp_path, tmp_path / "full", folder / "a.jpg"):
        with pytest.raises(NotValid):
            deidentify(folder, target, PLAIN)
    with pytest.raises(NotValid, match="neither a folder nor a file"):
        deidentify(tmp_path / "nowhere", tmp_path / "out", PLAIN)


def test_files_that_would_share_a_name_do_not_replace_one_another(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    bitmap = io.BytesIO()
    Image.new("RGB", (9, 9)).save(bitmap, "BMP")
    (source / "a.bmp").write_bytes(bitmap.getvalue())
    (source / "a.png").write_bytes(picture())  # bytes decide: this is a JPEG
    (source / "a.tif").write_bytes(bitmap.getvalue())
    report = deidentify(source, tmp_path / "out", PLAIN)
    assert [file.code for file in report.files] == ["", "", "name_taken"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "a.png"]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in ("deidentify", *arguments)])
    return int(left.value.code or 0)


def test_the_command_writes_copies_and_both_reports_and_says_when_something_was_refused(folder, tmp_path, capsys):
    report = tmp_path / "report.json"
    code = run(folder, tmp_path / "out", "--report", report, "--profile", "metadata", "-o", "json")
    assert code == 1
    assert json.loads(capsys.readouterr().out)["refused"] == 5
    said = json.loads(report.read_text())
    assert said["profile"] == "metadata"
    assert said["summary"]["private"] == 5
    assert "<table>" in (tmp_path / "report.json.html").read_text()
    for name in ("broken.png", "ragged.csv", "notes.docx", "link.jpg", "linked"):
        (folder / name).unlink()
    assert run(folder, tmp_path / "again", "--profile", "metadata") == 0
    assert run(folder, tmp_path / "again", "--profile", "metadata") == 2  # it is not empty


def test_a_use_cases_policy_decides_and_refuses_what_it_has_no_way_for(folder, tmp_path):
    policy = tmp_path / "usecase.yaml"
    policy.write_text(USECASE + "data: {transforms: [strip-metadata, downscale], private: {side_max: 16}}\n")
    report = tmp_path / "report.json"
    assert run(folder, tmp_path / "out", "--policy", policy, "--report", report) == 1
    assert decode_image((tmp_path / "out" / "a.jpg").read_bytes(), channels=3).shape == (11, 16, 3)
    refused = json.loads(report.read_text())["summary"]["refused_because"]
    assert refused["content_forbidden"] == 4  # rows are no pictures
    policy.write_text(USECASE + "data: {data_class: measurement, private: {text_fields: [shift]}}\n")
    assert run(folder, tmp_path / "rows", "--policy", policy) == 1
    assert (tmp_path / "rows" / "table.csv").read_text().split() == ["load,shift", "1.5,late", "2,early"]
    assert not (tmp_path / "rows" / "a.jpg").exists()


def test_the_same_key_gives_the_same_hashes_in_each_run(folder, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    policy = tmp_path / "usecase.yaml"
    policy.write_text(
        USECASE + "data: {data_class: measurement, transforms: [strip-metadata, hide-identifiers], "
        "private: {identifiers: hash}}\n"
    )
    for name in ("one", "two"):
        run(folder, tmp_path / name, "--policy", policy, "--key-file", key)
    run(folder, tmp_path / "other", "--policy", policy)
    one, two, other = (
        json.loads((tmp_path / name / "deep/er/row.json").read_text()) for name in ("one", "two", "other")
    )
    assert one == two
    assert one["operator"] != other["operator"]
    key.write_bytes(b"short")
    assert run(folder, tmp_path / "three", "--key-file", key) == 2


def test_dicom_files_are_named_after_their_new_ids(tmp_path):
    pytest.importorskip("pydicom", reason="the extra `clinic` brings pydicom")
    from dicom_world import picture as chest
    from dicom_world import to_bytes

    source = tmp_path / "in" / "DOE JANE"
    source.mkdir(parents=True)
    for number in range(2):
        (source / f"{number}").write_bytes(to_bytes(chest(SOPInstanceUID=f"1.2.3.{number}")))
    (source / "3.dcm").write_bytes(to_bytes(chest(Modality="US")))
    report = deidentify(tmp_path / "in", tmp_path / "out", PLAIN)
    assert [file.code for file in report.files] == ["", "", "burned_in"]
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len({path.parent for path in files}) == 1
    assert all(path.parts[-3] == "dicom" and path.name.startswith("2.25.") for path in files)
    assert b"DOE" not in everything(tmp_path / "out")
