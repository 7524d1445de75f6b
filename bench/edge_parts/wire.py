"""gRPC, our own client, and many requests at once."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from edge_parts import servers
from edge_parts.inprocess import bare_session
from edge_parts.load import one_by_one
from edge_parts.measure import Samples, cpu_ns, middle, timed
from edge_parts.models import example
from edge_parts.table import Row, over, times

T = TypeVar("T")


def pinned(work: Callable[[], T], core: str) -> T:
    """Run in this process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        return work()
    finally:
        os.sched_setaffinity(0, before)


def two_callers(file: Path, name: str, seconds: float) -> float:
    """Runs a second of one bare session that two threads share."""
    session, feed, done = bare_session(file), {"input": example(name)}, [0, 0]
    end = time.perf_counter() + seconds

    def call(index: int) -> None:
        while time.perf_counter() < end:
            session.run(None, feed)
            done[index] += 1

    threads = [threading.Thread(target=call, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def throughput_rows(name: str, found: dict[str, list[float]]) -> list[Row]:
    """Ours against MLServer, and against two bare callers."""
    part, small = f"8 at once, {name}", name == "small"
    rows = [Row(part, label, *middle(values), "/s") for label, values in found.items()]
    ours = found["edgewise"]
    if "mlserver" in found:
        rows.append(times(part, "of mlserver", ours, found["mlserver"], needed=5.0 if small else 4.0, at_least=True))
    goal = None if small else 0.90
    rows.append(times(part, "of bare, 2 callers", ours, found["bare, 2 callers"], needed=goal, at_least=True))
    return rows


def client_rows(file: Path, name: str, rounds: int, folder: Path, started: Any, count: int, core: str) -> list[Row]:
    """Our client beside a raw socket with the bytes ready, on the same server."""
    from edgewise.ports import V2Client

    raw, own = Samples(), Samples()
    values = {"input": example(name)}
    request = servers.ask_binary(name, values["input"])
    with (
        started(servers.OURS, file, name, folder, core) as (port, _, _),
        V2Client(f"http://127.0.0.1:{port}", timeout_s=30) as client,
    ):
        pinned(lambda: timed(lambda: client.infer(name, values), 50), core)
        for _ in range(rounds):
            raw.add(pinned(lambda: one_by_one(port, request, count), core), 0)
            own.add(pinned(lambda: timed(lambda: client.infer(name, values), count), core), 0)
    goal = 30.0 if name == "small" else None
    part = f"client, {name}"
    return [
        over(part, "own client p50 - raw socket", own.p50_us, raw.p50_us, "us", needed=goal),
        *_triton(file, name, rounds, folder, started, count, core, raw),
    ]


def _triton(
    file: Path, name: str, rounds: int, folder: Path, started: Any, count: int, core: str, raw: Samples
) -> list[Row]:
    """tritonclient's HTTP client for the same, where it is installed."""
    try:
        import tritonclient.http as triton
    except ImportError:
        return []
    found, values = Samples(), example(name)
    with started(servers.OURS, file, name, folder, core) as (port, _, _):
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        wanted = triton.InferInput("input", list(values.shape), "FP32")
        wanted.set_data_from_numpy(values)

        def call() -> np.ndarray:
            answer: np.ndarray = client.infer(name, [wanted]).as_numpy("scores")
            return answer

        for _ in range(rounds):
            found.add(pinned(lambda: timed(call, count), core), 0)
        client.close()
    return [over(f"client, {name}", "tritonclient p50 - raw socket", found.p50_us, raw.p50_us, "us")]


def grpc_rows(file: Path, name: str, rounds: int, folder: Path, loop_of: Any, count: int, core: str) -> list[Row]:
    """gRPC beside the bare loop: a stub whose messages are bytes that were made once."""
    import grpc
    from tritonclient.grpc import service_pb2

    values, port, grpc_port = example(name), servers.free_port(), servers.free_port()
    request = service_pb2.ModelInferRequest(model_name=name)
    tensor = request.inputs.add(name="input", datatype="FP32", shape=list(values.shape))
    assert tensor is not None
    request.raw_input_contents.append(values.tobytes())
    body = request.SerializeToString()
    bare, found = Samples(), Samples()
    loop = loop_of(file, name, "bare")
    command = servers.ours("--grpc-port", str(grpc_port))(file, port)
    with servers.running(command, port=grpc_port, log=folder / "grpc.log", core=core) as (pid, _):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options=options) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer", request_serializer=None, response_deserializer=None
            )
            pinned(lambda: timed(lambda: call(body, wait_for_ready=True), 20), core)
            for _ in range(rounds):
                bare.add(*loop.turn(count))
                before = cpu_ns(pid)
                latencies = pinned(lambda: timed(lambda: call(body), count), core)
                found.add(latencies, cpu_ns(pid) - before)
    loop.close()
    part = f"gRPC c1, {name}"
    goal = 1.18 if name == "vision" else None
    return [
        times(part, "edgewise CPU", found.cpu_us, bare.cpu_us, needed=goal),
        over(part, "edgewise p50 - bare", found.p50_us, bare.p50_us, "us"),
    ]


if __name__ == "__main__":
    sys.exit("run bench/edge.py")
