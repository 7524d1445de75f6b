"""The network in a file of others, whatever kind of file it is; and what the model told of itself beside the spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx

from edgewise.learn._foreign import opened
from edgewise.learn._import_onnx import read_onnx
from edgewise.learn._import_spec import ImportSpec, Note
from edgewise.learn._kinds import Kind, kind_of
from edgewise.wire import NotValid, TableSpec, digest

CALLED: dict[Kind, str] = {"skops": "skops", "torchscript": "TorchScript", "exported": "torch.export"}
LIBRARIES: dict[Kind, tuple[str, ...]] = {
    "onnx": (),
    "skops": ("scikit-learn", "skops", "skl2onnx"),
    "torchscript": ("torch",),
    "exported": ("torch", "onnxscript"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A network and where it comes from.

    Attributes:
        sha256: of the file as it came.
        facts: for the bundle's provenance.
        libraries: versions of what wrote the network.
    """

    model: onnx.ModelProto
    sha256: str
    facts: Mapping[str, str | float]
    libraries: Mapping[str, str]


def open_source(file: Path, spec: ImportSpec | None, trusted: Sequence[str], note: Note) -> Source | None:
    """The network of a file; None where something is missing, which `note` was told.

    Raises:
        NotValid: it cannot be read, or is of a kind that is never opened. NotTrusted: it could do more than compute.
    """
    kind = kind_of(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise NotValid(f"{file} cannot be read: {error.strerror}", code="file_unreadable") from None
    if kind == "onnx":
        return Source(model=read_onnx(data, file.name), sha256=digest(data), facts={}, libraries={})
    found = opened(file, kind, None if spec is None else spec.input, trusted)
    if "model" in found.facts:
        note("found", "model", f"{found.facts['model']}, by {CALLED[kind]}")
    fits = spec is None or (_labels_fit(found.facts, spec, note) & _columns_fit(found.facts, spec, note))
    if found.facts.get("was_training"):
        note("assumed", "mode", "it was saved for training and is taken for deciding (eval)")
    if found.missing is not None:
        note("missing", *found.missing)
    if spec is None:
        _tell_labels(found.facts, note)
        note("missing", "spec", "no spec; give one with --spec: name, input, labels, and what else is named here")
    if found.network is None or not fits:
        return None
    note("found", "parity", f"as ONNX it says what the model says, within {found.shift:.1g} on generated inputs")
    return Source(
        model=read_onnx(found.network, file.name),
        sha256=digest(data),
        facts={"source_kind": kind, "source_model": str(found.facts["model"]), "parity": found.shift},
        libraries={name: metadata.version(name) for name in LIBRARIES[kind]},
    )


def _tell_labels(facts: Mapping[str, Any], note: Note) -> None:
    if classes := facts.get("classes"):
        note("found", "labels", f"its classes are {', '.join(classes)[:300]}, in this order")


def _labels_fit(facts: Mapping[str, Any], spec: ImportSpec, note: Note) -> bool:
    """Whether the spec's labels can be the model's classes, column by column."""
    classes, labels = facts.get("classes"), list(spec.labels)
    if classes is None or classes == labels:
        return True
    if len(classes) != len(labels) or set(classes) & set(labels):
        note(
            "missing",
            "labels",
            f"the model's classes are {', '.join(classes)[:300]}, the spec's labels {', '.join(labels)[:300]}; name "
            "each class, in the model's order",
        )
        return False
    pairs = ", ".join(f"{ours} is {theirs}" for ours, theirs in zip(labels[:20], classes, strict=False))
    note("assumed", "labels", f"the model calls them otherwise: {pairs}")
    return True


def _columns_fit(facts: Mapping[str, Any], spec: ImportSpec, note: Note) -> bool:
    """Whether the spec's columns come in the order that the model was fitted on, where it knows their names."""
    names = facts.get("column_names")
    if not names or not isinstance(spec.input, TableSpec) or list(spec.input.columns) == names:
        return True
    note(
        "missing",
        "columns",
        f"the model was fitted on {', '.join(names)[:600]}; the spec has to name them in this order",
    )
    return False
