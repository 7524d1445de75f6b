"""How this device runs networks: `runtime:` in ``edge.yaml``, over what `edgewise edge tune` found, over defaults."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from edgewise.ports import IsolatingRuntime, IsolationRule, RuntimeSettings, WorkerLimits
from edgewise.wire import NotValid, Record, Strict, decode

TUNED_FILE = "tuned.json"
Provider = Literal["cpu", "cuda", "tensorrt", "openvino", "auto"]


class RuntimeConfig(Strict):
    """``runtime:`` in ``edge.yaml``; what is given here wins over ``tuned.json``."""

    threads: int = Field(default=1, ge=1, le=256, description="of one run")
    spinning: bool = Field(default=False, description="threads that wait burn a core; for machines that do no more")
    providers: tuple[Provider, ...] = Field(default=("cpu",), min_length=1, description="the best first")
    warm_up_runs: int = Field(default=1, ge=0, le=100, description="when a network is opened")
    isolate: Literal["auto", "always", "never"] = Field(
        default="auto", description="a process for each network; auto leaves small vetted ones in the agent's"
    )
    inline_bytes_max: int = Field(default=1_000_000, ge=0, description="of a network's file that auto runs inline")
    memory_mb_max: float = Field(default=1024, gt=0, description="that one worker's network and its runs may take")
    run_ms_max: float = Field(default=10_000, ge=10, description="of one run in a worker")
    start_s_max: float = Field(default=30, ge=1, description="until a worker has its network open")
    shared_mb_max: int = Field(default=256, ge=1, le=16_384, description="of tensors going in and out of a worker")
    restarts_per_minute_max: int = Field(default=6, ge=0, le=600, description="of one worker")
    batch_max: int = Field(
        default=1, ge=1, le=256, description="requests of the local API that may run as one; decisions always run alone"
    )
    wait_ms_max: float = Field(default=0.5, ge=0, le=1000, description="that a request waits for others to join it")


class Tuned(Record):
    """What `edgewise edge tune` found best on this device."""

    threads: int = Field(ge=1, le=256)
    spinning: bool
    providers: tuple[Provider, ...]
    isolate: Literal["auto", "always", "never"]
    batch_max: int = Field(ge=1, le=256)
    why: str


def tuned(data_dir: Path) -> Tuned | None:
    """What tuning found, None where this device was never tuned. NotValid: the file is damaged."""
    try:
        data = (data_dir / TUNED_FILE).read_bytes()
    except OSError:
        return None
    return decode(Tuned, data)


def with_tuned(config: RuntimeConfig, found: Tuned | None) -> RuntimeConfig:
    """The settings to use: what a person wrote wins over what was measured.

    >>> found = Tuned(threads=4, spinning=False, providers=("cpu",), isolate="auto", batch_max=1, why="")
    >>> with_tuned(RuntimeConfig(), found).threads, with_tuned(RuntimeConfig(threads=2), found).threads
    (4, 2)
    """
    if found is None:
        return config
    names = set(Tuned.model_fields) - {"why"} - config.model_fields_set
    return config.model_copy(update={name: getattr(found, name) for name in names})


def open_runtime(config: RuntimeConfig, data_dir: Path | None = None, *, trusted: bool = True) -> IsolatingRuntime:
    """The runtime of an agent or a server.

    Args:
        data_dir: where ``tuned.json`` may lie.
        trusted: the networks were released and vetted; others always get a process of their own where there is one.
    Raises:
        NotValid: a setting cannot be, or isolation is asked for where there is none.
    """
    config = with_tuned(config, None if data_dir is None else _tuned_or_none(data_dir))
    return IsolatingRuntime(
        RuntimeSettings(
            threads=config.threads,
            spinning=config.spinning,
            providers=config.providers,
            warm_up_runs=config.warm_up_runs,
            batch_max=config.batch_max,
            wait_ms_max=config.wait_ms_max,
        ),
        WorkerLimits(
            memory_mb_max=config.memory_mb_max,
            run_ms_max=config.run_ms_max,
            start_s_max=config.start_s_max,
            shared_mb_max=config.shared_mb_max,
            restarts_per_minute_max=config.restarts_per_minute_max,
        ),
        IsolationRule(isolate=config.isolate, trusted=trusted, inline_bytes_max=config.inline_bytes_max),
    )


def _tuned_or_none(data_dir: Path) -> Tuned | None:
    try:
        return tuned(data_dir)
    except NotValid as error:
        # A device must start; what tuning found is lost until it is asked again.
        sys.stderr.write(f"edgewise: {data_dir / TUNED_FILE} is left out, run `edgewise edge tune` again: {error}\n")
        return None


def runtime_status(runtime: Any) -> dict[str, Any]:
    """How networks run and what happened to their workers, for `status`; empty for other runtimes."""
    if not isinstance(runtime, IsolatingRuntime):
        return {}
    settings = runtime.inline.settings
    return {
        "threads": settings.threads,
        "spinning": settings.spinning,
        "providers": list(settings.providers),
        "isolate": runtime.rule.isolate,
        "opened": dict(runtime.opened),
        "workers": dict(runtime.workers.counts),
    }
