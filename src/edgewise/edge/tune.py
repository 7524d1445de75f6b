"""``edgewise edge tune``: the fastest way to run one network on this device, measured rather than guessed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edgewise.edge.runtime import TUNED_FILE, Tuned
from edgewise.frames import input_shape
from edgewise.ports import (
    PROVIDERS,
    OnnxRuntime,
    RuntimeSettings,
    Session,
    WorkerRuntime,
    WorkerSession,
    can_isolate,
    is_packed,
    read_bundle,
    replace_file,
)
from edgewise.ports.reference import load_share
from edgewise.wire import NotValid, encode

BATCHES = (2, 4, 8)
Advance = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneLimits:
    """How long it measures, and what a setting must bring to be chosen."""

    seconds: float = 20
    rounds: int = 3  # all variants take turns, so that a busy second hits them alike
    faster_by: float = 0.10  # of the time of one run; less is not worth a setting
    cpu_times_max: float = 1.3  # processor time over that of one thread
    busy_share: float = 0.5  # processes that want to run, for each core; above it spinning is not even tried
    worker_share_max: float = 0.03  # of a run, which a worker may cost to be always used …
    worker_ram_mb_min: float = 500  # … where so much memory is free
    batch_gain_min: float = 1.3  # rows a second, over one at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way to run it."""

    threads: int = 1
    spinning: bool = False
    provider: str = "cpu"
    place: str = "inline"
    batch: int = 1


@dataclass(kw_only=True, slots=True)
class Row:
    """A variant, and what was measured; times are for one run, of the whole batch."""

    variant: Variant
    p10_ms: float = 0.0  # what is compared: other work on the machine touches it least
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    cpu_ms: float = 0.0
    runs: int = 0
    laps_ms: list[float] = field(default_factory=list)
    error: str = ""

    def plain(self) -> dict[str, Any]:
        about = {name: getattr(self.variant, name) for name in Variant.__slots__}
        times = {name: round(getattr(self, name), 4) for name in ("p10_ms", "p50_ms", "p95_ms", "cpu_ms")}
        return about | times | {"runs": self.runs, "error": self.error}


def variants(cpus: int, providers: Sequence[str], *, busy: bool) -> list[Variant]:
    """What is measured on a machine; the first is what the others are compared with.

    >>> [_words(item) for item in variants(2, ["cpu"], busy=True)][:4]
    ['1 thread, cpu, inline', '1 thread, cpu, worker', '2 threads, cpu, inline', '1 thread, cpu, inline, batch 2']
    """
    first = Variant()
    threads = sorted({2, cpus} - {1} if cpus > 1 else set())
    more = [replace(first, threads=count, spinning=spins) for count in threads for spins in (False, True)]
    found = [first, replace(first, place="worker"), *(item for item in more if not (busy and item.spinning))]
    found += [replace(first, provider=name) for name in providers if name != "cpu"]
    return found + [replace(first, batch=size) for size in BATCHES]


def choose(rows: Sequence[Row], limits: TuneLimits, *, ram_free_mb: float, busy: bool) -> Tuned:
    """The settings to use, with the reason. Pure: the same rows give the same choice.

    Args:
        rows: measured; the first is one thread in this process.
        busy: other work runs on this machine, which leaves one thread: others could not be judged, and would be in
            the way.
    """
    first, *others = [row for row in rows if not row.error]
    alone = [row for row in others if row.variant.place == "inline" and row.variant.batch == 1]
    fit = [row for row in alone if row.cpu_ms <= limits.cpu_times_max * first.cpu_ms and not busy]
    best = first
    for row in sorted(fit, key=lambda row: (_spins(row), row.variant.threads)):  # the modest ones are asked first
        if row.p10_ms < best.p10_ms * (1 - limits.faster_by):
            best = row
    isolate, about_worker = _worker_choice(first, others, limits, ram_free_mb)
    batch, about_batch = _batch_choice(first, others, limits)
    words = (_about_best(first, best, limits), about_worker, about_batch)
    return Tuned(
        threads=best.variant.threads,
        spinning=best.variant.spinning,
        providers=tuple(dict.fromkeys((best.variant.provider, "cpu"))),
        isolate=isolate,
        batch_max=batch,
        why="; ".join((*["the machine is busy, tune it again when it is not"] * busy, *words)),
    )


def _spins(row: Row) -> bool:
    return row.variant.spinning


def _about_best(first: Row, best: Row, limits: TuneLimits) -> str:
    if best is first:
        return (
            f"one thread without spinning ({first.p10_ms:.3g} ms): nothing was {limits.faster_by:.0%} faster within "
            f"{limits.cpu_times_max:g} times its processor time"
        )
    variant = best.variant
    return (
        f"{variant.threads} thread{'s' * (variant.threads > 1)} on {variant.provider}"
        f"{' with spinning' if variant.spinning else ''}: {best.p10_ms:.3g} ms instead of {first.p10_ms:.3g} ms, for "
        f"{best.cpu_ms / max(first.cpu_ms, 1e-9):.2f} times the processor time"
    )


def _worker_choice(first: Row, others: Sequence[Row], limits: TuneLimits, ram_free_mb: float) -> tuple[Any, str]:
    worker = next((row for row in others if row.variant.place == "worker"), None)
    if worker is None:
        return "auto", "workers were not measured"
    cost = worker.p10_ms - first.p10_ms
    text = f"a worker costs {cost * 1000:.0f} µs a run ({cost / first.p10_ms:.0%})"
    if cost <= limits.worker_share_max * first.p10_ms and ram_free_mb >= limits.worker_ram_mb_min:
        return "always", f"{text}: always use one"
    return "auto", f"{text}: small trusted networks stay inline"


def _batch_choice(first: Row, others: Sequence[Row], limits: TuneLimits) -> tuple[int, str]:
    gains = {
        row.variant.batch: row.variant.batch * first.p10_ms / row.p10_ms for row in others if row.variant.batch > 1
    }
    best = max(gains, key=lambda size: gains[size], default=1)
    if best == 1 or gains[best] < limits.batch_gain_min:
        most = f"{max(gains.values()):.2f}" if gains else "nothing"
        return 1, f"batches do not pay ({most} times the rows a second)"
    return best, f"requests of the local API may run {best} at a time ({gains[best]:.2f} times the rows a second)"


def tune(
    path: Path, *, data_dir: Path | None = None, limits: TuneLimits | None = None, advance: Advance | None = None
) -> tuple[list[Row], Tuned]:
    """Measure, choose, and leave the choice in the device's folder.

    Args:
        path: an ONNX file or a bundle.
        data_dir: where ``tuned.json`` is written, which the agent reads at its next start; None writes nothing.
        advance: told what is measured, and how far it is from 0 to 1.
    Raises:
        NotValid: no network, one of several inputs or open sizes, or one that does not run in a worker.
    """
    limits = limits or TuneLimits()
    model, shape = read_network(Path(path))
    busy = load_share() > limits.busy_share
    rows = measure(model, shape, variants(os.cpu_count() or 1, _providers(), busy=busy), limits, advance or _silent)
    busy = busy or load_share() > limits.busy_share + 1 / (os.cpu_count() or 1)  # we are one process of it ourselves
    found = choose(rows, limits, ram_free_mb=psutil.virtual_memory().available / 1e6, busy=busy)
    if data_dir is not None:
        replace_file(Path(data_dir) / TUNED_FILE, encode(found))
    return rows, found


def _silent(_step: str, _share: float) -> None:
    """Nobody looks."""


def _providers() -> list[str]:
    import onnxruntime  # type: ignore[import-untyped]

    there = onnxruntime.get_available_providers()
    return [word for word, name in PROVIDERS.items() if name in there]


def read_network(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """A network's bytes, and the shape of one row of its input. NotValid: it cannot be measured."""
    if path.is_dir() or is_packed(path):
        stored = read_bundle(path)
        graph = stored.manifest.graphs[0]
        return stored.read_blob(stored.manifest.blobs[graph.blob].sha256), (1, *input_shape(graph.pre))
    try:
        model = path.read_bytes()
    except OSError as error:
        raise NotValid(
            f"{path} cannot be read ({error.strerror}); name an ONNX file or a bundle", code="model_missing"
        ) from error
    session = _first_look(model)
    shape = session.inputs[0].shape
    if len(session.inputs) != 1 or not shape or min(shape[1:], default=1) < 1:
        about = ", ".join(f"{item.name} {list(item.shape or [])}" for item in session.inputs)
        raise NotValid(
            f"{path} takes {about}; needs one input whose sizes after the first are given", code="open_sizes"
        )
    return model, (max(1, shape[0]), *shape[1:])


def _first_look(model: bytes) -> Session:
    """A file of anybody's making is first opened where it can do no harm."""
    return (WorkerRuntime() if can_isolate() else OnnxRuntime()).open(model)


def measure(
    model: bytes, shape: tuple[int, ...], chosen: Sequence[Variant], limits: TuneLimits, advance: Advance
) -> list[Row]:
    """What each variant takes; they run in turns, each for its share of the seconds."""
    rows = [Row(variant=variant) for variant in chosen]
    share_s, done = limits.seconds / limits.rounds / len(rows), 0
    opened: dict[int, Session] = {}
    for _ in range(limits.rounds):
        for index, row in enumerate(rows):
            advance(_words(row.variant), done / (limits.rounds * len(rows)))
            done += 1
            if not row.error:
                _turn(model, shape, row, index, opened, share_s)
    for row in rows:
        if not row.error:
            row.p10_ms, row.p50_ms, row.p95_ms = (float(at) for at in np.percentile(row.laps_ms, [10, 50, 95]))
            row.cpu_ms, row.runs = row.cpu_ms / len(row.laps_ms), len(row.laps_ms)
    if rows[0].error:
        raise NotValid(f"this network does not run here: {rows[0].error}", code="run_failed")
    return rows


def _turn(
    model: bytes, shape: tuple[int, ...], row: Row, index: int, opened: dict[int, Session], share_s: float
) -> None:
    try:
        if index not in opened:
            opened[index] = _open(model, row.variant)
        _laps(opened[index], (row.variant.batch * shape[0], *shape[1:]), row, share_s)
    except NotValid as error:  # such as a fixed first axis, for a batch
        row.error = str(error)


def _open(model: bytes, variant: Variant) -> Session:
    settings = RuntimeSettings(threads=variant.threads, spinning=variant.spinning, providers=(variant.provider,))
    return (WorkerRuntime(settings) if variant.place == "worker" else OnnxRuntime(settings)).open(model)


def _laps(session: Session, shape: tuple[int, ...], row: Row, share_s: float) -> None:
    bound = session.bind(shape)
    bound.input[...] = np.random.default_rng(0).random(shape)
    bound.run()
    cpu, end, laps = _cpu_ms(session), time.perf_counter() + share_s, 0
    while laps < 3 or (time.perf_counter() < end and laps < 5000):
        began = time.perf_counter()
        bound.run()
        row.laps_ms.append((time.perf_counter() - began) * 1000)
        laps += 1
    row.cpu_ms += _cpu_ms(session) - cpu


def _cpu_ms(session: Session) -> float:
    """Processor time of this process and the session's worker, in milliseconds."""
    own = time.process_time() * 1000
    if not isinstance(session, WorkerSession) or session.pid is None:
        return own
    times = psutil.Process(session.pid).cpu_times()
    return own + (float(times.user) + float(times.system)) * 1000


def _words(variant: Variant) -> str:
    parts = [f"{variant.threads} thread{'s' * (variant.threads > 1)}", variant.provider, variant.place]
    return ", ".join([*parts, *["spinning"] * variant.spinning, *[f"batch {variant.batch}"] * (variant.batch > 1)])
