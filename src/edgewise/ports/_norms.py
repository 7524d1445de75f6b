"""What the normalisations of a network get at a site, from the front to the back, as sums by channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewise.delta import scan, with_arrays, with_outputs
from edgewise.measure import ChannelSums, site_norm
from edgewise.ports._runtime import Runtime
from edgewise.wire import Graph

BATCH = 32


def norm_sums(runtime: Runtime, model: bytes, graph: Graph, inputs: NDArray[np.float32]) -> list[ChannelSums]:
    """One sum for each of the graph's norms, in their order.

    What a later norm gets depends on the earlier ones, so each is looked at with those before it as `site_norm` will
    have them: sums of the network as it is, all from one run, made a variant that was worse than none.

    Args:
        model: the graph's ONNX file.
        inputs: prepared, float32 (N, …), of frames of the site.
    Raises:
        NotValid: the graph has no such tensors or arrays, or does not run.
    """
    trained = read_norms(model, graph)
    found: list[ChannelSums] = []
    site: dict[str, NDArray[np.float32]] = {}
    for norm in graph.norms or ():
        session = runtime.open(with_outputs(with_arrays(model, site), [norm.values]), threads=1)
        total: ChannelSums | None = None
        for start in range(0, len(inputs), BATCH):
            feed = {graph.input: inputs[start : start + BATCH]}
            seen = session.run_named(feed, [norm.values])[norm.values]
            sums = ChannelSums.of(np.moveaxis(seen, 1, -1).reshape(-1, seen.shape[1]))
            total = sums if total is None else total + sums
        if total is None:
            break
        found.append(total)
        mean, variance = trained[norm.mean], trained[norm.variance]
        site[norm.mean], site[norm.variance] = site_norm(mean, variance, total)
    return found


def read_norms(model: bytes, graph: Graph) -> dict[str, NDArray[np.float32]]:
    """The arrays of the graph's norms, float32 (C,), by name; one that is not there is missing."""
    wanted = {name for norm in graph.norms or () for name in (norm.mean, norm.variance)}
    return {
        region.name: np.frombuffer(model[region.start : region.stop], "<f4").copy()
        for region in scan(model)
        if region.name in wanted and region.number_type is not None and region.number_type.name == "float32"
    }
