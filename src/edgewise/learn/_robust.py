"""What a bundle loses on the same pictures as a worse camera would have taken them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgewise.frames.harm import HARMS, harmed
from edgewise.learn._dataset import TrainingSample
from edgewise.measure import macro_mean
from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline
from edgewise.wire import ImageSpec, NotValid

SAMPLES_MAX = 400  # each is looked at once for each harm: about a minute
LEVEL = 0.9
Progress = Callable[[str, float], None]


def robustness(
    bundles: Mapping[str, StoredBundle],
    samples: Sequence[TrainingSample],
    *,
    samples_max: int = SAMPLES_MAX,
    progress: Progress = lambda _what, _share: None,
) -> dict[str, dict[str, Any]]:
    """Macro recall of each bundle on pictures with each of `frames.HARMS`, and what it loses, all on the same pictures.

    Args:
        bundles: by a name, such as fp32 and int8; the first is what the others are compared with.
        samples: labelled pictures; of more than `samples_max` so many are taken, by a hash of their names.
    Returns:
        by bundle, then by harm (`none` first): `macro_recall`; `loss` against its own clean pictures; and for all but
        the first bundle `behind`, how far it is behind the first under the same harm. Intervals are over groups.
    Raises:
        NotValid: no pictures, or a bundle that takes none.
    """
    if not bundles or not samples:
        raise NotValid("robustness needs a bundle and labelled pictures; give some", code="samples_missing")
    pipelines = {name: _opened(name, bundle) for name, bundle in bundles.items()}
    chosen = sorted(samples, key=lambda one: hashlib.sha256(one.name.encode()).digest())[:samples_max]
    kinds = ("none", *HARMS)
    right: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in pipelines for kind in kinds}
    kept: list[TrainingSample] = []
    for number, sample in enumerate(chosen):
        progress("harm", number / len(chosen))
        try:
            data = sample.read()
            seen = {kind: data if kind == "none" else harmed(data, kind) for kind in kinds}
            said = {key: _label(pipelines[key[0]], seen[key[1]], sample, key[1]) for key in right}
        except (NotValid, OSError):
            continue
        kept.append(sample)
        for key, label in said.items():
            right[key].append(float(label == sample.label))
    labels, groups = [one.label for one in kept], [one.group for one in kept]
    first = next(iter(pipelines))
    found: dict[str, dict[str, Any]] = {}
    for name in pipelines:
        clean = np.array(right[name, "none"])
        found[name] = {}
        for kind in kinds:
            values = np.array(right[name, kind])
            told = {"macro_recall": macro_mean(values, labels, groups, level=LEVEL)}
            if kind != "none":
                told["loss"] = macro_mean(clean - values, labels, groups, level=LEVEL)
            if name != first:
                told["behind"] = macro_mean(np.array(right[first, kind]) - values, labels, groups, level=LEVEL)
            found[name][kind] = {what: one.model_dump() for what, one in told.items()}
    return found


def _opened(name: str, bundle: StoredBundle) -> Pipeline:
    if not isinstance(bundle.manifest.graphs[0].pre, ImageSpec):
        raise NotValid(
            f"bundle {name} takes no pictures; robustness is measured on pictures only", code="data_of_other_kind"
        )
    return open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())


def _label(pipeline: Pipeline, data: bytes, sample: TrainingSample, kind: str) -> str:
    media_type = sample.media_type if kind == "none" else "image/png"
    return pipeline.decide(pipeline.answer(data, media_type), None).label
