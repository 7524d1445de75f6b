"""Networks are opened for the first time in a limited process: whatever they do there is a reason to refuse them."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgewise.frames import input_shape
from edgewise.ports._foreign import HEAD_BYTES, foreign
from edgewise.ports._onnx_tensors import Bounds
from edgewise.ports._runtime import Runtime
from edgewise.ports._stage import check_stages
from edgewise.wire import Graph, Manifest, Needs, NotNow, NotTrusted, NotValid, canonical, loads

ANSWER_BYTES_MAX = 1 << 16
# What a child needs to find its libraries; tokens and settings are not passed on.
ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "HOME",
    "TMPDIR",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VetLimits:
    """What opening a network for the first time may cost, over what an idle process costs."""

    bounds: Bounds = field(default_factory=Bounds)
    file_bytes_max: int = (1 << 31) - 1  # Protocol Buffers' own bound
    check_bytes: int = 48 << 20  # memory to walk over a file, whatever its size
    open_bytes: int = 56 << 20  # memory to open and run a network, beside …
    open_bytes_per_byte: float = 3  # … this much for each byte of the file, since a parser and a session hold one each
    ram_share: float = 2  # … and this much of what the manifest says that it needs
    ram_mb_max: float = 4096
    cpu_s: float = 1.2  # of processor time, beside …
    cpu_s_per_byte: float = 1 / 10e6  # … this much for each byte of the file
    latencies: float = 50  # … and this many times the latency that the manifest names, since devices differ
    latency_ms_max: float = 1000
    wall_s: float = 30  # and ten times the processor time, for a busy machine
    golden_values_max: int = 16_000_000


def vet_bundle(
    manifest: Manifest, blob_file: Callable[[str], Path], runtime: Runtime, limits: VetLimits | None = None
) -> None:
    """Look at everything in a bundle that could harm whoever opens it; nothing is opened in this process.

    Ask before a bundle is run, or stored for others to run, and once for each bundle: it costs a process start.

    Args:
        manifest: verified.
        blob_file: gives the file of a blob by its SHA-256; its bytes were checked.
        runtime: opens each network by its `vet`.
    Raises:
        NotTrusted: refused; the message says which blob and why. NotNow: this machine cannot start the process.
    """
    limits = limits or VetLimits()
    try:
        check_stages(manifest)
    except NotValid as error:
        raise NotTrusted(str(error), code="stages_invalid") from error
    graphs = {graph.blob for graph in manifest.graphs}
    for name, blob in manifest.blobs.items():
        if name not in graphs:
            with blob_file(blob.sha256).open("rb") as file:
                what = foreign(file.read(HEAD_BYTES))
            if what is not None:
                raise NotTrusted(f"blob {name[:80]!r} is {what}; no bundle carries one", code="foreign_file")
    for graph in manifest.graphs:
        if graph.blob not in manifest.blobs:
            raise NotTrusted(
                f"graph {graph.name} names blob {graph.blob[:80]!r}, the manifest has none such", code="bundle_corrupt"
            )
        values = manifest.golden.count
        for size in input_shape(graph.pre):
            values *= size
        if values > limits.golden_values_max:
            raise NotTrusted(
                f"the golden inputs of graph {graph.name} have {values} values, at most {limits.golden_values_max} are "
                "made",
                code="golden_huge",
            )
        try:
            runtime.vet(blob_file(manifest.blobs[graph.blob].sha256), graph, manifest.needs, limits)
        except (NotTrusted, NotValid) as error:
            raise NotTrusted(f"graph {graph.name} is refused: {error}", code=error.code) from error


def vet_onnx(file: Path, graph: Graph | None, needs: Needs | None, limits: VetLimits) -> None:
    """Walk over an ONNX file, then open it and run it once, all in a limited process of its own.

    Args:
        graph: says the input to run it with; None: it is opened only.
        needs: what the manifest says that it needs; None: nothing beyond the limits.
    Raises:
        NotTrusted: refused, or the process did not survive it. NotNow: the process could not be started.
    """
    size = file.stat().st_size
    if size > limits.file_bytes_max:
        raise NotTrusted(f"the file has {size} bytes, at most {limits.file_bytes_max} are read", code="file_huge")
    ram_mb = min(needs.ram_mb, limits.ram_mb_max) if needs else 0
    latency_ms = min(needs.latency_ms, limits.latency_ms_max) if needs else 0
    open_bytes = limits.open_bytes + int(limits.open_bytes_per_byte * size + limits.ram_share * ram_mb * 1e6)
    cpu_s = limits.cpu_s + limits.cpu_s_per_byte * size + limits.latencies * latency_ms / 1000
    order = {
        "file": str(file.resolve()),
        "bounds": asdict(limits.bounds),
        "check_bytes": limits.check_bytes,
        "open_bytes": open_bytes,
        "cpu_s": cpu_s,
        "input": graph.input if graph else None,
        "shape": [1, *input_shape(graph.pre)] if graph else [],
    }
    answer = _ask(order, open_bytes=open_bytes, cpu_s=cpu_s, wall_s=limits.wall_s + 10 * cpu_s)
    if needs is not None and answer > needs.opset:
        raise NotTrusted(
            f"the network uses opset {answer}, the manifest says that it needs {needs.opset}", code="opset_wrong"
        )


def _ask(order: dict[str, object], *, open_bytes: int, cpu_s: float, wall_s: float) -> int:
    """The network's opset, from a child that opened it."""
    command = [sys.executable, "-P", "-m", "edgewise.ports._vet_child", canonical(order).decode()]
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise _cannot_start(str(error)) from error
    with child:
        try:
            output, in_time = _read(child, wall_s)
        finally:
            child.kill()
        status = child.wait()
    ready, _, line = output.partition(b"\n")
    if ready != b"ready":
        raise _cannot_start(f"it ended with {status}")
    if not in_time:
        raise NotTrusted(f"the network was not open after {wall_s:.0f} s", code="too_slow")
    if not line.endswith(b"\n"):
        raise _died(status, open_bytes, cpu_s)
    answer = loads(line)
    if "code" in answer:
        raise _refusal(str(answer["code"]), str(answer["text"]), open_bytes)
    return int(answer["opset"])


def _read(child: subprocess.Popen[bytes], wall_s: float) -> tuple[bytes, bool]:
    """What the child writes, up to a bound, and whether it ended in time."""
    assert child.stdout is not None
    output, end = b"", time.monotonic() + wall_s
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(output) < ANSWER_BYTES_MAX:
            if not selector.select(max(0.0, end - time.monotonic())):
                return output, False
            piece = os.read(child.stdout.fileno(), ANSWER_BYTES_MAX)
            if not piece:
                return output, _ends(child, max(1.0, end - time.monotonic()))
            output += piece
    return output, True


def _ends(child: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        child.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _refusal(code: str, text: str, open_bytes: int) -> NotTrusted:
    if code == "too_much_memory":
        text = f"opening it took over {open_bytes >> 20} MB, which is what its size and its manifest allow"
    return NotTrusted(text, code=code)


def _died(status: int, open_bytes: int, cpu_s: float) -> NotTrusted:
    name = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    if status == -signal.SIGPROF:
        return NotTrusted(f"opening it took over {cpu_s:.1f} s of processor time", code="too_slow")
    if status == -signal.SIGKILL:
        return _refusal("too_much_memory", "", open_bytes)
    return NotTrusted(f"the process that opened it ended with {name}", code="crashed")


def _cannot_start(why: str) -> NotNow:
    return NotNow(
        f"the process in which networks are opened first cannot be started ({why}); free some memory", code="vet_failed"
    )
