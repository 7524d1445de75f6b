"""The bundle: an immutable, content-addressed model with everything a device needs to run it. It carries no code."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from edgewise.wire._record import Digest, Name, Record, Time
from edgewise.wire.annotation import BOXES_MAX
from edgewise.wire.values import States

# What a manifest may hold. Its fields come from outside and are read before anything is known about them.
BLOBS_MAX = 1000
GRAPHS_MAX = 16
LABELS_MAX = 10_000
COLUMNS_MAX = 10_000
CARD_MAX = 1 << 18
OPS_MAX = 1000
NORMS_MAX = 256
SITES_MAX = 1000
WORD_MAX = 256

Word = Annotated[str, Field(max_length=WORD_MAX)]
Precision: TypeAlias = Literal["fp32", "fp16", "int8"]


class Blob(Record):
    """One file of a bundle, stored under its SHA-256."""

    sha256: Digest
    size_bytes: int = Field(ge=0)
    media_type: Word = "application/octet-stream"


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
    columns: tuple[Word, ...] = Field(min_length=1, max_length=COLUMNS_MAX)
    fill: tuple[float, ...] = Field(max_length=COLUMNS_MAX)
    mean: tuple[float, ...] = Field(max_length=COLUMNS_MAX)
    std: tuple[float, ...] = Field(max_length=COLUMNS_MAX)


class SeriesSpec(Record):
    """How a window of a time series becomes the network's input: channels in order, each scaled by its own numbers."""

    kind: Literal["series"] = "series"
    columns: tuple[Word, ...] = Field(min_length=1, max_length=COLUMNS_MAX)  # one a channel
    length: int = Field(ge=1, le=1 << 20)  # steps of a window
    mean: tuple[float, ...] = Field(max_length=COLUMNS_MAX)
    std: tuple[float, ...] = Field(max_length=COLUMNS_MAX)


class PastSpec(Record):
    """How a window of a time series becomes a row of numbers: means of some steps of a channel, some steps ago."""

    kind: Literal["past"] = "past"
    columns: tuple[Word, ...] = Field(min_length=1, max_length=COLUMNS_MAX)  # one a channel
    length: int = Field(ge=1, le=1 << 20)  # steps of a window
    step_s: float = Field(gt=0, allow_inf_nan=False)  # from one step to the next
    # Channel, steps ago (0 is the last one), and over how many steps that end there the mean is taken.
    takes: tuple[tuple[int, int, int], ...] = Field(min_length=1, max_length=COLUMNS_MAX)
    mean: tuple[float, ...] = Field(max_length=COLUMNS_MAX)  # of each channel
    std: tuple[float, ...] = Field(max_length=COLUMNS_MAX)


InputSpec: TypeAlias = ImageSpec | TableSpec | SeriesSpec | PastSpec


class After(Record):
    """When a graph runs: behind an earlier one, where that one's label is among these."""

    graph: Name
    labels: tuple[Word, ...] = Field(min_length=1, max_length=LABELS_MAX)
    crop: bool = False  # on the part that the earlier graph's best box names, instead of the whole frame


class Norm(Record):
    """A normalisation whose statistics may be exchanged for those of a site."""

    values: Word  # tensor that it normalises, float32 (N, C, …)
    mean: Word  # array of the graph, float32 (C,)
    variance: Word


class Detections(Record):
    """Where a graph tells what is where in a picture: a map of each class's centres, and one of the boxes' extents.

    A cell of the maps is where a box may have its centre. `frames.find_boxes` reads them, in training as on a device.
    """

    centres: Word  # tensor name, float32 (N, K, h, w), 0 to 1: a box of this class has its centre in this cell
    # Tensor name, float32 (N, 4, h, w): logarithms of width and height in cells, the centre's x and y in the cell.
    extents: Word
    labels: tuple[Word, ...] = Field(min_length=1, max_length=LABELS_MAX)  # the class of each of the K maps
    threshold: float = Field(0.5, gt=0, lt=1)  # of a centre: less sure ones are no boxes
    boxes_max: int = Field(32, ge=1, le=BOXES_MAX)  # the surest ones of a picture
    overlap_max: float = Field(0.6, ge=0, le=1)  # of two boxes of one class; the less sure one of more is left out


class Graph(Record):
    """One ONNX graph of the pipeline."""

    name: Name = "main"
    blob: Word  # a key of Manifest.blobs
    input: Word  # tensor name, float32 (N, C, H, W) for pictures, (N, F) for tables, (N, C, L) for series
    scores: Word  # tensor name, float32 (N, classes), softmax probabilities; (N, 3) quantiles where it states values
    embedding: Word | None = None  # tensor name, float32 (N, D)
    # Tensor name, float32 (M, 4) for one picture: x1, y1, x2, y2 from 0 to 1 of width and height, best score first.
    boxes: Word | None = None
    detections: Detections | None = None  # of the task object-detection
    doubt: Word | None = None  # tensor name, float32 (N,), 0 to 1: how likely a larger network says something else
    norms: tuple[Norm, ...] | None = Field(None, max_length=NORMS_MAX)  # from the input on; what a site variant changes
    after: After | None = None  # None for the first graph, which every frame goes through
    pre: InputSpec = Field(discriminator="kind")


class Golden(Record):
    """Inputs made from a seed – never site data – and what the bundle must answer to them on every device."""

    seed: int
    count: int = Field(ge=1, le=64)
    scores: tuple[tuple[float, ...], ...] = Field(max_length=64)  # (count, classes)
    tolerance: float = Field(1e-3, ge=0, le=0.5)  # largest absolute difference allowed, for other CPUs' rounding
    # Of a bundle with several graphs: what each further graph answers to golden inputs of its own, and which graph
    # decides on each of `count` golden frames that go through all of them.
    stages: dict[Name, tuple[tuple[float, ...], ...]] | None = Field(None, max_length=GRAPHS_MAX)
    paths: tuple[Name, ...] | None = Field(None, max_length=64)
    # Of a bundle that finds boxes: means of each map of centres and extents, (count, K + 4).
    maps: tuple[tuple[float, ...], ...] | None = Field(None, max_length=64)


class SketchBasis(Record):
    """How a device reduces embeddings to a day's sketch: little-endian half-precision numbers in base64."""

    width: int = Field(ge=1, le=64)  # whitened directions
    center: str = Field(max_length=16_384)  # (D,) mean of the embedding
    whiten: str = Field(max_length=1_048_576)  # (D, width)
    mix: str = Field(max_length=4_096)  # (width, 16), to what is summed
    means: str = Field(max_length=262_144)  # (classes, width)
    steps: tuple[float, ...] = Field(min_length=6, max_length=6)  # squared distances between the steps of novelty


class Reference(Record):
    """What inputs and embeddings are like in training, by channel: what a site's own sums are compared with."""

    count: int = Field(ge=1)  # samples behind it
    input_mean: tuple[float, ...] = Field(max_length=4096)  # of prepared inputs: by channel, or by column
    input_std: tuple[float, ...] = Field(max_length=4096)
    embedding_mean: tuple[float, ...] = Field((), max_length=4096)
    embedding_std: tuple[float, ...] = Field((), max_length=4096)
    sketch: SketchBasis | None = None  # none where training had too few samples, or before there was one


class Needs(Record):
    """What a device must have to run the bundle."""

    opset: int = Field(ge=1)
    ram_mb: float = Field(ge=0, allow_inf_nan=False)
    latency_ms: float = Field(ge=0, allow_inf_nan=False)  # measured where the bundle was made, one thread
    runtime: Word = "onnxruntime>=1.22"
    # Operators that the graphs use, such as Conv or com.microsoft.QLinearAdd; without those that ONNX defines by
    # others, which any runtime can write out.
    ops: tuple[Word, ...] | None = Field(None, max_length=OPS_MAX)
    providers: tuple[Word, ...] | None = Field(None, max_length=32)  # ONNX Runtime's names; one of them is needed
    reference_ms: float | None = Field(None, gt=0, allow_inf_nan=False)  # of the reference network `vision`, there too


class Provenance(Record):
    """Where the bundle comes from: invariant 13 follows these fields back to samples, labels, code and seeds."""

    order: str | None = None
    revision: Digest | None = None
    parent: Digest | None = None  # manifest digest of the warm start
    variant: Precision | None = None  # the numbers in which a variant computes; None for the network as trained
    variant_of: Digest | None = None  # manifest digest of the bundle as trained that it was converted from
    site: Name | None = None  # of a site variant: whose statistics its normalisations have
    sums: Digest | None = None  # of a site variant: the record of sums (SiteSums) that it was made from
    seed: int = 0
    trained_at: Time
    trainer: Word
    code_version: Word
    libraries: dict[Word, Word] = Field(default_factory=dict, max_length=1000)
    # Samples of each site that this very training saw; None where it is not known of all of them, or they are too many.
    sites: Annotated[dict[Word, Annotated[int, Field(ge=1)]], Field(max_length=SITES_MAX)] | None = None
    # What `score` must know to treat data in the same way: group column, uncertain rows, a drill's fault.
    data: dict[Word, Annotated[str, Field(max_length=4096)] | int | float | bool | None] = Field(
        default_factory=dict, max_length=1000
    )


class Manifest(Record):
    """The manifest of a bundle; its canonical bytes' SHA-256 is the bundle's identity."""

    format: Literal[1] = 1
    name: Name
    task: Literal[
        "image-classification",
        "object-detection",
        "tabular-classification",
        "series-classification",
        "anomaly-detection",
        "value",
    ]
    graphs: tuple[Graph, ...] = Field(min_length=1, max_length=GRAPHS_MAX)
    labels: tuple[Word, ...] = Field(max_length=LABELS_MAX)  # none of the task value
    states: States | None = None  # of the task value, and of no other
    good_label: Word | None = None
    # All labels of good parts where there are several (one network for plants that call them none and free),
    # `good_label` among them; empty means `good_label` alone. P(good) is the sum over them.
    good_labels: tuple[Word, ...] = Field((), max_length=LABELS_MAX)
    # An alarm is raised when P(defect) = 1 - P(good) is at least this; the shown label stays the most probable class.
    defect_threshold: float = Field(0.5, ge=0, le=1)
    golden: Golden
    reference: Reference | None = None
    needs: Needs
    provenance: Provenance
    licence: Word = "unstated"
    card: str = Field("", max_length=CARD_MAX)  # model card, Markdown
    blobs: dict[Word, Blob] = Field(max_length=BLOBS_MAX)

    @model_validator(mode="after")
    def _labels_or_values(self) -> Manifest:
        is_value = self.task == "value"
        if is_value != (self.states is not None) or is_value == bool(self.labels):
            raise ValueError(
                f"task {self.task} with {len(self.labels)} labels and {'' if self.states else 'no '}`states`; the task "
                "value has `states` and no labels, any other has labels and no `states`"
            )
        return self
