"""The device beside a bare runtime and its peers: `make bench NAME=edge`.

Everything is measured in interleaved rounds: each round has a turn of the bare loop and of every variant, so that a
machine whose speed drifts slows all of them. Ratios are made round by round. Latency and processor time are measured
with client and server pinned to one core; throughput with both cores. Peers have environments of their own.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from edge_parts import agent, resident, servers, wire
from edge_parts.load import at_once, one_by_one
from edge_parts.measure import Samples, cpu_ns, say
from edge_parts.models import example, networks
from edge_parts.table import Row, print_rows, rows_of_loops, rows_of_servers

HERE = Path(__file__).resolve().parent
CORE = os.environ.get("BENCH_CORE", "1")  # the one that client, server and bare loop share
LOOPS = ("copy-run-record", "loop", "worker")
COUNTS = {"small": 1500, "vision": 40}  # requests of one turn


class LoopProcess:
    """One in-process variant, pinned, in a process of its own."""

    def __init__(self, file: Path, name: str, variant: str) -> None:
        command = [
            "taskset", "-c", CORE, sys.executable, "-m", "edge_parts.inprocess", str(file), name, variant
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE)
        self._read()

    def turn(self, count: int) -> tuple[list[int], int]:
        """Latencies, and processor time of the process and its children, ns."""
        assert self.process.stdin is not None
        before = cpu_ns(self.process.pid)
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        found, own = json.loads(self._read())
        # A worker's time counts too; without one the process's own clock is the finer one.
        return found, max(own, cpu_ns(self.process.pid) - before if "worker" in self.process.args else own)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended early")
        return line


def loops(file: Path, name: str, rounds: int) -> dict[str, Samples]:
    """The decision loop and its parts beside the bare loop."""
    found = {variant: Samples() for variant in ("bare", *LOOPS)}
    running = {variant: LoopProcess(file, name, variant) for variant in found}
    for _ in range(rounds):
        for variant, process in running.items():
            found[variant].add(*process.turn(COUNTS[name]))
    for process in running.values():
        process.close()
    return found


@contextmanager
def started(
    peer: servers.Peer, file: Path, name: str, folder: Path, core: str | None
) -> Iterator[tuple[int, int, float]]:
    """Port, process and seconds to the first right answer of a server."""
    port = servers.free_port()
    values = example(name)
    import onnxruntime

    wanted = onnxruntime.InferenceSession(str(file)).run(None, {"input": values})[0]
    log = folder / f"{peer.name}-{name}.log"
    began = time.monotonic()
    with servers.running(peer.command(file, port), port=port, log=log, core=core) as (pid, _):
        servers.first_answer(peer, peer.ask(name, values), port, wanted)
        yield port, pid, time.monotonic() - began


def served(file: Path, name: str, others: list[servers.Peer], rounds: int, folder: Path) -> dict[str, Samples]:
    """Servers one request at a time, client and server on one core, beside the bare loop on the same core."""
    found: dict[str, Samples] = {"bare": Samples()}
    with ExitStack() as stack:
        loop = LoopProcess(file, name, "bare")
        stack.callback(loop.close)
        up: dict[str, tuple[int, int, bytes]] = {}
        for peer in [servers.OURS, *others]:
            try:
                port, pid, _ = stack.enter_context(started(peer, file, name, folder, CORE))
            except RuntimeError as error:
                say(f"  {peer.name} is left out: {error}")
                continue
            up[peer.name], found[peer.name] = (port, pid, peer.ask(name, example(name))), Samples()
        for _ in range(rounds):
            found["bare"].add(*loop.turn(COUNTS[name]))
            for label, (port, pid, request) in up.items():
                wire.pinned(lambda p=port, r=request: one_by_one(p, r, 20), CORE)
                before = cpu_ns(pid)
                latencies = wire.pinned(lambda p=port, r=request: one_by_one(p, r, COUNTS[name]), CORE)
                found[label].add(latencies, cpu_ns(pid) - before)
    return found


def throughput(file: Path, name: str, others: list[servers.Peer], rounds: int, folder: Path) -> dict[str, list[float]]:
    """Answers a second with eight requests under way; both cores; beside two callers of one bare session."""
    found: dict[str, list[float]] = {"bare, 2 callers": []}
    for peer in [servers.OURS, *others]:
        found[peer.name] = []
    for _ in range(rounds):
        found["bare, 2 callers"].append(wire.two_callers(file, name, 2.0))
        for peer in [servers.OURS, *others]:
            try:
                with started(peer, file, name, folder, None) as (port, _, _):
                    at_once(port, peer.ask(name, example(name)), 8, 0.5)
                    found[peer.name].append(at_once(port, peer.ask(name, example(name)), 8, 2.0))
            except RuntimeError as error:
                say(f"  {peer.name} is left out: {error}")
    return {label: values for label, values in found.items() if values}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true", help="only ours and the bare loop")
    parser.add_argument("--environments", type=Path, default=HERE / "results" / "peers", help="where the peers live")
    parser.add_argument(
        "--only", choices=("loops", "servers", "grpc", "client", "throughput", "resident", "agent"), action="append"
    )
    options = parser.parse_args()
    parts = options.only or ["loops", "servers", "grpc", "client", "throughput", "resident", "agent"]
    files = networks(HERE / "results" / "edge")
    others = (
        []
        if options.no_peers
        else [peer for peer in servers.peers(options.environments) if servers.install(peer, options.environments)]
    )
    rows: list[Row] = []
    raw: dict[str, Any] = {}
    steps: dict[str, Callable[[str], list[Row]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        steps["loops"] = lambda name: rows_of_loops(
            name, raw.setdefault(f"loops {name}", loops(files[name], name, options.rounds))
        )
        steps["servers"] = lambda name: rows_of_servers(
            name, raw.setdefault(f"servers {name}", served(files[name], name, others, options.rounds, folder))
        )
        steps["grpc"] = lambda name: wire.grpc_rows(
            files[name], name, options.rounds, folder, LoopProcess, COUNTS[name], CORE
        )
        steps["client"] = lambda name: wire.client_rows(
            files[name], name, options.rounds, folder, started, COUNTS[name], CORE
        )
        steps["throughput"] = lambda name: wire.throughput_rows(name, throughput(files[name], name, others, 3, folder))
        steps["resident"] = lambda name: resident.rows(files[name], name, folder, started, servers.OURS, others)
        steps["agent"] = lambda name: agent.rows(files[name], name, folder)
        for part in parts:
            for name in ("small", "vision"):
                say(f"{part}: {name}")
                rows += steps[part](name)
    print_rows(rows)
    result = HERE / "results" / "edge.json"
    result.write_text(json.dumps([row.__dict__ for row in rows], indent=1))
    say(f"numbers: {result}")
    return 1 if any(row.missed for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
