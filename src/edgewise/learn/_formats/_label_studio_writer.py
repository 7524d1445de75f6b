"""Writing tasks for Label Studio, with its labelling page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgewise.learn._dataset import TrainingSample
from edgewise.learn._formats._files import Written, facts_of, write_contents
from edgewise.learn._formats._label_studio import ASKED, LISTING, PICTURE, SERIES

PAGE = "labels.xml"


def write(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`tasks.json` with `images/`, and `labels.xml`, the labelling page for them: import both into a project.

    A sample without a label becomes a task that waits for one; what a bundle decided is its pre-annotation.
    """
    names, failed = write_contents(samples, folder / "images")
    tasks = []
    lost: set[str] = set()
    for index, name in names.items():
        sample = samples[index]
        facts = facts_of(sample) | {"id": sample.name}
        if asked := _asked(sample):
            facts[ASKED] = asked
        result, missing = result_of(sample)
        lost |= missing
        annotation = {"result": result, "was_cancelled": False, "created_at": facts.get("labelled_at")}
        said = [annotation] if sample.label else []
        data = {kind_of(sample): f"/data/local-files/?d=images/{name}"}
        task = {"id": index + 1, "data": data, "meta": facts, "annotations": said, "predictions": prediction_of(sample)}
        tasks.append(task)
    text = json.dumps(tasks, indent=1, ensure_ascii=False)
    (folder / LISTING).write_bytes(text.encode("utf-8", "replace"))
    (folder / PAGE).write_bytes(page(samples))
    return Written(count=len(tasks), lost=tuple(sorted(lost)), left_out=tuple(failed))


def kind_of(sample: TrainingSample) -> str:
    return PICTURE if sample.media_type.startswith("image/") else SERIES


def page(samples: Sequence[TrainingSample]) -> bytes:
    """The labelling page: a choice of the labels, and rectangles of those and of the boxes' own."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=PICTURE, value=f"${PICTURE}")
    choices = ElementTree.SubElement(view, "Choices", name="label", toName=PICTURE)
    boxes = ElementTree.SubElement(view, "RectangleLabels", name="boxes", toName=PICTURE)
    decided = {sample.decision.label for sample in samples if sample.decision}
    labels = {sample.label for sample in samples if sample.label} | decided
    marked = {box.label for one in samples if one.annotation for box in one.annotation.boxes or ()}
    for label in sorted(labels):
        ElementTree.SubElement(choices, "Choice", value=label)
    for label in sorted(labels | marked):
        ElementTree.SubElement(boxes, "Label", value=label)
    ElementTree.indent(view)
    text: str = ElementTree.tostring(view, encoding="unicode")
    return f"{text}\n".encode("utf-8", "replace")


def prediction_of(sample: TrainingSample) -> list[dict[str, Any]]:
    """What a bundle decided, as a pre-annotation that a person confirms or changes."""
    decision = sample.decision
    if decision is None:
        return []
    choice = _item("choices", "label", kind_of(sample), {"choices": [decision.label]})
    by = decision.release or decision.bundle[:12]
    return [{"model_version": by, "score": decision.confidence, "result": [choice]}]


def _asked(sample: TrainingSample) -> str:
    said = sample.annotation
    told = {"boxes": said and said.boxes is not None, "spans": said and said.spans is not None}
    return ",".join(name for name, was in told.items() if was)


def result_of(sample: TrainingSample) -> tuple[list[dict[str, Any]], set[str]]:
    """What a person said of a sample as results, and sentences about what has no place there."""
    to = kind_of(sample)
    result: list[dict[str, Any]] = [_item("choices", "label", to, {"choices": [sample.label]})]
    lost: set[str] = set()
    if sample.mask is not None:
        lost.add("masks were left out: Label Studio's brush is a format of its own; export COCO for them")
    said = sample.annotation
    if said is None:
        return result, lost
    for box in said.boxes or ():
        place = {"x": box.x1, "y": box.y1, "width": box.x2 - box.x1, "height": box.y2 - box.y1}
        value: dict[str, Any] = {key: 100 * one for key, one in place.items()}
        value |= {"rotation": 0, "rectanglelabels": [box.label]}
        result.append(_item("rectanglelabels", "boxes", to, value))
    for span in said.spans or ():
        value = {"start": span.start, "end": span.end, "timeserieslabels": [span.label]}
        result.append(_item("timeserieslabels", "spans", to, value))
    if said.values is not None:
        lost.add("values were left out: Label Studio has no place for them here")
    return result, lost


def _item(kind: str, name: str, to: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "from_name": name, "to_name": to, "value": dict(value)}
