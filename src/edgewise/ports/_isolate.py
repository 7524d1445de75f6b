"""Which networks run in this process and which in one of their own."""

from __future__ import annotations

import os
from collections import Counter
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgewise.ports._batch import BatchedSession
from edgewise.ports._runtime import OnnxRuntime, Runtime, Session
from edgewise.ports._runtime_settings import RuntimeSettings
from edgewise.ports._worker import WorkerRuntime
from edgewise.ports._worker_process import WorkerLimits
from edgewise.wire import Graph, Needs, NotValid

if TYPE_CHECKING:
    from edgewise.ports._vet import VetLimits

Isolate: TypeAlias = Literal["auto", "always", "never"]
# Operators whose time or memory follows from the values of a frame, so that vetting with one frame says little.
BOUNDLESS = ("Loop", "Scan", "ConstantOfShape", "Range", "Tile", "Expand", "NonZero", "Resize", "Upsample")


@dataclass(frozen=True, kw_only=True, slots=True)
class IsolationRule:
    """When a network is trusted and tiny enough to run in the agent's own process."""

    isolate: Isolate = "auto"
    trusted: bool = True  # it was released and vetted
    inline_bytes_max: int = 1_000_000  # of the file: a worker costs more memory than such a network could waste


def reason_to_isolate(model: bytes, rule: IsolationRule) -> str | None:
    """Why a network gets a process of its own; None where it runs in this one.

    >>> reason_to_isolate(bytes(10), IsolationRule())
    >>> reason_to_isolate(bytes(10), IsolationRule(trusted=False))
    'nobody vouches for it'
    """
    if rule.isolate != "auto":
        return "isolate is always" if rule.isolate == "always" else None
    if not can_isolate():
        return None
    if not rule.trusted:
        return "nobody vouches for it"
    if len(model) > rule.inline_bytes_max:
        return f"it has {len(model)} bytes, at most {rule.inline_bytes_max} run inline"
    # As the file writes an operator's type: field 4, the length, the name. A false find costs a process, no more.
    found = [name for name in BOUNDLESS if bytes((0x22, len(name))) + name.encode() in model]
    return f"what its operator {found[0]} costs follows from the frame" if found else None


def can_isolate() -> bool:
    """Whether this system has what workers are made of (Linux 5.3 or newer)."""
    return all(hasattr(os, name) for name in ("memfd_create", "eventfd", "pidfd_open"))


class IsolatingRuntime:
    """ONNX Runtime, in this process for networks that are trusted and tiny, else in a worker for each.

    Args:
        rule: which are; ``counts`` of what happened to the workers is in ``workers.counts``.
    Raises:
        NotValid: isolation is asked for on a system that has none.
    """

    def __init__(
        self,
        settings: RuntimeSettings | None = None,
        limits: WorkerLimits | None = None,
        rule: IsolationRule | None = None,
    ) -> None:
        self.rule = rule or IsolationRule()
        if self.rule.isolate == "always" and not can_isolate():
            raise NotValid(
                "workers need Linux 5.3 or newer; set isolate to auto, which runs networks in the agent's process here",
                code="no_isolation",
            )
        self.inline, self.workers = OnnxRuntime(settings), WorkerRuntime(settings, limits)
        self.opened: Counter[str] = Counter()
        self._joins = True  # runs of several clients

    def open(self, model: bytes, *, threads: int | None = None) -> Session:
        isolated = reason_to_isolate(model, self.rule) is not None
        self.opened["worker" if isolated else "inline"] += 1
        session = (self.workers if isolated else self.inline).open(model, threads=threads)
        settings = self.inline.settings
        if settings.batch_max == 1 or not self._joins:
            return session
        return BatchedSession(session, batch_max=settings.batch_max, wait_ms_max=settings.wait_ms_max)

    def vet(self, file: Path, graph: Graph, needs: Needs, limits: VetLimits) -> None:
        self.inline.vet(file, graph, needs, limits)

    def apart(self) -> IsolatingRuntime:
        """The same runtime, with a worker for each network whatever its size; not where isolation is never wanted.

        No client asks what it opens, so no runs are joined.
        """
        twin = copy(self)
        twin._joins = False
        if self.rule.isolate == "auto" and can_isolate():
            twin.rule = replace(self.rule, isolate="always")
        return twin


def apart(runtime: Runtime) -> Runtime:
    """What opens networks in processes of their own; the same runtime where it knows no such thing."""
    return runtime.apart() if isinstance(runtime, IsolatingRuntime) else runtime
