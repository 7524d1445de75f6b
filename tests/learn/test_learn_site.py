"""Site variants: a site's own statistics from sums, the same from the same sums, refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from edgewise.delta import with_arrays, with_outputs
from edgewise.frames import prepare
from edgewise.learn import make_site_variant, make_variants, train
from edgewise.learn._graph import norms_of, read_weights
from edgewise.learn._site import adapt
from edgewise.measure import ChannelSums, norm_sum
from edgewise.ports import OnnxRuntime, StoredBundle, norm_sums, open_pipeline, read_norms, verify_bundle, write_bundle
from edgewise.wire import NotValid, SiteSums


@pytest.fixture(scope="module")
def source(world: Any) -> StoredBundle:
    made = train(world.surfaces(24), now=world.now, seed=1, config={"architecture": "small", "steps": 150})
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def model_of(bundle: StoredBundle) -> bytes:
    (graph,) = bundle.manifest.graphs
    return bundle.read_blob(bundle.manifest.blobs[graph.blob].sha256)


def hazy(world: Any, count: int = 24) -> np.ndarray:
    """Prepared pictures of a site whose camera is out of focus."""
    source = world.surfaces(count, start=300)
    pre = world.spec
    inputs = np.stack([prepare(one.read(), one.media_type, pre) for one in source])
    soft = sum(np.roll(inputs, (down, right), (2, 3)) for down in (-1, 0, 1) for right in (-1, 0, 1)) / 9
    return np.asarray(soft, np.float32)


@pytest.fixture(scope="module")
def inputs(world: Any, source: StoredBundle) -> np.ndarray:
    return hazy(replace_spec(world, source))


def replace_spec(world: Any, source: StoredBundle) -> Any:
    class Spec:
        surfaces = staticmethod(world.surfaces)
        spec = source.manifest.graphs[0].pre

    return Spec


def test_each_norm_of_a_variant_lies_half_way_to_what_the_site_shows_it(
    source: StoredBundle, inputs: np.ndarray
) -> None:
    (graph,) = source.manifest.graphs
    sums = norm_sums(OnnxRuntime(), model_of(source), graph, inputs)
    made = make_site_variant(source, "north", sums, frames=len(inputs))
    changed = model_of(StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs))
    before, after = read_norms(model_of(source), graph), read_norms(changed, graph)
    assert graph.norms is not None
    for norm in graph.norms:
        session = OnnxRuntime().open(with_outputs(changed, [norm.values]), threads=1)
        seen = session.run_named({graph.input: inputs}, [norm.values])[norm.values]
        flat = np.moveaxis(seen, 1, -1).reshape(-1, seen.shape[1]).astype(np.float64)
        np.testing.assert_allclose(after[norm.mean], (before[norm.mean] + flat.mean(0)) / 2, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(after[norm.variance], (before[norm.variance] + flat.var(0)) / 2, rtol=1e-3)


def test_only_statistics_differ_and_the_bundle_is_whole(
    source: StoredBundle, inputs: np.ndarray, tmp_path: Any
) -> None:
    (graph,) = source.manifest.graphs
    sums = norm_sums(OnnxRuntime(), model_of(source), graph, inputs)
    made = make_site_variant(source, "north", sums, frames=len(inputs))
    again = make_site_variant(source, "north", sums, frames=len(inputs))
    assert made.digest == again.digest
    assert made.manifest.provenance.site == "north"
    assert made.manifest.provenance.variant_of == source.digest
    assert made.manifest.labels == source.manifest.labels
    stored = StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)
    ours, theirs = read_weights(model_of(stored))[1], read_weights(model_of(source))[1]
    differing = {name for name in theirs if not np.array_equal(ours[name], theirs[name])}
    assert differing == {name for norm in graph.norms or () for name in (norm.mean, norm.variance)}
    write_bundle(tmp_path / "bundle", made.manifest, made.blobs)
    verify_bundle(tmp_path / "bundle", OnnxRuntime())
    pipeline = open_pipeline(made.manifest, made.digest, made.blobs.__getitem__, OnnxRuntime())
    pipeline.check_golden()


def test_sums_of_two_devices_are_as_good_as_those_of_one(source: StoredBundle, inputs: np.ndarray) -> None:
    (graph,) = source.manifest.graphs
    whole = norm_sums(OnnxRuntime(), model_of(source), graph, inputs)
    halves = [norm_sums(OnnxRuntime(), model_of(source), graph, part) for part in np.array_split(inputs, 2)]
    joined = [one + other for one, other in zip(*halves, strict=True)]
    np.testing.assert_allclose(joined[0].total, whole[0].total, rtol=1e-4)  # the first norm depends on no other
    assert [one.count for one in joined] == [one.count for one in whole]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda sums: sums[:-1], "sums_wrong", "3 sums for 4 norms"),
        (lambda sums: [*sums[:-1], ChannelSums.of(np.ones((4, 3)))], "sums_wrong", "have 3 channels"),
    ],
)
def test_sums_of_another_network_are_refused(
    source: StoredBundle, inputs: np.ndarray, change: Any, code: str, words: str
) -> None:
    sums = norm_sums(OnnxRuntime(), model_of(source), source.manifest.graphs[0], inputs)
    with pytest.raises(NotValid, match=words) as caught:
        make_site_variant(source, "north", change(sums), frames=len(inputs))
    assert caught.value.code == code


def site_sums(source: StoredBundle, inputs: np.ndarray, **more: Any) -> SiteSums:
    """What the hub hands to a worker."""
    sums = norm_sums(OnnxRuntime(), model_of(source), source.manifest.graphs[0], inputs)
    values = {"use_case": "u", "site": "north", "bundle": source.digest, "frames": len(inputs), "devices": 2,
              "events": ("0" * 32,), "norms": tuple(norm_sum(one) for one in sums)}  # fmt: skip
    return SiteSums(**{**values, **more})


def test_a_worker_makes_the_same_variant_from_the_sums_as_they_are_told(
    source: StoredBundle, inputs: np.ndarray
) -> None:
    (graph,) = source.manifest.graphs
    sums = norm_sums(OnnxRuntime(), model_of(source), graph, inputs)
    direct = make_site_variant(source, "north", sums, frames=len(inputs))
    told = adapt(source, site_sums(source, inputs), "d" * 64)
    assert told.manifest.provenance.sums == "d" * 64
    assert "variant of" in told.log[0]
    assert "north" in told.log[0]
    ours, theirs = (read_norms(made.blobs[made.manifest.blobs[graph.blob].sha256], graph) for made in (told, direct))
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-4, atol=1e-5)


def test_sums_of_another_bundle_and_of_other_channels_fail_in_one_sentence(
    source: StoredBundle, inputs: np.ndarray
) -> None:
    with pytest.raises(NotValid, match="the sums are of bundle ffffffffffff"):
        adapt(source, site_sums(source, inputs, bundle="f" * 64), "d" * 64)
    narrow = norm_sum(ChannelSums.of(np.ones((40, 3))))
    norms = (*site_sums(source, inputs).norms[:-1], narrow)
    with pytest.raises(NotValid, match="have 3 channels, the network"):
        adapt(source, site_sums(source, inputs, norms=norms), "d" * 64)


def test_a_few_frames_make_no_variant(source: StoredBundle, inputs: np.ndarray) -> None:
    sums = norm_sums(OnnxRuntime(), model_of(source), source.manifest.graphs[0], inputs[:5])
    with pytest.raises(NotValid, match="5 frames are behind the sums, needs 16"):
        make_site_variant(source, "north", sums, frames=5)


def test_a_variant_and_a_bundle_without_norms_have_no_site_variant(source: StoredBundle, world: Any) -> None:
    small = make_variants(source, ["fp16"], world.surfaces(8)).made.get("fp16")
    assert small is not None
    stored = StoredBundle(manifest=small.manifest, digest=small.digest, blobs=small.blobs)
    with pytest.raises(NotValid, match="is a variant itself"):
        make_site_variant(stored, "north", [], frames=100)
    bare = source.manifest.model_copy(
        update={"graphs": (source.manifest.graphs[0].model_copy(update={"norms": None}),)}
    )
    with pytest.raises(NotValid, match="no normalisation"):
        make_site_variant(replace(source, manifest=bare), "north", [], frames=100)


def test_arrays_are_exchanged_in_place_and_only_whole(source: StoredBundle) -> None:
    model = model_of(source)
    norm = norms_of(model)[0]
    width = len(read_weights(model)[1][norm.mean])
    changed = with_arrays(model, {norm.mean: np.arange(width, dtype=np.float32)})
    onnx.checker.check_model(onnx.load_model_from_string(changed))
    assert read_weights(changed)[1][norm.mean].tolist() == list(range(width))
    assert len(changed) == len(model)
    with pytest.raises(NotValid, match="has none of that name"):
        with_arrays(model, {"nothing": np.zeros(8, np.float32)})
    with pytest.raises(NotValid, match="has one of"):
        with_arrays(model, {norm.mean: np.zeros(width + 1, np.float32)})


def test_inner_tensors_become_outputs_behind_those_that_are_there(source: StoredBundle, inputs: np.ndarray) -> None:
    (graph,) = source.manifest.graphs
    norm = norms_of(model_of(source))[0]
    session = OnnxRuntime().open(with_outputs(model_of(source), [norm.values]), threads=1)
    assert [one.name for one in session.outputs] == [graph.scores, graph.embedding, norm.values]
    plain = OnnxRuntime().open(model_of(source), threads=1).run(inputs[:2])
    np.testing.assert_allclose(session.run(inputs[:2])[graph.scores], plain[graph.scores], atol=1e-5)
