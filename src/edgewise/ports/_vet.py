"""Networks are opened for the first time in a limited process: whatever they do there is a reason to refuse them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgewise.frames import input_shape
from edgewise.ports._foreign import HEAD_BYTES, foreign
from edgewise.ports._onnx_tensors import Bounds
from edgewise.ports._runtime import Runtime
from edgewise.ports._stage import check_stages
from edgewise.ports.limited import ChildLimits, ask_child
from edgewise.wire import Graph, Manifest, Needs, NotTrusted, NotValid


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
    child = ChildLimits(memory_bytes=open_bytes, cpu_s=cpu_s, wall_s=limits.wall_s + 10 * cpu_s)
    opset = int(ask_child("edgewise.ports._vet_child", order, child)[0]["opset"])
    if needs is not None and opset > needs.opset:
        raise NotTrusted(
            f"the network uses opset {opset}, the manifest says that it needs {needs.opset}", code="opset_wrong"
        )
