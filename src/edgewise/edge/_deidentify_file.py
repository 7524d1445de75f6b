"""One file made private: what it is, which transforms that takes, and what its copy may be called. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

from edgewise.frames import (
    CannotMakePrivate,
    DicomOptions,
    DocumentKind,
    Hider,
    made_private,
    private_dicom,
    private_document,
)
from edgewise.ports import MEDIA_TYPES
from edgewise.wire import PrivateSettings

Kind: TypeAlias = Literal["picture", "json", "jsonl", "csv", "dicom"]
DOCUMENTS: dict[str, DocumentKind] = {
    ".json": "json",
    ".row": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
PICTURES = {suffix: kind for suffix, kind in MEDIA_TYPES.items() if kind.startswith("image/")}
_INSTEAD = re.compile(r"\[([a-z-]+) ([0-9a-f]{16})\]")
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How files are made private.

    Args:
        transforms: of pictures, in order; None where the policy has no way to make a picture private.
        settings: the numbers of all transforms, and what happens to identifiers in rows.
        rows: whether the policy has a way to make rows private.
        dicom: options of the DICOM profile.
        key: of keyed hashes; whoever has it can try values against them.
    """

    transforms: tuple[str, ...] | None
    settings: PrivateSettings
    key: bytes
    rows: bool = True
    dicom: DicomOptions = field(default_factory=DicomOptions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Private:
    """A file's private copy, not written yet."""

    name: PurePosixPath
    data: bytes
    kind: Kind
    done: tuple[str, ...]
    found: Mapping[str, int]
    warnings: tuple[str, ...] = ()


def kind_of(name: PurePosixPath, head: bytes) -> Kind:
    """What a file is, by its first 132 bytes and then by its suffix. CannotMakePrivate: nothing that is known here."""
    suffix = name.suffix.lower()
    if head[128:132] == b"DICM" or suffix in DICOM_SUFFIXES:
        return "dicom"
    if suffix in DOCUMENTS:
        return DOCUMENTS[suffix]
    if suffix in PICTURES:
        return "picture"
    raise CannotMakePrivate("no way is known to make this kind of file private", code="kind_unknown")


def private_copy(name: PurePosixPath, data: bytes, recipe: Recipe) -> Private:
    """The private copy of a file.

    Args:
        name: relative to the folder, with ``/``.
    Raises:
        CannotMakePrivate: it cannot be made private under this recipe, so there must be no copy.
    """
    kind = kind_of(name, data[:132])
    if kind == "dicom":
        made = private_dicom(data, recipe.dicom, key=recipe.key)
        return Private(
            name=PurePosixPath("dicom", *made.names), data=made.data, kind=kind, done=made.done, found=made.found,
            warnings=made.warnings,
        )  # fmt: skip
    if kind == "picture":
        if recipe.transforms is None:
            raise CannotMakePrivate("the policy is for rows of numbers", code="content_forbidden")
        picture = made_private(data, PICTURES[name.suffix.lower()], recipe.transforms, recipe.settings, key=recipe.key)
        suffix = ".jpg" if picture.media_type == "image/jpeg" else ".png"
        shown = private_name(name, recipe.key)
        shown = shown if PICTURES[shown.suffix.lower()] == picture.media_type else shown.with_suffix(suffix)
        return Private(name=shown, data=picture.data, kind=kind, done=recipe.transforms, found=picture.found)
    if not recipe.rows:
        raise CannotMakePrivate("the policy is for pictures", code="content_forbidden")
    document = private_document(data, kind, recipe.settings, key=recipe.key)
    done = (f"{recipe.settings.identifiers}-identifiers", "drop-text")
    return Private(name=private_name(name, recipe.key), data=document.data, kind=kind, done=done, found=document.found)


def private_name(name: PurePosixPath, key: bytes) -> PurePosixPath:
    """The name with every identifier in it replaced by its kind and keyed hash.

    >>> str(private_name(PurePosixPath("visits/ada@example.com.json"), bytes(16)))
    'visits/email-0c8eb7c8d7979fe1.json'
    """
    suffix = name.suffix if name.suffix.lower() in PICTURES | DOCUMENTS else ""
    parts = (*name.parts[:-1], name.name.removesuffix(suffix))
    hidden = [_private_part(part, key) for part in parts]
    return PurePosixPath(*hidden[:-1], hidden[-1] + suffix)


def _private_part(part: str, key: bytes) -> str:
    hider = Hider(action="hash", key=key)
    text = hider.text(part) or ""
    return _INSTEAD.sub(r"\1-\2", text).replace("/", "_") if hider.found else part
