"""Hostile bundles and networks, made by code: nothing here is stored, and the benchmark uses the same ones."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgewise.frames import golden_inputs
from edgewise.ports import OnnxRuntime, open_bundle, pack_bundle, write_bundle
from edgewise.wire import Blob, Golden, Graph, Manifest, Needs, Provenance, TableSpec, canonical, digest, encode, loads

SPEC = TableSpec(columns=("a", "b"), fill=(0.0, 0.0), mean=(0.0, 0.0), std=(1.0, 1.0))
NODES = [helper.make_node("MatMul", ["x", "w"], ["raw"]), helper.make_node("Softmax", ["raw"], ["y"], axis=1)]


def weights(values: Any = None, name: str = "w") -> TensorProto:
    return numpy_helper.from_array(np.ones((2, 2), np.float32) if values is None else np.asarray(values), name)


def network(
    nodes: list[NodeProto] | None = None,
    tensors: list[TensorProto] | None = None,
    *,
    opset: int = 17,
    functions: list[FunctionProto] | None = None,
    domains: tuple[str, ...] = (),
    change: Callable[[ModelProto], object] = lambda _: None,
) -> bytes:
    """An ONNX file; without arguments a good one."""
    graph = helper.make_graph(
        nodes or NODES,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights()] if tensors is None else tensors,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9, functions=functions or [])
    change(model)
    return model.SerializeToString()


def manifest_of(model: bytes, **changes: Any) -> Manifest:
    scores = OnnxRuntime().open(network()).run(golden_inputs(SPEC, 1, 2))["y"]
    fields: dict[str, Any] = {
        "name": "hostile",
        "task": "tabular-classification",
        "graphs": (Graph(blob="net", input="x", scores="y", pre=SPEC),),
        "labels": ("good", "bad"),
        "golden": Golden(seed=1, count=2, scores=tuple(tuple(float(value) for value in row) for row in scores)),
        "needs": Needs(opset=17, ram_mb=1, latency_ms=1),
        "provenance": Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="none", code_version="0"),
        "blobs": {"net": Blob(sha256=digest(model), size_bytes=len(model))},
    }
    return Manifest(**fields | changes)


def bundle_folder(folder: Path, model: bytes | None = None, *more: bytes) -> Path:
    """A bundle around a network, with more blobs beside it where they are given."""
    model = network() if model is None else model
    blobs = {digest(data): data for data in (model, *more)}
    named = {"net": model, **{f"extra{index}": data for index, data in enumerate(more)}}
    about = {name: Blob(sha256=digest(data), size_bytes=len(data)) for name, data in named.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(folder, manifest_of(model, blobs=about), blobs)
    return folder


# -- networks ----------------------------------------------------------------------------------------------------------


def external(location: str) -> bytes:
    tensor = weights()
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return network(tensors=[tensor])


def shaped(*dims: int) -> bytes:
    tensor = weights()
    del tensor.dims[:]
    tensor.dims.extend(dims)
    return network(tensors=[tensor])


def custom(domain: str = "evil", operator: str = "Run") -> NodeProto:
    return helper.make_node(operator, ["x"], ["y"], domain=domain)


def within(depth: int, node: NodeProto) -> NodeProto:
    """The node inside `depth` branches."""
    for _ in range(depth):
        out = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        branch = helper.make_graph([node], "b", [], [out])
        node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    return node


def function(name: str, nodes: list[NodeProto], domain: str = "mine") -> FunctionProto:
    return helper.make_function(domain, name, ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])


def call(name: str, out: str = "y") -> NodeProto:
    return helper.make_node(name, ["x"], [out], domain="mine")


def laughs() -> bytes:
    """Functions that call each other ten times each, eight deep."""
    made = [function("f0", [helper.make_node("Relu", ["x"], ["y"])])]
    for level in range(1, 9):
        calls = [call(f"f{level - 1}", f"v{index}") for index in range(9)] + [call(f"f{level - 1}")]
        made.append(function(f"f{level}", calls))
    return network([call("f8")], functions=made, domains=("mine",))


def memory_bomb() -> bytes:
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["wide"], value=one),
        helper.make_node("ReduceSum", ["wide"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return network(nodes, [numpy_helper.from_array(np.array([30_000, 30_000], np.int64), "size")])


def endless_loop() -> bytes:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Relu", ["v"], ["v_next"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("go_on", TensorProto.BOOL, []), info("v_next", TensorProto.FLOAT, None)],
    )
    times = numpy_helper.from_array(np.array(2**62, np.int64), "times")
    yes = numpy_helper.from_array(np.array(True), "yes")
    return network([helper.make_node("Loop", ["times", "yes", "x"], ["y"], body=body)], [times, yes])


def message(number: int, body: bytes) -> bytes:
    """One length-delimited field of Protocol Buffers."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def nested(depth: int) -> bytes:
    """A graph in an attribute of a node in a graph …"""
    inner = b""
    for _ in range(depth):
        inner = message(1, message(4, b"If") + message(5, message(6, inner)))
    return message(8, b"\x10\x11") + message(7, inner)


def torch_file() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": 1}))
    return out.getvalue()


def object_array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return out.getvalue()


def set_twice(model: bytes) -> bytes:
    """A tensor that says its type twice: parsers take the last one."""
    tensor = weights().SerializeToString()
    assert tensor in model
    return model.replace(message(5, tensor), message(5, tensor + b"\x10\x01"))


NAN, INFINITE = [[1, np.nan], [1, 1]], [[1, np.inf], [1, 1]]
YES = numpy_helper.from_array(np.array(True), "yes")

# name -> the network's file, and the code of its refusal
NETWORKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "external data out of the folder": (lambda: external("../../etc/passwd"), "external_data"),
    "external data at an absolute path": (lambda: external("/etc/passwd"), "external_data"),
    "external data beside the file": (lambda: external("weights.bin"), "external_data"),
    "a custom operator": (lambda: network([custom()], domains=("evil",)), "operator_custom"),
    "an operator that reads a file": (lambda: network([custom("com.microsoft", "EPContext")]), "operator_custom"),
    "a custom operator in a branch": (
        lambda: network([within(3, custom())], [YES], domains=("evil",)),
        "operator_custom",
    ),
    "a custom operator in a function": (
        lambda: network([call("f")], functions=[function("f", [custom()])], domains=("mine", "evil")),
        "operator_custom",
    ),
    "a function in place of a standard operator": (
        lambda: network(functions=[function("MatMul", [custom()], domain="")], domains=("evil",)),
        "operator_hidden",
    ),
    "a function that calls itself": (
        lambda: network([call("f")], functions=[function("f", [call("f")])], domains=("mine",)),
        "function_endless",
    ),
    "functions that multiply": (laughs, "too_many_nodes"),
    "huge dimensions": (lambda: shaped(2**40, 2**40), "shape_huge"),
    "dimensions that overflow to a small product": (lambda: shaped(2**32, 2**32, 4), "shape_huge"),
    "a negative dimension": (lambda: shaped(-2, -2), "shape_huge"),
    "more values declared than held": (lambda: shaped(1000, 1000), "shape_wrong"),
    "a huge input": (
        lambda: network(
            change=lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim.add(), "dim_value", 2**40)
        ),
        "shape_huge",
    ),
    "an opset beyond the runtime": (lambda: network(opset=99), "opset_beyond"),
    "a format beyond the runtime": (
        lambda: network(change=lambda model: setattr(model, "ir_version", 99)),
        "opset_beyond",
    ),
    "an opset beyond the manifest": (lambda: network(opset=18), "opset_wrong"),
    "NaN weights": (lambda: network(tensors=[weights(np.float32(NAN))]), "weights_not_finite"),
    "infinite weights": (lambda: network(tensors=[weights(np.float32(INFINITE))]), "weights_not_finite"),
    "NaN weights in half precision": (lambda: network(tensors=[weights(np.float16(NAN))]), "weights_not_finite"),
    "NaN weights as numbers": (
        lambda: network(tensors=[helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1, 1, np.nan, 1])]),
        "weights_not_finite",
    ),
    "NaN in a list": (
        lambda: network([*NODES, helper.make_node("Upsample", ["x"], ["u"], scales=[1.0, float("nan")])]),
        "weights_not_finite",
    ),
    "NaN in a long list": (
        lambda: network([*NODES, helper.make_node("Upsample", ["x"], ["u"], scales=[1.0] * 999 + [float("nan")])]),
        "weights_not_finite",
    ),
    "a pickle": (lambda: pickle.dumps({"weight": 1}), "foreign_file"),
    "a torch file": (torch_file, "foreign_file"),
    "a joblib file": (lambda: zlib.compress(pickle.dumps({"weight": 1})), "foreign_file"),
    "a numpy array of objects": (object_array, "foreign_file"),
    "graphs nested deep": (lambda: nested(1000), "too_deep"),
    "branches that multiply": (lambda: network([within(12, NODES[1])], [YES]), "too_much_memory"),
    "two graphs": (lambda: network() + message(7, b""), "onnx_ambiguous"),
    "very many fields": (lambda: network() + b"\x72\x00" * 1_000_000, "onnx_invalid"),
    "a tag that parsers cut": (lambda: network() + b"\xba\x80\x80\x80\x10\x00", "onnx_invalid"),
    "a type said twice": (lambda: set_twice(network()), "onnx_ambiguous"),
    "names that are not UTF-8": (lambda: network().replace(b"Softmax", b"Soft\xff\xfe\xff"), "text_invalid"),
    "a name of a megabyte": (
        lambda: network([*NODES, helper.make_node("Relu", ["x"], ["z"], name="n" * 1_000_000)]),
        "text_long",
    ),
    "training steps": (lambda: network(change=lambda model: model.training_info.add()), "training_info"),
    "a file that ends early": (lambda: network()[:-7], "onnx_invalid"),
    "an empty file": (lambda: b"", "onnx_invalid"),
    "random bytes": (lambda: np.random.default_rng(1).bytes(10_000), "onnx_invalid"),
    "shapes that do not fit": (lambda: network(tensors=[weights(np.ones((3, 2), np.float32))]), "network_fails"),
    "memory without end": (memory_bomb, "too_much_memory"),
    "a loop without end": (endless_loop, "too_slow"),
}


# -- packed files ------------------------------------------------------------------------------------------------------


def zip_of(file: Path, entries: list[tuple[str, bytes]], *, mode: int = 0o100644, **how: Any) -> Path:
    """A zip archive as other tools write it."""
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr, info.create_version, info.create_system = mode << 16, 20, 3
            archive.writestr(info, data, **how)
    return file


def entries_of(folder: Path) -> list[tuple[str, bytes]]:
    with open_bundle(folder) as opened:
        blobs = [(f"blobs/{name}", b"".join(opened.pieces(name))) for name in opened.names]
        return [("manifest.json", opened.manifest_bytes), *blobs]


def packed_with(file: Path, folder: Path, *more: tuple[str, bytes], **how: Any) -> Path:
    return zip_of(file, [*entries_of(folder), *more], **how)


def renamed(file: Path, folder: Path, name: str) -> Path:
    return packed_with(file, folder, (name, b"content"))


def overlapping(file: Path, folder: Path) -> Path:
    """Two entries of the index that share their bytes."""
    pack_bundle(folder, file)
    data = bytearray(file.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, 0)
    file.write_bytes(data)
    return file


def edited(file: Path, folder: Path, change: Callable[[bytes], bytes]) -> Path:
    pack_bundle(folder, file)
    file.write_bytes(change(file.read_bytes()))
    return file


def linked(file: Path, folder: Path) -> Path:
    return packed_with(file, folder, mode=0o120777)


def deflated(file: Path, folder: Path) -> Path:
    return packed_with(file, folder, compress_type=zipfile.ZIP_DEFLATED)


def bomb(file: Path, folder: Path) -> Path:
    """A gigabyte of zeros in a megabyte."""
    entries = entries_of(folder)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    crc, packed, piece = 0, b"", bytes(1 << 20)
    for _ in range(1024):
        crc, packed = zlib.crc32(piece, crc), packed + packer.compress(piece)
    packed += packer.flush()
    zip_of(file, [*entries, ("blobs/" + "f" * 64, b"\x01" * len(packed))])
    data = bytearray(file.read_bytes().replace(b"\x01" * len(packed), packed))
    for magic, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        header = data.rindex(magic)
        struct.pack_into("<H", data, header + at, 8)
        struct.pack_into("<III", data, header + at + 6, crc, len(packed), 1 << 30)
    file.write_bytes(data)
    return file


PACKED: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "a path out of the folder": (lambda file, folder: renamed(file, folder, "../../evil"), "entry_name"),
    "a path with backslashes": (lambda file, folder: renamed(file, folder, "..\\evil"), "entry_name"),
    "an absolute path": (lambda file, folder: renamed(file, folder, "/etc/cron.d/evil"), "entry_name"),
    "a drive": (lambda file, folder: renamed(file, folder, "C:/evil"), "entry_name"),
    "names that differ in case": (lambda file, folder: renamed(file, folder, "Manifest.JSON"), "entry_name"),
    "names that differ in their Unicode form": (
        lambda file, folder: renamed(file, folder, "manifest.jſon"),
        "entry_name",
    ),
    "full-width letters": (lambda file, folder: renamed(file, folder, "ｍanifest.json"), "entry_name"),
    "a name twice": (lambda file, folder: packed_with(file, folder, entries_of(folder)[-1]), "entry_name"),
    "a symbolic link": (linked, "entry_special"),
    "a device": (lambda file, folder: packed_with(file, folder, mode=0o020666), "entry_special"),
    "compressed entries": (deflated, "entry_compressed"),
    "a decompression bomb": (bomb, "entry_compressed"),
    "entries that overlap": (overlapping, "packed_invalid"),
    "an archive in the archive": (
        lambda file, folder: renamed(file, folder, "blobs/inner.zip"),
        "entry_name",
    ),
    "a blob that the manifest does not name": (
        lambda file, folder: renamed(file, folder, "blobs/" + "f" * 64),
        "bundle_corrupt",
    ),
    "a blob that is missing": (lambda file, folder: zip_of(file, entries_of(folder)[:1]), "bundle_corrupt"),
    "other bytes in a blob": (
        lambda file, folder: zip_of(file, [*entries_of(folder)[:1], (entries_of(folder)[1][0], b"evil")]),
        "bundle_corrupt",
    ),
    "bytes before the archive": (
        lambda file, folder: edited(file, folder, lambda data: b"#!" + data),
        "packed_invalid",
    ),
    "bytes behind the archive": (lambda file, folder: edited(file, folder, lambda data: data + b"x"), "packed_invalid"),
    "a comment": (
        lambda file, folder: edited(file, folder, lambda data: data[:-2] + b"\x01\x00x"),
        "packed_invalid",
    ),
    "a file that ends early": (lambda file, folder: edited(file, folder, lambda data: data[:-100]), "packed_invalid"),
    "an index of 65535 entries": (
        lambda file, folder: edited(file, folder, lambda data: data[:-14] + b"\xff" * 4 + data[-10:]),
        "packed_invalid",
    ),
}


# -- folders and manifests ---------------------------------------------------------------------------------------------


def blob_of(folder: Path) -> Path:
    return next((folder / "blobs").iterdir())


def with_link(folder: Path) -> None:
    blob = blob_of(folder)
    blob.rename(folder.parent / "outside")
    blob.symlink_to(folder.parent / "outside")


def with_pipe(folder: Path) -> None:
    blob = blob_of(folder)
    blob.unlink()
    os.mkfifo(blob)


def with_linked_folder(folder: Path) -> None:
    (folder / "blobs").rename(folder.parent / "elsewhere")
    (folder / "blobs").symlink_to(folder.parent / "elsewhere")


def with_manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_bytes(canonical(loads(file.read_bytes()) | changes))

    return change


def with_blob(data: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        model = blob_of(folder).read_bytes()
        about = {
            "net": Blob(sha256=digest(model), size_bytes=len(model)),
            "sketch": Blob(sha256=digest(data), size_bytes=len(data)),
        }
        (folder / "blobs" / digest(data)).write_bytes(data)
        (folder / "manifest.json").write_bytes(encode(manifest_of(model, blobs=about)))

    return change


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a blob that is a symbolic link": (with_link, "entry_special"),
    "blobs behind a symbolic link": (with_linked_folder, "entry_special"),
    "a blob that is a pipe": (with_pipe, "entry_special"),
    "a blob with other bytes": (lambda folder: blob_of(folder).write_bytes(b"evil"), "bundle_corrupt"),
    "a blob that ends early": (
        lambda folder: blob_of(folder).write_bytes(blob_of(folder).read_bytes()[:-1]),
        "bundle_corrupt",
    ),
    "a pickle beside the network": (with_blob(pickle.dumps({"a": 1})), "foreign_file"),
    "an archive beside the network": (with_blob(torch_file()), "foreign_file"),
    "a manifest with very many fields": (with_manifest(more=[[]] * 400_000), "manifest_huge"),
    "a manifest of five megabytes": (with_manifest(card="x" * 5_000_000), "manifest_huge"),
    "a field that is too long": (with_manifest(licence="x" * 1000), "bundle_corrupt"),
    "very many wrong values": (with_manifest(labels=[1] * 90_000), "bundle_corrupt"),
    "golden inputs without end": (
        with_manifest(
            golden={"seed": 1, "count": 64, "scores": [[0.5, 0.5]], "tolerance": 0.1},
            graphs=[
                {
                    "name": "main", "blob": "net", "input": "x", "scores": "y",
                    "pre": {"kind": "image", "width": 4096, "height": 4096, "channels": 3},
                }
            ],
        ),
        "golden_huge",
    ),
    "a graph that names no blob": (
        with_manifest(blobs={}),
        "bundle_corrupt",
    ),
    "a manifest that is not UTF-8": (
        lambda folder: (folder / "manifest.json").write_bytes(b'{"name": "\xff\xfe"}'),
        "bundle_corrupt",
    ),
    "a manifest nested deep": (
        lambda folder: (folder / "manifest.json").write_bytes(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
        "bundle_corrupt",
    ),
}  # fmt: skip
