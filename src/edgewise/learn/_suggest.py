"""What a bundle says of samples that nobody has labelled: the work of a score order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline
from edgewise.wire import NotValid, Scored, ToScore

Ask = Callable[[Sequence[Scored], Sequence[str]], Sequence[ToScore]]
"""Gives what was said, and which samples cannot be read; comes back with the next ones, none where it is done."""


def suggest(bundle: StoredBundle, ask: Ask, fetch: Callable[[str], bytes], go_on: Callable[[int], None]) -> int:
    """Look at all that is asked about; comes back with how many samples something was said of.

    A sample that cannot be read, or whose content is gone, is named as such.

    Args:
        fetch: a sample's bytes by their digest.
        go_on: told how many were looked at; it may raise Cancelled.
    Raises:
        NotValid: asked again about samples of which all was said.
    """
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    said, unreadable = list[Scored](), list[str]()
    total, seen = 0, set[str]()
    while True:
        asked = ask(said, unreadable)
        waiting = [one for one in asked if one.sample not in seen]
        if not waiting:
            if asked:
                raise NotValid(f"the hub asks again about sample {asked[0].sample}, of which all was said",
                               code="asked_again")  # fmt: skip
            return total
        said, unreadable = [], []
        for one in waiting:
            go_on(total + len(said))
            seen.add(one.sample)
            try:
                said.append(_word(pipeline, one, fetch(one.blob)))
            except NotValid:
                unreadable.append(one.sample)
        total += len(said)


def _word(pipeline: Pipeline, one: ToScore, data: bytes) -> Scored:
    decision = pipeline.decide(pipeline.answer(data, one.media_type), None)
    confidence, margin = (min(1.0, max(0.0, value)) for value in (decision.confidence, decision.margin))
    return Scored(sample=one.sample, label=decision.label, confidence=confidence, margin=margin)
