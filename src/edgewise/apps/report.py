"""The report of a run: `report.json` under stable keys, and `report.html` that shows the same numbers to a person.

The keys are explained in docs/report.md; they only ever grow. Both files are written whole or not at all, and neither
needs a network: plots are inline SVG, there is no script, font or picture from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgewise.apps._report_page import render_page
from edgewise.ports import replace_file
from edgewise.wire import NotValid, explain

HTML_NAME = "report.html"
JSON_NAME = "report.json"
WRONG_PICTURES_MAX = 24
TIMELINE_MAX = 2000


class Part(BaseModel):
    """A part of the report. A key that is not known here is a mistake: readers rely on the documented ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Quality(Part):
    """One measure after one round, with what random upload and training on everything reached at the same point."""

    plant: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    random: float | None = None
    everything: float | None = None
    n: int | None = Field(None, ge=0)


class Start(Part):
    """Before the first round: the first network on the same hold-out."""

    quality: dict[str, Quality] = {}
    beside: dict[str, Quality] = {}
    labels_used: int = Field(0, ge=0)
    release: str | None = None


class Round(Part):
    """One turn of the loop. `bytes_uploaded` and `labels_used` are of this round alone."""

    quality: dict[str, Quality]
    bytes_uploaded: int = Field(ge=0)
    labels_used: int = Field(ge=0)
    number: int | None = Field(None, ge=1)
    beside: dict[str, Quality] = {}
    bytes_decided: int | None = Field(None, ge=0)
    decisions: int | None = Field(None, ge=0)
    sample_bytes: int | None = Field(None, ge=0)
    seconds: float | None = Field(None, ge=0)
    gate: str | None = None  # passed, failed, inconclusive
    gate_reasons: tuple[str, ...] = ()
    release: str | None = None  # what runs after the round


class Offline(Part):
    device: str
    decisions_made: int = Field(ge=0)
    records_lost: int = Field(ge=0)
    records_duplicated: int = Field(ge=0)
    records_made: int | None = Field(None, ge=0)
    from_s: float | None = None
    until_s: float | None = None


class PowerCut(Part):
    bundle_whole: bool
    device: str | None = None
    phase: str | None = None
    bundle: str | None = None
    at_s: float | None = None


class Evidence(Part):
    """One point of the paired e-process: after this many decisions and labels it stood here."""

    decisions: int = Field(ge=0)
    labels: int = Field(ge=0)
    e_value: float = Field(ge=0)


class BadCandidate(Part):
    stopped_by_gate: bool
    reverted: bool
    devices_exposed: int = Field(ge=0)
    decisions_until_revert: int | None = Field(None, ge=0)
    labels_until_revert: int | None = Field(None, ge=0)
    returned_to: str | None
    release: str | None = None
    signer_refused: bool | None = None
    signer_refusal: str | None = None
    gate_reasons: tuple[str, ...] = ()
    override_reason: str | None = None
    signed_by: str | None = None
    reason: str | None = None
    e_value: float | None = None
    revert_at: float = 100.0
    wins: int | None = Field(None, ge=0)
    losses: int | None = Field(None, ge=0)
    seconds_until_revert: float | None = Field(None, ge=0)
    devices: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


class Latency(Part):
    """Milliseconds of one decision on a device, and of the bare runtime on the same prepared input."""

    p50: float | None
    p99: float | None
    bare_p50: float | None
    decisions: int | None = Field(None, ge=0)


class Run(Part):
    """A release on a device from one second of the run to another."""

    device: str
    release: str
    from_s: float = Field(ge=0)
    until_s: float | None = None
    wave: int | None = None
    bad: bool = False


class Moment(Part):
    at_s: float = Field(ge=0)
    who: str
    text: str
    device: str | None = None


class MeasureText(Part):
    """What a measure is, in words."""

    title: str
    plant: str
    metric: str
    note: str = ""


class Report(Part):
    """Everything that a run showed."""

    format: Literal[1] = 1
    data: Literal["real", "generated"]
    wall_s: float = Field(ge=0)
    rounds: tuple[Round, ...] = Field(min_length=1)
    bytes_if_all_uploaded: int = Field(ge=0)
    offline: Offline
    power_cut: PowerCut
    bad_candidate: BadCandidate
    decision_latency_ms: Latency
    title: str = "edgewise demo"
    data_text: str = ""
    seed: int | None = None
    quick: bool = False
    made_at: str = ""
    machine: str = ""
    version: str = ""
    interval_level: float = 0.9
    measures: dict[str, MeasureText] = {}
    start: Start | None = None
    waves: tuple[Run, ...] = ()
    timeline: tuple[Moment, ...] = Field((), max_length=TIMELINE_MAX)
    notes: tuple[str, ...] = ()  # limits of this run, in words


class WrongPicture(Part):
    """A hold-out picture that the last network got wrong, shown in the page only."""

    title: str
    data: bytes
    media_type: Literal["image/jpeg", "image/png"] = "image/jpeg"


def read_result(result: Mapping[str, Any]) -> Report:
    """The report that these plain values make.

    Raises:
        NotValid: a key is missing, unknown or has a wrong value; the message names it.
    """
    try:
        return Report.model_validate(result)
    except ValidationError as error:
        raise NotValid(f"these values are not a report: {explain(error)}", code="report_invalid") from error


def write_report(
    folder: Path, result: Mapping[str, Any], *, wrong_pictures: Sequence[WrongPicture] = ()
) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into the folder; comes back with their paths, the page first.

    Args:
        folder: made where it does not exist.
        result: the keys of docs/report.md.
        wrong_pictures: up to WRONG_PICTURES_MAX hold-out pictures for the page; they are not in the JSON.
    Raises:
        NotValid: the values are not a report. Nothing is written then.
    """
    report = read_result(result)
    shown = [(one.title, one.data, one.media_type) for one in wrong_pictures[:WRONG_PICTURES_MAX]]
    page = render_page(report.model_dump(mode="json"), shown).encode()
    numbers = (report.model_dump_json(indent=1) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((HTML_NAME, page), (JSON_NAME, numbers)):
        replace_file(folder / name, data)
    return folder / HTML_NAME, folder / JSON_NAME
