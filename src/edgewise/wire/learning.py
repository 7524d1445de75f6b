"""Records of the learning half: revisions, orders, candidates, scorecards, verdicts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgewise.wire._record import Digest, Id, Name, Record, Share, Time
from edgewise.wire.annotation import BOXES_MAX, Annotation, Box, FoundBox
from edgewise.wire.bundle import Precision
from edgewise.wire.codec import canonical, digest, record_digest
from edgewise.wire.measured import Compared, Metric, Robustness
from edgewise.wire.values import Stated


class LabelledSample(Record):
    """One line of a dataset revision."""

    sample: Id
    blob: Digest
    label: str
    site: Name
    group: str = ""
    weight: float = Field(1.0, gt=0)
    media_type: str = "image/jpeg"
    annotation: Annotation | None = None
    device: Name | None = None  # none for an import
    taken_at: Time | None = None
    inclusion_probability: float | None = Field(None, gt=0, le=1)
    labelled_at: Time | None = None
    labelled_by: str | None = None
    # Of the evaluation share alone, and only where the use case declares slices.
    facts: dict[str, str | float | int | bool] | None = None  # what the slices ask, so that others can look themselves
    slices: tuple[Name, ...] | None = None  # names of those it is in


class Tombstone(Record):
    """What is left of a line of a revision after an erasure: that it was there, and the digest that it had."""

    sample: Id
    line: Digest  # of the line's canonical bytes; its content cannot be guessed from it, as it named a blob's digest
    erasure: int = Field(ge=0)
    at: Time


class DatasetRevision(Record):
    """A frozen list of labelled samples; its digest is its identity. It never holds the evaluation share.

    The identity follows from the head and the digests of the lines (`revision_digest`), so it outlives an erasure.
    """

    use_case: Name
    made_at: Time
    samples: tuple[LabelledSample, ...]
    new: tuple[Id, ...] = ()  # those labelled since the parent revision: trained 50:50 with the rest (replay)
    parent: Digest | None = None
    format: Literal[2] | None = None  # those from before have no such field, and their bytes' digest for identity
    left_out: dict[str, int] | None = None  # labelled samples that are not in it, counted by the reason
    erased: tuple[Tombstone, ...] | None = None


def revision_digest(revision: DatasetRevision) -> str:
    """The identity of a revision: SHA-256 over its head and the digests of its lines, in their order by digest.

    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> line = LabelledSample(sample="0" * 32, blob="1" * 64, label="pit", site="a")
    >>> whole = DatasetRevision(use_case="u", made_at=at, samples=(line,), format=2)
    >>> stone = Tombstone(sample=line.sample, line=record_digest(line), erasure=1, at=at)
    >>> revision_digest(whole.model_copy(update={"samples": (), "erased": (stone,)})) == revision_digest(whole)
    True
    """
    if revision.format is None:
        return record_digest(revision)
    head = revision.model_dump(mode="json", exclude_none=True, exclude={"samples", "erased"})
    lines = [record_digest(line) for line in revision.samples] + [stone.line for stone in revision.erased or ()]
    return digest(canonical({"head": head, "lines": sorted(lines)}))


class Order(Record):
    """Work for a worker."""

    id: Id
    kind: Literal["train", "score", "adapt"] = "train"
    use_case: Name
    # Of a score order, which trains on nothing, the bundle that is asked; of one that adapts, the sums (SiteSums).
    revision: Digest
    base: Digest | None = None  # manifest digest of the warm start, or of the bundle that is asked or adapted
    site: Name | None = None  # whose variant is made
    base_int8: Digest | None = None  # the base's int8 form: its ranges of values are kept where they still fit
    seed: int = 0
    trainer: Name = "vision"
    config: dict[str, str | float | int | bool] = Field(default_factory=dict)
    variants: tuple[Precision, ...] = ()  # to be made of the trained network beside it
    good_labels: tuple[str, ...] = ()
    robustness: bool | None = None  # whether the worker also measures what worse pictures cost
    made_at: Time
    why: str = ""
    trace: Id | None = None  # of the contact that brought what was labelled last, else of the hand that made it


class ToScore(Record):
    """A sample that a score order's worker looks at."""

    sample: Id
    blob: Digest
    media_type: str


class Scored(Record):
    """What a bundle says of it."""

    sample: Id
    label: Annotated[str, Field(min_length=1, max_length=160)]
    confidence: Share
    margin: Share


class Calibration(Record):
    """Whether confidence means what it says, on decisions of which the truth is known."""

    ece: Metric  # expected calibration error: mean distance of confidence and share of right decisions, over bins
    expected: float  # of a bundle that is calibrated, on as many decisions
    p: Share  # how often such a one shows as large an error, or larger
    brier: float  # of the decision's own confidence
    bins: tuple[tuple[float, float, int], ...]  # mean confidence, share of right ones, decisions


class Gap(Record):
    """The largest difference between two sites, or two slices, in the metric that the gate judges."""

    best: Name
    worst: Name
    value: float
    low: float  # the two are taken as independent, and are the extremes of several: read it as a hint
    high: float


class ValueScore(Record):
    """How good stated values are, in the target's unit where nothing else is said."""

    mae: Metric  # mean absolute error
    baseline: Metric  # the same of persistence for a forecast, of the training's mean for a regression
    skill: Metric  # 1 - mae / baseline: 0 is as good as that, 1 without error
    coverage: Metric  # part of the true values inside their interval
    width: Metric  # mean width of the intervals
    pinball: Metric  # mean pinball loss over the three quantiles
    nominal: float  # the coverage that the bundle states
    unstated: int = 0  # samples that it could not state a value of; they are in no other number


class BoxScore(Record):
    """How good found boxes are. A found box is right where it overlaps a true one of its class by half of their union.

    A true box has one right found box at most; a second one on it is wrong.
    """

    n: int  # true boxes
    found: int  # boxes that the bundle found
    recall: Metric  # part of the true boxes that have a right one
    precision: Metric  # part of the found boxes that are right
    average_precision: Metric  # area under precision over recall, from the surest box on
    centre_recall: Metric  # part of the true boxes with the centre of a found one of their class inside


class SiteScore(Record):
    """A bundle's quality on the evaluation samples of one site, or of one slice as ``slice:<name>``."""

    site: Name
    n: int
    balanced_accuracy: Metric  # good against any defect
    macro_recall: Metric
    accuracy: Metric
    auc: Metric
    recall: dict[str, Metric] = Field(default_factory=dict)
    good_recall: Metric | None = None  # of all good labels as one class: 1 less the share of false alarms
    calibration: Calibration | None = None
    values: ValueScore | None = None  # of a bundle that states values; the metrics of classes have no value then
    boxes: BoxScore | None = None  # of a bundle that finds boxes, on the samples whose true boxes are known
    boxes_of: dict[str, BoxScore] | None = None  # by label


class Prediction(Record):
    """A bundle's word on one evaluation sample: the evidence from which a verdict can be computed again."""

    sample: Id
    site: Name
    group: str
    truth: str
    label: str
    defect: Share | None = None
    slices: tuple[Name, ...] | None = None  # as the sample has them
    confidence: Share | None = None  # of `label`
    stated: Stated | None = None  # of a bundle that states values; `truth` is a number then
    baseline: float | None = None  # what persistence, or the training's mean, says
    boxes: tuple[FoundBox, ...] | None = Field(None, max_length=BOXES_MAX)  # of a bundle that finds boxes
    true_boxes: tuple[Box, ...] | None = Field(None, max_length=BOXES_MAX)  # None where nobody drew them


class Scorecard(Record):
    bundle: Digest
    made_at: Time
    sites: tuple[SiteScore, ...]
    overall: SiteScore
    predictions: tuple[Prediction, ...] = ()
    latency_ms: float | None = None
    size_bytes: int = 0
    quantiles: tuple[Share, Share, Share] | None = None  # of a bundle that states values: which ones
    gap_sites: Gap | None = None
    gap_slices: Gap | None = None
    compared: tuple[Compared, ...] | None = None  # with the champion on the same samples; none for a first release
    robustness: Robustness | None = None  # as the worker told; no verdict and no signature rests on it


class SiteVerdict(Record):
    """The word on one site, on a slice (``slice:<name>``) or on a label that matters (``label:<label>``)."""

    site: Name
    result: Literal["passed", "failed", "inconclusive"]
    text: str
    champion: float | None = None
    candidate: float | None = None
    low: float | None = None  # interval of candidate minus champion
    high: float | None = None


class Verdict(Record):
    """The gate's word on a candidate, or on one of its variants, with everything needed to compute it again."""

    use_case: Name
    candidate: Digest
    variant: Precision | None = None  # the candidate as trained where there is none
    site: Name | None = None  # of a site variant: it was judged there alone, beside the bundle that it was made of
    variants: dict[Precision, Digest] = Field(default_factory=dict)  # of a candidate: the verdicts on its variants
    champion: Digest | None = None
    result: Literal["passed", "failed", "inconclusive"]
    sites: tuple[SiteVerdict, ...]
    reasons: tuple[str, ...]
    margin: float
    alpha: float
    floor: float
    scorecard: Digest
    champion_scorecard: Digest | None = None
    made_at: Time


class Candidate(Record):
    """What a worker returns for an order."""

    order: Id
    bundle: Digest
    variants: dict[Precision, Digest] = Field(default_factory=dict)  # manifest digests; each is gated on its own
    metrics: dict[str, float] = Field(default_factory=dict)
    seconds: float = Field(0, ge=0)
    log: tuple[str, ...] = Field((), max_length=400)
    # By bundle, of the candidate and its variants; where the order asks for it.
    robustness: dict[Digest, Robustness] | None = Field(None, max_length=8)
