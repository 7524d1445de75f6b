"""Site variants: the network of a bundle with the statistics of one site in its normalisations, from sums alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgewise.delta import with_arrays
from edgewise.frames import golden_inputs
from edgewise.learn._needs import needs_of
from edgewise.learn._train import GOLDEN_TOLERANCE, TrainedBundle
from edgewise.measure import SITE_FRAMES_MIN, ChannelSums, read_norm_sum, site_norm
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline, read_norms
from edgewise.wire import Blob, Manifest, NotValid, SiteSums, digest


def make_site_variant(
    source: StoredBundle, site: str, sums: Sequence[ChannelSums], *, frames: int, record: str | None = None
) -> TrainedBundle:
    """The variant of a bundle for one site.

    It decides with the same labels and thresholds; no weight is learned. The same sums give the same bundle.

    Args:
        source: as trained, with a single graph that names its norms.
        sums: of `ports.norm_sums` on the very same bundle, added up over the site's devices.
        frames: behind them.
        record: digest of the record that the sums came in, for the provenance.
    Raises:
        NotValid: the bundle names no norms, the sums are not of them, or too few frames are behind them.
    """
    manifest = source.manifest
    _check(manifest, sums, frames)
    (graph,) = manifest.graphs
    model = source.read_blob(manifest.blobs[graph.blob].sha256)
    trained = read_norms(model, graph)
    arrays: dict[str, np.ndarray] = {}
    for norm, one in zip(graph.norms or (), sums, strict=True):
        mean, variance = trained[norm.mean], trained[norm.variance]
        if one.total.shape != mean.shape:
            raise NotValid(
                f"the sums of {norm.values} have {len(one.total)} channels, the network {len(mean)}; take those of "
                f"bundle {source.digest[:12]}…",
                code="sums_wrong",
            )
        arrays[norm.mean], arrays[norm.variance] = site_norm(mean, variance, one)
    changed = with_arrays(model, arrays)
    blob = digest(changed)
    blobs = {
        **{name: source.read_blob(name) for name in (one.sha256 for one in manifest.blobs.values())},
        blob: changed,
    }
    one_input = golden_inputs(graph.pre, manifest.golden.seed, 1)
    needs = needs_of(changed, one_input, latency_ms=manifest.needs.latency_ms, reference_ms=manifest.needs.reference_ms)
    drafted = manifest.model_copy(
        update={
            "blobs": {**manifest.blobs, graph.blob: Blob(sha256=blob, size_bytes=len(changed))},
            "needs": needs,
            "provenance": manifest.provenance.model_copy(
                update={"site": site, "variant_of": source.digest, "sums": record}
            ),
        }
    )
    used = {one.sha256 for one in drafted.blobs.values()}
    blobs = {name: data for name, data in blobs.items() if name in used}
    pipeline = open_pipeline(drafted, source.digest, blobs.__getitem__, OnnxRuntime())
    held = manifest.golden
    golden = pipeline.make_golden(seed=held.seed, count=held.count, tolerance=max(GOLDEN_TOLERANCE, held.tolerance))
    return TrainedBundle(
        manifest=drafted.model_copy(update={"golden": golden}), blobs=blobs, metrics={"frames": frames}, log=()
    )


def adapt(source: StoredBundle, sums: SiteSums, record: str) -> TrainedBundle:
    """The variant of a bundle from the sums of a site's devices.

    Args:
        record: digest of the sums.
    Raises:
        NotValid: the sums are of another bundle, or as `make_site_variant`.
    """
    if sums.bundle != source.digest:
        raise NotValid(
            f"the sums are of bundle {sums.bundle[:12]}…, this is {source.digest[:12]}…; those of another bundle do "
            "not fit",
            code="sums_wrong",
        )
    # Noise may have left squares below what the totals allow; `deviation` takes such a channel for one that is still.
    norms = [read_norm_sum(one, exact=False) for one in sums.norms]
    made = make_site_variant(source, sums.site, norms, frames=sums.frames, record=record)
    moved = max(float(np.abs(one.mean()).max()) for one in norms)
    log = (
        f"variant of {source.digest[:12]} for {sums.site} from {sums.frames} frames of {sums.devices} devices; the "
        f"channel that differs most does by {moved:.2g} deviations of training",
    )
    return replace(made, log=log)


def _check(manifest: Manifest, sums: Sequence[ChannelSums], frames: int) -> None:
    if len(manifest.graphs) != 1 or not manifest.graphs[0].norms:
        raise NotValid(
            "this bundle has no normalisation whose statistics could be a site's: it needs a single graph that names "
            "its norms, as the trainers for pictures make them",
            code="variant_impossible",
        )
    if manifest.provenance.variant_of is not None:
        raise NotValid("this bundle is a variant itself; take the one as trained", code="variant_impossible")
    norms = manifest.graphs[0].norms
    if len(sums) != len(norms):
        raise NotValid(
            f"{len(sums)} sums for {len(norms)} norms; one each is needed, in their order", code="sums_wrong"
        )
    if frames < SITE_FRAMES_MIN:
        raise NotValid(
            f"{frames} frames are behind the sums, needs {SITE_FRAMES_MIN} at least; wait for more", code="sums_too_few"
        )
