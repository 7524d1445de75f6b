"""The command line as people meet it: help, errors, exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from edgewise.cli._app import build
from edgewise.ports import OnnxRuntime, open_pipeline, write_bundle
from edgewise.wire import Blob, Golden, Graph, ImageSpec, Manifest, Needs, Provenance, digest

ROOT = Path(__file__).resolve().parents[2]


def edgewise(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWISE_")}
    return subprocess.run(
        [sys.executable, "-m", "edgewise", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**kept, "COLUMNS": "80", **environment},
        check=False,
    )


def commands(command: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(path, command)]
    return [found for name, one in inner.items() for found in commands(one, (*path, name))]


ALL = commands(get_command(build()))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_has_a_help_with_an_example_and_a_line_in_the_docs(
    path: tuple[str, ...], command: object
) -> None:
    name = "edgewise " + " ".join(path)
    assert getattr(command, "help", None), f"{name} has no help"
    assert f"Example: {name}" in (getattr(command, "epilog", "") or ""), f"{name} has no example"
    page = (ROOT / "docs" / "cli.md").read_text()
    assert re.search(rf"`{re.escape(name)}[ `]", page), f"docs/cli.md has no line for {name}"


def test_help_imports_none_of_the_heavy_libraries() -> None:
    heavy = "{'torch','onnxruntime','numpy','fastapi','sqlalchemy','httpx','pydantic','sklearn'}"
    code = f"import sys, edgewise.cli._app as a; a.build(); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_command_the_help_is_shown() -> None:
    done = edgewise()
    assert "edgewise demo factory --quick" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["score", "nowhere", "--data", "nothing"], 2, "nowhere"),
        (["learn", "train", "--data", "nothing", "-o", "bundle"], 2, "nothing"),
        (["usecase", "check", "nothing.yaml"], 2, "nothing.yaml"),
        (["demo", "factory", "--data", "nothing"], 2, "nothing"),
        (["demo", "bakery"], 2, "bakery"),
        (["release", "list"], 3, "token"),
        (["release", "list", "--token", "x", "--hub", "http://127.0.0.1:9"], 4, "no hub answers"),
        (["edge", "status", "--data-dir", "nowhere"], 2, "nowhere"),
        (["edge", "run", "--data-dir", "nowhere", "--source", "nowhere"], 2, "nowhere"),
        (["edge", "serve", "missing.onnx"], 2, "missing.onnx"),
        (["bundle", "show", "nowhere"], 2, "nowhere"),
        (["bundle", "verify", "nowhere"], 2, "nowhere"),
        (["bundle", "variants", "nowhere", "-o", "out"], 2, "nowhere"),
        (["bundle", "pack", "nowhere", "-o", "out.zip"], 2, "nowhere"),
        (["rollout", "create", "a@1", "--wave", "some%"], 2, "some"),
    ],
)
def test_bad_input_gives_one_clear_sentence_and_a_stable_exit_code(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    done = edgewise(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing may be left half-written"


def test_a_busy_port_is_named_and_is_not_now(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = edgewise("hub", "serve", "--data-dir", str(tmp_path / "hub"), "--http-port", port)
    assert done.returncode == 4
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_a_corrupt_bundle_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1}')
    done = edgewise("bundle", "show", str(tmp_path))
    assert done.returncode in (2, 3)
    assert "manifest" in done.stderr


def test_a_bundle_is_packed_verified_and_shown_and_a_hostile_one_is_not_trusted(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("hostile_corpus", ROOT / "tests" / "hostile_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    corpus = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(corpus)
    corpus.bundle_folder(tmp_path / "good")
    packed = edgewise("bundle", "pack", "good", "-o", "good.zip", cwd=tmp_path)
    assert packed.returncode == 0, packed.stderr
    for name in ("good", "good.zip"):
        for verb in ("verify", "show"):
            done = edgewise("bundle", verb, name, "-o", "json", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["digest"] in packed.stdout
    corpus.bundle_folder(tmp_path / "evil", corpus.NETWORKS["a custom operator"][0]())
    done = edgewise("bundle", "verify", "evil", cwd=tmp_path)
    assert done.returncode == 3
    assert "evil.Run" in done.stderr
    assert done.stderr.count("\n") == 1
    done = edgewise("bundle", "verify", "good.zip", cwd=tmp_path, EDGEWISE_TOKEN="secret")
    assert done.returncode == 0


def small_bundle(folder: Path) -> None:
    """A bundle with one small network for pictures of 12 × 10 pixels."""
    spec = importlib.util.spec_from_file_location("networks", ROOT / "tests" / "networks.py")
    assert spec is not None
    assert spec.loader is not None
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    data = networks.picture_network()
    manifest = Manifest(
        name="small",
        task="image-classification",
        graphs=(Graph(blob="net", input="input", scores="scores", pre=ImageSpec(width=12, height=10)),),
        labels=("none", "pit", "scratch"),
        golden=Golden(seed=1, count=2, scores=()),
        needs=Needs(opset=17, ram_mb=1, latency_ms=0.1),
        provenance=Provenance(trained_at=datetime(2026, 5, 4, tzinfo=UTC), trainer="test", code_version="1"),
        blobs={"net": Blob(sha256=digest(data), size_bytes=len(data))},
    )
    golden = open_pipeline(manifest, "0" * 64, lambda _: data, OnnxRuntime()).make_golden(seed=1, count=2)
    write_bundle(folder, manifest.model_copy(update={"golden": golden}), {digest(data): data})


def test_variants_of_a_bundle_are_made_beside_it_and_what_cannot_be_made_says_why(tmp_path: Path) -> None:
    small_bundle(tmp_path / "small")
    done = edgewise("bundle", "variants", "small", "-o", "made", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["variant", "fp32", "fp16"]
    assert "no variant int8: int8 takes the ranges of values from training samples" in done.stderr
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["fp16"]
    assert edgewise("bundle", "verify", "made/fp16", cwd=tmp_path).returncode == 0
    nothing = edgewise("bundle", "variants", "made/fp16", "-o", "more", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "is the fp16 variant of" in nothing.stderr
    assert not (tmp_path / "more").exists()


def test_the_application_is_built_by_typer() -> None:
    assert isinstance(build(), typer.Typer)
