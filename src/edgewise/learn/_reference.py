"""What a network's inputs and embeddings are like in training: the yardstick that travels in the bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgewise.frames import prepare
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._trainer import Fitted, Floats
from edgewise.measure import ChannelSums, Sketcher
from edgewise.ports import Session
from edgewise.wire import InputSpec, NotValid, Reference, SketchBasis

DIGITS = 5
SKETCH_SAMPLES_MAX = 1000  # that the basis of day sketches is learned from
CHANNELS_MAX = 4096


def reference_of(fitted: Fitted, session: Session, samples: Sequence[TrainingSample] = ()) -> Reference | None:
    """Mean and deviation by channel over the trainer's probe; None without one, or with too many channels."""
    basis = None
    if fitted.embedding is not None:
        basis = sketch_basis(samples, fitted.pre, session, embedding=fitted.embedding, scores=fitted.scores)
    return reference_from(fitted.probe, session, fitted.embedding, basis)


def reference_from(
    probe: Floats, session: Session, embedding_name: str | None, basis: SketchBasis | None
) -> Reference | None:
    """The same of prepared inputs, float32 (N, …), and of the embedding that a network makes of them."""
    if not len(probe):
        return None
    flat = np.moveaxis(probe, 1, -1).reshape(-1, probe.shape[1])
    inputs, embedding = ChannelSums.of(flat), None
    if embedding_name is not None:
        rows = [session.run(probe[index : index + 1])[embedding_name][0] for index in range(len(probe))]
        embedding = ChannelSums.of(np.stack(rows))
    if max(len(inputs.total), 0 if embedding is None else len(embedding.total)) > CHANNELS_MAX:
        return None
    return Reference(
        count=len(probe),
        input_mean=_rounded(inputs.mean()),
        input_std=_rounded(inputs.deviation()),
        embedding_mean=() if embedding is None else _rounded(embedding.mean()),
        embedding_std=() if embedding is None else _rounded(embedding.deviation()),
        sketch=basis,
    )


def sketch_basis(
    samples: Sequence[TrainingSample], pre: InputSpec, session: Session, *, embedding: str, scores: str
) -> SketchBasis | None:
    """How a device sketches its days; None with too few samples to learn it from.

    Args:
        embedding, scores: tensors of the network.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    every = max(1, len(samples) // SKETCH_SAMPLES_MAX)
    for sample in samples[::every]:
        try:
            value = prepare(sample.read(), sample.media_type, pre)
        except (NotValid, OSError):
            continue  # it was left out of the training too
        outputs = session.run(value[None])
        parts.append((outputs[embedding][:1], outputs[scores][:1]))
    if not parts:
        return None
    points, told = (np.concatenate(part) for part in zip(*parts, strict=True))
    if points.ndim != 2 or told.ndim != 2:
        return None
    try:
        return Sketcher.fit(points, told.argmax(axis=1)).basis()
    except NotValid:
        return None


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
