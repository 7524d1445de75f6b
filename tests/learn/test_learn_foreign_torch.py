"""Networks of PyTorch: TorchScript and exported programs become bundles; what could run code does not pass."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.learn import import_model, read_spec
from edgewise.learn._kinds import kind_of
from edgewise.learn._torch_files import check_formula, checked_exported, checked_script
from edgewise.ports import OnnxRuntime
from edgewise.wire import NotTrusted, NotValid

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch calls its own way of tracing deprecated

SPEC: dict[str, Any] = {
    "name": "press",
    "input": {"kind": "image", "width": 32, "height": 32, "channels": 1},
    "labels": ["ok", "pit"],
    "good_labels": ["ok"],
    "licence": "MIT",
}


class Small(nn.Module):
    """A convolution, a normalisation and a head, with what it saw as a second answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.head(seen), seen


@pytest.fixture(scope="module")
def module() -> Small:
    torch.manual_seed(4)
    return Small().eval()


@pytest.fixture(scope="module")
def exported(module: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "press.pt2"
    free = ({0: torch.export.Dim("N")},)
    torch.export.save(torch.export.export(module, (torch.zeros(2, 1, 32, 32),), dynamic_shapes=free), path)
    return path


@pytest.fixture(scope="module")
def script(module: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "press.pt"
    torch.jit.script(module).save(str(path))
    return path


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> bytes:
    """The archive with entries changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return made.getvalue()


def program(path: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    """An exported program whose description is changed."""

    def changed(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return rewritten(path, changed)


def levels(found: Any, level: str) -> dict[str, str]:
    return {one.about: one.text for one in found.findings if one.level == level}


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_a_network_becomes_a_bundle_that_says_what_it_says(request: Any, world: Any, module: Small, kind: str) -> None:
    path = request.getfixturevalue({"torchscript": "script", "exported": "exported"}[kind])
    spec = read_spec({**SPEC, "scores": "output0", "embedding": "output1"})
    found = import_model(path, spec, now=world.now, samples=world.surfaces(4))
    assert levels(found, "missing") == {}
    assert found.bundle is not None
    assert found.bundle.manifest.provenance.data["source_kind"] == kind
    assert "torch" in found.bundle.manifest.provenance.libraries
    assert found.bundle.manifest.reference is not None
    (network,) = found.bundle.blobs.values()
    inputs = np.random.default_rng(1).standard_normal((3, 1, 32, 32)).astype(np.float32)
    said = OnnxRuntime().open(network, threads=1).run(inputs)
    with torch.no_grad():
        wanted = [one.numpy() for one in module(torch.from_numpy(inputs))]
    assert np.abs(said["output0"] - wanted[0]).max() < 1e-4
    assert np.abs(said["output1"] - wanted[1]).max() < 1e-4


def test_a_program_exported_for_one_picture_at_once_is_compared_so(module: Small, tmp_path: Path, world: Any) -> None:
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 32, 32),)), tmp_path / "one.pt2")
    found = import_model(tmp_path / "one.pt2", read_spec({**SPEC, "scores": "output0"}), now=world.now)
    assert "parity" in levels(found, "found")
    assert "is free now" in levels(found, "assumed")["batch"]


def test_what_the_input_has_to_be_is_said(script: Path, exported: Path, world: Any) -> None:
    wide = read_spec({**SPEC, "input": {"kind": "image", "width": 32, "height": 32, "channels": 3}})
    assert (
        "does not take float32 [4, 3, 32, 32]" in levels(import_model(script, wide, now=world.now), "missing")["input"]
    )
    bare = import_model(exported, None, now=world.now)
    assert "it takes ['N', 1, 32, 32]" in levels(bare, "missing")["input"]


def test_a_pickled_module_and_weights_alone_are_refused_with_what_is_missing(module: Small, tmp_path: Path) -> None:
    torch.save(module, tmp_path / "m.pt")
    with pytest.raises(NotValid, match=r"asks for .*Small, code that would run when it is opened; export"):
        kind_of(tmp_path / "m.pt")
    torch.save(module.state_dict(), tmp_path / "w.pth")
    with pytest.raises(NotValid, match=r"holds weights alone .*: what computes with them is missing"):
        kind_of(tmp_path / "w.pth")
    torch.save(module, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(NotValid, match="runs code when it is opened"):
        kind_of(tmp_path / "old.pt")


def put(value: dict[str, Any], *path: Any, to: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = to


NODE = ("graph_module", "graph", "nodes", 0)
HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a callable by its path": (lambda p: put(p, *NODE, "target", to="torch.hub.load"), "it calls 'torch.hub.load'"),
    "an operator that reads files": (
        lambda p: put(p, *NODE, "target", to="torch.ops.aten.from_file.default"),
        r"it calls 'torch\.ops\.aten\.from_file",
    ),
    "an operator of others": (lambda p: put(p, *NODE, "target", to="torch.ops.mine.op.default"), "it calls"),
    "a way around": (lambda p: put(p, *NODE, "target", to="torch.ops.aten.__class__.x.y"), "it calls"),
    "a formula that is code": (
        lambda p: put(
            p,
            "graph_module",
            "graph",
            "tensor_values",
            "x",
            "sizes",
            0,
            to={"as_expr": {"expr_str": "__import__('os')"}},
        ),
        "holds the formula",
    ),
    "a name that ends a line": (lambda p: put(p, *NODE, "name", to="a\nimport os"), "holds the name"),
    "a parameter that ends a text": (
        lambda p: put(
            p, "graph_module", "signature", "input_specs", 0, "parameter", "parameter_name", to='c")+open("x'
        ),
        "holds the name",
    ),
    "an object": (
        lambda p: put(p, "graph_module", "graph", "custom_obj_values", to={"a": {"name": "a"}}),
        "objects that are no tensors",
    ),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_program_that_names_code_does_not_pass(exported: Path, name: str) -> None:
    change, words = HOSTILE[name]
    checked_exported(exported.read_bytes())
    with pytest.raises(NotTrusted, match=words):
        checked_exported(program(exported, change))


def test_guards_remarks_and_whatever_is_beside_the_network_are_left_out(exported: Path) -> None:
    def more(value: dict[str, Any]) -> None:
        value["guards_code"] = ["__import__('os').abort()"]

    made = checked_exported(program(exported, more))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        value = json.loads(archive.read("model/models/model.json"))
        names = archive.namelist()
    assert value["guards_code"] == []
    assert all(node["metadata"] == {} for node in value["graph_module"]["graph"]["nodes"])
    extra = io.BytesIO(program(exported, more))
    with zipfile.ZipFile(extra, "a") as archive:
        archive.writestr("press/data/constants/opaque_obj_0", b"pickle")
        archive.writestr("press/data/aotinductor/model/a.so", b"code")
    with zipfile.ZipFile(io.BytesIO(checked_exported(extra.getvalue()))) as archive:
        assert archive.namelist() == names


class Trap:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.path,))


def test_a_pickle_inside_an_exported_program_is_not_run(exported: Path, tmp_path: Path, world: Any) -> None:
    trace = tmp_path / "opened"
    sample = io.BytesIO()
    torch.save(Trap(trace), sample)
    torch.load(io.BytesIO(sample.getvalue()), weights_only=False)
    assert trace.exists(), "the trap works"
    trace.rmdir()
    data = rewritten(exported, lambda name, data: sample.getvalue() if name.startswith("data/sample_inputs") else data)
    (tmp_path / "m.pt2").write_bytes(data)
    with pytest.raises(NotTrusted, match="cannot be opened"):
        import_model(tmp_path / "m.pt2", read_spec(SPEC), now=world.now)
    assert not trace.exists()
    weights = rewritten(
        exported,
        lambda name, data: data.replace(b'"use_pickle": false', b'"use_pickle": true') if "config" in name else data,
    )
    with pytest.raises(NotTrusted, match="keeps tensors as pickles"):
        checked_exported(weights)


class Reads(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/passwd", False, 4, dtype=torch.float32)


class Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "out")
        return x


@pytest.mark.parametrize(("made", "words"), [(Reads, "from_file"), (Writes, "save")])
def test_a_script_that_does_more_than_compute_does_not_pass(script: Path, made: type[nn.Module], words: str) -> None:
    checked_script(script.read_bytes())
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(made()), file)
    with pytest.raises(NotTrusted, match=f"its program has .*{words}.*, which does more than compute"):
        checked_script(file.getvalue())


@pytest.mark.parametrize("text", ["2*s0 + 1", "Max(1, s3)", "Symbol('s77', positive=True, integer=True)", "s0 >= 2"])
def test_formulas_of_sizes_pass(text: str) -> None:
    check_formula(text)


@pytest.mark.parametrize(
    "text",
    ["open('x')", "s0.free", "(lambda: 1)()", "[1][0]", "f'{1}'", "Symbol('a b')", "1 if s0 else 2", "(" * 500, "os"],
)
def test_other_formulas_do_not(text: str) -> None:
    with pytest.raises(NotTrusted, match="more than sizes and arithmetic"):
        check_formula(text)


def test_an_archive_with_two_files_of_one_name_does_not_pass(exported: Path) -> None:
    data = io.BytesIO(exported.read_bytes())
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("other/models/model.json", b"{}")
    with pytest.raises(NotTrusted, match="some of one name"):
        checked_exported(data.getvalue())
