"""What all writers share: safe file names, the files themselves, and the facts that travel beside a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgewise.learn._dataset import FACTS, MEDIA_TYPES, PICTURE_ENDINGS, ROW_MEDIA_TYPE, TrainingSample
from edgewise.wire import NotValid

ENDINGS = {kind: ending for ending, kind in reversed(PICTURE_ENDINGS.items())} | {ROW_MEDIA_TYPE: ".json"}
PATH_BYTES_MAX = 600  # of a file's relative name; a file system takes 255 for one part and 4,096 for all
PART_BYTES_MAX = 150
NO_FACTS = frozenset({"file", "label", "annotation", "id"})  # columns that every writer fills in itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What became of an export.

    Attributes:
        lost: a sentence for each thing that the format has no place for.
        left_out: samples that could not be read, each with its reason.
    """

    count: int
    lost: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def facts_of(sample: TrainingSample) -> dict[str, str]:
    """What is known of a sample beside its label, as text, as far as it is known: `FACTS`, then its own columns."""
    own = {
        "site": sample.site,
        "group": "" if sample.group == sample.name else sample.group,
        "device": sample.device or "",
        "taken_at": sample.taken_at.isoformat() if sample.taken_at else "",
        "uncertain": "true" if sample.uncertain else "",
        "weight": "" if sample.weight == 1 else repr(sample.weight),
    }
    told = {name: sample.columns.get(name, "") for name in FACTS if name not in own}
    rest = {name: text for name, text in sample.columns.items() if name not in {*own, *told, *NO_FACTS}}
    return {name: value for name, value in (own | told | rest).items() if value}


def safe_name(name: str, media_type: str) -> str:
    """A relative file name that stays inside its folder on every system, with the ending of its kind.

    >>> safe_name("../../etc/a b.jpg", "image/jpeg"), safe_name("9f", "image/png")
    ('etc/a b.jpg', '9f.png')
    >>> safe_name("0.JSON", "image/png")
    '0.JSON.png'
    """
    ending = ENDINGS.get(media_type, ".bin")
    given = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    if given in MEDIA_TYPES and (MEDIA_TYPES[given] == ROW_MEDIA_TYPE) == (media_type == ROW_MEDIA_TYPE):
        name, ending = name[: -len(given)], name[-len(given) :]
    parts = [safe_part(part) for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    parts = [part for part in parts if part] or ["sample"]
    while len(parts) > 1 and len("/".join(parts).encode()) > PATH_BYTES_MAX:
        parts = parts[1:]
    return "/".join(parts) + ending


def safe_part(text: str) -> str:
    """One part of a path: without what a file system refuses, and short enough for one.

    >>> safe_part("a:b?"), safe_part("..")
    ('a_b_', '')
    """
    bare = re.sub(r'[\\/:*?"<>|\x00-\x1f\x7f\x85\u2028\u2029]', "_", text).encode("utf-8", "replace")
    return bare[:PART_BYTES_MAX].decode("utf-8", "ignore").strip(" .")


class Names:
    """File names that are each used once, also where a file system takes capitals for small letters."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def free(self, name: str) -> str:
        """This name, or one like it that is free; it is taken from now on."""
        if any(parent in self._files for parent in _parents(name)):  # a folder cannot be where a file is
            name = name.replace("/", "_")
        stem, dot, ending = name.rpartition(".")
        count, free = 1, name
        while free.casefold() in self._files or free.casefold() in self._folders:
            count += 1
            free = f"{stem}-{count}{dot}{ending}"
        self._files.add(free.casefold())
        self._folders.update(_parents(free))
        return free


def _parents(name: str) -> list[str]:
    parts = name.casefold().split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def write_contents(samples: Sequence[TrainingSample], folder: Path) -> tuple[dict[int, str], list[str]]:
    """Write every sample's bytes below the folder; comes back with the name of each index, and what could not be read.

    Two samples of one name get two files.
    """
    names: dict[int, str] = {}
    failed: list[str] = []
    taken = Names()
    for index, sample in enumerate(samples):
        if sample.media_type not in ENDINGS:
            failed.append(f"{sample.name}: it is {sample.media_type}; {', '.join(ENDINGS)} have a place here")
            continue
        try:
            data = sample.read()
        except (NotValid, OSError) as error:
            failed.append(f"{sample.name}: {error}")
            continue
        name = taken.free(safe_name(sample.name, sample.media_type))
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        names[index] = name
    return names, failed


def mask_of(sample: TrainingSample, failed: list[str]) -> bytes | None:
    """The bytes of a sample's mask; one that cannot be read is named in `failed`, and the sample goes on without it."""
    if sample.mask is None:
        return None
    try:
        return sample.mask()
    except (NotValid, OSError) as error:
        failed.append(f"the mask of {sample.name}: {error}")
        return None
