"""The bundle: an immutable, content-addressed model with everything a device needs to run it. It carries no code."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgewise.wire._record import Digest, Name, Record, Time


class Blob(Record):
    """One file of a bundle, stored under its SHA-256."""

    sha256: Digest
    size_bytes: int = Field(ge=0)
    media_type: str = "application/octet-stream"


class ImageSpec(Record):
    """How a picture becomes the network's input, run by ``frames`` in training and on the device alike."""

    kind: Literal["image"] = "image"
    width: int = Field(ge=8, le=4096)
    height: int = Field(ge=8, le=4096)
    channels: Literal[1, 3] = 1
    fit: Literal["stretch", "pad"] = "stretch"  # pad keeps the aspect ratio and fills with the mean
    mean: tuple[float, ...] = (0.5,)  # one per channel, of values scaled to 0..1
    std: tuple[float, ...] = (0.25,)
    per_image: bool = False  # first bring each picture to zero mean and unit deviation (light and contrast drift)


class TableSpec(Record):
    """How a row of numbers becomes the network's input: columns in order, missing values filled, then scaled."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...] = Field(min_length=1)
    fill: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Graph(Record):
    """One ONNX graph of the pipeline."""

    name: Name = "main"
    blob: str  # a key of Manifest.blobs
    input: str  # tensor name, float32 (N, C, H, W) for pictures, (N, F) for tables
    scores: str  # tensor name, float32 (N, classes), softmax probabilities
    embedding: str | None = None  # tensor name, float32 (N, D)
    pre: ImageSpec | TableSpec = Field(discriminator="kind")


class Golden(Record):
    """Inputs made from a seed – never site data – and what the bundle must answer to them on every device."""

    seed: int
    count: int = Field(ge=1, le=64)
    scores: tuple[tuple[float, ...], ...]  # (count, classes)
    tolerance: float = 1e-3  # largest absolute difference allowed, for other CPUs' rounding


class Needs(Record):
    """What a device must have to run the bundle."""

    opset: int
    ram_mb: float
    latency_ms: float  # measured where the bundle was made, one thread
    runtime: str = "onnxruntime>=1.22"


class Provenance(Record):
    """Where the bundle comes from: invariant 13 follows these fields back to samples, labels, code and seeds."""

    order: str | None = None
    revision: Digest | None = None
    parent: Digest | None = None  # manifest digest of the warm start
    seed: int = 0
    trained_at: Time
    trainer: str
    code_version: str
    libraries: dict[str, str] = Field(default_factory=dict)
    # What `score` must know to treat data in the same way: group column, uncertain rows, a drill's fault.
    data: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


class Manifest(Record):
    """The manifest of a bundle; its canonical bytes' SHA-256 is the bundle's identity."""

    format: Literal[1] = 1
    name: Name
    task: Literal["image-classification", "tabular-classification"]
    graphs: tuple[Graph, ...] = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=1)
    good_label: str | None = None
    # All labels of good parts where there are several (one network for plants that call them none and free),
    # `good_label` among them; empty means `good_label` alone. P(good) is the sum over them.
    good_labels: tuple[str, ...] = ()
    # An alarm is raised when P(defect) = 1 - P(good) is at least this; the shown label stays the most probable class.
    defect_threshold: float = Field(0.5, ge=0, le=1)
    golden: Golden
    needs: Needs
    provenance: Provenance
    licence: str = "unstated"
    card: str = ""  # model card, Markdown
    blobs: dict[str, Blob]
