"""What all readers share: the files below a folder, what was left out, and samples from what a format tells."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from edgewise.learn._dataset import MEDIA_TYPES, TrainingSample
from edgewise.learn._formats._bounds import BOUNDS, ReadBounds
from edgewise.wire import Annotation, NotValid, digest

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
PICTURE_FOLDERS = ("images", "data")


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


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The pictures and rows below a folder, by their relative names; links that lead out of it are only named.

    Attributes:
        others: files of other kinds, by their ending: the first one's name, and how many.
    """

    folder: Path
    files: Mapping[str, Path]
    outside: frozenset[str]
    others: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @cached_property
    def _below(self) -> Mapping[str, list[str]]:
        """Names by what is left of them below images/, below a split, or both."""
        found: dict[str, list[str]] = {}
        for name in self.files:
            for short in _shorter(name):
                found.setdefault(short, []).append(name)
        return found

    @cached_property
    def _bare(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.files:
            found.setdefault(name.rpartition("/")[2], []).append(name)
        return found

    def find(self, name: str, *, split: str = "", near: str = "") -> str | None:
        """The relative name of the file that a list means; None where there is none.

        Args:
            split: train, val or test, where the list says so: a file of another split is never meant.
            near: the list's own folder, relative; looked into first.
        Raises:
            NotValid: several files may be meant.
        """
        first = f"{near}/{name}" if near else name
        below = [path for path in self._below.get(name, ()) if not split or split_of(path) in ("", split)]
        own = [path for path in below if split and split_of(path) == split]
        bare = [] if "/" in name else [path for path in self._bare.get(name, ()) if self._may_be(path, split)]
        for meant in ([first], own, [name], below, bare):
            there = [path for path in meant if path in self.files and (path == first or self._may_be(path, split))]
            if len(there) > 1:
                raise NotValid(
                    f"{name!r} may be {there[0]} or {there[1]} in {self.folder}; name it with its folder",
                    code="picture_ambiguous",
                )
            if there:
                return there[0]
        return None

    def need(self, name: str, where: str, *, split: str = "", near: str = "") -> str:
        """As `find`.

        Raises:
            NotValid: it is not there, or several may be meant.
        """
        found = self.find(name, split=split, near=near)
        if found is None:
            linked = [path for path in self.outside if path == name or path.endswith("/" + name)]
            why = " (a link of that name leads out of it, and is not followed)" if linked else ""
            of_split = f", or of its split {split}," if split else ""
            raise NotValid(
                f"{where} names {name[:200]!r}, which is not in the folder{of_split}{why}; "
                "put the files beside it or into images/",
                code="picture_missing",
            )
        return found

    @staticmethod
    def _may_be(path: str, split: str) -> bool:
        return not split or split_of(path) in ("", split)


def look(folder: Path, bounds: ReadBounds = BOUNDS) -> Tree:
    """All files of a known kind below a folder.

    Raises:
        NotValid: there are too many.
    """
    root = folder.resolve()
    files: dict[str, Path] = {}
    outside: set[str] = set()
    others: dict[str, tuple[str, int]] = {}
    for place, folders, names in os.walk(folder):  # which follows no link to a folder
        folders.sort()
        here = Path(place)
        for name in sorted([*names, *(one for one in folders if (here / one).is_symlink())]):
            path = here / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                outside.add(relative)
            elif path.suffix.lower() in MEDIA_TYPES and path.is_file():
                files[relative] = path
            elif path.is_file():
                ending = path.suffix.lower()
                others[ending] = (others.get(ending, (relative, 0))[0], others.get(ending, ("", 0))[1] + 1)
        if len(files) > bounds.files_max:
            raise NotValid(f"{folder} holds more than {bounds.files_max} files; split it", code="data_too_large")
    return Tree(folder=folder, files=files, outside=frozenset(outside), others=others)


def split_of(path: str) -> str:
    """The split that the folders of a relative path name; empty where none does.

    >>> split_of("images/val2017/7.jpg"), split_of("trains/7.jpg"), split_of("train/x/7.jpg")
    ('val', '', 'train')
    """
    return next((word for part in path.split("/")[:-1] if (word := split_word(part))), "")


def split_word(text: str) -> str:
    """The split that one word is; empty where it is none.

    >>> split_word("val2017"), split_word("Training"), split_word("trainer")
    ('val', 'train', '')
    """
    return SPLITS.get(text.casefold().rstrip("0123456789").rstrip("_- "), "")


def split_in(text: str) -> str:
    """The split that a file's name tells by one of its words.

    >>> split_in("instances_val2017"), split_in("annotations"), split_in("train_val")
    ('val', '', '')
    """
    words = {word for part in re.split(r"[^0-9A-Za-z]+", text) if (word := split_word(part))}
    return words.pop() if len(words) == 1 else ""


def _shorter(name: str) -> list[str]:
    """What is left of a name below the folders that only sort.

    >>> _shorter("images/val/a/1.png"), _shorter("val/1.png"), _shorter("a/1.png")
    (['val/a/1.png', 'a/1.png'], ['1.png'], [])
    """
    parts = name.split("/")
    found = []
    while len(parts) > 1 and (parts[0] in PICTURE_FOLDERS or split_word(parts[0])):
        parts = parts[1:]
        found.append("/".join(parts))
    return found


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
) -> TrainingSample:
    """A sample from what a format says of it.

    Args:
        facts: of `FACTS`; others are kept as columns.
        where: the file, for a message.
    Raises:
        NotValid: a time or a weight that is none.
    """
    known = {key: text_of(value) for key, value in facts.items() if value not in (None, "")}
    if mask is not None:
        annotation = (annotation or Annotation()).model_copy(update={"mask": digest(mask)})
    return TrainingSample(
        name=name,
        label=label,
        group=known.get("group", name),
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
