"""The report: stable keys, one self-contained page, and nothing written when the values are wrong."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgewise.apps.report import Report, WrongPicture, read_result, write_report
from edgewise.wire import NotValid

ROOT = Path(__file__).parents[2]
SPECIFIED = {
    "data", "wall_s", "rounds", "bytes_if_all_uploaded", "offline", "power_cut", "bad_candidate", "decision_latency_ms",
}  # fmt: skip


def quality(value: float | None, **more: float | None) -> dict[str, Any]:
    return {"plant": "plant-b", "metric": "balanced_accuracy", "value": value, "low": 0.5, "high": 0.9, **more}


def smallest() -> dict[str, Any]:
    """The keys that were specified, and no others."""
    return {
        "data": "generated",
        "wall_s": 61.5,
        "rounds": [
            {"quality": {"b": quality(0.7)}, "bytes_uploaded": 1000, "labels_used": 12},
            {"quality": {"b": quality(0.8, random=0.75, everything=0.85)}, "bytes_uploaded": 900, "labels_used": 9},
        ],
        "bytes_if_all_uploaded": 12_000,
        "offline": {"device": "north-line-1", "decisions_made": 30, "records_lost": 0, "records_duplicated": 0},
        "power_cut": {"bundle_whole": True},
        "bad_candidate": {
            "stopped_by_gate": True,
            "reverted": True,
            "devices_exposed": 1,
            "decisions_until_revert": 40,
            "labels_until_revert": 11,
            "returned_to": "surface-inspection@3",
        },
        "decision_latency_ms": {"p50": 2.0, "p99": 4.0, "bare_p50": 1.5},
    }


def whole() -> dict[str, Any]:
    """A result with everything that a run can tell."""
    result = smallest()
    result["title"] = "Surfaces <b>& more</b>"
    result["start"] = {"quality": {"b": quality(0.9)}, "beside": {"k": quality(0.4)}, "labels_used": 300}
    for number, one in enumerate(result["rounds"], start=1):
        one |= {"number": number, "gate": "passed", "release": f"surface-inspection@{number + 1}", "seconds": 30.0}
        one["beside"] = {"k": quality(0.5)}
    result["rounds"][0] |= {"gate": "inconclusive", "gate_reasons": ["plant-b: 3 samples, needs 8"]}
    result["bad_candidate"] |= {
        "release": "surface-inspection@4",
        "signer_refused": True,
        "signer_refusal": "the gate says failed",
        "override_reason": "drill <script>",
        "evidence": [{"decisions": 4 * n, "labels": n, "e_value": 2.0**n / (n + 1)} for n in range(12)],
    }
    result["waves"] = [
        {"device": "north-line-1", "release": "surface-inspection@1", "from_s": 3.0, "until_s": 30.0, "wave": 1},
        {"device": "north-line-1", "release": "surface-inspection@4", "from_s": 30.0, "until_s": 40.0, "bad": True},
        {"device": "east-line-1", "release": "surface-inspection@1", "from_s": 9.0},
    ]
    result["timeline"] = [{"at_s": 31.0, "who": "hub", "text": "reverted", "device": "north-line-1"}]
    return result


class References(HTMLParser):
    """Everything in a page that a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.found.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "xlink:href", "srcset", "poster") and not (value or "").startswith(
                "data:"
            ):
                self.found.append(f"{tag} {name}={value}")


def test_exactly_the_specified_keys_make_a_report(tmp_path: Path) -> None:
    page, numbers = write_report(tmp_path, smallest())
    written = json.loads(numbers.read_text())
    assert set(written) >= SPECIFIED
    assert page.is_file()
    for key in SPECIFIED - {"rounds"}:
        assert _holds(written[key], smallest()[key])
    for ours, theirs in zip(written["rounds"], smallest()["rounds"], strict=True):
        assert _holds(ours, theirs)
    assert written["rounds"][0]["quality"]["b"]["random"] is None
    assert written["rounds"][-1]["quality"]["b"]["everything"] == 0.85


def _holds(written: Any, given: Any) -> bool:
    if isinstance(given, dict):
        return all(_holds(written[key], value) for key, value in given.items())
    return bool(written == given)


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page, _ = write_report(tmp_path, whole(), wrong_pictures=[WrongPicture(title="is crack", data=b"\xff\xd8")])
    text = page.read_text()
    references = References()
    references.feed(text)
    assert references.found == []
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    assert "http" not in re.sub(r"data:image/[a-z]+;base64,\S+", "", text)


def test_the_page_says_at_its_top_which_data_it_shows(tmp_path: Path) -> None:
    for data in ("real", "generated"):
        page, _ = write_report(tmp_path, {**whole(), "data": data})
        top = page.read_text().partition("</style>")[2][:900]
        assert data.upper() in top


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    page, _ = write_report(tmp_path, whole())
    text = page.read_text()
    assert "Surfaces &lt;b&gt;&amp; more&lt;/b&gt;" in text
    assert "drill &lt;script&gt;" in text


def test_every_quality_number_is_on_the_page_as_text(tmp_path: Path) -> None:
    result = whole()
    for index, one in enumerate(result["rounds"]):
        one["quality"]["b"] |= {
            "value": 0.611 + index / 100,
            "random": 0.511 + index / 100,
            "everything": 0.811 + index / 100,
        }
    text = write_report(tmp_path, result)[0].read_text()
    for number in ("0.611", "0.621", "0.511", "0.521", "0.811", "0.821"):
        assert f"<td>{number}</td>" in text


def test_bad_news_is_told(tmp_path: Path) -> None:
    result = whole()
    result["rounds"][-1]["quality"]["b"] |= {"random": 0.99}
    result["offline"]["records_lost"] = 3
    text = write_report(tmp_path, result)[0].read_text()
    assert "fell from 0.900 to 0.800, which is forgetting" in text
    assert "random upload ended higher" in text
    assert "the gate said inconclusive" in text
    assert "3 records lost" in text


def test_a_key_that_is_not_documented_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(NotValid, match="surprise"):
        write_report(tmp_path / "out", {**smallest(), "surprise": 1})
    with pytest.raises(NotValid, match=r"offline\.device"):
        write_report(tmp_path / "out", {**smallest(), "offline": {"decisions_made": 1}})
    assert not (tmp_path / "out").exists()


def test_values_that_were_not_measured_do_not_break_the_page(tmp_path: Path) -> None:
    result = smallest()
    for one in result["rounds"]:
        one["quality"]["b"] = {"plant": "plant-b", "metric": "auc", "value": None}
    result["decision_latency_ms"] = {"p50": None, "p99": None, "bare_p50": None}
    result["bad_candidate"] |= {"reverted": False, "decisions_until_revert": None, "labels_until_revert": None}
    assert "not measured in the last round" in write_report(tmp_path, result)[0].read_text()


def test_every_key_of_the_report_is_explained_in_the_docs() -> None:
    text = (ROOT / "docs" / "report.md").read_text()
    schema = read_result(smallest()).model_json_schema()
    keys = {*schema["properties"], *(key for part in schema["$defs"].values() for key in part["properties"])}
    missing = sorted(key for key in keys if f"`{key}`" not in text)
    assert missing == []
    assert Report.model_config["extra"] == "forbid"
