"""Reading Label Studio's JSON: tasks with choices and regions. Its server is never needed, its files are enough.

Source: labelstud.io, guide to the JSON format of annotations and of tasks, read for version 1.23.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from edgewise.learn._dataset import MEDIA_TYPES, TrainingSample
from edgewise.learn._formats._label_studio_regions import Result, Said, said_in
from edgewise.learn._formats._reading import (
    Found,
    Notes,
    Reading,
    check_count,
    grouped,
    load_json,
    made,
    starts_with,
)
from edgewise.wire import NotValid
from edgewise.wire.codec import explain

LISTING = "tasks.json"
PICTURE, SERIES = "image", "series"  # names of a task's data
ASKED = "asked"  # in a task's meta: which regions a person was asked for, `boxes`, `spans` or both
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file


class _Foreign(BaseModel):
    """As much of another tool's record as is read here; whatever else it holds is passed over."""

    model_config = ConfigDict(allow_inf_nan=False, extra="ignore", frozen=True)


class _Annotation(_Foreign):
    result: list[Result]
    was_cancelled: bool | None = None
    updated_at: str | None = None
    created_at: str | None = None
    completed_by: dict[str, Any] | int | str | None = None

    @property
    def at(self) -> str:
        return self.updated_at or self.created_at or ""

    @property
    def who(self) -> str:
        who = self.completed_by
        return str((who.get("email") or who.get("id") or "") if isinstance(who, dict) else who or "")


class _Task(_Foreign):
    id: int | str | None = None
    data: dict[str, Any]
    annotations: list[_Annotation] | None = None
    predictions: list[Any] | None = None
    meta: dict[str, Any] | None = None


def read(reading: Reading) -> Found | None:
    """Every task that was labelled; one with several annotations counts by its newest that was not cancelled."""
    for path in reading.lists(reading.folder):
        body = load_json(path, reading.bounds) if starts_with(path, "[") else None
        if isinstance(body, list) and body and isinstance(body[0], dict) and "data" in body[0]:
            return grouped(_samples(path, body, reading), reading, "label-studio")
    return None


def _samples(path: Path, tasks: list[Any], reading: Reading) -> list[TrainingSample]:
    check_count(len(tasks), reading.bounds.rows_max, f"the tasks of {path}")
    found = []
    for place, body in enumerate(tasks, 1):
        try:
            task = _Task.model_validate(body)
        except ValidationError as error:
            number = body.get("id") if isinstance(body, dict) else f"number {place}"
            raise NotValid(
                f"{path}: task {number} is none of Label Studio's: {explain(error)}; export as JSON, not JSON-MIN",
                code="labels_invalid",
            ) from error
        newest = _newest(task, reading.notes)
        if newest is not None:
            found.append(_One(path=path, task=task, reading=reading).sample(newest))
    return found


def _newest(task: _Task, notes: Notes) -> _Annotation | None:
    said = [one for one in task.annotations or () if not one.was_cancelled]
    if said:
        return max(said, key=lambda one: one.at)
    what = "a prediction alone" if task.predictions else "no annotation that counts"
    notes.count(f"tasks with {what} were left out", f"task {task.id}")
    return None


@dataclass(frozen=True, kw_only=True)
class _One:
    """One task of a list."""

    path: Path
    task: _Task
    reading: Reading

    @property
    def where(self) -> str:
        return f"{self.path}, task {self.task.id}"

    def sample(self, newest: _Annotation) -> TrainingSample:
        check_count(len(newest.result), self.reading.bounds.objects_max, f"the regions of {self.where}")
        facts = dict(self.task.meta or {})
        asked = str(facts.pop(ASKED, "") or "").split(",")
        said: Said = said_in(newest.result, asked, self.where, self.reading.notes)
        if said.label is None:
            raise NotValid(
                f"{self.path}: task {self.task.id} has neither a choice nor a label; label it or cancel it",
                code="labels_invalid",
            )
        named, file = self._file()
        if newest.who:
            facts.setdefault("labelled_by", newest.who)
        if newest.at:
            facts.setdefault("labelled_at", newest.at)
        return made(
            str(facts.pop("id", "") or PurePosixPath(named).name or named),
            said.label,
            self.reading.opener(self.reading.tree.files[file]),
            media_type=MEDIA_TYPES[Path(file).suffix.lower()],
            facts=facts,
            annotation=said.annotation,
            where=str(self.path),
        )

    def _file(self) -> tuple[str, str]:
        """What the task names, and the file in the folder that it means."""
        data = self.task.data
        named = data.get(PICTURE) or data.get(SERIES) or next((one for one in data.values() if _is_path(one)), None)
        for name in _names(str(named or "")):
            found = self.reading.tree.find(name)
            if found is not None:
                return str(named), found
        raise NotValid(
            f"{self.path}: task {self.task.id} names {str(named)[:120]!r}, which is not in the folder; "
            "export with the files, or put them beside the list",
            code="picture_missing",
        )


def _is_path(value: object) -> bool:
    return isinstance(value, str) and PurePosixPath(value.partition("?")[0]).suffix.lower() in MEDIA_TYPES


def _names(named: str) -> list[str]:
    """The names that a task's file may have here: its path, that after `?d=` of a local store, its last part, and that
    without what an upload puts before it.

    >>> _names("/data/upload/1/0a1b2c3d-a%20b.png")[-1]
    'a b.png'
    >>> _names("part-a.png")
    ['part-a.png']
    """
    try:
        parts = urlsplit(named)
        paths = [named, *parse_qs(parts.query).get("d", []), unquote(parts.path).lstrip("/")]
    except ValueError:  # such as http://[x
        paths = [named]
    bare = [PurePosixPath(path).name for path in paths]
    cut = [UPLOADED.sub("", name, count=1) for name in bare if UPLOADED.match(name)]
    return [name for name in dict.fromkeys([*paths, *bare, *cut]) if name]
