"""Hostile bundles: each is refused with its reason, and nothing on disk changes."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise.ports import OnnxRuntime, VetLimits, pack_bundle, read_bundle, verify_bundle, vet_bundle
from edgewise.ports._onnx_check import check
from edgewise.ports._onnx_tensors import Bounds, Unfit
from edgewise.wire import NotNow, NotTrusted, NotValid, digest

# The corpus lies beside the rooms' folders, where other rooms' tests and the benchmark find it too.
_SPEC = importlib.util.spec_from_file_location("hostile_corpus", Path(__file__).parents[1] / "hostile_corpus.py")
assert _SPEC is not None
assert _SPEC.loader is not None
corpus = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(corpus)
FOLDERS, NETWORKS, PACKED = corpus.FOLDERS, corpus.NETWORKS, corpus.PACKED
bundle_folder, manifest_of, network, weights = (
    corpus.bundle_folder, corpus.manifest_of, corpus.network, corpus.weights,
)  # fmt: skip

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What a check leaves behind is seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if "temporary" not in path.parts
    }


def refusal(path: Path) -> NotTrusted:
    before = contents(path.parent)
    with pytest.raises(NotTrusted) as caught:
        verify_bundle(path, OnnxRuntime())
    assert contents(path.parent) == before
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", NETWORKS)
def test_a_hostile_network_is_refused(name: str, tmp_path: Path) -> None:
    make, code = NETWORKS[name]
    assert refusal(bundle_folder(tmp_path / "bundle", make())).code == code


@pytest.mark.parametrize("name", PACKED)
def test_a_hostile_packed_file_is_refused(name: str, tmp_path: Path) -> None:
    make, code = PACKED[name]
    file = make(tmp_path / "bundle.zip", bundle_folder(tmp_path / "bundle"))
    assert refusal(file).code == code
    with pytest.raises(NotTrusted):
        read_bundle(file)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder_is_refused(name: str, tmp_path: Path) -> None:
    change, code = FOLDERS[name]
    folder = bundle_folder(tmp_path / "bundle")
    change(folder)
    assert refusal(folder).code == code


def test_a_good_bundle_is_verified_as_folder_and_as_file(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path / "bundle")
    file = tmp_path / "bundle.zip"
    name = pack_bundle(folder, file)
    assert verify_bundle(folder, OnnxRuntime()).digest == verify_bundle(file, OnnxRuntime()).digest == name
    assert read_bundle(file) == read_bundle(folder)


def test_a_packed_bundle_is_the_same_file_every_time_and_other_tools_read_it(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path / "bundle")
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    pack_bundle(folder, one)
    pack_bundle(one, two)
    assert one.read_bytes() == two.read_bytes()
    pack_bundle(folder, one)  # the same again changes nothing
    with zipfile.ZipFile(one) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "out")
    assert read_bundle(tmp_path / "out") == read_bundle(folder)


def test_packing_never_replaces_another_file(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path / "bundle")
    file = tmp_path / "thesis.zip"
    file.write_bytes(b"years of work")
    with pytest.raises(NotValid, match="something else"):
        pack_bundle(folder, file)
    assert file.read_bytes() == b"years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "temporary", "thesis.zip"]


def test_a_network_that_takes_the_process_down_is_refused_and_this_process_lives(tmp_path: Path) -> None:
    """The memory that the manifest declares is allowed, more is not."""
    folder = bundle_folder(tmp_path / "bundle", network(tensors=[weights()]))
    tight = VetLimits(open_bytes=1 << 10, open_bytes_per_byte=0, ram_share=0)
    with pytest.raises(NotTrusted) as caught:
        verify_bundle(folder, OnnxRuntime(), tight)
    assert caught.value.code in ("too_much_memory", "crashed", "network_fails")


def test_a_machine_that_cannot_start_the_process_says_not_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    file = tmp_path / digest(model)
    file.write_bytes(model)
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    with pytest.raises(NotNow) as caught:
        vet_bundle(manifest_of(model), tmp_path.joinpath, OnnxRuntime())
    assert caught.value.code == "vet_failed"


GOOD = network()


def mutated(data: bytes, seed: int, kind: str) -> bytes:
    at, other = seed % len(data), (seed // 7919) % len(data)
    match kind:
        case "flip":
            return data[:at] + bytes([data[at] ^ 1 << seed % 8]) + data[at + 1 :]
        case "cut":
            return data[:at]
        case "splice":
            return data[:at] + data[other:]
        case _:
            return data[:at] + data[other : other + 16] + data[at:]


@pytest.mark.timeout(120)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**40), kind=st.sampled_from(["flip", "cut", "splice", "insert"]))
def test_a_changed_packed_file_is_refused_or_the_very_same_bundle(tmp_path: Path, seed: int, kind: str) -> None:
    folder = tmp_path / "bundle"
    good = tmp_path / "good.zip"
    if not folder.exists():
        pack_bundle(bundle_folder(folder), good)
    data = mutated(good.read_bytes(), seed, kind)
    file = tmp_path / "changed.zip"
    file.write_bytes(data)
    try:
        seen = read_bundle(file)
    except (NotTrusted, NotValid):
        return
    assert data == good.read_bytes()
    assert seen == read_bundle(folder)


@settings(max_examples=1000, deadline=None)
@given(seed=st.integers(0, 2**40), kind=st.sampled_from(["flip", "cut", "splice", "insert"]))
def test_the_walk_over_a_changed_network_ends_with_a_finding_or_a_refusal(seed: int, kind: str) -> None:
    with contextlib.suppress(Unfit):
        assert check(memoryview(mutated(GOOD, seed, kind)), Bounds()).opset >= 1


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_the_walk_over_any_bytes_ends_with_a_refusal_or_a_finding(data: bytes) -> None:
    with contextlib.suppress(Unfit):
        check(memoryview(data), Bounds())
