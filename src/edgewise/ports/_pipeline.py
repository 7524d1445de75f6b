"""Running a bundle: the one way that device, gate, signer, worker and score share."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewise.frames import Decided, decide, find_boxes, golden_frames, prepare_crop, scores_of
from edgewise.ports import _golden_check
from edgewise.ports._blobs import check_bytes
from edgewise.ports._runtime import Runtime
from edgewise.ports._stage import Results, Stage, check_stages, next_graph
from edgewise.wire import Decision, FoundBox, Golden, ImageSpec, Manifest, NotTrusted, StageDecision


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a bundle's networks gave for one frame."""

    scores: NDArray[np.float32]  # (C,), probabilities by label, or (3,) quantiles of a value, of the graph that decides
    embedding: NDArray[np.float32] | None  # (D,), of the first graph
    doubt: float | None = None  # 0 to 1, of the graph that decides; None where it has no such output
    graph: str | None = None  # the one that decides, where the bundle has several
    earlier: tuple[tuple[str, NDArray[np.float32]], ...] = ()  # name and scores of those before it
    boxes: tuple[FoundBox, ...] | None = None  # of a bundle that finds boxes


class Judged(NamedTuple):
    """A bundle's decision on one frame, with what it told besides."""

    decision: Decided
    embedding: NDArray[np.float32] | None  # (D,), of the first graph
    doubt: float | None  # as in `Answer`


class Pipeline:
    """A bundle, ready to answer. Threads may share it; they take turns.

    Where it has several graphs, each frame goes through the first; behind a graph comes the one that runs after its
    label, on the whole frame or on the part that its best box names; the last one decides.
    """

    def __init__(self, manifest: Manifest, bundle: str, stages: Sequence[Stage]) -> None:
        self.manifest = manifest
        self.bundle = bundle
        self.stages = tuple(stages)
        self.graph, self.session = stages[0].graph, stages[0].session  # what a client that sends tensors asks
        self._by_name = {stage.graph.name: stage for stage in stages}
        self._turn = threading.Lock()

    def answer(self, data: bytes, media_type: str) -> Answer:
        """The networks' answer to one frame.

        Raises:
            NotValid: the frame cannot be used, or a network does not give what the manifest says.
        """
        with self._turn:
            return self._answer(data, media_type)

    def judge(self, data: bytes, media_type: str, release: str | None) -> Judged:
        """The decision on one frame; what ``answer`` and ``decide`` together give, and quicker.

        Raises:
            NotValid: as these.
        """
        with self._turn:
            if len(self.stages) > 1:
                answer = self._answer(data, media_type)
                return Judged(self._decided(answer, release), answer.embedding, answer.doubt)
            stage = self.stages[0]
            stage.prepare(data, media_type)
            found = stage.run_bound()
            decision = decide(found.scores[0], self.manifest, bundle=self.bundle, release=release)
            if stage.graph.detections is not None:
                decision = decision._replace(boxes=_boxes(stage, found))
            if found.embedding is None and found.doubt is None:
                return Judged(decision, None, None)
            return Judged(decision, _first(found.embedding), _doubt(found))

    def _answer(self, data: bytes, media_type: str) -> Answer:
        first = self.stages[0]
        first.prepare(data, media_type)
        found = first.run_bound()
        # Copied: the next frame's answer is written where this one is.
        answer = Answer(
            scores=found.scores[0].copy(),
            embedding=_first(found.embedding),
            doubt=_doubt(found),
            boxes=_boxes(first, found),
        )
        return answer if len(self.stages) == 1 else self._further(data, media_type, answer, found)

    def _further(self, data: bytes, media_type: str, answer: Answer, found: Results) -> Answer:
        """The answer of the graph that decides, and what those before it said."""
        stage, embedding = self.stages[0], answer.embedding
        earlier: list[tuple[str, NDArray[np.float32]]] = []
        scores, doubt = answer.scores, answer.doubt
        while (behind := self._behind(stage, scores, found)) is not None:
            earlier.append((stage.graph.name, scores))
            self._prepare(data, media_type, behind, found)
            stage, found = behind, behind.run_bound()
            scores = found.scores[0].copy()
            doubt = _doubt(found)
        name = stage.graph.name
        return Answer(scores=scores, embedding=embedding, doubt=doubt, graph=name, earlier=tuple(earlier))

    def _behind(self, stage: Stage, scores: NDArray[np.float32], found: Results) -> Stage | None:
        """The stage behind this one; a graph runs after an earlier one only, so this ends."""
        label = decide(scores, self.manifest, bundle=self.bundle, release=None).label
        graph = next_graph(self.manifest.graphs, stage.graph.name, label)
        if graph is None or graph.after is None:
            return None
        if graph.after.crop and (found.boxes is None or not len(found.boxes)):
            return None  # nothing was found to look at: what was said stands
        return self._by_name[graph.name]

    @staticmethod
    def _prepare(data: bytes, media_type: str, stage: Stage, found: Results) -> None:
        spec, after = stage.graph.pre, stage.graph.after
        if after is not None and after.crop and found.boxes is not None and isinstance(spec, ImageSpec):
            prepare_crop(data, media_type, spec, found.boxes[0], out=stage.bound.input[0])
        else:
            stage.prepare(data, media_type)

    def answer_many(self, frames: Sequence[tuple[bytes, str]]) -> list[Answer]:
        """The answers to several frames, each bit-equal to what `answer` gives.

        They run one by one: a batch changes the last bits of the scores, and a gate must judge what a device will say.
        A batch of pictures gains 3 % on a CPU (docs/ports.md).
        """
        return [self.answer(data, media_type) for data, media_type in frames]

    def decide(self, answer: Answer, release: str | None) -> Decision:
        """The decision that follows from an answer. NotValid: the scores are no probabilities."""
        return self._decided(answer, release).record()

    def _decided(self, answer: Answer, release: str | None) -> Decided:
        decision = decide(answer.scores, self.manifest, bundle=self.bundle, release=release)
        if answer.boxes is not None:
            decision = decision._replace(boxes=answer.boxes)
        if answer.graph is None:
            return decision
        said = [self._said(name, scores) for name, scores in answer.earlier]
        return decision._replace(graph=answer.graph, earlier=tuple(said) or None)

    def _said(self, graph: str, scores: NDArray[np.float32]) -> StageDecision:
        made = decide(scores, self.manifest, bundle=self.bundle, release=None)
        return StageDecision(graph=graph, label=made.label, confidence=made.confidence, margin=made.margin)

    def run_prepared(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Scores (N, C) and embeddings (N, D) or None of the first graph, for prepared inputs (N, …).

        Raises:
            NotValid: the network does not take them, or gives another shape than the manifest says.
        """
        found = self.stages[0].run(values)
        return found.scores, found.embedding

    def check_golden(self, *, paths: bool = True) -> None:
        """Run the golden inputs through every graph and compare with what the bundle must answer.

        Args:
            paths: also send whole golden frames through all graphs; without, each graph runs once for each input.
        Raises:
            NotValid: with code ``golden_failed``; the message says how far off the worst score is.
        """
        taken = self._paths if paths else None
        scale = 1.0 if self.manifest.states is None else self.manifest.states.spread
        _golden_check.check_golden(self.stages, taken, self.manifest.golden, bundle=self.bundle, scale=scale)

    def make_golden(self, *, seed: int, count: int, tolerance: float = 1e-3) -> Golden:
        """The golden answers of these graphs, for the manifest of the bundle that is being made."""
        paths = functools.partial(self._paths_of, seed, count)
        return _golden_check.make_golden(self.stages, paths, seed=seed, count=count, tolerance=tolerance)

    def _paths(self) -> list[str]:
        return self._paths_of(self.manifest.golden.seed, self.manifest.golden.count)

    def _paths_of(self, seed: int, count: int) -> list[str]:
        frames = golden_frames([stage.graph.pre for stage in self.stages], seed, count)
        return [self.answer(data, kind).graph or self.graph.name for data, kind in frames]


def _first(found: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """A copy of the first row, for the next run writes where it is."""
    return None if found is None else found[0].copy()


def _boxes(stage: Stage, found: Results) -> tuple[FoundBox, ...] | None:
    told = stage.graph.detections
    if told is None or found.centres is None or found.extents is None:
        return None
    return find_boxes(found.centres[0], found.extents[0], told)


def _doubt(found: Results) -> float | None:
    return None if found.doubt is None else float(found.doubt[0])


def open_pipeline(manifest: Manifest, bundle: str, read_blob: Callable[[str], bytes], runtime: Runtime) -> Pipeline:
    """A bundle made ready to answer.

    Args:
        manifest: the bundle's manifest, verified.
        bundle: the manifest's digest.
        read_blob: gives a blob's bytes by its SHA-256; they are checked here once more.
        runtime: what runs the networks.
    Raises:
        NotValid: the networks and the manifest do not fit. NotTrusted: a blob has other bytes.
    """
    check_stages(manifest)
    stages = []
    for graph in manifest.graphs:
        if graph.blob not in manifest.blobs:
            raise NotTrusted(
                f"graph {graph.name} names blob {graph.blob!r}, the manifest has none such", code="bundle_corrupt"
            )
        sha256 = manifest.blobs[graph.blob].sha256
        stages.append(Stage(graph, runtime.open(check_bytes(sha256, read_blob(sha256))), scores_of(manifest)))
    return Pipeline(manifest, bundle, stages)
