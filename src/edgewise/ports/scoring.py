"""A bundle's scorecard over labelled samples, from bytes: what the gate, the signer and `score` compute alike."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from edgewise.frames import baseline_of, true_boxes
from edgewise.measure import largest_gap, score_sites, score_values
from edgewise.ports._bundle import open_manifest
from edgewise.ports._pipeline import Pipeline, open_pipeline
from edgewise.ports._runtime import Runtime
from edgewise.wire import Box, FoundBox, LabelledSample, NotValid, Prediction, Scorecard, Stated

UNREADABLE = "unreadable"  # the answer to a frame that no bundle can decode: wrong for candidate and champion alike
# What `frames` says of a frame that cannot be read, as against a bundle that does not work.
UNREADABLE_CODES = frozenset({"bad_picture", "bad_row", "bad_frame", "bad_series"})
REMEMBERED_MAX = 100_000


# Label, defect score, confidence; of a value what is stated and what has to be beaten; found boxes.
Said = tuple[str, float | None, float | None, Stated | None, float | None, tuple[FoundBox, ...] | None]


class Answers:
    """What was answered already, by (bundle, blob). Both are immutable, so an answer never changes."""

    def __init__(self, entries_max: int = REMEMBERED_MAX) -> None:
        self._entries_max = entries_max
        self._known: OrderedDict[tuple[str, str], Said] = OrderedDict()

    def get(self, bundle: str, blob: str) -> Said | None:
        return self._known.get((bundle, blob))

    def put(self, bundle: str, blob: str, said: Said) -> None:
        self._known[bundle, blob] = said
        if len(self._known) > self._entries_max:
            self._known.popitem(last=False)


def score_bundle(
    manifest: bytes,
    samples: Sequence[LabelledSample],
    *,
    read_blob: Callable[[str], bytes],
    runtime: Runtime,
    good_labels: Collection[str],
    now: datetime,
    metric: str = "balanced_accuracy",
    answers: Answers | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Scorecard:
    """The scorecard of a bundle, after its golden outputs held on this machine.

    Args:
        manifest: the manifest's exact bytes.
        samples: what to score on; their blobs come from `read_blob`, checked against their digests.
        metric: in which sites and slices are told apart, as the use case's outcome declares.
        answers: what is known already, so that a champion is not run over the same samples in every round.
        beat: called before each blob and sample, around the golden check and while intervals are computed; it may raise
            to end the scoring.
    Raises:
        NotTrusted: bytes that do not have their digest. NotValid: the bundle does not run, or a blob is missing.
    """
    record, digest = open_manifest(manifest)

    def read(blob: str) -> bytes:
        beat()
        return read_blob(blob)

    pipeline = open_pipeline(record, digest, read, runtime)
    beat()
    pipeline.check_golden()
    beat()
    known = answers or Answers()
    predictions = tuple(_predict(pipeline, sample, read_blob, known, beat, good_labels) for sample in samples)
    states = record.states
    if states is None:
        sites, overall = score_sites(predictions, good_labels=good_labels, beat=beat)
    else:
        sites, overall = score_values(predictions, states.quantiles, beat=beat)
    places = [one for one in sites if not one.site.startswith("slice:")]
    return Scorecard(
        bundle=digest,
        made_at=now,
        sites=sites,
        overall=overall,
        predictions=predictions,
        latency_ms=record.needs.latency_ms,
        size_bytes=sum(blob.size_bytes for blob in record.blobs.values()),
        quantiles=None if states is None else states.quantiles,
        gap_sites=largest_gap(places, metric=metric),
        gap_slices=largest_gap([one for one in sites if one.site.startswith("slice:")], metric=metric),
    )


def _predict(
    pipeline: Pipeline,
    sample: LabelledSample,
    read_blob: Callable[[str], bytes],
    known: Answers,
    beat: Callable[[], None],
    good_labels: Collection[str],
) -> Prediction:
    beat()
    answer = known.get(pipeline.bundle, sample.blob)
    if answer is None:
        answer = _answer(pipeline, read_blob(sample.blob), sample.media_type)
        known.put(pipeline.bundle, sample.blob, answer)
    label, defect, confidence, stated, baseline, boxes = answer
    is_good = sample.label in good_labels
    return Prediction(
        sample=sample.sample,
        site=sample.site,
        group=sample.group,
        truth=sample.label,
        label=label,
        defect=defect,
        slices=sample.slices,
        confidence=confidence,
        stated=stated,
        baseline=baseline,
        boxes=boxes,
        true_boxes=None if boxes is None else _true_boxes(sample, is_good, read_blob),
    )


def _answer(pipeline: Pipeline, data: bytes, media_type: str) -> Said:
    try:
        decision = pipeline.decide(pipeline.answer(data, media_type), None)
    except NotValid as error:
        if error.code not in UNREADABLE_CODES:
            raise
        finds = pipeline.graph.detections is not None
        return UNREADABLE, None, None, None, None, () if finds else None
    states, stated = pipeline.manifest.states, decision.stated
    baseline = None if states is None else baseline_of(states, pipeline.graph.pre, data)
    return decision.label, decision.defect, decision.confidence, stated, baseline, decision.boxes


def _true_boxes(sample: LabelledSample, is_good: bool, read_blob: Callable[[str], bytes]) -> tuple[Box, ...] | None:
    """What is where in the sample; None where nobody said so, or the mask that says so cannot be read."""
    mask = None if sample.annotation is None else sample.annotation.mask
    read = None if mask is None else functools.partial(read_blob, mask)
    try:
        return true_boxes(sample.annotation, sample.label, is_good=is_good, read_mask=read)
    except NotValid as error:
        if error.code == "blob_missing":
            raise
        return None
