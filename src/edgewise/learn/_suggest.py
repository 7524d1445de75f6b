"""What a bundle says of samples that nobody has labelled: the work of a score order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline
from edgewise.wire import NotValid, Scored, ToScore

Ask = Callable[[Sequence[Scored]], Sequence[ToScore]]
"""Gives what was said and comes back with the next samples; none are left: it is done."""


def suggest(bundle: StoredBundle, ask: Ask, fetch: Callable[[str], bytes], go_on: Callable[[int], None]) -> int:
    """Look at all that is asked about; comes back with how many samples something was said of.

    A sample that cannot be read, or whose content is gone, is passed over.

    Args:
        fetch: a sample's bytes by their digest.
        go_on: told how many were looked at; it may raise Cancelled.
    """
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    said: list[Scored] = []
    total, seen = 0, set[str]()
    while True:
        waiting = [one for one in ask(said) if one.sample not in seen]
        if not waiting:
            return total
        said = []
        for one in waiting:
            go_on(total + len(said))
            seen.add(one.sample)
            try:
                said.append(_word(pipeline, one, fetch(one.blob)))
            except NotValid:
                continue
        total += len(said)


def _word(pipeline: Pipeline, one: ToScore, data: bytes) -> Scored:
    decision = pipeline.decide(pipeline.answer(data, one.media_type), None)
    confidence, margin = (min(1.0, max(0.0, value)) for value in (decision.confidence, decision.margin))
    return Scored(sample=one.sample, label=decision.label, confidence=confidence, margin=margin)
