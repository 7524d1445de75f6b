"""Deltas that no encoder made: each is refused with a sentence, in bounded time, and never makes half a success."""

from __future__ import annotations

import hashlib
import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise._zstd import zstd
from edgewise.delta import Limits, _container, _encode, decode, encode, snap, summary
from edgewise.delta._numbers import BY_NAME
from edgewise.delta._operations import Copy, Difference, Literal, Numbers, Snapped
from edgewise.wire import NotTrusted, NotValid

REFUSALS = (NotTrusted, NotValid)


def attempt(base, delta: bytes, **limits) -> bytes:
    out = io.BytesIO()
    decode(base, io.BytesIO(delta), out, limits=Limits(**limits))
    return out.getvalue()


@pytest.fixture(scope="module")
def samples(as_onnx, weights, tuned):
    """One delta of each kind with its base and target; together they use every operation."""
    trees = {"nodes_values": [0.1 * index for index in range(90)], "nodes_ids": list(range(400))}
    base = as_onnx(weights | {"small": eight_bits(weights)}, {"nodes_values": [0.0] * 70, "nodes_ids": [1] * 70})
    target = as_onnx(tuned | {"small": eight_bits(tuned)}, trees)
    views = memoryview(base), memoryview(target)
    told = _encode._summary(*views)
    snapped = snap(base, target)
    return {
        "changes": (base, _encode._changes(*views, told), target),
        "snapped": (base, encode(base, snapped), snapped),
        "patch": (base, _encode._patch(*views, told), target),
        "full": (base, _encode._full(views[1], told), target),
    }


def eight_bits(weights):
    return np.clip(np.rint(weights["second"] * 600), -127, 127).astype(np.int8)


KINDS = ["changes", "snapped", "patch", "full"]


def parts_of(delta: bytes) -> tuple[bytes, bytes | None, list[bytes]]:
    """Bytes before the header, the header unpacked (None in a full delta), payloads of the blocks."""
    position, body = 45, None
    if delta[4]:
        (length,) = struct.unpack_from("<I", delta, 85)
        body = zstd.decompress(delta[89 : 89 + length])
        position = 89 + length
    position, payloads = position + 4, []
    while position < len(delta):
        (length,) = struct.unpack_from("<I", delta, position)
        payloads.append(delta[position + 8 : position + 8 + length])
        position += 8 + length
    return delta[: 85 if delta[4] else 45], body, payloads


def sealed(start: bytes, body: bytes | None, payloads: list[bytes]) -> bytes:
    """A delta from such parts, with the check sums made right again."""
    if body is not None:
        packed = zstd.compress(body)
        start += struct.pack("<I", len(packed)) + packed
    return start + struct.pack("<I", zlib.crc32(start)) + b"".join(map(_container.write_block, payloads))


@pytest.mark.parametrize("kind", KINDS)
def test_taken_apart_and_put_together_a_delta_still_works(samples, kind):
    base, delta, target = samples[kind]
    assert attempt(base, sealed(*parts_of(delta))) == target


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_noticed(samples, kind):
    base, delta, _ = samples[kind]
    places = {*range(120), *np.random.default_rng(0).integers(0, len(delta), 150).tolist()}
    for place in places:
        damaged = bytearray(delta)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(REFUSALS):
            attempt(base, bytes(damaged))


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_noticed(samples, kind):
    base, delta, _ = samples[kind]
    for length in {*range(120), *np.random.default_rng(0).integers(0, len(delta), 100).tolist()}:
        with pytest.raises(NotTrusted):
            attempt(base, delta[:length])


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_behind_the_end_are_refused(samples, kind):
    base, delta, _ = samples[kind]
    for extra in (b"x", _container.write_block(b""), _container.write_block(b"more")):
        with pytest.raises(NotTrusted):
            attempt(base, delta + extra)


@pytest.mark.parametrize("kind", ["changes", "snapped", "patch"])
def test_another_base_is_refused_before_anything_is_written(samples, kind):
    base, delta, _ = samples[kind]
    for other in (base[:-1], base + b"x", base[:-1] + b"x", b""):
        out = io.BytesIO()
        with pytest.raises(NotTrusted, match="fetch the delta for this file"):
            decode(other, io.BytesIO(delta), out)
        assert not out.getvalue()


def test_a_well_formed_delta_that_makes_other_bytes_is_refused(samples):
    base, delta, _ = samples["patch"]
    start, body, payloads = parts_of(delta)
    with pytest.raises(NotTrusted, match="SHA-256"):
        attempt(base, sealed(start[:13] + bytes(32) + start[45:], body, payloads))


def test_a_later_version_is_told_apart_from_damage(samples):
    _, delta, _ = samples["full"]
    with pytest.raises(NotValid, match="version 2"):
        attempt(b"", delta[:3] + b"\x02" + delta[4:])
    with pytest.raises(NotTrusted, match="begins with"):
        summary(io.BytesIO(b"PK\x03\x04" + bytes(100)))


@settings(max_examples=250, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_damage_under_right_check_sums_is_refused_or_harmless(samples, kind, data):
    base, delta, target = samples[kind]
    start, body, payloads = parts_of(delta)
    chunks = [bytearray(body or b""), *map(bytearray, payloads)]
    for _ in range(data.draw(st.integers(1, 3))):
        chunk = data.draw(st.sampled_from([each for each in chunks if each]))
        place = data.draw(st.integers(0, len(chunk) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if change == "set":
            chunk[place] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del chunk[place : place + data.draw(st.integers(1, 9))]
        else:
            chunk[place:place] = data.draw(st.binary(min_size=1, max_size=9))
    damaged = sealed(start, bytes(chunks[0]) if body is not None else None, [bytes(each) for each in chunks[1:]])
    began = time.process_time()
    try:
        made = attempt(base, damaged, target_bytes_max=len(target))
    except REFUSALS:
        made = target
    assert made == target
    assert time.process_time() - began < 5


BASE = bytes(range(256)) * 4
FLOAT32, INT8, BFLOAT16 = BY_NAME["float32"], BY_NAME["int8"], BY_NAME["bfloat16"]


def crafted(operations, size: int, payloads=(), dictionaries=()) -> bytes:
    """A delta with these operations, every check sum right."""
    told = _container.Summary(
        full=False,
        target_sha256="00" * 32,
        target_size_bytes=size,
        base_sha256=hashlib.sha256(BASE).hexdigest(),
        base_size_bytes=len(BASE),
    )
    coder = _encode.number_coder_header
    header = _container.Header(
        summary=told, number_coder=coder, operations=tuple(operations), dictionaries=tuple(dictionaries)
    )
    return _container.write_header(header) + b"".join(map(_container.write_block, payloads))


IMPOSSIBLE = {
    "copy behind the base": ([Copy(1000, 100)], 100),
    "copy of more than there is": ([Copy(0, 2**60)], 2**60),
    "nothing written": ([Literal(0)], 0),
    "fewer bytes than the target": ([Copy(0, 10)], 11),
    "more bytes than the target": ([Copy(0, 10), Copy(0, 10)], 11),
    "tensor behind the base": ([Difference(FLOAT32, 1000, 100, 1, 0)], 400),
    "channels that do not divide": ([Difference(FLOAT32, 0, 100, 7, 0)], 400),
    "no channels": ([Difference(FLOAT32, 0, 100, 0, 0)], 400),
    "a channel for every number": ([Difference(FLOAT32, 0, 100, 100, 0)], 400),
    "unknown gain": ([Difference(FLOAT32, 0, 100, 1, 9)], 400),
    "a gain where there is none": ([Difference(BFLOAT16, 0, 100, 1, 16)], 200),
    "snapped behind the base": ([Snapped(1024, 8, 1)], 32),
    "numbers of no size": ([Numbers(True, 64, 1000, 10)], 10),
    "tag that is no tag": ([Numbers(True, 200, 1, 2)], 2),
    "too many operations": ([Literal(1)] * 20_000, 20_000),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_header_is_refused_with_its_reason(what):
    operations, size = IMPOSSIBLE[what]
    with pytest.raises(NotTrusted, match="its header is damaged"):
        attempt(BASE, crafted(operations, size), target_bytes_max=2**62)


def test_a_copy_before_the_base_is_refused():
    with pytest.raises(NotTrusted):
        attempt(BASE, crafted([Copy(-5, 10)], 10))


def test_dictionary_ranges_outside_the_base_or_too_large_are_refused():
    for ranges in (((1000, 100),), ((-1, 10),), ((0, 1024),) * 7000):
        with pytest.raises(NotTrusted, match=r"dictionary|entries"):
            attempt(BASE, crafted([Literal(5)], 5, [b""], [ranges]))


def test_a_target_over_the_limit_is_refused_before_the_header_is_read(samples):
    base, delta, target = samples["full"]
    with pytest.raises(NotTrusted, match=str(len(target) - 1)):
        attempt(base, delta, target_bytes_max=len(target) - 1)


@pytest.mark.parametrize("limit", ["header_bytes_max", "operations_max", "channels_max", "block_bytes_max"])
def test_each_limit_is_kept(samples, limit):
    base, delta, target = samples["changes"]
    assert attempt(base, delta) == target
    with pytest.raises(NotTrusted):
        attempt(base, delta, **{limit: 1})


def zeros(size: int) -> bytes:
    return zstd.compress(bytes(size))


BOMBS = {
    "a header that unpacks to 64 MB": lambda: sealed(crafted([], 0)[:85], bytes(64 << 20), []),
    "a literal that unpacks to 64 MB": lambda: crafted([Literal(5)], 5, [zeros(64 << 20)]),
    "a full file that unpacks to 64 MB": lambda: sealed(
        _encode._full(memoryview(b"x"), _encode._summary(*[memoryview(b"x")] * 2))[:45], None, [zeros(64 << 20)]
    ),
    "a block of 4 GB": lambda: crafted([Literal(5)], 5) + struct.pack("<II", 2**32 - 1, 0),
    "a window of 2 GB": lambda: crafted([Literal(5)], 5, [bytes.fromhex("28b52ffd00a8010000")]),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_at_once(bomb):
    delta = BOMBS[bomb]()
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(NotTrusted):
            attempt(BASE, delta)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 1
    assert peak_bytes < 16 << 20


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(noise):
    for delta in (noise, b"EWD\x01\x00" + noise, b"EWD\x01\x01" + noise):
        with pytest.raises(REFUSALS):
            attempt(BASE, delta)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=120), max_size=4), st.sampled_from([64, 300, 2048]))
def test_noise_in_blocks_is_refused(payloads, count):
    operations = [
        Difference(INT8, 0, count // 4, 1, 12),
        Snapped(0, count // 8, 1),
        Numbers(False, 61, 70, 350),
        Literal(9),
    ]
    size = sum(each.size_bytes for each in operations)
    with pytest.raises(NotTrusted):
        attempt(BASE, crafted(operations, size, payloads))
