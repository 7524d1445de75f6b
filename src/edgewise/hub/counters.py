"""What one hub process counts and times of itself, as Prometheus metrics; kept in memory alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CODES_MAX = 200  # different codes of refusals that are told apart; ours are fewer
OTHER = "other"
QUICK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW_S = (0.001, 0.01, 0.1, 0.5, 1, 5, 30, 120)
PIECES = (1, 2, 4, 8, 16, 32, 64, 128)


class Counters:
    """The counters of one hub. Every method may be called from any thread.

    >>> counters = Counters()
    >>> with counters.turn("orders"):
    ...     pass
    >>> counters.refused("gap")
    >>> counters.registry.get_sample_value("edgewise_hub_refusals_total", {"code": "gap"})
    1.0
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._codes: set[str] = set()
        self._contacts = self._count("contacts", "contacts of devices by what became of them", "outcome")
        self._intake = Histogram(
            "edgewise_hub_intake_duration_seconds",
            "from a contact's whole body to its receipt",
            ["kind"],
            registry=self.registry,
            buckets=QUICK_S,
        )
        self._refusals = self._count("refusals", "what was refused, by its stable code", "code")
        self._threats = self._count("threats", "signs of an attack seen by this process", "kind")
        self._wait = Histogram(
            "edgewise_hub_writer_wait_seconds",
            "how long a write waited for its turn",
            registry=self.registry,
            buckets=QUICK_S,
        )
        self._group = Histogram(
            "edgewise_hub_commit_pieces", "pieces of work in one commit", registry=self.registry, buckets=PIECES
        )
        self._turns = Histogram(
            "edgewise_hub_controller_duration_seconds",
            "one turn of a controller",
            ["controller"],
            registry=self.registry,
            buckets=SLOW_S,
        )
        self._failures = self._count("controller_failures", "turns of a controller that failed", "controller")
        self._alerts = self._count(
            "alerts_told", "tries to tell an alert, by channel and outcome", "channel", "outcome"
        )
        self._leads = Gauge("edgewise_hub_leads", "1 while this hub runs the controllers", registry=self.registry)
        self._last_round = Gauge(
            "edgewise_hub_controllers_last_success_timestamp_seconds",
            "when all controllers last had their turn here, in Unix time; 0 before the first",
            registry=self.registry,
        )
        self.requests = self._count("requests", "requests by route and status", "route", "status")
        self.request_seconds = Histogram(
            "edgewise_hub_request_duration_seconds", "time to answer, by route", ["route"], registry=self.registry
        )

    def _count(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"edgewise_hub_{name}_total", text, labels, registry=self.registry)

    def contact(self, kind: str, outcome: str, seconds: float) -> None:
        """A contact was answered.

        Args:
            kind: ``quiet``, ``stream`` (it shared a commit) or ``full``.
            outcome: ``quiet``, ``stored``, ``refused`` or ``not_now``.
        """
        self._contacts.labels(outcome).inc()
        self._intake.labels(kind).observe(seconds)

    def refused(self, code: str) -> None:
        """A request or a segment was refused under this code."""
        if code not in self._codes:
            if len(self._codes) >= CODES_MAX:
                code = OTHER
            self._codes.add(code)
        self._refusals.labels(code).inc()

    def threat(self, kind: str, count: int = 1) -> None:
        """Signs of an attack were seen."""
        self._threats.labels(kind).inc(count)

    def waited(self, seconds: float) -> None:
        """A write got its turn after so long."""
        self._wait.observe(seconds)

    def committed(self, pieces: int) -> None:
        """One commit held so many pieces of work."""
        self._group.observe(pieces)

    def told(self, channel: str, outcome: str) -> None:
        """An alert was told (``sent``), will be told again (``again``) or not any more (``given_up``)."""
        self._alerts.labels(channel, outcome).inc()

    def round(self, *, leads: bool, at_s: float) -> None:
        """A round of the controllers ended well at this Unix time."""
        self._leads.set(leads)
        self._last_round.set(at_s)

    @contextlib.contextmanager
    def turn(self, controller: str) -> Iterator[None]:
        """Times one turn of a controller, and counts it where it fails."""
        started_s = time.perf_counter()
        try:
            yield
        except BaseException:
            self._failures.labels(controller).inc()
            raise
        finally:
            self._turns.labels(controller).observe(time.perf_counter() - started_s)
