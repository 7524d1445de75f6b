"""What all readers share: one look at a folder, what was left out, and samples from what a format tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from edgewise.learn._dataset import TrainingSample
from edgewise.learn._formats._bounds import BOUNDS, ReadBounds
from edgewise.learn._formats._tree import Tree, look
from edgewise.wire import Annotation, NotValid, digest


@dataclass(frozen=True, slots=True)
class Found:
    """The samples of a folder, and the fact that says which of them belong together."""

    samples: Sequence[TrainingSample]
    group_column: str | None = None


class Notes:
    """What was left out or not understood: each kind once, counted, with the first place.

    >>> notes = Notes()
    >>> notes.count("brush regions were left out", "task 4")
    >>> notes.count("brush regions were left out", "task 9")
    >>> notes.said
    ('brush regions were left out: 2, first task 4',)
    """

    def __init__(self, kinds_max: int = BOUNDS.kinds_said_max) -> None:
        self._kinds_max = kinds_max
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}
        self._more = 0

    def count(self, what: str, name: str, count: int = 1) -> None:
        """So many more of this kind, at this place."""
        if what not in self._counts and len(self._counts) >= self._kinds_max:
            self._more += count
            return
        self._counts[what] = self._counts.get(what, 0) + count
        self._first.setdefault(what, name)

    @property
    def said(self) -> tuple[str, ...]:
        """One sentence a kind."""
        told = [f"{what}: {count}, first {self._first[what]}" for what, count in self._counts.items()]
        return (*told, *([f"things of other kinds were left out: {self._more}"] if self._more else ()))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at one folder."""

    folder: Path
    group: str | None = None  # the fact to group by, where a person named one
    target: str | None = None  # the column of numbers that is the label
    bounds: ReadBounds = BOUNDS
    notes: Notes = field(default_factory=Notes)

    @cached_property
    def tree(self) -> Tree:
        return look(self.folder, self.bounds)

    def path(self, name: str) -> Path | None:
        """A list of this name directly in the folder; None where there is none.

        Raises:
            NotValid: it is a link out of the folder.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        self.check_inside(path)
        return path

    def check_inside(self, path: Path) -> None:
        """Raises NotValid where a path leads out of the folder."""
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise NotValid(
                f"{path} is a link out of the folder, and such links are not followed; put the file itself there",
                code="link_outside",
            )

    def lists(self, place: Path) -> list[Path]:
        """The JSON files directly in a folder, by name."""
        found = sorted(path for path in place.glob("*.json") if path.is_file()) if place.is_dir() else []
        for path in found:
            self.check_inside(path)
        return found

    def opener(self, path: Path) -> Callable[[], bytes]:
        """How to read a file, up to the bound."""
        return lambda: read_bounded(path, self.bounds.file_bytes_max)


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """The bytes of a file.

    Raises:
        NotValid: it is too large.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data: bytes = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise NotValid(f"{path} has more than {bytes_max} bytes; make it smaller", code="picture_unreadable")
    return data


def made(
    name: str,
    label: str,
    read: Callable[[], bytes],
    *,
    media_type: str,
    facts: Mapping[str, Any],
    annotation: Annotation | None = None,
    mask: bytes | None = None,
    where: str,
    group: str = "group",
) -> TrainingSample:
    """A sample from what a format says of it.

    Args:
        facts: of `FACTS`; others are kept as columns.
        where: the file, for a message.
        group: name of the fact that says what belongs together.
    Raises:
        NotValid: a time or a weight that is none.
    """
    known = {key: text_of(value) for key, value in facts.items() if value not in (None, "")}
    if mask is not None:
        annotation = (annotation or Annotation()).model_copy(update={"mask": digest(mask)})
    return TrainingSample(
        name=name,
        label=label,
        group=known.get(group, name),
        read=read,
        media_type=media_type,
        site=known.get("site", ""),
        uncertain=is_true(known.get("uncertain", "")),
        weight=_weight(known.get("weight"), f"{where}, {name}"),
        columns=known,
        annotation=annotation,
        mask=None if mask is None else lambda: mask,
        taken_at=time_of(known.get("taken_at"), f"{where}, {name}"),
        device=known.get("device"),
    )


def text_of(value: Any) -> str:
    """A fact as text; what JSON has as a list or an object stays JSON."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_true(text: str) -> bool:
    return text.strip().casefold() in {"1", "true", "yes"}


def _weight(text: str | None, where: str) -> float:
    if not text or not text.strip():
        return 1.0
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise NotValid(f"{where}: weight is {text!r}, needs to be a number above 0", code="labels_invalid")
    return value


def time_of(text: str | None, where: str) -> datetime | None:
    """A moment; one without a zone is taken for UTC.

    Raises:
        NotValid: no moment.
    """
    if not text or not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise NotValid(
            f"{where}: taken_at is {text!r}, needs to be like 2026-05-04T22:00:00+02:00", code="labels_invalid"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def grouped(samples: Sequence[TrainingSample], reading: Reading, form: str) -> Found:
    """Samples of a format of tasks or pictures, grouped by the fact that a person named, else by `group`.

    Raises:
        NotValid: no sample tells it.
    """
    group = reading.group
    if group is None:
        told = any("group" in sample.columns for sample in samples)
        return Found(samples, "group" if told else None)
    if not any(group in sample.columns for sample in samples):
        known = ", ".join(sorted({name for sample in samples for name in sample.columns}))
        raise NotValid(
            f"{reading.folder} ({form}) tells no {group!r} to group by; it tells {known or 'nothing beside labels'}",
            code="column_missing",
        )
    return Found([replace(one, group=one.columns.get(group, "") or one.name) for one in samples], group)


def load_json(path: Path, bounds: ReadBounds) -> Any:
    """A JSON file.

    Raises:
        NotValid: too large, or no JSON; the message says where.
    """
    size_bytes = path.stat().st_size
    if size_bytes > bounds.json_bytes_max:
        raise NotValid(
            f"{path} has {size_bytes} bytes, at most {bounds.json_bytes_max} can be read", code="data_too_large"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise NotValid(f"{path} is not JSON: {error}; export it again", code="labels_invalid") from error


def starts_with(path: Path, first: str) -> bool:
    """Whether a JSON file begins so; only a few bytes are read."""
    with path.open("rb") as file:
        head: bytes = file.read(200)
    return head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n").startswith(first)


def check_count(count: int, count_max: int, what: str) -> None:
    """Raises NotValid where there are more than a reader takes."""
    if count > count_max:
        raise NotValid(f"{what} are {count}, at most {count_max} can be read; split it", code="data_too_large")


def first_twice(names: Iterable[str]) -> str | None:
    """The first name that comes again."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
