"""Deltas between blobs: built when a device first asks, once, beside the requests; kept while there is room.

A delta is transport only. Whatever is missing or goes wrong here, a device takes the plain blob.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa

from edgewise import delta
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, bundles
from edgewise.hub.store import deltas as rows
from edgewise.hub.store.deltas import DeltaRow
from edgewise.hub.store.devices import DeviceRow
from edgewise.ports import Clock
from edgewise.wire import DeltaOffer, NotNow, NotValid

LOG = logging.getLogger("edgewise.hub")
Pair = tuple[str, str]
Run = Callable[[Callable[[], None]], None]
NOTED_S = 3600.0  # a delta that is in use is noted so often: a wave of devices must not cost a write each
CLOSE_S = 10.0


def at_once(work: Callable[[], None]) -> None:
    """Do the work in the caller's thread, for the simulator."""
    work()


class Background:
    """Does one piece of work after the other in a thread that lives while there is any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None

    def __call__(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name="edgewise-deltas", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Begin nothing more; what is under way gets a moment to end."""
        with self._lock:
            self._waiting.clear()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_S)

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                work = self._waiting.popleft()
            work()


class Deltas:
    """What devices are offered instead of plain blobs.

    Args:
        store: holds the pairs, and deltas among its blobs.
        clock: time.
        run: does a build; beside the requests where none is given.
    """

    def __init__(self, store: Store, limits: Limits, clock: Clock, run: Run | None = None) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._background = Background()
        self._run = run or self._background
        self._lock = threading.Lock()
        self._building: set[Pair] = set()
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._background.close()

    def offer(self, device: DeviceRow, target: str, *, base: str, codec: int) -> DeltaOffer:
        """How this device gets the target from the base.

        Args:
            device: who asks; it must be assigned a bundle with the target, and have run one with the base.
            codec: version of the container that the device reads.
        Raises:
            NotNow: it is being built. NotValid: there is none, so the plain blob is the way.
        """
        if codec != delta.VERSION:
            raise NotValid(
                f"deltas here have version {delta.VERSION}, the device reads {codec}; take the whole blob",
                code="delta_version",
            )
        row = self._known(base, target)
        if row is None:
            self._check_pair(device, base, target)
            self._begin((base, target))
            row = self._known(base, target)
        if row is None:
            raise NotNow(f"the delta for blob {target[:12]}… is being built; ask again soon", code="delta_building")
        if row.delta is None:
            raise NotValid(
                f"blob {target[:12]}… as a delta is as long as the blob; take the whole blob", code="delta_none"
            )
        self._note(row)
        return DeltaOffer(target=target, base=base, codec=codec, sha256=row.delta, size_bytes=row.size_bytes)

    def _known(self, base: str, target: str) -> DeltaRow | None:
        with self._store.read() as connection:
            row = rows.get(connection, base, target, delta.VERSION)
        if row is not None and row.delta is not None and not self._store.blobs.has(row.delta):
            return None  # lost with its store, or swept between two commits: it is built again
        return row

    def _note(self, row: DeltaRow) -> None:
        now = self._clock.now()
        if now - row.used_at > timedelta(seconds=NOTED_S):
            with self._store.write() as connection:
                rows.used(connection, row, now)

    def _check_pair(self, device: DeviceRow, base: str, target: str) -> None:
        """Only pairs that this device needs are built: anything else would be work for nothing."""
        wanted = device.wanted
        with self._store.read() as connection:
            held = dict.fromkeys([device.bundle or "", *rows.bundles_on(connection, device.id)])
            is_target = wanted is not None and target in _blobs(connection, wanted.bundle or "")
            is_base = is_target and any(base in _blobs(connection, name) for name in held)
        if not is_base:
            raise NotValid(
                f"no delta is made from blob {base[:12]}… to {target[:12]}… for device {device.id}: it needs a base "
                "that ran there and a target that is assigned; take the whole blob",
                code="delta_none",
            )
        sizes = [self._store.blobs.size(name) for name in (base, target)]
        if max(sizes) > self._limits.delta_blob_bytes_max:
            raise NotValid(
                f"blob {target[:12]}… or its base has {max(sizes)} bytes, deltas are made up to "
                f"{self._limits.delta_blob_bytes_max}; take the whole blob",
                code="delta_none",
            )

    def _begin(self, pair: Pair) -> None:
        """See to it that the pair is built, once."""
        with self._lock:
            if self._closed or pair in self._building or len(self._building) >= self._limits.delta_builds_max:
                return
            self._building.add(pair)
        self._run(lambda: self._build(pair))

    def _build(self, pair: Pair) -> None:
        try:
            if not self._closed:
                self._keep(pair, self._encoded(*pair))
        except NotNow as error:
            LOG.warning("a delta was not built: %s", error)  # the next device that asks begins anew
        except Exception:
            LOG.exception("the delta from %s to %s was not built", *pair)
        finally:
            with self._lock:
                self._building.discard(pair)

    def _encoded(self, base: str, target: str) -> bytes | None:
        """The smallest delta, None where the plain blob is as good or building fails."""
        old, new = self._store.blobs.get(base), self._store.blobs.get(target)
        try:
            data = delta.encode(old, new, thorough=len(new) <= self._limits.delta_thorough_bytes_max)
        except Exception:
            LOG.exception("the delta from %s to %s cannot be made; devices take the whole blob", base, target)
            return None
        return data if len(data) < len(new) else None

    def _keep(self, pair: Pair, data: bytes | None) -> None:
        base, target = pair
        name = self._store.blobs.put(data) if data is not None else None
        limits, now = self._limits, self._clock.now()
        with self._store.write() as connection:
            size = len(data or b"")
            rows.put(connection, base, target, delta.VERSION, delta=name, size_bytes=size, now=now)
            surplus = rows.least_used(
                connection, bytes_max=limits.delta_cache_bytes_max, count_max=limits.delta_cache_count_max
            )
            for row in surplus:
                rows.remove(connection, row.base, row.target, row.codec)
                if row.delta is not None and not rows.names_blob(connection, row.delta):
                    self._store.blobs.delete(row.delta)


def _blobs(connection: sa.Connection, bundle: str) -> set[str]:
    manifest = bundles.manifest(connection, bundle) if bundle else None
    return {blob.sha256 for blob in manifest.blobs.values()} if manifest else set()
