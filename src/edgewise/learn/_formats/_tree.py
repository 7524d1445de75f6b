"""The files below a folder, and which of them a list means by a name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from edgewise.learn._dataset import MEDIA_TYPES
from edgewise.learn._formats._bounds import BOUNDS, ReadBounds
from edgewise.wire import NotValid

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
PICTURE_FOLDERS = ("images", "data")


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
        below = self._below.get(name, ())
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
