"""One training as plain data: what a worker hands to an executor, and what comes back, whatever machine does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from edgewise.learn._checkpoint import Checkpoint
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._robust import robustness_told
from edgewise.learn._train import TrainedBundle, train
from edgewise.learn._trainer import Progress
from edgewise.learn._variants import Variants, make_variants
from edgewise.ports import StoredBundle
from edgewise.wire import DatasetRevision, LabelledSample, Order, Robustness

ReadBlob = Callable[[str], bytes]
"""Bytes by their SHA-256."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A training that needs nothing but the bytes of its blobs."""

    order: Order
    revision: DatasetRevision
    base: StoredBundle | None
    base_int8: StoredBundle | None = None
    now: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a training made."""

    bundle: TrainedBundle
    variants: Variants
    robustness: Mapping[str, Robustness] = field(default_factory=dict)  # by bundle, where the order asks for it


def blobs_of(revision: DatasetRevision) -> set[str]:
    """Digests of the samples and their masks."""
    masks = {one.annotation.mask for one in revision.samples if one.annotation and one.annotation.mask}
    return {sample.blob for sample in revision.samples} | masks


def do(task: Task, read_blob: ReadBlob, progress: Progress, checkpoint: Checkpoint | None = None) -> Made:
    """The training itself, in this process.

    Raises:
        NotValid: see `train`. Cancelled: `progress` raised it. Whatever a trainer of another package raises.
    """
    order, new = task.order, set(task.revision.new)
    samples = [as_training(sample, read_blob, new=sample.sample in new) for sample in task.revision.samples]
    made = train(
        samples,
        now=task.now,
        trainer=order.trainer,
        name=order.use_case,
        good_labels=order.good_labels,
        base=task.base,
        seed=order.seed,
        config=order.config,
        order=order.id,
        revision=order.revision,
        progress=progress,
        checkpoint=checkpoint,
    )
    stored = StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)
    # A revision never holds the evaluation share, so nothing that a variant is judged on has shaped it.
    variants = make_variants(stored, order.variants, samples, base_int8=task.base_int8, progress=progress)
    return with_robustness(Made(bundle=made, variants=variants), order, samples, made.aside, progress=progress)


def with_robustness(
    made: Made,
    order: Order,
    samples: Sequence[TrainingSample],
    aside: Sequence[str],
    *,
    progress: Progress = lambda _what, _share: None,
) -> Made:
    """What was made, with what worse pictures cost it where the order asks for that; the log says why where not."""
    if not order.robustness:
        return made
    trained = made.bundle
    bundles = [
        StoredBundle(manifest=one.manifest, digest=one.digest, blobs=one.blobs)
        for one in (trained, *made.variants.made.values())
    ]
    found, why = robustness_told(bundles, samples, aside, good=order.good_labels, progress=progress)
    told = replace(trained, log=(*trained.log, why)) if why else trained
    return replace(made, bundle=told, robustness=found)


def as_training(sample: LabelledSample, read_blob: ReadBlob, *, new: bool) -> TrainingSample:
    """A line of a revision with a way to its bytes."""
    mask = sample.annotation.mask if sample.annotation else None
    return TrainingSample(
        name=sample.sample,
        label=sample.label,
        group=sample.group or sample.sample,
        site=sample.site,
        read=_reader(read_blob, sample.blob),
        media_type=sample.media_type,
        new=new,
        weight=sample.weight,
        annotation=sample.annotation,
        mask=_reader(read_blob, mask) if mask else None,
        taken_at=sample.taken_at,
        device=sample.device,
    )


def _reader(read_blob: ReadBlob, sha256: str) -> Callable[[], bytes]:
    return lambda: read_blob(sha256)
