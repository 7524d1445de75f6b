"""Bundles as folders, runtimes, and the one way to run a bundle."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from edgewise.frames import decode_image, golden_inputs, prepare_image
from edgewise.ports import (
    MemoryRuntime,
    OnnxRuntime,
    Pipeline,
    Runtime,
    StoredBundle,
    open_pipeline,
    read_bundle,
    write_bundle,
)
from edgewise.wire import (
    Blob,
    Golden,
    Graph,
    ImageSpec,
    Manifest,
    Needs,
    NotTrusted,
    NotValid,
    Provenance,
    canonical,
    digest,
    encode,
    loads,
)
from networks import FEATURES, info, onnx_model, picture_network

SPEC = ImageSpec(width=12, height=10, per_image=True)
LABELS = ("none", "crack", "hole")


NETWORKS: dict[str, tuple[Runtime, bytes]] = {
    "onnx": (OnnxRuntime(), picture_network()),
    "memory": (MemoryRuntime(), b'{"classes": 3, "seed": 7, "embedding": 4}'),
}


@pytest.fixture(params=list(NETWORKS))
def network(request) -> tuple[Runtime, bytes]:
    return NETWORKS[request.param]


def manifest_for(runtime: Runtime, model: bytes, **changes: object) -> Manifest:
    inputs = golden_inputs(SPEC, 3, 2)
    scores = runtime.open(model).run(inputs)["scores"]
    fields: dict[str, object] = {
        "name": "demo",
        "task": "image-classification",
        "graphs": (Graph(blob="main", input="input", scores="scores", embedding="embedding", pre=SPEC),),
        "labels": LABELS,
        "good_label": "none",
        "golden": Golden(seed=3, count=2, scores=tuple(tuple(float(value) for value in row) for row in scores)),
        "needs": Needs(opset=17, ram_mb=10, latency_ms=1),
        "provenance": Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="test", code_version="1"),
        "blobs": {"main": Blob(sha256=digest(model), size_bytes=len(model))},
    }
    return Manifest(**(fields | changes))


def pipeline_for(network: tuple[Runtime, bytes], **changes: object) -> Pipeline:
    runtime, model = network
    manifest = manifest_for(runtime, model, **changes)
    return open_pipeline(manifest, digest(encode(manifest)), {digest(model): model}.__getitem__, runtime)


def photograph(seed: int) -> tuple[bytes, str]:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue(), "image/jpeg"


# The pipeline


def test_a_pipeline_prepares_runs_and_decides(network):
    pipeline = pipeline_for(network)
    data, media_type = photograph(1)
    answer = pipeline.answer(data, media_type)
    prepared = prepare_image(decode_image(data, channels=1), SPEC)
    scores, embedding = pipeline.run_prepared(prepared[None])
    assert np.array_equal(answer.scores, scores[0])
    assert embedding is not None
    assert np.array_equal(answer.embedding, embedding[0])
    decision = pipeline.decide(answer, "demo@2")
    assert decision.label == LABELS[int(answer.scores.argmax())]
    assert (decision.bundle, decision.release) == (pipeline.bundle, "demo@2")


def test_many_answers_are_bit_equal_to_single_ones(network):
    pipeline = pipeline_for(network)
    frames = [photograph(seed) for seed in range(6)]
    together = pipeline.answer_many(frames)
    for frame, answer in zip(frames, together, strict=True):
        assert np.array_equal(pipeline.answer(*frame).scores, answer.scores)


def test_an_answer_is_not_changed_by_the_next_one(network):
    pipeline = pipeline_for(network)
    first = pipeline.answer(*photograph(1))
    kept = first.scores.copy()
    pipeline.answer(*photograph(2))
    assert np.array_equal(first.scores, kept)


def test_threads_may_share_a_pipeline(network):
    pipeline = pipeline_for(network)
    frames = [photograph(seed) for seed in range(4)]
    wanted = [answer.scores for answer in pipeline.answer_many(frames)]
    wrong = []

    def ask(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(pipeline.answer(*frames[index]).scores, wanted[index]):
                wrong.append(index)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_golden_outputs_pass_where_they_were_made(network):
    pipeline_for(network).check_golden()


@pytest.mark.parametrize("scores", [((0.0, 0.5, 0.5), (0.2, 0.4, 0.4)), ((1.0, 0.0), (0.0, 1.0))])
def test_golden_outputs_that_differ_are_refused(network, scores):
    with pytest.raises(NotValid, match="golden") as caught:
        pipeline_for(network, golden=Golden(seed=3, count=2, scores=scores)).check_golden()
    assert caught.value.code == "golden_failed"


def test_a_network_that_answers_with_no_number_fails_its_golden_check():
    model = onnx_model(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["wide"]),
            helper.make_node("Sqrt", ["wide"], ["scores"]),
        ],
        [info("input", ["N", 1, 10, 12])],
        [info("scores", ["N", 3])],
        {"w": np.full((FEATURES, 3), np.nan, np.float32)},
    )
    network = (OnnxRuntime(), model)
    graph = Graph(blob="main", input="input", scores="scores", pre=SPEC)
    golden = Golden(seed=3, count=1, scores=((0.2, 0.4, 0.4),))
    with pytest.raises(NotValid, match="golden"):
        pipeline_for(network, graphs=(graph,), golden=golden).check_golden()


def test_a_network_with_a_fixed_batch_of_one_works():
    runtime, model = OnnxRuntime(), picture_network(batch=1)
    scores = NETWORKS["onnx"][0].open(NETWORKS["onnx"][1]).run(golden_inputs(SPEC, 3, 2))["scores"]
    manifest = manifest_for(NETWORKS["onnx"][0], NETWORKS["onnx"][1]).model_copy(
        update={
            "blobs": {"main": Blob(sha256=digest(model), size_bytes=len(model))},
            "golden": Golden(seed=3, count=2, scores=tuple(tuple(float(v) for v in row) for row in scores)),
        }
    )
    pipeline = open_pipeline(manifest, digest(b""), lambda _: model, runtime)
    pipeline.check_golden()
    assert pipeline.answer(*photograph(1)).scores.shape == (3,)


@pytest.mark.parametrize(
    "change",
    [
        {"graphs": (Graph(blob="main", input="picture", scores="scores", pre=SPEC),)},
        {"graphs": (Graph(blob="main", input="input", scores="classes", pre=SPEC),)},
        {"graphs": (Graph(blob="main", input="input", scores="scores", embedding="none", pre=SPEC),)},
        {"graphs": (Graph(blob="main", input="input", scores="scores", pre=SPEC),) * 2},
    ],
)
def test_a_manifest_that_does_not_fit_its_network_is_refused(network, change):
    with pytest.raises(NotValid) as caught:
        pipeline_for(network, **change)
    assert caught.value.code == "bundle_invalid"


def test_labels_that_do_not_fit_the_scores_are_refused(network):
    with pytest.raises(NotValid, match="one score a label"):
        pipeline_for(network, labels=("none", "crack")).answer(*photograph(1))


def test_a_blob_with_other_bytes_never_reaches_the_runtime(network):
    runtime, model = network
    manifest = manifest_for(runtime, model)
    with pytest.raises(NotTrusted):
        open_pipeline(manifest, digest(b""), lambda _: model + b" ", runtime)


# Bundles as folders


@pytest.fixture
def bundle(network) -> StoredBundle:
    runtime, model = network
    manifest = manifest_for(runtime, model)
    return StoredBundle(manifest=manifest, digest=digest(encode(manifest)), blobs={digest(model): model})


def test_a_bundle_comes_back_as_it_was_written(bundle, tmp_path):
    folder = tmp_path / "bundle"
    assert write_bundle(folder, bundle.manifest, bundle.blobs) == bundle.digest
    seen = read_bundle(folder)
    assert (seen.digest, seen.manifest, dict(seen.blobs)) == (bundle.digest, bundle.manifest, dict(bundle.blobs))
    assert seen.manifest_bytes == encode(bundle.manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_writing_the_same_bundle_twice_changes_nothing(bundle, tmp_path):
    for _ in range(2):
        assert write_bundle(tmp_path / "b", bundle.manifest, bundle.blobs) == bundle.digest


def test_a_field_that_we_do_not_know_keeps_its_place_in_the_identity(bundle, tmp_path):
    newer = canonical(loads(encode(bundle.manifest)) | {"from_the_future": {"x": 1}})
    identity = write_bundle(tmp_path / "b", newer, bundle.blobs)
    assert identity == digest(newer) == read_bundle(tmp_path / "b").digest
    assert read_bundle(tmp_path / "b").manifest_bytes == newer


def test_a_missing_or_wrong_blob_leaves_nothing_behind(bundle, tmp_path):
    for blobs in ({}, {name: data[:-1] for name, data in bundle.blobs.items()}, dict.fromkeys(bundle.blobs, b"x" * 9)):
        with pytest.raises(NotTrusted):
            write_bundle(tmp_path / "b", bundle.manifest, blobs)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_never_replaced(bundle, tmp_path):
    (tmp_path / "b").mkdir()
    write_bundle(tmp_path / "b", bundle.manifest, bundle.blobs)  # an empty folder is fine
    other = bundle.manifest.model_copy(update={"card": "another"})
    with pytest.raises(NotValid, match="something else"):
        write_bundle(tmp_path / "b", other, bundle.blobs)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(NotValid, match="something else"):
        write_bundle(tmp_path / "mine", bundle.manifest, bundle.blobs)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def blob_file(folder: Path) -> Path:
    (file,) = (folder / "blobs").iterdir()
    return file


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit in a blob": lambda folder: flip(blob_file(folder)),
    "a cut blob": lambda folder: blob_file(folder).write_bytes(b"short"),
    "a blob that is too long": lambda folder: blob_file(folder).write_bytes(blob_file(folder).read_bytes() + b"x"),
    "a missing blob": lambda folder: blob_file(folder).unlink(),
    "a cut manifest": lambda folder: (folder / "manifest.json").write_bytes(b'{"format": 1'),
    "a manifest with spaces": lambda folder: (folder / "manifest.json").write_bytes(
        (folder / "manifest.json").read_bytes() + b" "
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_bundle_is_not_trusted(bundle, tmp_path, damage):
    write_bundle(tmp_path / "b", bundle.manifest, bundle.blobs)
    DAMAGE[damage](tmp_path / "b")
    with pytest.raises(NotTrusted) as caught:
        read_bundle(tmp_path / "b")
    assert caught.value.code == "bundle_corrupt"


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotValid, match="is not a bundle"):
            read_bundle(folder)


def test_a_stored_bundle_gives_its_blobs_by_digest(bundle):
    (name,) = bundle.blobs
    assert bundle.read_blob(name) == bundle.blobs[name]
    with pytest.raises(NotValid):
        bundle.read_blob(digest(b"another"))
