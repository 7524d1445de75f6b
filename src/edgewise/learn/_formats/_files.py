"""What all formats share: safe file names, pictures by name, and the facts that travel beside a label."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from edgewise.learn._dataset import MEDIA_TYPES, PICTURE_ENDINGS, ROW_MEDIA_TYPE, TrainingSample
from edgewise.wire import Annotation, NotValid, digest

ENDINGS = {kind: ending for ending, kind in reversed(PICTURE_ENDINGS.items())} | {ROW_MEDIA_TYPE: ".json"}
JSON_BYTES_MAX = 1 << 30
NAME_CHARACTERS_MAX = 200
FACTS = ("site", "group", "device", "taken_at", "inclusion_probability", "labelled_by", "labelled_at")


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
    """What is known of a sample beside its label, as text, as far as it is known."""
    own = {
        "site": sample.site,
        "group": "" if sample.group == sample.name else sample.group,
        "device": sample.device or "",
        "taken_at": sample.taken_at.isoformat() if sample.taken_at else "",
    }
    told = {name: sample.columns.get(name, "") for name in FACTS if name not in own}
    return {name: value for name, value in (own | told).items() if value}


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
        NotValid: a time that is none.
    """
    known = {key: str(value) for key, value in facts.items() if value not in (None, "")}
    if mask is not None:
        annotation = (annotation or Annotation()).model_copy(update={"mask": digest(mask)})
    return TrainingSample(
        name=name,
        label=label,
        group=known.get("group", name),
        read=read,
        media_type=media_type,
        site=known.get("site", ""),
        columns=known,
        annotation=annotation,
        mask=None if mask is None else lambda: mask,
        taken_at=time_of(known.get("taken_at"), f"{where}, {name}"),
        device=known.get("device"),
    )


def time_of(text: str | None, where: str) -> datetime | None:
    """A moment; one without a zone is taken for UTC.

    Raises:
        NotValid: no moment.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotValid(
            f"{where}: taken_at is {text!r}, needs to be like 2026-05-04T22:00:00+02:00", code="labels_invalid"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def safe_name(name: str, media_type: str) -> str:
    """A relative file name that stays inside its folder on every system, with the ending of its kind.

    >>> safe_name("../../etc/a b.jpg", "image/jpeg"), safe_name("9f", "image/png")
    ('etc/a b.jpg', '9f.png')
    """
    parts = [re.sub(r'[\\:*?"<>|\x00-\x1f]', "_", part) for part in PurePosixPath(name.replace("\\", "/")).parts]
    parts = [part.strip(" .") for part in parts if part not in ("/", ".", "..")]
    path = "/".join(part for part in parts if part)[-NAME_CHARACTERS_MAX:].lstrip("/") or "sample"
    ending = ENDINGS.get(media_type, ".bin")
    return path if PurePosixPath(path).suffix.lower() in MEDIA_TYPES else path + ending


def write_contents(samples: Sequence[TrainingSample], folder: Path) -> tuple[dict[int, str], list[str]]:
    """Write every sample's bytes below the folder; comes back with the name of each index, and what could not be read.

    Two samples of one name get two files.
    """
    names: dict[int, str] = {}
    failed: list[str] = []
    used: set[str] = set()
    for index, sample in enumerate(samples):
        try:
            data = sample.read()
        except (NotValid, OSError) as error:
            failed.append(f"{sample.name}: {error}")
            continue
        name = safe_name(sample.name, sample.media_type)
        stem, dot, ending = name.rpartition(".")
        count = 1
        while name.casefold() in used:
            count += 1
            name = f"{stem}-{count}{dot}{ending}"
        used.add(name.casefold())
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        names[index] = name
    return names, failed


def contents_of(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its relative name, by that below `images/`, and by its bare name if unique."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in MEDIA_TYPES and path.is_file()]
    root = folder.resolve()
    inside = [path for path in files if path.resolve().is_relative_to(root)]  # a link may lead elsewhere
    found: dict[str, Path] = {}
    bare: dict[str, list[Path]] = {}
    for path in inside:
        name = path.relative_to(folder).as_posix()
        found[name] = path
        for first in ("images/", "data/", "train/", "val/", "test/"):
            if name.startswith(first):
                found.setdefault(name.removeprefix(first), path)
        bare.setdefault(path.name, []).append(path)
    for name, paths in bare.items():
        if len(paths) == 1:
            found.setdefault(name, paths[0])
    return found


def load_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        NotValid: too large, or no JSON; the message says where.
    """
    size_bytes = path.stat().st_size
    if size_bytes > JSON_BYTES_MAX:
        raise NotValid(f"{path} has {size_bytes} bytes, at most {JSON_BYTES_MAX} can be read", code="data_too_large")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise NotValid(f"{path} is not JSON: {error}; export it again", code="labels_invalid") from error


def starts_with(path: Path, first: str) -> bool:
    """Whether a JSON file begins so; only a few bytes are read."""
    with path.open("rb") as file:
        head: bytes = file.read(200)
    return head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n").startswith(first)
