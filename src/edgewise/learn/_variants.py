"""Smaller forms of a trained bundle, each a bundle of its own with its own golden outputs, needs and measured time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgewise.frames import golden_inputs, prepare
from edgewise.learn._convert import to_fp16, to_int8, worst_shift
from edgewise.learn._dataset import TrainingSample
from edgewise.learn._needs import laps_ms, needs_of
from edgewise.learn._train import GOLDEN_TOLERANCE, TrainedBundle, library_versions
from edgewise.learn._trainer import Floats, Progress
from edgewise.plan import summed
from edgewise.ports import OnnxRuntime, Pipeline, Results, StoredBundle, open_pipeline
from edgewise.wire import Blob, EdgewiseError, Graph, InputSpec, Manifest, Needs, NotValid, digest

CALIBRATE_MIN, CALIBRATE_MAX = 8, 32  # training samples; more did not change the ranges much
SIZE_SHARE_MAX = 0.9  # of the network as trained: a form that is hardly smaller is not worth being gated and kept
SHIFT_MAX = 0.1  # of any probability: beyond it the numbers do not hold the network's values
EXTENT_SHIFT = 4.0  # logarithms or cells of a box that count as a whole probability: 0.4 of them are the most
PRECISIONS = ("fp16", "int8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Variants:
    """The variants that could be made, and a sentence for each that could not."""

    made: Mapping[str, TrainedBundle]
    left_out: Mapping[str, str]


def make_variants(
    source: StoredBundle,
    precisions: Sequence[str],
    samples: Sequence[TrainingSample],
    *,
    base_int8: StoredBundle | None = None,
    progress: Progress = lambda _what, _share: None,
) -> Variants:
    """The variants of a bundle; one that cannot be made does not stop the others.

    Args:
        precisions: of `PRECISIONS`, in any order.
        samples: of the training share, never of the evaluation share; int8 takes the ranges of values from them.
        base_int8: the int8 form of what the source was trained from; its ranges are kept where they still fit.
    Raises:
        Cancelled: `progress` raised it.
    """
    inputs = calibration_inputs(samples, source.manifest.graphs[0].pre)
    made: dict[str, TrainedBundle] = {}
    left_out: dict[str, str] = {}
    for precision in dict.fromkeys(precisions):
        progress(f"variant {precision}", 0.0)
        try:
            made[precision] = make_variant(source, precision, inputs, base_int8=base_int8, progress=progress)
        except EdgewiseError as error:
            left_out[precision] = str(error)
    return Variants(made=made, left_out=left_out)


def make_variant(
    source: StoredBundle,
    precision: str,
    inputs: Floats,
    *,
    base_int8: StoredBundle | None = None,
    progress: Progress = lambda _what, _share: None,
) -> TrainedBundle:
    """One variant of a bundle as trained.

    It decides with the same labels and thresholds, on the same golden inputs; what it answers to them is its own. With
    the same source and inputs it is the same byte for byte, except for the measured latency.

    Args:
        inputs: prepared training inputs for the first graph, float32 (N, …), see `calibration_inputs`.
        base_int8: see `make_variants`.
    Raises:
        NotValid: there is no such precision, the source is a variant itself, or the network cannot be converted, does
            not get smaller, or answers otherwise.
    """
    started_s = time.perf_counter()
    manifest = source.manifest
    _check(manifest, precision, inputs)
    blobs: dict[str, bytes] = {}
    needs: list[Needs] = []
    calibrated: dict[str, int] = {}
    for graph in manifest.graphs:
        data = source.read_blob(manifest.blobs[graph.blob].sha256)
        if precision == "fp16":
            made = to_fp16(data)
        else:
            before = _graph_of(base_int8, source)
            found = to_int8(data, graph, inputs, base=before, step=lambda share: progress("variant int8", share))
            made, calibrated = found.data, {"ranges": found.ranges, "ranges_kept": found.kept}
        if len(made) > SIZE_SHARE_MAX * len(data):
            raise NotValid(
                f"graph {graph.name} has {len(made)} bytes as {precision} and {len(data)} as trained, needs at most "
                f"{SIZE_SHARE_MAX:.0%} of that to be worth it; leave {precision} out",
                code="variant_impossible",
            )
        blobs[graph.blob] = made
        one = golden_inputs(graph.pre, manifest.golden.seed, 1)
        needs.append(needs_of(made, one, latency_ms=0, reference_ms=manifest.needs.reference_ms))
    drafted = _manifest(source, precision, blobs, summed(*needs), {"calibration_samples": len(inputs), **calibrated})
    by_digest = {digest(data): data for data in blobs.values()} | _other_blobs(source)
    pipeline = open_pipeline(drafted, source.digest, by_digest.__getitem__, OnnxRuntime())
    trained = open_pipeline(manifest, source.digest, source.read_blob, OnnxRuntime())
    shift = _check_answers(trained, pipeline, inputs, precision)
    latency_ms = _latency_ms(trained, pipeline)
    held = manifest.golden
    golden = pipeline.make_golden(seed=held.seed, count=held.count, tolerance=max(GOLDEN_TOLERANCE, held.tolerance))
    metrics = {"shift": shift, "seconds": time.perf_counter() - started_s}
    measured = drafted.needs.model_copy(update={"latency_ms": latency_ms})
    finished = drafted.model_copy(update={"golden": golden, "needs": measured})
    return TrainedBundle(manifest=finished, blobs=by_digest, metrics=metrics, log=())


def calibration_inputs(samples: Sequence[TrainingSample], spec: InputSpec) -> Floats:
    """Prepared inputs of at most `CALIBRATE_MAX` samples, float32 (N, …): every label in turn, in an order by name.

    Which samples are taken does not depend on the order in which they come. Those that cannot be read are left out.
    """
    by_label: dict[str, list[TrainingSample]] = {}
    for sample in sorted(samples, key=lambda one: hashlib.sha256(one.name.encode()).digest()):
        if not sample.uncertain:
            by_label.setdefault(sample.label, []).append(sample)
    turns = [by_label[label] for label in sorted(by_label)]
    order = [queue[turn] for turn in range(max(map(len, turns), default=0)) for queue in turns if turn < len(queue)]
    inputs: list[Floats] = []
    for sample in order:
        if len(inputs) == CALIBRATE_MAX:
            break
        try:
            inputs.append(prepare(sample.read(), sample.media_type, spec))
        except (NotValid, OSError):
            continue
    return np.stack(inputs) if inputs else np.empty((0, 1), np.float32)


def _check(manifest: Manifest, precision: str, inputs: Floats) -> None:
    if precision not in PRECISIONS:
        raise NotValid(f"there is no variant {precision!r}; there are {', '.join(PRECISIONS)}", code="variant_unknown")
    made = manifest.provenance
    if made.variant is not None:
        raise NotValid(
            f"this bundle is the {made.variant} variant of {str(made.variant_of)[:12]}…; make others from that one",
            code="variant_of_variant",
        )
    if precision == "int8" and len(manifest.graphs) > 1:
        raise NotValid(
            f"int8 is made of bundles with one graph only, this one has {len(manifest.graphs)}; leave int8 out",
            code="variant_impossible",
        )
    if precision == "int8" and len(inputs) < CALIBRATE_MIN:
        raise NotValid(
            f"int8 takes the ranges of values from training samples: {len(inputs)} can be read, needs {CALIBRATE_MIN}",
            code="variant_uncalibrated",
        )


def _manifest(
    source: StoredBundle, precision: str, blobs: Mapping[str, bytes], needs: Needs, calibrated: Mapping[str, int]
) -> Manifest:
    manifest = source.manifest
    made = {
        name: Blob(sha256=digest(data), size_bytes=len(data), media_type=manifest.blobs[name].media_type)
        for name, data in blobs.items()
    }
    about: dict[str, Any] = {
        "variant": precision,
        "variant_of": source.digest,
        "libraries": library_versions(manifest.provenance.libraries),
    }
    if precision == "int8":
        about["data"] = {**manifest.provenance.data, **calibrated}
    note = f"\n\nThis is its {precision} variant, made of bundle {source.digest[:12]}…; it is gated on its own.\n"
    return manifest.model_copy(
        update={
            "blobs": {**manifest.blobs, **made},
            "needs": needs,
            "provenance": manifest.provenance.model_copy(update=about),
            "card": manifest.card.rstrip() + note,
        }
    )


def _graph_of(base_int8: StoredBundle | None, source: StoredBundle) -> bytes | None:
    """The network of the base's int8 form; None where there is none, or it was made of something else."""
    if base_int8 is None:
        return None
    made, manifest = base_int8.manifest.provenance, base_int8.manifest
    if made.variant != "int8" or made.variant_of != source.manifest.provenance.parent or len(manifest.graphs) != 1:
        return None
    return base_int8.read_blob(manifest.blobs[manifest.graphs[0].blob].sha256)


def _other_blobs(source: StoredBundle) -> dict[str, bytes]:
    graphs = {graph.blob for graph in source.manifest.graphs}
    others = {blob.sha256 for name, blob in source.manifest.blobs.items() if name not in graphs}
    return {sha256: source.read_blob(sha256) for sha256 in others}


def _latency_ms(trained: Pipeline, pipeline: Pipeline) -> float:
    """The variant's time where its source's was measured.

    Both are run here in turns, and the source's own figure is multiplied by the ratio of their quickest runs: a machine
    that is busier now than when the source was made must not make its variant look slow.
    """
    ours_ms = theirs_ms = 0.0
    for ours, theirs in zip(pipeline.stages, trained.stages, strict=True):
        laps = laps_ms([ours.session, theirs.session], golden_inputs(ours.graph.pre, 0, 1))
        ours_ms, theirs_ms = ours_ms + min(laps[0]), theirs_ms + min(laps[1])
    return round(trained.manifest.needs.latency_ms * ours_ms / theirs_ms, 4)


def _check_answers(trained: Pipeline, pipeline: Pipeline, inputs: Floats, precision: str) -> float:
    """How far a probability moves on golden and on training inputs. NotValid: too far."""
    golden = trained.manifest.golden
    worst = 0.0
    for ours, theirs in zip(pipeline.stages, trained.stages, strict=True):
        tries = [golden_inputs(ours.graph.pre, golden.seed, golden.count)]
        if ours is pipeline.stages[0] and len(inputs):
            tries.append(inputs)
        for values in tries:
            for at in range(len(values)):
                one = values[at : at + 1]
                mine, held = ours.run(one), theirs.run(one)
                worst = max(worst, worst_shift(mine.scores, held.scores), _maps_shift(mine, held, ours.graph))
    if worst > SHIFT_MAX:
        raise NotValid(
            f"as {precision} the network's probabilities move by up to {worst:.2g}, at most {SHIFT_MAX:g} is allowed; "
            f"leave {precision} out",
            code="variant_impossible",
        )
    return worst


def _maps_shift(ours: Results, theirs: Results, graph: Graph) -> float:
    """How far a centre's probability moves, or in units of `EXTENT_SHIFT` a box that is found; 0 without boxes."""
    told = graph.detections
    if told is None:
        return 0.0
    assert ours.centres is not None, "a graph that finds boxes gives maps"
    assert ours.extents is not None, "one map comes with the other"
    assert theirs.centres is not None, "the variant has the outputs of its source"
    assert theirs.extents is not None, "one map comes with the other"
    sure = (theirs.centres >= told.threshold).any(1, keepdims=True)
    moved = float(np.abs((ours.extents - theirs.extents) * sure).max(initial=0.0))
    return max(worst_shift(ours.centres, theirs.centres), moved / EXTENT_SHIFT)
