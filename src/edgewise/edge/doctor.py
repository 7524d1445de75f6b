"""What is well with a device, what is not, and what to do: a bounded look that needs neither agent nor hub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edgewise.edge._agent_config import AgentConfig, load_config
from edgewise.edge._doctor_check import Check, Patient, Verdict, fail
from edgewise.edge._doctor_files import check_folder, check_outbox, check_permissions, check_slots
from edgewise.edge._doctor_hub import check_clock_and_hub, check_identity, check_metadata
from edgewise.edge._doctor_machine import (
    check_agent,
    check_battery,
    check_memory,
    check_port,
    check_runtime,
    check_sources,
    check_supervisor,
)
from edgewise.edge._enrolment import load_identity
from edgewise.edge._facts import facts
from edgewise.edge._folder_lock import is_locked
from edgewise.edge._source_text import as_spec
from edgewise.edge._update_state import UpdateState, read_state
from edgewise.ports import SystemClock, SystemFacts
from edgewise.wire import EdgewiseError, NotValid

__all__ = ["Check", "Verdict", "examine", "is_well"]

LOOKS: tuple[Callable[[Patient], Iterator[Check]], ...] = (
    check_runtime,
    check_folder,
    check_permissions,
    check_identity,
    check_clock_and_hub,
    check_metadata,
    check_slots,
    check_outbox,
    check_sources,
    check_port,
    check_memory,
    check_battery,
    check_agent,
    check_supervisor,
)


def examine(
    data_dir: Path, *, source: str | Path | None = None, hub_url: str | None = None, http_port: int = 8081
) -> list[Check]:
    """Every look, in the order in which a person should read them. It takes at most some 10 s, most of it for the hub.

    Args:
        data_dir: the device's folder; it may be anything, or nothing.
        source: as `edge run` takes it, where ``edge.yaml`` names none.
        hub_url: instead of the one of the enrolment.
        http_port: that the agent's local API would take.
    """
    folder = Path(data_dir)
    found: list[Check] = []
    config, state = AgentConfig(), UpdateState()
    try:
        config, state = load_config(folder), read_state(folder) if folder.is_dir() else state
    except EdgewiseError as error:
        found.append(fail("settings", str(error), "correct edge.yaml, or the environment"))
    patient = _patient(folder, config, state, source=source, hub_url=hub_url, http_port=http_port)
    return found + [check for look in LOOKS for check in look(patient)]


def is_well(checks: Iterable[Check]) -> bool:
    """Whether nothing failed; a warning is no failure."""
    return all(check.verdict != "fail" for check in checks)


def _patient(
    folder: Path,
    config: AgentConfig,
    state: UpdateState,
    *,
    source: str | Path | None,
    hub_url: str | None,
    http_port: int,
) -> Patient:
    identity = None
    with contextlib.suppress(NotValid):
        identity = load_identity(folder)
    specs = [one.spec for one in config.pipelines]
    only = source if source is not None else config.source
    return Patient(
        folder=folder,
        now=SystemClock().now(),
        clock=SystemClock(),
        identity=identity,
        state=state,
        hub_url=hub_url or (identity.hub_url if identity is not None else ""),
        http_port=http_port,
        sources=specs if only is None else [as_spec(only)],
        agent_runs=folder.is_dir() and is_locked(folder),
        facts=SystemFacts(folder, config.facts).read(),
        card=facts(),
    )
