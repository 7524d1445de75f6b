"""The device of a folder on this machine, with everything real that it runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgewise.edge._agent_config import AgentConfig
from edgewise.edge._data_key import device_safe, site_key
from edgewise.edge._decider import LoopLimits
from edgewise.edge._facts import facts
from edgewise.edge._guard import GuardLimits
from edgewise.edge._identity import Identity
from edgewise.edge._period import Act
from edgewise.edge._pipelines import PipelinePart
from edgewise.edge._update_state import UpdateLimits
from edgewise.edge.device import Device, DeviceLimits
from edgewise.edge.runtime import open_runtime
from edgewise.ports import (
    Clock,
    Credentials,
    Large,
    Link,
    Source,
    SystemChance,
    SystemFacts,
    SystemFootprint,
    V2Large,
    boot_id,
)
from edgewise.wire import UseCase


def large_of(usecase: UseCase, credentials: Credentials) -> Large | None:
    """The large bundle of the use case's cascade, reached with the device's certificate; None without a cascade."""
    terms = usecase.placement.cascade
    return None if terms is None else V2Large(terms.url, terms.bundle, credentials)


def open_device(
    data_dir: Path,
    identity: Identity,
    config: AgentConfig,
    *,
    link: Link,
    clock: Clock,
    open_source: Callable[[str | None], Source] | None = None,
    pipelines: Sequence[PipelinePart] = (),
    act: Act | None = None,
    large: Large | None = None,
) -> Device:
    """The device in this folder on this machine. Raises as `Device`."""
    return Device(
        data_dir,
        identity=identity,
        open_source=open_source,
        pipelines=pipelines,
        link=link,
        runtime=open_runtime(config.runtime, data_dir),
        clock=clock,
        chance=SystemChance(),
        act=act,
        large=large,
        facts=facts(),
        live=SystemFacts(data_dir, config.facts),
        boot=boot_id(),
        footprint=SystemFootprint(),
        subject_key=site_key(),
        opened=device_safe(data_dir, config.data_key_from),
        limits=DeviceLimits(
            update=UpdateLimits(
                latency_ms_max=identity.usecase.placement.latency_ms_max,
                guard=GuardLimits(run_ms_max=config.run_ms_max, memory_mb_max=config.memory_mb_max),
            ),
            loop=LoopLimits(ring_bytes=config.ring_bytes, collect=config.collect),
            bytes_per_s_max=config.download_bytes_per_s_max,
        ),
    )
