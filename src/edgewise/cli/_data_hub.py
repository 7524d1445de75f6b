"""Labelled samples to the hub and from it, for ``edgewise data``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from edgewise.wire.errors import NotValid

if TYPE_CHECKING:
    from edgewise.learn import TrainingSample
    from edgewise.ports.api import HubApi

IMPORT_MAX = 500  # samples in one request
PREFIX_MIN = 6  # characters of a digest
# What a sample that comes by hand has no place for at the hub.
NOT_TAKEN = ("device", "weight", "inclusion_probability", "labelled_by", "labelled_at")


@dataclass(frozen=True, kw_only=True, slots=True)
class Brought:
    """What became of an import.

    Attributes:
        known: of `count`, those that the hub knew by their own id.
        lost: a sentence for each thing that the hub has no place for.
        left_out: samples that could not be read, each with its reason.
    """

    count: int
    known: int
    lost: tuple[str, ...]
    left_out: tuple[str, ...]


def check_one_label(samples: Sequence[TrainingSample], site: str) -> None:
    """That no sample has two labels: none of the same name or file at one site, unless the content is another.

    Raises:
        NotValid: one has; the message names both.
    """
    seen: dict[tuple[str, ...], TrainingSample] = {}
    for one in samples:
        place = one.site or site
        file = one.columns.get("file")
        keys = [(place, "name", one.name), *([(place, "file", file)] if file else [])]
        for key in keys:
            first = seen.setdefault(key, one)
            if first.label != one.label and _same(first, one):
                raise NotValid(
                    f"{one.columns.get('file') or one.name} has two labels, {first.label!r} and {one.label!r}; a "
                    "sample has one: remove the other",
                    code="two_labels",
                )


def _same(one: TrainingSample, other: TrainingSample) -> bool:
    """Whether the hub would take both for one sample. What cannot be read is taken for the same."""
    try:
        return _is_id(one.name) or one.read() == other.read()
    except (NotValid, OSError):
        return True


def bring(
    api: HubApi, samples: Sequence[TrainingSample], use_case: str, site: str, advance: Callable[[str, float], None]
) -> Brought:
    """Store these samples with their labels, a part at a time."""
    count = known = done = 0
    lost: set[str] = set()
    failed: list[str] = []
    for batch in _batches(samples):
        stored, there = _import(api, batch, use_case, site, lost, failed)
        count, known, done = count + stored, known + there, done + len(batch)
        advance(batch[-1].name, done / len(samples))
    told = f"{', '.join(name for name in NOT_TAKEN if name in lost)} were left out: the hub notes its own"
    return Brought(count=count, known=known, lost=(told,) if lost else (), left_out=tuple(failed))


def _batches(samples: Sequence[TrainingSample]) -> Iterator[list[TrainingSample]]:
    whole = iter(samples)
    while batch := list(islice(whole, IMPORT_MAX)):
        yield batch


def _import(
    api: HubApi, batch: Sequence[TrainingSample], use_case: str, site: str, lost: set[str], failed: list[str]
) -> tuple[int, int]:
    """Store these samples; comes back with how many, and how many of them the hub knew by their own id."""
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    said: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for sample in batch:
        try:
            known = _is_id(sample.name) and _knows(api, sample.name)
            content = b"" if known else _content(sample)
            annotation = _annotation(api, sample)
        except OSError as error:
            failed.append(f"{sample.name}: {error}")
            continue
        except NotValid as error:
            if not error.code.startswith("picture_"):
                raise
            failed.append(f"{sample.name}: {error}")
            continue
        if known:
            said.append({"sample": sample.name, "label": sample.label, "annotation": annotation})
            continue
        lost |= _not_taken(sample)
        about: dict[str, Any] = {"use_case": use_case, "site": sample.site or site, "frame": sample.name}
        about |= {"group": sample.group, "label": sample.label, "annotation": annotation}
        about |= {"media_type": sample.media_type, "blob": api.put_blob(content), "size_bytes": len(content)}
        rows.append(about | {"taken_at": (sample.taken_at or now).isoformat()})
    if said:
        api.post("/labels", {"labels": said})
    if rows:
        api.post("/samples/import", {"samples": rows})
    return len(said) + len(rows), len(said)


def _content(sample: TrainingSample) -> bytes:
    content = sample.read()
    if not content:
        raise NotValid("the file is empty; put a whole copy there", code="picture_unreadable")
    return content


def _not_taken(sample: TrainingSample) -> set[str]:
    told = {name for name in NOT_TAKEN if sample.columns.get(name)}
    return told | ({"weight"} if sample.weight != 1 else set())


def _annotation(api: HubApi, sample: TrainingSample) -> dict[str, Any] | None:
    from edgewise.wire import plain

    if sample.mask is not None:
        api.put_blob(sample.mask())
    return None if sample.annotation is None else plain(sample.annotation)


def _is_id(name: str) -> bool:
    return len(name) == 32 and _is_hex(name)


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdef" for char in text)


def _knows(api: HubApi, sample: str) -> bool:
    try:
        api.get(f"/samples/{sample}")
    except NotValid as error:
        if error.code != "sample_unknown":
            raise
        return False
    return True


def revision_rows(api: HubApi, use_case: str) -> list[dict[str, Any]]:
    """The dataset revisions of a use case, newest first, each with its number from the first that was made on.

    Without numbers where the hub's answer does not reach back to the first, which is the one without a parent.
    """
    rows: list[dict[str, Any]] = api.get(f"/usecases/{use_case}/revisions")
    whole = not rows or rows[-1]["parent"] is None
    return [{"number": len(rows) - place if whole else None, **row} for place, row in enumerate(rows)]


def revision_digest_of(api: HubApi, use_case: str, named: str) -> str:
    """The digest of the revision that is named by its number, its digest or the start of that.

    Raises:
        NotValid: the use case has none of that name, or several.
    """
    rows = revision_rows(api, use_case)
    by_number = named.isdecimal() and len(named) < PREFIX_MIN
    found = [
        str(row["digest"])
        for row in rows
        if (by_number and row["number"] == int(named))
        or (not by_number and len(named) >= PREFIX_MIN and str(row["digest"]).startswith(named.rstrip("….")))
    ]
    if len(found) != 1:
        known = ", ".join(f"{row['number']} ({row['digest'][:12]})" for row in rows[:10]) or "none"
        raise NotValid(
            f"use case {use_case} has {'no' if not found else len(found)} revision {named[:80]!r}; it has {known}; "
            "give one's number or its digest",
            code="revision_unknown",
        )
    return found[0]


def taken(api: HubApi, use_case: str, revision: str) -> tuple[list[TrainingSample], list[str]]:
    """All labelled samples of a use case, or those of one of its revisions; and sentences about what is not there.

    Raises:
        NotValid: there is none.
    """
    if revision:
        digest = revision_digest_of(api, use_case, revision)
        body = api.get(f"/revisions/{digest}")
        erased = len(body.get("erased") or ())
        left = [f"{erased} samples of the revision were erased since"] if erased else []
        if not body["samples"]:
            raise NotValid(f"revision {digest[:12]}… holds no sample any more; name another", code="data_empty")
        return [_of_line(api, line) for line in body["samples"]], left
    rows = list(_rows(api, use_case, labelled=True))
    if not rows:
        raise NotValid(f"use case {use_case} has no labelled sample; label some first", code="data_empty")
    return [_of_row(api, row) for row in rows], []


def waiting(api: HubApi, use_case: str) -> list[TrainingSample]:
    """All samples of a use case that have no label yet, each with what its device decided.

    Raises:
        NotValid: there is none.
    """
    rows = list(_rows(api, use_case, labelled=False))
    if not rows:
        raise NotValid(f"use case {use_case} has no sample that waits for a label", code="data_empty")
    return [_made(api, row, row, str(row["id"])) for row in rows]


def _rows(api: HubApi, use_case: str, *, labelled: bool) -> Iterator[dict[str, Any]]:
    """Every sample of a use case that has a label, or none, a page at a time."""
    asked: dict[str, str | int | bool] = {"use_case": use_case, "labelled": labelled, "limit": 1000}
    while True:
        page = api.get("/samples", **asked)
        yield from page["samples"]
        if page["next"] is None:
            return
        asked["cursor"] = page["next"]


def _of_row(api: HubApi, row: Mapping[str, Any]) -> TrainingSample:
    """A sample as it is labelled now."""
    history = api.get(f"/samples/{row['id']}")["labels"]
    who = {"labelled_by": history[-1]["who"], "labelled_at": history[-1]["at"]} if history else {}
    return _made(api, row, {**row, **who}, str(row["id"]))


def _of_line(api: HubApi, line: Mapping[str, Any]) -> TrainingSample:
    """A sample as it was when a revision was frozen."""
    return _made(api, line, line, str(line["sample"]))


def _made(api: HubApi, row: Mapping[str, Any], facts: Mapping[str, Any], name: str) -> TrainingSample:
    from datetime import datetime

    from edgewise.learn import TrainingSample
    from edgewise.wire import Annotation, Decision

    decision = row.get("decision")
    said = row.get("annotation")
    annotation = None if said is None else Annotation.model_validate(said)
    mask = None if annotation is None else annotation.mask
    columns = {key: str(facts[key]) for key in ("labelled_by", "labelled_at") if facts.get(key)}
    if (share := facts.get("inclusion_probability")) is not None:
        columns["inclusion_probability"] = repr(share)
    taken_at = row.get("taken_at")
    return TrainingSample(
        name=name,
        label=row["label"] or "",
        group=row.get("group") or name,
        read=lambda: api.get_blob(row["blob"]),
        media_type=row.get("media_type", "image/jpeg"),
        site=row["site"],
        weight=float(row.get("weight", 1.0)),
        columns=columns,
        annotation=annotation,
        mask=None if mask is None else lambda: api.get_blob(mask),
        taken_at=None if taken_at is None else datetime.fromisoformat(taken_at),
        device=row.get("device"),
        decision=None if decision is None else Decision.model_validate(decision),
    )
