"""Label Studio's JSON: tasks with choices, rectangles and spans. Its server is never needed, its files are enough.

Source: labelstud.io, guide to the JSON format of annotations and of tasks, read for version 1.23.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from edgewise.learn._dataset import MEDIA_TYPES, TrainingSample
from edgewise.learn._formats._files import (
    Written,
    contents_of,
    facts_of,
    load_json,
    made,
    starts_with,
    write_contents,
)
from edgewise.wire import Annotation, Box, NotValid, Span

LISTING = "tasks.json"
PICTURE, SERIES = "image", "series"  # names of a task's data
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="label" toName="image">{choices}</Choices>
  <RectangleLabels name="boxes" toName="image">{labels}</RectangleLabels>
</View>
"""


def find(folder: Path) -> Path | None:
    """The export: a JSON list of tasks with annotations."""
    for path in [folder / LISTING, *sorted(folder.glob("*.json"))]:
        if path.is_file() and starts_with(path, "["):
            body = load_json(path)
            if isinstance(body, list) and body and isinstance(body[0], dict) and "data" in body[0]:
                return path
    return None


def read(folder: Path, listing: Path) -> list[TrainingSample]:
    """Every task that was labelled; one with several annotations counts by its newest that was not cancelled."""
    files = contents_of(folder)
    try:
        found = [_sample(listing, task, files) for task in load_json(listing)]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise NotValid(
            f"{listing} is no export of Label Studio: {type(error).__name__} {error}; export as JSON, not JSON-MIN",
            code="labels_invalid",
        ) from error
    return [sample for sample in found if sample is not None]


def _sample(listing: Path, task: Mapping[str, Any], files: Mapping[str, Path]) -> TrainingSample | None:
    said = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    if not said:
        return None
    newest = max(said, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
    label, annotation = said_in(newest["result"], f"{listing}, task {task.get('id')}")
    if label is None:
        raise NotValid(
            f"{listing}: task {task.get('id')} has neither a choice nor a label; label it or cancel it",
            code="labels_invalid",
        )
    named = task["data"].get(PICTURE) or task["data"].get(SERIES) or next(iter(task["data"].values()))
    path = _file_of(str(named), files)
    if path is None:
        raise NotValid(
            f"{listing}: task {task.get('id')} names {str(named)[:120]!r}, which is not in the folder; "
            "export with the files, or put them beside the list",
            code="picture_missing",
        )
    facts = dict(task.get("meta") or {})
    who = newest.get("completed_by")
    facts.setdefault("labelled_by", who.get("email", who.get("id")) if isinstance(who, Mapping) else who)
    name = str(facts.pop("id", "") or PurePosixPath(str(named)).name)
    return made(
        name,
        label,
        path.read_bytes,
        media_type=MEDIA_TYPES[path.suffix.lower()],
        facts=facts,
        annotation=annotation,
        where=str(listing),
    )


def said_in(result: Sequence[Mapping[str, Any]], where: str) -> tuple[str | None, Annotation | None]:
    """The label and the annotation that a list of results says.

    Raises:
        NotValid: a box or span that is empty or outside.
    """
    choices: list[str] = []
    boxes: list[Box] = []
    spans: list[Span] = []
    for item in result:
        value, kind = item["value"], item["type"]
        if kind == "choices":
            choices += value["choices"]
        elif kind == "rectanglelabels":
            left, top = value["x"] / 100, value["y"] / 100
            right, bottom = left + value["width"] / 100, top + value["height"] / 100
            corners = [min(1.0, max(0.0, number)) for number in (left, top, right, bottom)]
            if not (corners[0] < corners[2] and corners[1] < corners[3]):
                raise NotValid(f"{where}: a rectangle at {left:.0%}, {top:.0%} is empty or outside", code="box_outside")
            boxes.append(
                Box(label=value["rectanglelabels"][0], **dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)))
            )
        elif kind == "timeserieslabels":
            spans.append(Span(label=value["timeserieslabels"][0], start=int(value["start"]), end=int(value["end"])))
    marked = [*(box.label for box in boxes), *(span.label for span in spans)]
    label = choices[0] if choices else max(sorted(marked), key=marked.count) if marked else None
    if len(set(choices)) > 1:
        raise NotValid(
            f"{where} has {len(choices)} choices, {', '.join(choices)}; a sample has one label", code="two_labels"
        )
    if not boxes and not spans:
        return label, None
    return label, Annotation(boxes=tuple(boxes) or None, spans=tuple(spans) or None)


def _file_of(named: str, files: Mapping[str, Path]) -> Path | None:
    """The file of a task: by its path, by `?d=` of a local store, or by its last part without the upload's prefix."""
    parts = urlsplit(named)
    asked = parse_qs(parts.query).get("d", [])
    for name in (named, *asked, unquote(parts.path).lstrip("/")):
        bare = PurePosixPath(name).name
        for one in (name, bare, bare.partition("-")[2]):
            if one and one in files:
                return files[one]
    return None


def write(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`tasks.json` with `images/`, and `labels.xml`, the labelling page for them: import both into a project."""
    names, failed = write_contents(samples, folder / "images")
    tasks = []
    lost = set()
    for index, name in names.items():
        sample = samples[index]
        kind = PICTURE if sample.media_type.startswith("image/") else SERIES
        facts = facts_of(sample) | {"id": sample.name}
        result, missing = result_of(sample)
        lost |= missing
        annotation = {"result": result, "was_cancelled": False, "created_at": facts.get("labelled_at")}
        local = f"/data/local-files/?d=images/{name}"
        tasks.append({"id": index + 1, "data": {kind: local}, "meta": facts, "annotations": [annotation]})
    (folder / LISTING).write_text(json.dumps(tasks, indent=1, ensure_ascii=False), encoding="utf-8")
    labels = sorted({sample.label for sample in samples})
    page = {
        "choices": "".join(f"<Choice value={json.dumps(label)}/>" for label in labels),
        "labels": "".join(f"<Label value={json.dumps(label)}/>" for label in labels),
    }
    (folder / "labels.xml").write_text(CONFIG.format(**page), encoding="utf-8")
    return Written(count=len(tasks), lost=tuple(sorted(lost)), left_out=tuple(failed))


def result_of(sample: TrainingSample) -> tuple[list[dict[str, Any]], set[str]]:
    """What a person said of a sample as results, and sentences about what has no place there."""
    to = PICTURE if sample.media_type.startswith("image/") else SERIES
    result: list[dict[str, Any]] = [_item("choices", "label", to, {"choices": [sample.label]})]
    lost: set[str] = set()
    said = sample.annotation
    if said is None:
        return result, lost
    for box in said.boxes or ():
        place = {"x": box.x1, "y": box.y1, "width": box.x2 - box.x1, "height": box.y2 - box.y1}
        value: dict[str, Any] = {key: round(100 * one, 6) for key, one in place.items()}
        value |= {"rotation": 0, "rectanglelabels": [box.label]}
        result.append(_item("rectanglelabels", "boxes", to, value))
    for span in said.spans or ():
        value = {"start": span.start, "end": span.end, "timeserieslabels": [span.label]}
        result.append(_item("timeserieslabels", "spans", to, value))
    if said.values is not None:
        lost.add("values were left out: Label Studio has no place for them here")
    if sample.mask is not None:
        lost.add("masks were left out: Label Studio's brush is a format of its own; export COCO for them")
    return result, lost


def _item(kind: str, name: str, to: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "from_name": name, "to_name": to, "value": dict(value)}
