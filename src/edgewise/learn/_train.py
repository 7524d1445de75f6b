"""Labelled samples in, a whole checked bundle out: the one way to train, for worker, command line and demo."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata

import numpy as np

from edgewise import __version__
from edgewise.frames import golden_inputs, map_means
from edgewise.frames import good_labels as good_labels_in
from edgewise.learn._checkpoint import Checkpoint
from edgewise.learn._dataset import TrainingSample, good_labels_of
from edgewise.learn._graph import norms_of
from edgewise.learn._needs import measure_needs
from edgewise.learn._reference import reference_of
from edgewise.learn._trainer import ConfigValue, Fitted, Floats, Job, Progress, Trainer, trainer_named
from edgewise.learn._value_card import card_of
from edgewise.ports import OnnxRuntime, Session, StoredBundle
from edgewise.wire import (
    SITES_MAX,
    WORD_MAX,
    Blob,
    Golden,
    Graph,
    Manifest,
    NotValid,
    Provenance,
    digest,
    record_digest,
)

# Largest difference between the trained network and its ONNX graph: in a probability, and in an embedding's number
# relative to the largest one. Two libraries round float32 differently, and a steep head makes 0.002 of it at times.
PARITY_MAX = 5e-3
GOLDEN_TOLERANCE = 1e-2  # another CPU rounds differently again; a wrong network is off by far more
GOLDEN_COUNT = 4
UNREADABLE_SHARE_MAX = 0.05
MODEL_BLOB = "model.onnx"
USUAL, UNUSUAL = "usual", "unusual"  # what an anomaly detector tells apart, where no label means good
FAULTS = {
    "flip-good": "defect labels trained as good and good ones as defects: a deliberately bad candidate for a drill"
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedBundle:
    """A new bundle and what is known about its making.

    Attributes:
        blobs: bytes by their SHA-256, exactly those the manifest names.
        metrics: numbers of the training itself, such as `validation_recall` and `seconds`.
        aside: names of samples from which no weight was learned; they may have said when to stop.
    """

    manifest: Manifest
    blobs: Mapping[str, bytes]
    metrics: Mapping[str, float]
    log: tuple[str, ...]
    aside: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The bundle's identity: SHA-256 of the manifest's canonical bytes."""
        return record_digest(self.manifest)


def train(
    samples: Sequence[TrainingSample],
    *,
    now: datetime,
    trainer: str | Trainer = "vision",
    name: str = "model",
    good_labels: Sequence[str] = (),
    base: StoredBundle | None = None,
    seed: int = 0,
    config: Mapping[str, ConfigValue] | None = None,
    order: str | None = None,
    revision: str | None = None,
    group_column: str | None = None,
    progress: Progress = lambda _what, _share: None,
    checkpoint: Checkpoint | None = None,
) -> TrainedBundle:
    """A bundle trained on the samples whose label is certain.

    Args:
        now: goes into the provenance. With the same time, samples, seed and machine the bundle is the same byte for
            byte, except for the measured latency.
        good_labels: labels that all mean a good part; by default those with a usual name (see `good_labels_of`).
        base: bundle to start from. Its classes keep their places, new ones are added behind them.
        config: settings of the trainer (docs/learn.md), and `fault` for drills.
        checkpoint: where a training that was ended before goes on from.
    Raises:
        NotValid: nothing to learn from, too many unreadable samples, a wrong setting, or a graph that does not
            answer as the trained network does.
        Cancelled: `progress` raised it.
    """
    chosen = trainer_named(trainer) if isinstance(trainer, str) else trainer
    settings = dict(config or {})
    started_s = time.perf_counter()
    certain = tuple(sample for sample in samples if not sample.uncertain)
    states_values = chosen.task == "value"  # then labels are numbers, and there are no classes
    detects = chosen.task == "anomaly-detection"  # what is usual must be named, whatever is there to learn from
    good = tuple(good_labels) if detects and good_labels else _known_good_labels(certain, good_labels, base)
    good = () if states_values else good
    fault = settings.pop("fault", None)
    taught = _with_fault(certain, good, fault)
    if states_values:
        labels: tuple[str, ...] = ()
    else:
        labels = (good[0] if good else USUAL, UNUSUAL) if detects else _labels(taught, base)
    job = Job(
        samples=taught,
        labels=labels,
        good_labels=good,
        base=base,
        seed=seed,
        config=settings,
        progress=progress,
        checkpoint=checkpoint,
    )
    fitted = chosen.fit(job)
    check_unreadable(fitted.unreadable, len(taught))
    progress("check", 0.98)
    session = OnnxRuntime().open(fitted.graph, threads=1)
    golden = golden_inputs(fitted.pre, seed, GOLDEN_COUNT)
    parity = check_parity(fitted, session, golden)
    answers = session.run(golden)
    blob = digest(fitted.graph)
    facts = _data_facts(samples, good, group_column, fault, fitted)
    manifest = Manifest(
        name=name,
        task=chosen.task,
        graphs=(
            Graph(
                blob=MODEL_BLOB,
                input=fitted.input,
                scores=fitted.scores,
                embedding=fitted.embedding,
                detections=fitted.detections,
                norms=norms_of(fitted.graph) or None,
                pre=fitted.pre,
            ),
        ),
        labels=labels,
        states=fitted.states,
        good_label=good[0] if good else labels[0] if detects else None,
        good_labels=good,
        defect_threshold=0.5,
        golden=Golden(
            seed=seed,
            count=GOLDEN_COUNT,
            scores=_rows(answers[fitted.scores]),
            maps=_golden_maps(fitted, answers),
            tolerance=GOLDEN_TOLERANCE,
        ),
        reference=reference_of(fitted, session, taught),
        needs=measure_needs(fitted.graph, session, golden),
        provenance=Provenance(
            order=order,
            revision=revision,
            parent=base.digest if base else None,
            seed=seed,
            trained_at=now,
            trainer=trainer if isinstance(trainer, str) else type(trainer).__name__,
            code_version=__version__,
            libraries=library_versions(fitted.libraries),
            sites=_sites(taught),
            data=facts,
        ),
        card=_card(name, taught, good, fitted) if fitted.states is None else card_of(name, taught, fitted),
        blobs={MODEL_BLOB: Blob(sha256=blob, size_bytes=len(fitted.graph), media_type="application/x-onnx")},
    )
    metrics = {**fitted.metrics, "parity": parity, "seconds": time.perf_counter() - started_s}
    return TrainedBundle(
        manifest=manifest, blobs={blob: fitted.graph}, metrics=metrics, log=fitted.log, aside=fitted.aside
    )


def _known_good_labels(
    samples: Sequence[TrainingSample], declared: Sequence[str], base: StoredBundle | None
) -> tuple[str, ...]:
    """Good labels among the classes: declared ones may be missing here (another plant's), then they are left out."""
    present = {sample.label for sample in samples} | set(base.manifest.labels if base else ())
    if declared:
        return tuple(label for label in declared if label in present)
    inherited = good_labels_in(base.manifest) if base else ()
    return tuple(dict.fromkeys([*inherited, *good_labels_of(present)]))


def _labels(samples: Sequence[TrainingSample], base: StoredBundle | None) -> tuple[str, ...]:
    """Classes in the order of the graph's outputs: the base's first, in their places, then new ones by name."""
    seen = sorted({sample.label for sample in samples})
    known = base.manifest.labels if base else ()
    labels = (*known, *(label for label in seen if label not in known))
    if len(labels) < 2:
        raise NotValid(
            f"only one class, {labels[0]!r}, is labelled; at least two are needed to learn a difference"
            if labels
            else "no certain labelled samples; at least two classes are needed",
            code="too_few_classes",
        )
    return labels


def _with_fault(
    samples: tuple[TrainingSample, ...], good: tuple[str, ...], fault: ConfigValue | None
) -> tuple[TrainingSample, ...]:
    """The samples as they are; for a drill with their labels made wrong. The manifest always says so."""
    if fault is None:
        return samples
    if fault not in FAULTS:
        raise NotValid(f"config fault is {fault!r}; the known one is {', '.join(FAULTS)}", code="config_invalid")
    at_site: dict[tuple[str, bool], Counter[str]] = {}
    anywhere: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for sample in samples:
        is_good = sample.label in good
        at_site.setdefault((sample.site, is_good), Counter())[sample.label] += 1
        anywhere[is_good][sample.label] += 1
    if not anywhere[True] or not anywhere[False]:
        raise NotValid(
            "the fault flip-good needs good and defective samples; label some of both", code="config_invalid"
        )

    def opposite(sample: TrainingSample) -> str:
        is_good = sample.label in good
        return (at_site.get((sample.site, not is_good)) or anywhere[not is_good]).most_common(1)[0][0]

    return tuple(replace(sample, label=opposite(sample)) for sample in samples)


def check_unreadable(unreadable: Sequence[str], total: int) -> None:
    """Go on without a few samples that cannot be decoded. NotValid: they are more than a few."""
    if len(unreadable) > UNREADABLE_SHARE_MAX * total:
        raise NotValid(
            f"{len(unreadable)} of {total} samples cannot be decoded, first {unreadable[0]}; "
            f"at most {UNREADABLE_SHARE_MAX:.0%} may fail; replace or remove them",
            code="pictures_unreadable",
        )


def check_parity(fitted: Fitted, session: Session, golden: Floats) -> float:
    """Largest difference (see PARITY_MAX) between trained network and ONNX graph, on golden and on training inputs.

    Raises:
        NotValid: beyond PARITY_MAX, so the export is wrong and must not leave this machine.
    """
    worst = 0.0
    for inputs in (golden, fitted.probe):
        if not len(inputs):
            continue
        scores, embedding = fitted.reference(inputs)
        outputs = session.run(inputs)
        pairs = [(scores, outputs[fitted.scores])]
        if fitted.embedding is not None and embedding is not None:
            pairs.append((embedding, outputs[fitted.embedding]))
        if fitted.detections is not None and fitted.maps is not None:
            names = (fitted.detections.centres, fitted.detections.extents)
            pairs += [(ours, outputs[name]) for ours, name in zip(fitted.maps(inputs), names, strict=True)]
        for ours, theirs in pairs:
            if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
                raise NotValid(
                    "the trained network answers with what is no number (NaN or infinite), on golden or on training "
                    "inputs; look for such values in the data, or train with smaller steps",
                    code="scores_not_finite",
                )
            worst = max(worst, float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(theirs).max())))
    if not worst <= PARITY_MAX:
        raise NotValid(
            f"the exported graph differs from the trained network by {worst:.2g}, at most {PARITY_MAX:g} is allowed; "
            "the export is wrong: report this with the training log",
            code="parity",
        )
    return worst


def _golden_maps(fitted: Fitted, answers: Mapping[str, Floats]) -> tuple[tuple[float, ...], ...] | None:
    told = fitted.detections
    return None if told is None else _rows(map_means(answers[told.centres], answers[told.extents]))


def _rows(scores: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(value), 7) for value in row) for row in scores)


def library_versions(extra: Mapping[str, str]) -> dict[str, str]:
    """Versions that decide the result: Python, numpy, the runtime and the trainer's own."""
    named = {name: metadata.version(name) for name in ("numpy", "Pillow", "onnx", "onnxruntime")}
    return {"python": platform.python_version(), **named, **extra}


def _data_facts(
    samples: Sequence[TrainingSample],
    good: Sequence[str],
    group_column: str | None,
    fault: ConfigValue | None,
    fitted: Fitted,
) -> dict[str, str | int | float | bool | None]:
    certain = [sample for sample in samples if not sample.uncertain]
    facts: dict[str, str | int | float | bool | None] = {
        "good_labels": ",".join(good),
        "group_column": group_column,
        "samples": len(certain) - len(fitted.unreadable),
        "groups": len({sample.group for sample in certain}),
        "uncertain": "not trained on",
        "uncertain_samples": len(samples) - len(certain),
        "unreadable_samples": len(fitted.unreadable),
    }
    if fault is not None:
        facts["fault"] = str(fault)
    return facts | dict(fitted.facts)


def _sites(samples: Sequence[TrainingSample]) -> dict[str, int] | None:
    """Samples of each site; None where one does not name its site, or there are too many to say.

    A device whose site is not there knows that the bundle's doubt means nothing yet (`edge._selection`). What a base
    has learned before does not count: what is not trained on again is being forgotten.
    """
    counts = Counter(sample.site for sample in samples)
    said = len(counts) <= SITES_MAX and all(0 < len(site) <= WORD_MAX for site in counts)
    return dict(sorted(counts.items())) if said and counts else None


def _card(name: str, samples: Sequence[TrainingSample], good: Sequence[str], fitted: Fitted) -> str:
    """A short model card in Markdown: what it was trained on, and what is known of its limits."""
    counts = Counter(sample.label for sample in samples)
    lines = [
        f"# {name}",
        "",
        f"Trained on {len(samples)} labelled samples of {len({sample.group for sample in samples})} groups.",
        f"Good parts are labelled: {', '.join(good) or 'not declared'}.",
        "",
        "| label | samples |",
        "|---|---|",
        *(f"| {label} | {count} |" for label, count in sorted(counts.items())),
        "",
        "A label with few samples, or from few groups, is recognised badly. A part, camera or light that is not among",
        "the training samples may get a confident wrong answer: keep the audit share and watch the drift.",
    ]
    if fitted.unreadable:
        lines += ["", f"Left out, not decodable: {', '.join(fitted.unreadable[:5])}."]
    return "\n".join(lines)
