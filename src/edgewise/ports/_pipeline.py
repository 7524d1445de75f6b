"""Running a bundle: the one way that device, gate, signer, worker and score share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise.frames import decide, golden_inputs, input_shape, prepare
from edgewise.ports._blobs import check_bytes
from edgewise.ports._bound import Bound, PublicBound
from edgewise.ports._runtime import Runtime, Session
from edgewise.wire import Decision, Graph, Manifest, NotTrusted, NotValid


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a bundle's network gave for one frame."""

    scores: NDArray[np.float32]  # (C,), probabilities in the order of the manifest's labels
    embedding: NDArray[np.float32] | None  # (D,)


@dataclass(frozen=True, slots=True)
class _Held:
    results: Mapping[str, NDArray[Any]]
    scores: NDArray[np.float32]  # a view of the one row
    embedding: NDArray[np.float32] | None


class Pipeline:
    """A bundle, ready to answer. Threads may share it; they take turns."""

    def __init__(self, manifest: Manifest, bundle: str, graph: Graph, session: Session) -> None:
        self.manifest = manifest
        self.bundle = bundle
        self.graph = graph
        self.session = session
        self._outputs = [graph.scores] + ([graph.embedding] if graph.embedding else [])
        self._bound = _bind(session, graph, self._outputs)  # one set of buffers for every frame
        self._held: _Held | None = None  # the buffers that runs answer in, once they were looked at
        self._turn = threading.Lock()

    def answer(self, data: bytes, media_type: str) -> Answer:
        """The network's answer to one frame.

        Raises:
            NotValid: the frame cannot be used, or the network does not give what the manifest says.
        """
        with self._turn:
            prepare(data, media_type, self.graph.pre, out=self._bound.input[0])
            held = self._results(self._bound.run())
            # Copied: the next frame's answer is written where this one is.
            return Answer(
                scores=held.scores.copy(), embedding=None if held.embedding is None else held.embedding.copy()
            )

    def _results(self, results: Mapping[str, NDArray[Any]]) -> _Held:
        """The one row of a run's outputs. Buffers that stay where they are are looked at once, not at every frame."""
        held = self._held
        if held is not None and held.results is results:
            return held
        scores, embedding = self._checked(results, 1)
        held = _Held(results, scores[0], None if embedding is None else embedding[0])
        same = scores is results[self.graph.scores] and (
            self.graph.embedding is None or embedding is results[self.graph.embedding]
        )
        self._held = held if same else None  # what had to be converted is a copy, and does not follow the buffers
        return held

    def answer_many(self, frames: Sequence[tuple[bytes, str]]) -> list[Answer]:
        """The answers to several frames, each bit-equal to what `answer` gives.

        They run one by one: a batch changes the last bits of the scores, and a gate must judge what a device will say.
        A batch of pictures gains 3 % on a CPU (docs/ports.md).
        """
        return [self.answer(data, media_type) for data, media_type in frames]

    def decide(self, answer: Answer, release: str | None) -> Decision:
        """The decision that follows from an answer. NotValid: the scores are no probabilities."""
        return decide(answer.scores, self.manifest, bundle=self.bundle, release=release)

    def run_prepared(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Scores (N, C) and embeddings (N, D) or None, for prepared inputs (N, …).

        Raises:
            NotValid: the network does not take them, or gives another shape than the manifest says.
        """
        return self._checked(self.session.run_named({self.graph.input: values}, self._outputs), len(values))

    def _checked(
        self, results: Mapping[str, NDArray[Any]], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        scores = np.asarray(results[self.graph.scores], np.float32)
        if scores.shape != (count, len(self.manifest.labels)):
            raise _invalid(
                f"output {self.graph.scores} has shape {scores.shape}, "
                f"needs ({count}, {len(self.manifest.labels)}): one score a label"
            )
        if self.graph.embedding is None:
            return scores, None
        embedding = np.asarray(results[self.graph.embedding], np.float32)
        if embedding.ndim != 2 or len(embedding) != count:
            raise _invalid(f"output {self.graph.embedding} has shape {embedding.shape}, needs ({count}, D)")
        return scores, embedding

    def check_golden(self) -> None:
        """Run the golden inputs and compare with what the bundle must answer.

        Raises:
            NotValid: with code ``golden_failed``; the message says how far off the worst score is.
        """
        golden = self.manifest.golden
        inputs = golden_inputs(self.graph.pre, golden.seed, golden.count)
        wanted = np.array([list(row) for row in golden.scores], np.float64)
        # One by one, as on the device: a network with a fixed batch of one must pass as well.
        seen = np.concatenate([self.run_prepared(inputs[index : index + 1])[0] for index in range(golden.count)])
        if wanted.shape != seen.shape:
            raise NotValid(f"golden outputs have shape {wanted.shape}, needs {seen.shape}", code="golden_failed")
        worst = float(np.abs(seen - wanted).max())
        if not worst <= golden.tolerance:  # so written that NaN fails as well
            raise NotValid(
                f"golden outputs of bundle {self.bundle[:12]}… are off by {worst:.2g}, "
                f"at most {golden.tolerance:.2g} is allowed; "
                "this machine computes something else than the one that made it",
                code="golden_failed",
            )


def open_pipeline(manifest: Manifest, bundle: str, read_blob: Callable[[str], bytes], runtime: Runtime) -> Pipeline:
    """A bundle made ready to answer.

    Args:
        manifest: the bundle's manifest, verified.
        bundle: the manifest's digest.
        read_blob: gives a blob's bytes by its SHA-256; they are checked here once more.
        runtime: what runs the network.
    Raises:
        NotValid: the network and the manifest do not fit. NotTrusted: the blob has other bytes.
    """
    if len(manifest.graphs) != 1:
        raise _invalid(f"this bundle has {len(manifest.graphs)} graphs, this version of edgewise runs exactly one")
    graph = manifest.graphs[0]
    if graph.blob not in manifest.blobs:
        raise NotTrusted(
            f"graph {graph.name} names blob {graph.blob!r}, the manifest has none such", code="bundle_corrupt"
        )
    sha256 = manifest.blobs[graph.blob].sha256
    session = runtime.open(check_bytes(sha256, read_blob(sha256)))
    _check_names(graph, session)
    return Pipeline(manifest, bundle, graph, session)


def _bind(session: Session, graph: Graph, outputs: Sequence[str]) -> Bound:
    shape = (1, *input_shape(graph.pre))
    bound = session.bind(shape, outputs)
    if bound.input.dtype == np.float32:
        return bound
    return PublicBound(session, graph.input, np.zeros(shape, np.float32), outputs)  # its runs say what is wrong


def _check_names(graph: Graph, session: Session) -> None:
    inputs = {tensor.name for tensor in session.inputs}
    outputs = {tensor.name for tensor in session.outputs}
    wanted = {graph.scores} | ({graph.embedding} if graph.embedding else set())
    if inputs != {graph.input} or not wanted <= outputs:
        raise _invalid(
            f"the network takes {sorted(inputs)} and gives {sorted(outputs)}, "
            f"the manifest says {[graph.input]} and {sorted(wanted)}"
        )


def _invalid(message: str) -> NotValid:
    return NotValid(f"{message}; export the bundle again", code="bundle_invalid")
