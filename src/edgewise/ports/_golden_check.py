"""Golden answers of a bundle: computed when it is made, compared wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise.frames import golden_inputs, map_means
from edgewise.ports._stage import Results, Stage
from edgewise.wire import Golden, NotValid

Rows = tuple[tuple[float, ...], ...]
Paths = Callable[[], Sequence[str]]


def make_golden(stages: Sequence[Stage], paths: Paths, *, seed: int, count: int, tolerance: float = 1e-3) -> Golden:
    """The golden answers of a bundle's graphs, for its manifest.

    Each further graph answers to golden inputs of its own: it is covered even where no golden frame leads to it.

    Args:
        paths: which graph decides on each golden frame.
    """
    further = {stage.graph.name: _rows(_answers(stage, seed + at, count)) for at, stage in enumerate(stages) if at}
    return Golden(
        seed=seed,
        count=count,
        scores=_rows(_answers(stages[0], seed, count)),
        tolerance=tolerance,
        maps=None if stages[0].graph.detections is None else _rows(_maps(stages[0], seed, count)),
        stages=further or None,
        paths=tuple(paths()) if further else None,
    )


def check_golden(
    stages: Sequence[Stage], paths: Paths | None, golden: Golden, *, bundle: str, scale: float = 1.0
) -> None:
    """Nothing, when every graph gives its golden answers here, and the golden frames take their paths.

    Args:
        paths: which graph decides on each golden frame; None leaves that out.
        scale: of the answers, in which differences are measured; 1 for probabilities.

    Raises:
        NotValid: with code ``golden_failed``; the message says how far off the worst score is.
    """
    for at, stage in enumerate(stages):
        wanted = golden.scores if at == 0 else (golden.stages or {}).get(stage.graph.name)
        if wanted is None:
            raise _failed(f"bundle {bundle[:12]}… has no golden answers of graph {stage.graph.name}")
        seen = _answers(stage, golden.seed + at, golden.count)
        _compare(np.array([list(row) for row in wanted]), seen, golden, bundle, scale)
    if stages[0].graph.detections is not None:
        if golden.maps is None:
            raise _failed(f"bundle {bundle[:12]}… finds boxes and has no golden answers of its maps")
        _compare(np.array(golden.maps), _maps(stages[0], golden.seed, golden.count), golden, bundle, 1.0)
    if len(stages) > 1 and paths is not None:
        taken = tuple(paths())
        if taken != golden.paths:
            raise _failed(
                f"the golden frames of bundle {bundle[:12]}… are decided on by {', '.join(taken)}, "
                f"by {', '.join(golden.paths or ())} where it was made"
            )


def _compare(wanted: NDArray[np.float64], seen: NDArray[np.float32], golden: Golden, bundle: str, scale: float) -> None:
    if wanted.shape != seen.shape:
        raise _failed(f"golden outputs have shape {wanted.shape}, needs {seen.shape}")
    worst = float(np.abs(seen - wanted).max()) / scale
    if not worst <= golden.tolerance:  # so written that NaN fails as well
        raise _failed(
            f"golden outputs of bundle {bundle[:12]}… are off by {worst:.2g}, at most {golden.tolerance:.2g} is "
            "allowed; this machine computes something else than the one that made it"
        )


def _answers(stage: Stage, seed: int, count: int) -> NDArray[np.float32]:
    """One by one, as on the device: a network with a fixed batch of one must pass as well."""
    inputs = golden_inputs(stage.graph.pre, seed, count)
    return np.concatenate([stage.run(inputs[index : index + 1]).scores for index in range(count)])


def _maps(stage: Stage, seed: int, count: int) -> NDArray[np.float32]:
    """Means of the maps of centres and extents, float32 (count, K + 4)."""
    inputs = golden_inputs(stage.graph.pre, seed, count)
    return np.concatenate([_means(stage.run(inputs[index : index + 1])) for index in range(count)])


def _means(found: Results) -> NDArray[np.float32]:
    assert found.centres is not None, "asked of a graph that finds boxes"
    assert found.extents is not None, "one map comes with the other"
    return map_means(found.centres, found.extents)


def _rows(scores: NDArray[np.float32]) -> Rows:
    return tuple(tuple(float(value) for value in row) for row in scores)


def _failed(message: str) -> NotValid:
    return NotValid(message, code="golden_failed")
