"""Models of an MLflow registry: a real server's, by REST; only flavours that run no code, whole, and traced back."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.learn import fetch_model, import_model, read_spec
from edgewise.learn._mlflow import flavour_of, in_one
from edgewise.ports.mlflow import ModelVersion as Version
from edgewise.ports.mlflow import Registry, _file_route, read_address, read_token
from edgewise.wire import NotNow, NotTrusted, NotValid

COLUMNS = [f"c{number}" for number in range(400)]
START_S = 180  # it makes its database first


def spec(columns: list[str], labels: tuple[str, ...] = ("bad", "ok")) -> dict[str, Any]:
    zeros, ones = [0] * len(columns), [1] * len(columns)
    return {
        "name": "pump",
        "input": {"kind": "table", "columns": columns, "fill": zeros, "mean": zeros, "std": ones},
        "labels": list(labels),
        "good_labels": ["ok"],
        "licence": "MIT",
    }


REGISTER = """
import sys
import mlflow, numpy as np, onnx
from mlflow import MlflowClient
from onnx import helper, numpy_helper
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
data = np.random.default_rng(0).normal(size=(200, 4))
model = LogisticRegression().fit(data, np.where(data[:, 0] > 0, "ok", "bad"))
log = dict(name="model", pip_requirements=["none"])
weights = numpy_helper.from_array(np.random.default_rng(1).normal(size=(400, 2)).astype(np.float32), "w")
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
    [helper.make_tensor_value_info("x", 1, ["N", 400])], [helper.make_tensor_value_info("y", 1, ["N", 2])], [weights])
network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
with mlflow.start_run() as run:
    mlflow.sklearn.log_model(model, registered_model_name="pump", **log)
    mlflow.sklearn.log_model(model, registered_model_name="pump", serialization_format="cloudpickle", **log)
    mlflow.onnx.log_model(network, registered_model_name="net", **log)
    mlflow.log_artifacts(sys.argv[2], "torch")
client = MlflowClient()
client.set_registered_model_alias("pump", "champion", 1)
client.create_registered_model("torch")
client.create_model_version("torch", f"runs:/{run.info.run_id}/torch", run.info.run_id)
print(run.info.run_id)
"""


def program() -> Path:
    named = os.environ.get("EDGEWISE_MLFLOW") or shutil.which("mlflow")
    if named is None:
        why = "MLflow is not here; install it into an environment of its own and name it with EDGEWISE_MLFLOW"
        if "mlflow" in os.environ.get("EDGEWISE_REQUIRE", "").split(","):
            pytest.fail(f"{why} – EDGEWISE_REQUIRE names it, so this is a failure here")
        pytest.skip(why)
    return Path(named).absolute()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A real registry with models in it: where it is, and the run that made them."""
    found, folder = program(), tmp_path_factory.mktemp("mlflow")
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    quiet = {name: value for name, value in quiet.items() if name != "PYTHONPATH"}
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        port = probe.server_address[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "files")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(found), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=quiet,
            start_new_session=True,
        )
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while not answers(url):
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.3)
        command = [str(found.parent / "python"), "-c", REGISTER, url, str(torch_model(folder))]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=quiet, timeout=START_S)
        assert done.returncode == 0, done.stderr[-2000:]
        yield url, next(line for line in done.stdout.splitlines() if len(line) == 32)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def torch_model(folder: Path) -> Path:
    """What mlflow.pytorch writes for an exported program; its library is not beside the server."""
    made = folder / "torch"
    (made / "data").mkdir(parents=True)
    torch.manual_seed(1)
    free = ({0: torch.export.Dim("N")},)
    exported = torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.zeros(2, 4),), dynamic_shapes=free)
    torch.export.save(exported, made / "data" / "model.pt2")
    (made / "MLmodel").write_text("flavors: {pytorch: {model_data: data, pytorch_version: '2.13.0', code: null}}\n")
    return made


def plain(url: str) -> str:
    return url.replace("http://", "mlflow+http://")


def fetched(url: str, name: str, folder: Path) -> Any:
    address = read_address(f"{plain(url)}/models/{name}")
    with Registry(address.server) as registry:
        return fetch_model(registry, address, folder)


def test_the_command_imports_a_registered_model_and_says_where_it_came_from(
    served: tuple[str, str], tmp_path: Path
) -> None:
    url, run = served
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec(COLUMNS[:4])))
    asked = ["bundle", "import", f"{plain(url)}/models/pump@champion", "--spec", str(tmp_path / "spec.yaml")]
    result = CliRunner().invoke(build("bundle"), [*asked, "-o", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    shown = CliRunner().invoke(build("bundle"), ["bundle", "show", str(tmp_path / "bundle"), "-o", "json"])
    told = yaml.safe_load(shown.output)["provenance"]["data"]
    assert (told["origin_run"], told["origin_model"], told["origin_registry"]) == (run, "pump/1 (@champion)", url)
    assert told["origin_source"].startswith("models:/m-")


def test_an_onnx_model_comes_with_the_weights_that_mlflow_put_beside_it(
    served: tuple[str, str], tmp_path: Path, world: Any
) -> None:
    found = fetched(served[0], "net/1", tmp_path)
    made = import_model(found.file, read_spec(spec(COLUMNS)), now=world.now, origin=found.origin)
    assert made.bundle is not None
    (data,) = made.bundle.blobs.values()
    weights = numpy_helper.to_array(onnx.load_model_from_string(data).graph.initializer[0])
    assert np.array_equal(weights, np.random.default_rng(1).normal(size=(400, 2)).astype(np.float32))


def test_an_exported_program_is_found_by_its_file(served: tuple[str, str], tmp_path: Path, world: Any) -> None:
    found = fetched(served[0], "torch/1", tmp_path)
    assert found.origin["flavour"] == "pytorch"
    made = import_model(found.file, read_spec(spec(COLUMNS[:4])), now=world.now, origin=found.origin)
    assert made.bundle is not None
    assert made.bundle.manifest.provenance.data["source_kind"] == "exported"


def test_what_is_not_there_or_not_opened_is_said(served: tuple[str, str], tmp_path: Path) -> None:
    for name, words in (
        ("pump/2", r"sklearn: it was saved as cloudpickle, which runs code .*serialization_format='skops'"),
        ("pump/9", r"has no version 9 of pump \(404"),
        ("pump@none", r"has no alias none of pump \(40\d"),
        ("nothing/1", "has no version 1 of nothing"),
    ):
        with pytest.raises(NotValid, match=words):
            fetched(served[0], name, tmp_path)
    with Registry(served[0]) as registry:
        version = registry.version(read_address(f"{plain(served[0])}/models/pump/1"))
        with pytest.raises(NotValid, match="MLmodel has over 10 bytes"):
            registry.fetch(version, "MLmodel", tmp_path / "m", bytes_max=10)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mlflow://m.example.org/models/pump/3", ("https://m.example.org", "pump", "3", None)),
        (
            "mlflow://m.example.org:8443/at/mlflow/models/a%20b@best",
            ("https://m.example.org:8443/at/mlflow", "a b", None, "best"),
        ),
        ("mlflow+http://127.0.0.1:5000/models/pump/1", ("http://127.0.0.1:5000", "pump", "1", None)),
    ],
)
def test_addresses_are_read(text: str, wanted: tuple[str | None, ...]) -> None:
    found = read_address(text)
    assert (found.server, found.name, found.version, found.alias) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "mlflow://m.example.org/models/pump",
        "mlflow://m.example.org/pump/3",
        "mlflow://m.example.org/models/pump/latest",
        "mlflow://user:pw@m.example.org/models/pump/3",
        "mlflow+http://m.example.org/models/pump/3",
        "mlflow+ftp://127.0.0.1/models/pump/3",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(NotValid):
        read_address(text)


@pytest.mark.parametrize(
    ("flavours", "wanted"),
    [
        ({"sklearn": {"pickled_model": "m.skops", "serialization_format": "skops"}}, ("sklearn", ("m.skops",))),
        ({"sklearn": {"serialization_format": "pickle"}, "onnx": {"data": "n.onnx"}}, ("onnx", ("n.onnx",))),
        ({"pytorch": {"model_data": "d"}}, ("pytorch", ("d/model.pt2", "d/model.pth"))),
    ],
)
def test_the_first_flavour_that_is_opened_is_taken(flavours: dict[str, Any], wanted: Any) -> None:
    assert flavour_of(yaml.safe_dump({"flavors": {"python_function": {}, **flavours}}).encode()) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flavors: {sklearn: {pickled_model: m.pkl}, python_function: {}}", "sklearn: it was saved as pickle"),
        ("flavors: {xgboost: {data: m.ubj}, python_function: {}}", "xgboost: not opened here; export it as ONNX"),
        ("flavors: {python_function: {loader_module: x}}", "python_function: it runs code of its own"),
        ("flavors: []", "names no flavours"),
        ("{", "names no flavours"),
        ("!!python/object/apply:os.abort []", "names no flavours"),
    ],
)
def test_flavours_that_are_not_opened_are_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(NotValid, match=words):
        flavour_of(text.encode())


def outside(location: str, **more: str) -> bytes:
    tensor = TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph([], "g", [], [], [tensor])
    data: bytes = helper.make_model(graph).SerializeToString()
    return data


def test_weights_beside_a_network_are_put_into_it_and_names_lead_nowhere_else() -> None:
    held = np.array([1, 2, 3], np.float32).tobytes()
    made = onnx.load_model_from_string(in_one(outside("a.data", offset="4", length="8"), lambda _name, _left: held))
    assert numpy_helper.to_array(made.graph.initializer[0]).tolist() == [2, 3]
    for location in ("../a", "/etc/passwd", "", "a\\b", ".."):
        with pytest.raises(NotValid, match="no file beside it"):
            in_one(outside(location), lambda _name, _left: held)
    with pytest.raises(NotValid, match="has 12 bytes, 99 are needed"):
        in_one(outside("a", length="99"), lambda _name, _left: held)
    with pytest.raises(NotValid, match="no place in a file"):
        in_one(outside("a", offset="-4"), lambda _name, _left: held)


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "", "a/..", "a\\b"])
def test_a_file_outside_a_models_folder_is_not_asked_for(path: str) -> None:
    version = Version(name="a", version="1", run_id="", source="", files_at="mlflow-artifacts:/0/a")
    assert _file_route(version, "b/c d")[0] == "/api/2.0/mlflow-artifacts/artifacts/0/a/b/c%20d"
    with pytest.raises(NotValid, match="is no name of a file"):
        _file_route(version, path)


@contextmanager
def door(status: int, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer to everything, and what it was told as authorisation."""
    seen: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {"Content-Length": "2", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_words: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "family", "words"),
    [
        (401, NotTrusted, "give its token: EDGEWISE_MLFLOW_TOKEN"),
        (403, NotTrusted, "does not let us read"),
        (503, NotNow, "cannot answer now"),
        (302, NotValid, "sends us on to 'https://elsewhere.example.org'"),
        (200, NotValid, "not as a registry of MLflow does"),
    ],
)
def test_a_servers_refusals_are_told_by_who_has_to_act(status: int, family: type[Exception], words: str) -> None:
    elsewhere = {"Location": "https://elsewhere.example.org"}
    with door(status, elsewhere) as (url, _), Registry(url) as registry, pytest.raises(family, match=words):
        registry.version(read_address(f"{plain(url)}/models/pump/1"))


def test_the_token_comes_from_a_file_and_is_sent_as_the_server_wants_it(tmp_path: Path, monkeypatch: Any) -> None:
    place = tmp_path / "token"
    place.write_text("secret\n")
    place.chmod(0o644)
    with pytest.raises(NotTrusted, match="can be read by others"):
        read_token(place, "EDGEWISE_MLFLOW_TOKEN")
    place.chmod(0o600)
    monkeypatch.setenv("EDGEWISE_MLFLOW_TOKEN", "other")
    assert read_token(None, "EDGEWISE_MLFLOW_TOKEN") == "other"
    token = read_token(place, "EDGEWISE_MLFLOW_TOKEN")
    for user, wanted in ((None, "Bearer secret"), ("ann", "Basic " + base64.b64encode(b"ann:secret").decode())):
        with door(401) as (url, seen), Registry(url, token=token, user=user) as registry:
            with pytest.raises(NotTrusted):
                registry.version(read_address(f"{plain(url)}/models/pump/1"))
            assert seen == [wanted]
    with Registry("http://127.0.0.1:9") as registry, pytest.raises(NotNow, match="no registry answers"):
        registry.version(read_address("mlflow+http://127.0.0.1:9/models/pump/1"))
