"""What the normalisations of a network get at a site, from the front to the back, as sums by channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewise.delta import scan, with_arrays, with_outputs
from edgewise.measure import ChannelSums, in_deviations, site_norm
from edgewise.ports._runtime import Runtime, Session
from edgewise.wire import Graph, Norm, NotValid

BATCH = 32


class NormWalk:
    """Sums for each of a graph's norms, one norm after the other.

    What a later norm gets depends on the earlier ones, so each is looked at with those before it as `site_norm` will
    have them: sums of the network as it is, all from one run, made a variant that was worse than none.

    Args:
        model: the graph's ONNX file.
        clip: values are brought into ± so many deviations of training before they are summed; None leaves them alone.
    Raises:
        NotValid: the graph names arrays that are not there.
    """

    def __init__(self, runtime: Runtime, model: bytes, graph: Graph, *, clip: float | None = None) -> None:
        self._runtime, self._model, self._graph, self._clip = runtime, model, graph, clip
        self._trained = read_norms(model, graph)
        self._norms = graph.norms or ()
        for norm in self._norms:
            if norm.mean not in self._trained or norm.variance not in self._trained:
                raise NotValid(
                    f"the network has no arrays {norm.mean!r} and {norm.variance!r} of float32", code="sums_wrong"
                )
        self._site: dict[str, NDArray[np.float32]] = {}
        self._session: Session | None = None
        self._total: ChannelSums | None = None
        self.found: list[ChannelSums] = []
        self.values_per_frame = 0  # that a frame adds to each sum of the norm at hand: its positions

    @property
    def norm(self) -> Norm | None:
        """The norm at hand; None when all have their sums."""
        return self._norms[len(self.found)] if len(self.found) < len(self._norms) else None

    def add(self, inputs: NDArray[np.float32]) -> None:
        """Prepared inputs, float32 (N, …), for the norm at hand.

        Raises:
            NotValid: the network has no such tensor, or does not run.
        """
        norm = self.norm
        assert norm is not None, "every norm has its sums already"
        if self._session is None:
            model = with_outputs(with_arrays(self._model, self._site), [norm.values])
            self._session = self._runtime.open(model, threads=1)
        seen = self._session.run_named({self._graph.input: inputs}, [norm.values])[norm.values]
        rows = in_deviations(seen, self._trained[norm.mean], self._trained[norm.variance])
        self.values_per_frame = len(rows) // max(len(inputs), 1)
        sums = ChannelSums.of(rows, clip=self._clip)
        self._total = sums if self._total is None else self._total + sums

    def close(self) -> ChannelSums:
        """The sums of the norm at hand, as they are; `go_on` takes what is told of them."""
        assert self._total is not None, "a norm without a frame has no sums"
        return self._total

    def go_on(self, told: ChannelSums) -> None:
        """On to the next norm, with the one at hand as these sums make it."""
        norm = self.norm
        assert norm is not None, "every norm has its sums already"
        mean, variance = site_norm(self._trained[norm.mean], self._trained[norm.variance], told)
        self._site[norm.mean], self._site[norm.variance] = mean, variance
        self.found.append(told)
        self._session, self._total = None, None


def norm_sums(runtime: Runtime, model: bytes, graph: Graph, inputs: NDArray[np.float32]) -> list[ChannelSums]:
    """One sum for each of the graph's norms, in their order; values are in deviations of training.

    Args:
        model: the graph's ONNX file.
        inputs: prepared, float32 (N, …), of frames of the site.
    Raises:
        NotValid: the graph has no such tensors or arrays, or does not run.
    """
    walk = NormWalk(runtime, model, graph)
    while walk.norm is not None and len(inputs):
        for start in range(0, len(inputs), BATCH):
            walk.add(inputs[start : start + BATCH])
        walk.go_on(walk.close())
    return walk.found


def read_norms(model: bytes, graph: Graph) -> dict[str, NDArray[np.float32]]:
    """The arrays of the graph's norms, float32 (C,), by name; one that is not there is missing."""
    wanted = {name for norm in graph.norms or () for name in (norm.mean, norm.variance)}
    return {
        region.name: np.frombuffer(model[region.start : region.stop], "<f4").copy()
        for region in scan(model)
        if region.name in wanted and region.number_type is not None and region.number_type.name == "float32"
    }
