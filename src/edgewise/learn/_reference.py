"""What a network's inputs and embeddings are like in training: the yardstick that travels in the bundle."""

from __future__ import annotations

import numpy as np

from edgewise.learn._trainer import Fitted, Floats
from edgewise.measure import ChannelSums
from edgewise.ports import Session
from edgewise.wire import Reference

DIGITS = 5
CHANNELS_MAX = 4096


def reference_of(fitted: Fitted, session: Session) -> Reference | None:
    """Mean and deviation by channel over the trainer's probe; None without one, or with too many channels."""
    return reference_from(fitted.probe, session, fitted.embedding)


def reference_from(probe: Floats, session: Session, embedding_name: str | None) -> Reference | None:
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
    )


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)
