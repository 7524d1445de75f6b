"""Ours and the peers as processes: how each is started, what it is asked, and that it answers rightly."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edge_parts.load import answer, connected, post

HERE = Path(__file__).resolve().parent
BINARY = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
START_S_MAX = 60


@dataclass(frozen=True)
class Peer:
    """One server and one way to ask it."""

    name: str
    command: Callable[[Path, int], list[str]]  # of the network's file and a port
    ask: Callable[[str, np.ndarray], bytes]  # the whole request for a network's name and an input
    read: Callable[[bytes, bytes], np.ndarray]  # scores from the head and body of an answer
    requirements: tuple[str, ...] = ()  # of its own environment; none means this one


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], *, port: int, log: Path, core: str | None = None) -> Iterator[tuple[int, float]]:
    """A server's process id, and seconds from its start until it took a connection."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "1"}
    pinned = ["taskset", "-c", core, *command] if core else command
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned, stdout=output, stderr=output, env=environment, cwd=log.parent, start_new_session=True
        )
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if process.poll() is not None or time.monotonic() - began > START_S_MAX:
                    raise RuntimeError(f"{command[:4]} did not start: {log.read_text()[-600:]}")
                time.sleep(0.005)
            yield process.pid, time.monotonic() - began
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def first_answer(peer: Peer, request: bytes, port: int, wanted: np.ndarray) -> None:
    """Ask until the answer is right. RuntimeError: it is wrong, or none comes."""
    end, why = time.monotonic() + START_S_MAX, "no answer"
    while time.monotonic() < end:
        try:
            with connected(port) as sock:
                sock.sendall(request)
                head, body = answer(sock)
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                why = f"{head[:80]!r} {body[:200]!r}"
            elif np.allclose(peer.read(head, body).ravel(), wanted.ravel(), atol=1e-4):
                return
            else:
                raise RuntimeError(f"{peer.name} answers other scores than the runtime")
        except (OSError, ConnectionError, ValueError, KeyError) as error:
            why = repr(error)
        time.sleep(0.005)
    raise RuntimeError(f"{peer.name}: {why}")


# -- the Open Inference Protocol v2 ------------------------------------------------------------------------------------


def ask_binary(model: str, values: np.ndarray) -> bytes:
    tensor = {
        "name": "input",
        "datatype": "FP32",
        "shape": values.shape,
        "parameters": {"binary_data_size": values.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = BINARY | {"Inference-Header-Content-Length": str(len(head))}
    return post(f"/v2/models/{model}/infer", head + values.tobytes(), headers)


def read_binary(head: bytes, body: bytes) -> np.ndarray:
    size = int(head.lower().split(b"inference-header-content-length:", 1)[1].split(b"\r\n", 1)[0])
    return np.frombuffer(body[size:], np.float32)


def ask_v2_json(model: str, values: np.ndarray) -> bytes:
    tensor = {"name": "input", "datatype": "FP32", "shape": values.shape, "data": values.ravel().tolist()}
    return post(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode(), JSON)


def read_v2_json(_: bytes, body: bytes) -> np.ndarray:
    return np.array(json.loads(body)["outputs"][0]["data"], np.float32)


def ours(*more: str) -> Callable[[Path, int], list[str]]:
    return lambda model, port: [
        sys.executable, "-m", "edgewise", "edge", "serve", str(model), "--http-port", str(port), *more
    ]  # fmt: skip


OURS = Peer("edgewise", ours(), ask_binary, read_binary)


# -- peers, each in its own environment --------------------------------------------------------------------------------


def script(name: str, python: Path) -> Callable[[Path, int], list[str]]:
    return lambda model, port: [str(python), str(HERE / "peers" / f"{name}.py"), str(model), str(port)]


def read_json_scores(_: bytes, body: bytes) -> np.ndarray:
    return np.array(json.loads(body)["scores"], np.float32)


def ask_raw(_: str, values: np.ndarray) -> bytes:
    return post("/infer", values.tobytes(), BINARY)


def ask_base64(_: str, values: np.ndarray) -> bytes:
    body = {"data": base64.b64encode(values.tobytes()).decode(), "shape": values.shape}
    return post("/predict", json.dumps(body).encode(), JSON)


def ask_bento(_: str, values: np.ndarray) -> bytes:
    return post("/infer", json.dumps({"data": values.tolist()}).encode(), JSON)


def read_raw(_: bytes, body: bytes) -> np.ndarray:
    return np.frombuffer(body, np.float32)


def read_list(_: bytes, body: bytes) -> np.ndarray:
    return np.array(json.loads(body), np.float32)


def peers(folder: Path) -> list[Peer]:
    """The peers; each has its environment below the folder."""
    runtime = ("onnxruntime", "numpy")

    def python(name: str) -> Path:
        return folder / name / "bin" / "python"

    return [
        Peer(
            "fastapi", script("fastapi_app", python("fastapi")), ask_raw, read_raw,
            ("fastapi", "uvicorn", "httptools", "uvloop", *runtime),
        ),
        Peer(
            "mlserver", script("mlserver_app", python("mlserver")), ask_v2_json, read_v2_json,
            ("mlserver==1.7.1", "uvloop<0.22", *runtime),
        ),
        Peer(
            "litserve", script("litserve_app", python("litserve")), ask_base64, read_json_scores,
            ("litserve==0.2.19", *runtime),
        ),
        Peer(
            "bentoml", script("bentoml_app", python("bentoml")), ask_bento, read_list,
            ("bentoml==1.4.39", *runtime),
        ),
    ]  # fmt: skip


def install(peer: Peer, folder: Path) -> bool:
    """Make the peer's environment where it is not there; False where that fails."""
    place = folder / peer.name
    if (place / "ready").exists():
        return True
    steps = (
        [sys.executable, "-m", "venv", str(place)],
        [
            str(place / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            *peer.requirements,
        ],
    )
    for step in steps:
        if subprocess.run(step, capture_output=True, timeout=900, check=False).returncode:
            return False
    (place / "ready").touch()
    return True
