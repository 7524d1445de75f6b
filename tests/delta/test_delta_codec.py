from __future__ import annotations

import io
import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.delta import Limits, _encode, decode, encode, summary
from edgewise.wire import NotValid, digest


def applied(base, delta: bytes, **options) -> bytes:
    out = io.BytesIO()
    decode(base, io.BytesIO(delta), out, **options)
    return out.getvalue()


def both(as_onnx, weights, tuned, change):
    return as_onnx(change(weights)), as_onnx(change(tuned))


def half(weights):
    return {name: array.astype(np.float16) for name, array in weights.items()}


def eighth(weights):
    return {name: np.clip(np.rint(array * 600), -127, 127).astype(np.int8) for name, array in weights.items()}


def odd_floats(weights):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-38, 3e38], np.float32)
    return {name: np.where(array > 0.05, np.resize(special, array.shape), array) for name, array in weights.items()}


CHANGES = {
    "float32": dict,
    "float16": half,
    "float64": lambda weights: {name: array.astype(np.float64) * np.pi for name, array in weights.items()},
    "int8": eighth,
    "uint8": lambda weights: {
        name: (array.astype(np.int16) + 128).astype(np.uint8) for name, array in eighth(weights).items()
    },
    "int32": lambda weights: {name: (array * 1e6).astype(np.int32) for name, array in weights.items()},
    "special numbers": odd_floats,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_number_type_comes_back_bit_for_bit_and_smaller_than_packed(as_onnx, weights, tuned, change):
    base, target = both(as_onnx, weights, tuned, CHANGES[change])
    delta = encode(base, target)
    assert applied(base, delta) == target
    assert not summary(io.BytesIO(delta)).full
    assert len(delta) < 0.9 * len(
        _encode._full(memoryview(target), _encode._summary(memoryview(base), memoryview(target)))
    )


def test_an_unchanged_model_costs_only_a_header(pair):
    base, _ = pair
    assert len(encode(base, base)) < 200


def test_only_the_changed_tensor_is_sent(as_onnx, weights, tuned):
    base, target = as_onnx(weights), as_onnx(weights | {"bias": tuned["bias"]})
    assert len(encode(base, target)) < 600


def test_tensors_that_moved_are_copied(as_onnx, weights):
    base, target = as_onnx(weights), as_onnx(dict(reversed(weights.items())))
    delta = encode(base, target)
    assert applied(base, delta) == target
    assert len(delta) < 0.02 * len(target)


def test_scaled_channels_cost_a_gain_each(as_onnx, weights):
    gains = np.linspace(0.9, 1.1, 64).astype(np.float32).reshape(64, 1, 1, 1)
    base, target = as_onnx(weights), as_onnx(weights | {"third": weights["third"] * gains})
    delta = encode(base, target)
    assert applied(base, delta) == target
    assert len(delta) < 0.15 * len(target)


def test_trees_that_grew_are_copied_up_to_the_new_ones(as_onnx):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(3000).round(3).tolist()
    counts = rng.integers(0, 500, 3000).tolist()
    base = as_onnx({}, {"nodes_values": values[:2500], "nodes_featureids": counts[:2500]})
    target = as_onnx({}, {"nodes_values": values, "nodes_featureids": counts})
    delta = encode(base, target)
    assert applied(base, delta) == target
    assert len(delta) < 0.2 * len(target)


def test_integers_of_every_size_come_back(as_onnx):
    rng = np.random.default_rng(0)
    numbers = [int(sign * 2**power) for power in range(0, 63) for sign in (1, -1)] + rng.integers(-9, 9, 100).tolist()
    base, target = as_onnx({}, {"ints": [1] * 70}), as_onnx({}, {"ints": numbers})
    assert applied(base, encode(base, target)) == target


def test_an_unrelated_file_costs_at_most_60_bytes_more_than_packed():
    rng = np.random.default_rng(0)
    for target in (rng.bytes(300_000), b"", b"x", b"words " * 5000):
        base = rng.bytes(1000)
        delta = encode(base, target)
        assert applied(base, delta) == target
        whole = _encode._full(memoryview(target), _encode._summary(memoryview(base), memoryview(target)))
        assert len(delta) <= len(whole)
        assert len(whole) <= len(_encode.zstd_encode(target)) + 60


def test_a_text_that_changed_little_is_patched():
    rng = np.random.default_rng(0)
    words = [rng.bytes(8).hex() for _ in range(20_000)]
    base = " ".join(words).encode()
    words[5000:5003] = ["new", "words", "here"]
    delta = encode(base, " ".join(words).encode())
    assert applied(base, delta) == " ".join(words).encode()
    assert len(delta) < 500


def test_a_full_delta_needs_no_base():
    target = np.random.default_rng(0).bytes(5000)
    delta = encode(b"", target)
    assert summary(io.BytesIO(delta)).full
    assert applied(None, delta) == target


def test_a_delta_that_needs_a_base_says_which(pair):
    base, target = pair
    with pytest.raises(NotValid, match=digest(base)):
        applied(None, encode(base, target))


def test_the_base_may_be_a_file_bytes_or_a_mapping(pair, tmp_path):
    base, target = pair
    delta = encode(base, target)
    path = tmp_path / "base.onnx"
    path.write_bytes(base)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        assert applied(file, delta) == applied(mapping, delta) == applied(bytearray(base), delta) == target
    with path.open("rb", buffering=0) as unbuffered:
        assert applied(unbuffered, delta) == target


def test_the_same_pair_always_gives_the_same_delta(pair):
    assert encode(*pair) == encode(*pair)


def test_thorough_is_never_larger(pair):
    assert len(encode(*pair, thorough=True)) <= len(encode(*pair))


def test_the_summary_names_both_versions(pair):
    base, target = pair
    told = summary(io.BytesIO(encode(base, target)))
    assert (told.base_sha256, told.base_size_bytes) == (digest(base), len(base))
    assert (told.target_sha256, told.target_size_bytes) == (digest(target), len(target))


class Counting(io.BytesIO):
    """Counts the bytes read."""

    taken = 0

    def read(self, size=-1):
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.parametrize("kind", ["changes", "patch", "full"])
def test_an_apply_goes_on_from_any_byte(as_onnx, kind):
    rng = np.random.default_rng(0)
    old = {f"w{index}": rng.standard_normal((256, 600)).astype(np.float32) for index in range(4)}
    new = {name: array + rng.standard_normal(array.shape).astype(np.float32) * 1e-3 for name, array in old.items()}
    trees = {"nodes_values": rng.standard_normal(200).tolist(), "nodes_ids": rng.integers(0, 999, 200).tolist()}
    if kind != "changes":  # packing noise is slow; what did not change is packed fast
        new = {"other": old["w1"][:100] + 1, **old} if kind == "patch" else {"w0": old["w0"].round(1)}
    base, target = as_onnx(old), as_onnx(new, trees)
    views = memoryview(base), memoryview(target)
    told = _encode._summary(*views)
    delta = {
        "changes": lambda: _encode._changes(*views, told),
        "patch": lambda: _encode._patch(*views, told),
        "full": lambda: _encode._full(views[1], told),
    }[kind]()
    read = []
    for written in (0, 1, 1000, len(target) // 2, len(target) - 300, len(target) - 1, len(target)):
        out, source = io.BytesIO(target[:written]), Counting(delta)
        decode(base, source, out, written=written)
        assert out.getvalue() == target
        read.append(source.taken)
    if kind == "changes":
        assert read[-1] < 0.2 * read[0]  # blocks that were applied before are stepped over, not read


def test_resuming_over_other_bytes_is_refused(pair):
    base, target = pair
    delta = encode(base, target)
    with pytest.raises(Exception, match="SHA-256"):
        decode(base, io.BytesIO(delta), io.BytesIO(b"?" + target[1:900]), written=900)
    for written in (-1, len(target) + 1, 500):
        with pytest.raises(NotValid):
            decode(base, io.BytesIO(delta), io.BytesIO(b"short"), written=written)


shapes = st.sampled_from([(3,), (16,), (4, 4), (8, 20), (5, 3, 3, 3), (40, 60)])
types = st.sampled_from([np.float32, np.float16, np.float64, np.int8, np.uint8, np.int32, np.int64])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_two_models_round_trip(as_onnx, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    base, target = {}, {}
    for index in range(data.draw(st.integers(0, 4))):
        dtype, shape = np.dtype(data.draw(types)), data.draw(shapes)
        size = int(np.prod(shape)) * dtype.itemsize
        base[f"t{index}"] = np.frombuffer(rng.bytes(size), dtype).reshape(shape)
        other = np.frombuffer(rng.bytes(size), dtype).reshape(shape)
        mixed = np.where(rng.random(shape) < data.draw(st.sampled_from([0, 0.1, 1])), other, base[f"t{index}"])
        target[data.draw(st.sampled_from([f"t{index}", f"renamed{index}"]))] = mixed
    old, new = as_onnx(base), as_onnx(target)
    assert applied(old, encode(old, new), limits=Limits(target_bytes_max=len(new))) == new


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_any_two_byte_strings_round_trip(base, target):
    assert applied(base, encode(base, target)) == target
