"""What a bundle loses on the same pictures as a worse camera would have taken them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edgewise.frames import good_labels as good_labels_in
from edgewise.frames.harm import HARMS, harmed
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._trainer import Progress
from edgewise.measure import macro_mean
from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline
from edgewise.wire import Harm, ImageSpec, NotValid, Robustness

SAMPLES_MAX = 400  # each is looked at once for each harm: about a minute
LEVEL = 0.9
NONE = "none"  # the pictures as they are


def robustness(
    bundles: Mapping[str, StoredBundle],
    samples: Sequence[TrainingSample],
    *,
    good: Collection[str] = (),
    samples_max: int = SAMPLES_MAX,
    progress: Progress = lambda _what, _share: None,
) -> dict[str, Robustness]:
    """Macro recall of each bundle on pictures with each of `frames.HARMS`, and what it loses, all on the same pictures.

    Args:
        bundles: by a name, such as fp32 and int8; the first is what the others are compared with.
        good: labels that mean a good part, beside those that the bundles know.
        samples: labelled pictures; of more than `samples_max` so many are taken, by a hash of their names.
    Returns:
        by bundle, its harms in order with `none` first: `macro_recall`; `loss` against its own clean pictures; and for
        all but the first bundle `behind`, how far it is behind the first under the same harm. Intervals are over
        groups, and labels that mean good are one class. Pictures that cannot be read count in `unreadable` alone.
    Raises:
        NotValid: no pictures, or a bundle that takes none.
    """
    if not bundles or not samples:
        raise NotValid("robustness needs a bundle and labelled pictures; give some", code="samples_missing")
    pipelines = {name: _opened(name, bundle) for name, bundle in bundles.items()}
    known = frozenset((*good, *(label for one in bundles.values() for label in good_labels_in(one.manifest))))
    chosen = sorted(samples, key=lambda one: hashlib.sha256(one.name.encode()).digest())[:samples_max]
    kinds = (NONE, *HARMS)
    right: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in pipelines for kind in kinds}
    kept: list[TrainingSample] = []
    for number, sample in enumerate(chosen):
        progress("harm", number / len(chosen))
        try:
            data = sample.read()
            seen = {kind: data if kind == NONE else harmed(data, kind) for kind in kinds}
            said = {key: _label(pipelines[key[0]], seen[key[1]], sample, key[1]) for key in right}
        except (NotValid, OSError):
            continue
        kept.append(sample)
        for key, label in said.items():
            right[key].append(float(_class_of(label, known) == _class_of(sample.label, known)))
    labels, groups = [_class_of(one.label, known) for one in kept], [one.group for one in kept]
    first, found = next(iter(pipelines)), {}
    for name in pipelines:
        harms = []
        clean = np.array(right[name, NONE])
        for kind in kinds:
            values, best = np.array(right[name, kind]), np.array(right[first, kind])
            harms.append(
                Harm(
                    harm=kind,
                    macro_recall=macro_mean(values, labels, groups, level=LEVEL),
                    loss=None if kind == NONE else macro_mean(clean - values, labels, groups, level=LEVEL),
                    behind=None if name == first else macro_mean(best - values, labels, groups, level=LEVEL),
                )
            )
        found[name] = Robustness(harms=tuple(harms), samples=len(chosen), unreadable=len(chosen) - len(kept))
    return found


def robustness_told(
    bundles: Sequence[StoredBundle],
    samples: Sequence[TrainingSample],
    aside: Sequence[str],
    *,
    good: Collection[str] = (),
    progress: Progress = lambda _what, _share: None,
) -> tuple[dict[str, Robustness], str]:
    """What a worker tells of a candidate and its variants, by digest; else nothing, and why there is nothing.

    Args:
        bundles: the candidate first.
        samples: those of the training.
        aside: names of those from which no weight was learned. Where there are none the pictures trained on are taken,
            and the record says so: their macro recall flatters, what they lose under a harm is still lost.
    """
    task = bundles[0].manifest.task
    certain = [one for one in samples if not one.uncertain]
    names = set(aside)
    unseen = [one for one in certain if one.name in names]
    if task != "image-classification" or not certain:
        return {}, f"no robustness: it is measured on pictures with a class each, this bundle does {task}"
    by_digest = {one.digest: one for one in bundles}
    found = robustness(by_digest, unseen or certain, good=good, progress=progress)
    return {name: one.model_copy(update={"trained_on": not unseen}) for name, one in found.items()}, ""


def _class_of(label: str, good: Collection[str]) -> str:
    """All labels that mean good are one class, as in a scorecard."""
    return "" if label in good else label


def _opened(name: str, bundle: StoredBundle) -> Pipeline:
    if not isinstance(bundle.manifest.graphs[0].pre, ImageSpec):
        raise NotValid(
            f"bundle {name} takes no pictures; robustness is measured on pictures only", code="data_of_other_kind"
        )
    return open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())


def _label(pipeline: Pipeline, data: bytes, sample: TrainingSample, kind: str) -> str:
    media_type = sample.media_type if kind == NONE else "image/png"
    return pipeline.decide(pipeline.answer(data, media_type), None).label
