"""The worker: claims a training order from the hub, trains, returns a candidate. A client, like any device."""

from __future__ import annotations

import contextvars
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from edgewise.learn._checkpoint import EVERY_S, SUFFIX, Checkpoint, tidy
from edgewise.learn._executor import Executor, InProcess
from edgewise.learn._site import adapt
from edgewise.learn._suggest import suggest
from edgewise.learn._sweep import plan_of, run_sweep
from edgewise.learn._task import Made, Task, blobs_of
from edgewise.learn._trainer import Cancelled
from edgewise.learn._variants import Variants
from edgewise.ports import Clock, FolderBlobs, Stop, StoredBundle, SystemClock
from edgewise.ports.api import HubApi
from edgewise.ports.logs import Form, log_line, wants_json
from edgewise.wire import (
    Candidate,
    DatasetRevision,
    EdgewiseError,
    Manifest,
    NotNow,
    NotTrusted,
    NotValid,
    Order,
    Scored,
    SiteSums,
    ToScore,
    decode,
    digest,
    encode,
    plain,
    revision_digest,
)
from edgewise.wire.trace import trace_of, tracing

NO_VARIANTS = Variants(made={}, left_out={})
ENDED = ("returned", "failed", "cancelled")  # states of an order that nobody takes up again
LOG_LINES_MAX = 400  # as wire.Candidate allows


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerLimits:
    """Every bound of a worker."""

    poll_s: float = 1.0  # between looks at the hub while there is nothing to do
    wait_s_max: float = 30.0  # longest wait before the next try while the hub does not answer
    heartbeat_s: float = 10.0  # the hub takes an order back after 120 s of silence
    give_back_tries_max: int = 40  # of a finished candidate: about 20 minutes without a hub
    cache_bytes_max: int = 2_000_000_000  # samples kept on disk between orders
    checkpoint_s: float = EVERY_S  # between two states of a training on disk


class Worker:
    """One worker: a loop that has one order at a time trained.

    Args:
        api: the hub, with a worker's token.
        work_dir: cache of samples by their digest; may be deleted at any time.
        name: the name the hub knows the worker by; made of host and process id without it.
        stop: ask it to end the loop, also in the middle of a training.
        executor: runs the trainings; in this process without one.
    """

    def __init__(
        self,
        api: HubApi,
        work_dir: Path,
        *,
        name: str | None = None,
        limits: WorkerLimits | None = None,
        clock: Clock | None = None,
        stop: Stop | None = None,
        say: Callable[[str], None] = lambda _line: None,
        executor: Executor | None = None,
    ) -> None:
        self.name = name or _own_name()
        self.limits = limits or WorkerLimits()
        self.stop = stop or Stop()
        self._api = api
        self._blobs = FolderBlobs(Path(work_dir) / "blobs")
        self._clock = clock or SystemClock()
        self._say = say
        self._executor = executor or InProcess()
        self._states = Path(work_dir) / "states"

    def run(self) -> None:
        """Work until stopped. A hub that is away is waited for, without an end but with bounded steps.

        Raises:
            NotTrusted: the hub does not know the token or the token's role may not train.
        """
        wait_s = self.limits.poll_s
        while not self.stop.is_asked:
            try:
                worked = self.step()
                wait_s = self.limits.poll_s
            except NotNow as error:
                self._say(f"waiting for the hub: {error}")
                worked, wait_s = False, min(2 * wait_s, self.limits.wait_s_max)
            if not worked:
                self.stop.wait(wait_s)

    def step(self) -> bool:
        """Claim and finish one order; False when there was none.

        Raises:
            NotNow: the hub does not answer. NotTrusted: the token is refused.
        """
        body = self._api.post("/orders/claim", {"worker": self.name, "kinds": ["train", "score", "adapt"]})
        if body is None:
            return False
        order = Order.model_validate(body)
        trace = None if order.trace is None else trace_of(order.id, self.name)
        if trace is not None and order.trace is not None:
            trace = replace(trace, id=order.trace)
        with tracing(trace):
            self._serve(order)
        return True

    def _serve(self, order: Order) -> None:
        """Do an order; all calls and lines inside carry its trace."""
        self._say(f"order {order.id}: {order.why}")
        with self._heartbeat(order) as lost:
            work = {"score": self._suggest, "adapt": self._adapt}.get(order.kind, self._work)
            work(order, lost)

    def _suggest(self, order: Order, lost: threading.Event) -> None:
        """Tell what the order's bundle says of the samples that wait for a label."""

        def ask(said: Sequence[Scored], unreadable: Sequence[str]) -> list[ToScore]:
            body = {"worker": self.name, "scored": [plain(one) for one in said], "unreadable": list(unreadable)}
            return [ToScore.model_validate(one) for one in self._api.post(f"/orders/{order.id}/scored", body)]

        def go_on(_count: int) -> None:
            if lost.is_set() or self.stop.is_asked:
                raise Cancelled

        try:
            assert order.base is not None, "the hub makes no score order without a bundle"
            count = suggest(self._bundle(order.base), ask, self._api.get_blob, go_on)
        except Cancelled:
            if not lost.is_set():
                self._fail(order, "the worker was stopped before it had looked at all samples", planned=True)
        except NotNow:
            raise
        except EdgewiseError as error:
            self._fail(order, str(error))
        else:
            self._say(f"order {order.id}: looked at {count} samples")

    def _adapt(self, order: Order, lost: threading.Event) -> None:
        """Make a site's variant of the order's bundle; no network is trained, so it takes seconds."""
        started_s = time.perf_counter()
        try:
            assert order.base is not None, "the hub makes no such order without a bundle"
            data = self._api.get_blob(order.revision)
            if digest(data) != order.revision:
                raise NotTrusted(f"the hub sent other sums than {order.revision[:12]}…; ask again", code="sums_wrong")
            made = adapt(self._bundle(order.base), decode(SiteSums, data), order.revision)
        except NotNow:
            raise
        except EdgewiseError as error:
            self._fail(order, str(error))
            return
        if not lost.is_set():
            self._give_back(order, Made(bundle=made, variants=NO_VARIANTS), time.perf_counter() - started_s)

    def _work(self, order: Order, lost: threading.Event) -> None:
        def go_on(_what: str, _share: float) -> None:
            if lost.is_set() or self.stop.is_asked:
                raise Cancelled

        started_s = time.perf_counter()
        checkpoint = self._checkpoint(order)
        try:
            made = self._made(self._task(order, go_on), go_on, checkpoint)
        except Cancelled:
            self._say(f"order {order.id}: stopped before its end" + (", the hub took it back" if lost.is_set() else ""))
            if not lost.is_set():
                self._fail(order, "the worker was stopped before the training ended", planned=True)
            elif self._has_ended(order):
                checkpoint.delete()
            return
        except NotNow:
            raise  # the hub went away: it gives the order to the next one who asks, perhaps to us again
        except EdgewiseError as error:
            if not self._fail(order, str(error)):
                checkpoint.delete()  # else the next try goes on from it
            return
        self._give_back(order, made, time.perf_counter() - started_s)
        checkpoint.delete()

    def _made(self, task: Task, go_on: Callable[[str, float], None], checkpoint: Checkpoint) -> Made:
        """One training, or the best of many."""
        config = dict(task.order.config)
        told = config.pop("sweep", None)
        if told is None:
            return self._executor.run(task, self._blobs, go_on, checkpoint)
        plain_task = replace(task, order=task.order.model_copy(update={"config": config}))
        swept = run_sweep(plain_task, plan_of(told), self._blobs, self._executor, go_on)
        for line in swept.lines():
            self._say(f"order {task.order.id}: {line}")
        log = (*swept.lines(), *swept.best.bundle.log)
        return replace(swept.best, bundle=replace(swept.best.bundle, log=log))

    def _checkpoint(self, order: Order) -> Checkpoint:
        """Where the order's training keeps its state, so that another try goes on where this one was ended."""
        self._states.mkdir(parents=True, exist_ok=True)
        path = self._states / f"{order.id}{SUFFIX}"
        tidy(self._states, path)
        return Checkpoint(path, order.model_dump_json(), every_s=self.limits.checkpoint_s)

    def _task(self, order: Order, go_on: Callable[[str, float], None]) -> Task:
        """The order with all that its training needs; the samples' bytes are in the cache then."""
        revision = decode(DatasetRevision, self._api.get_bytes(f"/revisions/{order.revision}"))
        if revision_digest(revision) != order.revision:
            raise NotTrusted(
                f"the hub sent another revision than {order.revision[:12]}…; ask again, or check the store",
                code="revision_wrong",
            )
        if revision.erased:
            raise NotValid(
                f"{len(revision.erased)} of the samples of revision {order.revision[:12]}… were erased since the order "
                "was made; make another order",
                code="revision_erased",
            )
        wanted = blobs_of(revision)
        self._make_room(wanted)
        base = None if order.base is None else self._bundle(order.base)
        base_int8 = None if order.base_int8 is None else self._bundle(order.base_int8)
        for number, blob in enumerate(sorted(wanted)):
            go_on("fetch", number / max(1, len(wanted)))
            self._fetch(blob)
        return Task(order=order, revision=revision, base=base, base_int8=base_int8, now=self._clock.now())

    def _bundle(self, sha256: str) -> StoredBundle:
        data = self._api.get_bytes(f"/bundles/{sha256}/manifest")
        if digest(data) != sha256:
            raise NotTrusted(f"the hub sent another manifest than {sha256[:12]}…; ask again, or check the store")
        manifest = decode(Manifest, data)
        blobs = {blob.sha256: self._fetch(blob.sha256) for blob in manifest.blobs.values()}
        return StoredBundle(manifest=manifest, digest=sha256, blobs=blobs, manifest_bytes=data)

    def _fetch(self, sha256: str) -> bytes:
        """A blob from the cache, else from the hub. Bytes spoiled on disk are fetched again."""
        if self._blobs.has(sha256):
            try:
                return self._blobs.get(sha256)
            except NotTrusted:
                self._blobs.delete(sha256)
        data = self._api.get_blob(sha256)
        self._blobs.put_as(sha256, data)
        return data

    def _make_room(self, wanted: set[str]) -> None:
        """Keep the cache under its bound: what this order does not need goes, until the rest is small enough."""
        held = {sha256: self._blobs.size(sha256) for sha256 in self._blobs.digests()}
        total = sum(held.values())
        for sha256 in held:
            if total <= self.limits.cache_bytes_max:
                return
            if sha256 not in wanted:
                self._blobs.delete(sha256)
                total -= held[sha256]

    def _give_back(self, order: Order, done: Made, seconds: float) -> None:
        """Store the bundles at the hub and answer the order. All steps may be repeated: they are by content address."""
        made, variants = done.bundle, done.variants
        log = [*made.log, *(f"no variant {name}: {why}" for name, why in variants.left_out.items())]
        candidate = Candidate(
            order=order.id,
            bundle=made.digest,
            variants={name: variant.digest for name, variant in variants.made.items()},
            metrics=dict(made.metrics),
            seconds=seconds,
            log=tuple(line[:400] for line in log[-LOG_LINES_MAX:]),
            robustness=dict(done.robustness) or None,
        )
        wait_s = self.limits.poll_s
        for attempt in range(self.limits.give_back_tries_max):
            try:
                for bundle in (made, *variants.made.values()):
                    for data in bundle.blobs.values():
                        self._api.put_blob(data)
                    self._api.post("/bundles", content=encode(bundle.manifest), media_type="application/json")
                self._api.post(f"/orders/{order.id}/candidate", {"worker": self.name, "candidate": plain(candidate)})
            except NotNow as error:
                self._say(f"candidate {made.digest[:12]} waits for the hub (try {attempt + 1}): {error}")
                if self.stop.wait(wait_s):
                    return
                wait_s = min(2 * wait_s, self.limits.wait_s_max)
            except EdgewiseError as error:
                self._say(f"order {order.id}: the hub refused the candidate: {error}")
                self._fail(order, f"the hub refused the candidate: {error}")
                return
            else:
                self._say(f"order {order.id}: candidate {made.digest[:12]} after {seconds:.1f} s")
                return

    def _fail(self, order: Order, error: str, *, planned: bool = False) -> bool:
        """Give the order back; comes back with whether it may be tried again.

        Args:
            planned: we were told to stop, which is no failure.
        """
        self._say(f"order {order.id} {'is given back' if planned else 'failed'}: {error}")
        body = {"worker": self.name, "error": error[:2000], "planned": planned}
        try:
            return bool(self._api.post(f"/orders/{order.id}/fail", body)["state"] == "open")
        except EdgewiseError as refused:
            # The hub is away or gave the order to someone else: its lease ends by itself.
            self._say(f"order {order.id}: could not report the failure: {refused}")
            return True

    def _has_ended(self, order: Order) -> bool:
        """Whether nobody will try it again; where the hub does not say so, somebody may."""
        try:
            return self._api.get(f"/orders/{order.id}")["state"] in ENDED
        except EdgewiseError:
            return False

    @contextmanager
    def _heartbeat(self, order: Order) -> Iterator[threading.Event]:
        """Tell the hub that we are alive, from a thread of its own; the event is set when the order is lost."""
        lost, done = threading.Event(), threading.Event()

        def beat() -> None:
            while not done.wait(self.limits.heartbeat_s):
                try:
                    self._api.post(f"/orders/{order.id}/heartbeat", {"worker": self.name})
                except NotNow:
                    continue  # the hub is away: the lease may still hold when it is back
                except EdgewiseError:
                    lost.set()
                    return

        context = contextvars.copy_context()  # so that heartbeats carry the order's trace too
        thread = threading.Thread(target=context.run, args=(beat,), name=f"heartbeat-{order.id[:8]}", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join(timeout=60)


def run_worker(
    api: HubApi,
    work_dir: Path | str,
    *,
    name: str | None = None,
    poll_s: float = 1.0,
    executor: Executor | None = None,
    form: Form = "auto",
) -> None:
    """A worker until SIGTERM or Ctrl-C; what ``edgewise learn worker`` runs. Must be called from the main thread."""
    stop = Stop()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.ask()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        limits = WorkerLimits(poll_s=poll_s)
        say = _print_json if wants_json(form, sys.stdout) else _print
        Worker(api, Path(work_dir), name=name, limits=limits, stop=stop, say=say, executor=executor).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the worker's log; whoever starts the process decides where it goes


def _print_json(line: str) -> None:
    _print(log_line("worker", "order", line, at=datetime.now(UTC)))


def _own_name() -> str:
    host = "".join(char if char.isascii() and char.isalnum() else "-" for char in socket.gethostname()).strip("-")
    return f"worker-{host[:60] or 'host'}-{os.getpid()}"
