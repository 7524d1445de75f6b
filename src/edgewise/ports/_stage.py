"""One graph of a bundle, ready to run; and which graph comes behind which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.frames import Preparer, input_shape, preparer
from edgewise.ports._bound import Bound, PublicBound
from edgewise.ports._runtime import Session
from edgewise.wire import Graph, ImageSpec, Manifest, NotValid, SeriesSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Results:
    """What a graph gave; views that the next run may overwrite."""

    scores: Floats  # (N, C)
    embedding: Floats | None  # (N, D)
    boxes: Floats | None = None  # (M, 4), of one frame
    doubt: Floats | None = None  # (N,)
    centres: Floats | None = None  # (N, K, h, w)
    extents: Floats | None = None  # (N, 4, h, w)


class Stage:
    """A graph with its session.

    Args:
        graph: as the manifest has it.
        session: the opened network.
        classes: numbers that it gives for a frame: one a label, or three quantiles.
    Raises:
        NotValid: the network does not have the inputs and outputs that the manifest names.
    """

    def __init__(self, graph: Graph, session: Session, classes: int) -> None:
        self.graph, self.session = graph, session
        self._classes = classes
        told = graph.detections
        maps = () if told is None else (told.centres, told.extents)
        named = (graph.scores, graph.embedding, graph.boxes, graph.doubt, *maps)
        self._outputs = [name for name in named if name is not None]
        self._check_names()
        self.bound = _bind(session, graph, self._outputs)  # one set of buffers for every frame
        self._held: tuple[Mapping[str, NDArray[Any]], Results] | None = None  # the buffers that runs answer in
        self._into: tuple[NDArray[Any], Preparer] | None = None  # the buffer that frames are prepared into

    def prepare(self, data: bytes, media_type: str) -> None:
        """Write a frame into ``bound.input``. Raises as `frames.prepare`."""
        values, into = self.bound.input, self._into
        if into is None or into[0] is not values:  # a worker that was started again has another
            into = self._into = (values, preparer(self.graph.pre, values[0]))
        into[1](data, media_type)

    def run_bound(self) -> Results:
        """The results for the one input in ``bound.input``. Raises as `run`.

        Buffers that stay where they are are looked at once, not at every frame.
        """
        given = self.bound.run()
        if self._held is not None and self._held[0] is given:
            return self._held[1]
        found = self._checked(given, 1)
        parts = zip(self._outputs, _present(found), strict=True)
        same = all(part is given[name] for name, part in parts)
        self._held = (given, found) if same else None  # what had to be converted is a copy, and does not follow
        return found

    def run(self, values: Floats) -> Results:
        """The results for prepared inputs (N, …); boxes only where N is 1.

        Raises:
            NotValid: the network does not take them, or gives another shape than the manifest says.
        """
        outputs = [name for name in self._outputs if name != self.graph.boxes or len(values) == 1]
        return self._checked(self.session.run_named({self.graph.input: values}, outputs), len(values))

    def _checked(self, results: Mapping[str, NDArray[Any]], count: int) -> Results:
        graph = self.graph
        scores = np.asarray(results[graph.scores], np.float32)
        if scores.shape != (count, self._classes):
            raise invalid(
                f"output {graph.scores} has shape {scores.shape}, needs ({count}, {self._classes}): one score a label, "
                "or the three quantiles of a value"
            )
        if len(self._outputs) == 1:
            return Results(scores, None)
        embedding, boxes, doubt = (
            np.asarray(results[name], np.float32) if name is not None and name in results else None
            for name in (graph.embedding, graph.boxes, graph.doubt)
        )
        if embedding is not None and (embedding.ndim != 2 or len(embedding) != count):
            raise invalid(f"output {graph.embedding} has shape {embedding.shape}, needs ({count}, D)")
        if boxes is not None and (boxes.ndim != 2 or boxes.shape[1] != 4):
            raise invalid(f"output {graph.boxes} has shape {boxes.shape}, needs (M, 4)")
        if doubt is not None and doubt.shape != (count,):
            raise invalid(f"output {graph.doubt} has shape {doubt.shape}, needs ({count},)")
        return Results(scores, embedding, boxes, doubt, *self._maps(results, count))

    def _maps(self, results: Mapping[str, NDArray[Any]], count: int) -> tuple[Floats | None, Floats | None]:
        told = self.graph.detections
        if told is None:
            return None, None
        centres, extents = (np.asarray(results[name], np.float32) for name in (told.centres, told.extents))
        classes = len(told.labels)
        if centres.ndim != 4 or centres.shape[:2] != (count, classes):
            raise invalid(f"output {told.centres} has shape {centres.shape}, needs ({count}, {classes}, h, w)")
        if extents.shape != (count, 4, *centres.shape[2:]):
            raise invalid(
                f"output {told.extents} has shape {extents.shape}, needs ({count}, 4, h, w) as {told.centres}"
            )
        return centres, extents

    def _check_names(self) -> None:
        inputs = {tensor.name for tensor in self.session.inputs}
        outputs = {tensor.name for tensor in self.session.outputs}
        if inputs != {self.graph.input} or not set(self._outputs) <= outputs:
            raise invalid(
                f"the network takes {sorted(inputs)} and gives {sorted(outputs)}, "
                f"the manifest says {[self.graph.input]} and {sorted(self._outputs)}"
            )


def _present(found: Results) -> list[Floats]:
    """The arrays that are there, in the order of a stage's outputs."""
    named = (found.scores, found.embedding, found.boxes, found.doubt, found.centres, found.extents)
    return [part for part in named if part is not None]


def next_graph(graphs: Sequence[Graph], name: str, label: str) -> Graph | None:
    """The first graph that runs behind this one when it decided on this label; None when that is the decision."""
    for graph in graphs:
        if graph.after is not None and graph.after.graph == name and label in graph.after.labels:
            return graph
    return None


def check_stages(manifest: Manifest) -> None:
    """Nothing, when the graphs of a bundle make sense together.

    Raises:
        NotValid: not exactly the first graph comes first, one runs behind itself or a later one, labels or boxes that
            nobody gives, or inputs of different kinds.
    """
    seen: dict[str, Graph] = {}
    for graph in manifest.graphs:
        if graph.name in seen:
            raise invalid(f"two graphs are named {graph.name}")
        if (graph.after is None) != (not seen):
            raise invalid(f"graph {graph.name} must name the graph it runs after, and the first one none")
        if graph.after is not None:
            _check_after(manifest, graph, seen)
        seen[graph.name] = graph
    _check_detections(manifest)
    states, spec = manifest.states, manifest.graphs[0].pre
    if states is not None and len(manifest.graphs) > 1:
        raise invalid("a bundle that states values has one graph")
    if states is not None and states.now is not None and states.now not in getattr(spec, "columns", ()):
        raise invalid(f"the target now is column {states.now[:60]!r}, which the input does not have")


def _check_detections(manifest: Manifest) -> None:
    finds, first = manifest.task == "object-detection", manifest.graphs[0]
    if finds != any(graph.detections is not None for graph in manifest.graphs):
        raise invalid(f"task {manifest.task} {'without' if finds else 'with'} `detections` of a graph")
    told = first.detections
    if told is None:
        return
    if len(manifest.graphs) > 1 or not isinstance(first.pre, ImageSpec) or first.pre.fit != "stretch":
        raise invalid("a bundle that finds boxes has one graph, which takes whole pictures with fit stretch")
    if unknown := sorted(set(told.labels) - set(manifest.labels)):
        raise invalid(f"boxes of labels that the bundle does not have: {', '.join(unknown)[:200]}")


def _check_after(manifest: Manifest, graph: Graph, seen: Mapping[str, Graph]) -> None:
    after, first = graph.after, manifest.graphs[0]
    assert after is not None, "asked only of graphs that come after another"
    if after.graph not in seen:
        raise invalid(f"graph {graph.name} runs after {after.graph}, which is no earlier graph")
    unknown = sorted(set(after.labels) - set(manifest.labels))
    if unknown:
        raise invalid(f"graph {graph.name} runs after labels that the bundle does not have: {', '.join(unknown)[:200]}")
    if graph.pre.kind != first.pre.kind or isinstance(graph.pre, SeriesSpec):
        raise invalid(f"graph {graph.name} takes {graph.pre.kind}, all stages take pictures or all take rows")
    if after.crop and (seen[after.graph].boxes is None or not isinstance(graph.pre, ImageSpec)):
        raise invalid(f"graph {graph.name} runs on a part of the picture, and {after.graph} gives no boxes")


def _bind(session: Session, graph: Graph, outputs: Sequence[str]) -> Bound:
    shape = (1, *input_shape(graph.pre))
    bound = session.bind(shape, outputs)
    if bound.input.dtype == np.float32:
        return bound
    return PublicBound(session, graph.input, np.zeros(shape, np.float32), outputs)  # its runs say what is wrong


def invalid(message: str) -> NotValid:
    """The error of a bundle whose parts do not fit."""
    return NotValid(f"{message}; export the bundle again", code="bundle_invalid")
