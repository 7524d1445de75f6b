"""A bundle's decisions on whole frames, as a network of protocol v2: what a cascade asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgewise.edge._v2_models import ServedModel
from edgewise.ports import DECIDE_SUFFIX, Tensor
from edgewise.ports.tensors import objects
from edgewise.wire import NotValid, encode

FRAMES_MAX = 64


def decide_model(bundle: ServedModel) -> ServedModel:
    """The network ``<bundle>.decide``: BYTES ``frame`` (N) in, pictures or JSON rows; BYTES ``decision`` (N) out."""
    return ServedModel(_DecideSession(bundle), version=bundle.version)


class _DecideSession:
    """Looks like a session, and runs the bundle's whole pipeline, stages and all."""

    inputs: tuple[Tensor, ...] = (Tensor(name="frame", dtype="object", shape=(-1,)),)
    outputs: tuple[Tensor, ...] = (Tensor(name="decision", dtype="object", shape=(-1,)),)

    def __init__(self, bundle: ServedModel) -> None:
        self._bundle = bundle

    def run_named(self, values: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        if set(values) != {"frame"} or not set(outputs) <= {"decision"}:
            raise NotValid(f"a decision takes frame and gives decision, asked was {sorted(values)} for {list(outputs)}")
        frames = values["frame"].ravel()
        if len(frames) > FRAMES_MAX:
            raise NotValid(f"{len(frames)} frames at once, at most {FRAMES_MAX} are decided on", code="too_large")
        bodies = [frame if isinstance(frame, bytes) else str(frame).encode() for frame in frames]
        return {"decision": objects([encode(self._bundle.decide(body)) for body in bodies])}


__all__ = ["DECIDE_SUFFIX", "decide_model"]
