"""The simulated training worker: it claims orders as the real one does and learns by least squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from edgewise import __version__
from edgewise.frames import golden_inputs, prepare
from edgewise.hub import Hub, bundles, orders
from edgewise.hub.store import orders as order_rows
from edgewise.ports import MemoryRuntime, SeededChance
from edgewise.sim._faults import Trouble
from edgewise.sim._log import EventLog
from edgewise.sim._world import SPEC
from edgewise.wire import (
    Blob,
    Candidate,
    DatasetRevision,
    Golden,
    Graph,
    LabelledSample,
    Manifest,
    Needs,
    NotValid,
    Order,
    Provenance,
    canonical,
    digest,
    encode,
)

EMBEDDING = 16
PROJECTION_SEED = 5  # one for all bundles, so that embeddings of two releases can be compared
RIDGE = 1.0  # keeps the readout small where labels are few; our choice
LOGIT = 3.0  # a certain answer is right by so much, and wrong by as much
GOLDEN = 4
WORK_S = (60.0, 240.0)
FLIP = "flip_labels"  # of an order's config: learn the opposite, to be confidently wrong


def fit(
    order: Order, revision: DatasetRevision, read_blob: Callable[[str], bytes], now: datetime
) -> tuple[Manifest, bytes]:
    """A bundle learned from the revision: its manifest and the bytes of its one network.

    Readout and bias are the ridge solution from embeddings to one column a class, each class with the same weight in
    all; numbers are rounded, so that a last bit of another linear algebra library does not make another bundle.
    """
    samples = [_flipped(sample) for sample in revision.samples] if order.config.get(FLIP) else list(revision.samples)
    labels = _labels(samples, order.good_labels)
    inputs = np.stack([prepare(read_blob(sample.blob), sample.media_type, SPEC) for sample in samples])
    about: dict[str, object] = {"classes": len(labels), "seed": PROJECTION_SEED, "embedding": EMBEDDING}
    points = MemoryRuntime().open(canonical(about)).run(inputs)["embedding"].astype(np.float64)
    readout, bias = _ridge(points, [labels.index(sample.label) for sample in samples], len(labels))
    network = canonical({**about, "readout": readout, "bias": bias})
    scores = MemoryRuntime().open(network).run(golden_inputs(SPEC, order.seed, GOLDEN))["scores"]
    manifest = Manifest(
        name=f"parts-{order.id[:8]}",
        task="tabular-classification",
        graphs=(Graph(blob="network", input="input", scores="scores", embedding="embedding", pre=SPEC),),
        labels=labels,
        good_label=order.good_labels[0],
        good_labels=order.good_labels,
        golden=Golden(seed=order.seed, count=GOLDEN, scores=tuple(tuple(float(v) for v in row) for row in scores)),
        needs=Needs(opset=18, ram_mb=1, latency_ms=1, runtime="seeded numbers"),
        provenance=Provenance(
            order=order.id,
            revision=order.revision,
            parent=order.base,
            seed=order.seed,
            trained_at=now,
            trainer="simulated",
            code_version=__version__,
        ),
        blobs={"network": Blob(sha256=digest(network), size_bytes=len(network))},
    )
    return manifest, network


class Worker:
    """Claims an order, takes its time, returns the candidate; now and then it goes silent."""

    def __init__(self, hub: Hub, log: EventLog, chance: SeededChance, trouble: Trouble) -> None:
        self._hub = hub
        self._log = log
        self._chance = chance
        self._trouble = trouble
        self._order: Order | None = None
        self._done_at: datetime | None = None
        self._silent_until: datetime | None = None
        self.resting = False  # it finishes what it has and claims nothing new

    @property
    def busy(self) -> bool:
        """Whether an order is in its hands."""
        return self._order is not None

    def turn(self, now: datetime) -> None:
        """Do what is due now."""
        if self._silent_until is not None and now < self._silent_until:
            return
        if self._order is None:
            self._claim(now)
            return
        if self._done_at is not None and now >= self._done_at:
            self._return(self._order, now)
            self._order = None
            return
        try:
            orders.heartbeat(self._hub.store, self._order.id, "worker", now=now, limits=self._hub.limits)
        except NotValid as error:
            self._log.write(now, "worker", "order_lost", order=self._order.id, code=error.code)
            self._order = None

    def _claim(self, now: datetime) -> None:
        if self.resting:
            return
        self._order = orders.claim(self._hub.store, "worker", ["train"], now=now, limits=self._hub.limits)
        if self._order is None:
            return
        if self._chance.random() < self._trouble.faults.worker_dies:
            # Longer than its lease: the hub gives the order to whoever asks next.
            self._silent_until = now + timedelta(seconds=self._hub.limits.order_lease_s + 60)
            self._log.write(now, "worker", "worker_silent", order=self._order.id)
        shortest, longest = WORK_S
        self._done_at = now + timedelta(seconds=shortest + (longest - shortest) * self._chance.random())
        self._log.write(now, "worker", "order_claimed", order=self._order.id, why=self._order.why)

    def _return(self, order: Order, now: datetime) -> None:
        store = self._hub.store
        with store.read() as connection:
            revision = order_rows.revision(connection, order.revision)
        assert revision is not None, f"order {order.id} names revision {order.revision}, which is not stored"
        manifest, network = fit(order, revision, store.blobs.get, now)
        store.blobs.put(network)
        bundle = bundles.add_bundle(store, encode(manifest), runtime=self._hub.runtime, who="worker", now=now)
        try:
            orders.take_candidate(store, order.id, "worker", Candidate(order=order.id, bundle=bundle), now=now)
        except NotValid as error:
            self._log.write(now, "worker", "order_lost", order=order.id, code=error.code)
            return
        self._log.write(now, "worker", "candidate", order=order.id, bundle=bundle, samples=len(revision.samples))


def _flipped(sample: LabelledSample) -> LabelledSample:
    return sample.model_copy(update={"label": "crack" if sample.label == "ok" else "ok"})


def _labels(samples: Sequence[LabelledSample], good: Sequence[str]) -> tuple[str, ...]:
    """Good labels first, then all others by name."""
    return (*good, *sorted({sample.label for sample in samples} - set(good)))


def _ridge(points: NDArray[np.float64], classes: Sequence[int], count: int) -> tuple[list[list[float]], list[float]]:
    with_bias = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    wanted = np.full((len(points), count), -LOGIT)
    wanted[np.arange(len(points)), list(classes)] = LOGIT
    sizes: Mapping[int, int] = {index: list(classes).count(index) for index in set(classes)}
    weights = np.array([len(points) / (len(sizes) * sizes[index]) for index in classes])[:, None]
    left = (with_bias * weights).T @ with_bias + RIDGE * np.eye(with_bias.shape[1])
    solved = np.linalg.solve(left, (with_bias * weights).T @ wanted)
    return (
        [[round(float(value), 4) for value in row] for row in solved[:-1].T],
        [round(float(value), 4) for value in solved[-1]],
    )
