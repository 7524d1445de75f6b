"""A hub in memory with a small use case, for tests of everything that comes after labelling.

One number decides: parts with a positive `x` are good. A bundle is made that is always right, or always wrong.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import uvicorn

from edgewise.frames import golden_inputs
from edgewise.hub import (
    Hub,
    HubConfig,
    LocalDoor,
    bundles,
    create_app,
    enrol,
    labels,
    orders,
    releases,
    reports,
    rollouts,
    samples,
    usecases,
)
from edgewise.hub.intake import sample_row
from edgewise.hub.orders import OrderWish
from edgewise.hub.samples import ImportedSample
from edgewise.hub.serve import listen
from edgewise.hub.store import devices, verdicts
from edgewise.hub.store import intake as intake_rows
from edgewise.hub.store import samples as sample_rows
from edgewise.ports import MemoryBlobs, MemoryClock, MemoryKeys, MemoryRuntime, SeededChance
from edgewise.sim._keeper import Keeper
from edgewise.trust import CertificateKey
from edgewise.wire import (
    Blob,
    Candidate,
    Decision,
    Golden,
    Graph,
    Harm,
    Manifest,
    Metric,
    Needs,
    Norm,
    Provenance,
    Release,
    Report,
    Robustness,
    Sample,
    TableSpec,
    Telemetry,
    UseCase,
    canonical,
    digest,
    encode,
)

START = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
NAME = "parts"
SPEC = TableSpec(columns=("x",), fill=(0.0,), mean=(0.0,), std=(1.0,))


def a_usecase(**changes: Any) -> UseCase:
    values: dict[str, Any] = {
        "name": NAME,
        "app": "test",
        "outcome": {"goal": "find cracks", "labels": ["ok", "crack"], "good_labels": ["ok"]},
        "people": {"owner": "Ann", "approver": "Bob", "oversight": "line lead"},
        "sites": [{"name": "a"}, {"name": "b"}],
        "data": {"data_class": "measurement", "transforms": []},
        "gate": {"evaluation_share": 0.5, "samples_min": 4},
        "rollout": {"bake_s": 60, "trial_s": 1, "automatic": True},
        "signing": {"automatic": True},
        "retrain": {"labels_min": 100_000},
        "connectivity": {"contact_s": 10},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
    return UseCase.model_validate(values)


@dataclass
class LoopWorld:
    """The hub, its release key, and short ways to make things happen."""

    usecase: UseCase = field(default_factory=a_usecase)
    seed: int = 1
    url: str | None = None  # of a database; None keeps it in memory

    def __post_init__(self) -> None:
        self.clock = MemoryClock(START)
        self.hub = Hub(
            HubConfig(database_url=self.url),
            clock=self.clock,
            chance=SeededChance(self.seed),
            runtime=MemoryRuntime(),
            blobs=MemoryBlobs(),
            keys=MemoryKeys(b"hub keys of a test"),
        )
        self.door = LocalDoor(self.hub)
        self.keeper = Keeper(self.hub, b"offline keys of a test", [NAME], now=START)
        self.key = self.keeper.release_key
        usecases.apply(self.hub.store, self.usecase, source="", who="admin", now=START)
        self._frames = 0

    @property
    def store(self) -> Any:
        return self.hub.store

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.hub.tick(self.hub.now())

    # -- data ------------------------------------------------------------------------------------------------------

    def label(self, count: int, *, sites: tuple[str, ...] = ("a", "b"), size: float = 0.5) -> None:
        """Import and label this many parts of each kind at each site, taken now.

        Args:
            size: least distance of `x` from zero.
        """
        wanted = []
        for site in sites:
            for index in range(count):
                for kind, sign in (("ok", 1), ("crack", -1)):
                    self._frames += 1
                    data = canonical({"x": sign * (size + 0.01 * index + 0.001 * self._frames)})
                    wanted.append(
                        ImportedSample(
                            use_case=NAME,
                            site=site,
                            frame=f"f{self._frames}",
                            label=kind,
                            blob=self.store.blobs.put(data),
                            media_type="application/json",
                            size_bytes=len(data),
                            taken_at=self.hub.now(),
                        )
                    )
        samples.import_samples(self.store, wanted, who="admin", now=self.hub.now())

    def bundle(
        self,
        *,
        right: bool = True,
        order: Any = None,
        name: str = "net",
        golden_off: float = 0.0,
        variant: str | None = None,
        variant_of: str | None = None,
        least: float = 0.0,
        norms: bool = False,
        site: str | None = None,
        sums: str | None = None,
        **needs: Any,
    ) -> str:
        """A bundle that is always right or always wrong; its blobs and manifest are stored.

        Args:
            least: `x` of a part that it calls good; over zero it is wrong about good parts with a smaller one.
            norms: it names two normalisations.
            site, sums: of a site variant.
        """
        seed = 3
        session = MemoryRuntime().open(json.dumps({"classes": 2, "seed": seed, "embedding": 1}).encode())
        at = session.run(np.array([[1], [least]], np.float32))["embedding"][:, 0]
        sign, bias = float(np.sign(at[0])) * (1 if right else -1), 9 * float(np.abs(at[1]))
        about = {
            "classes": 2,
            "seed": seed,
            "embedding": 1,
            "readout": [[9 * sign], [-9 * sign]],
            "bias": [-bias, bias],
        }
        model = canonical({**about, "name": f"{name} {variant or site}" if variant or site else name})
        told = tuple(Norm(values=f"v{at}", mean=f"m{at}", variance=f"s{at}") for at in (1, 2)) if norms else None
        blob = self.store.blobs.put(model)
        inputs = golden_inputs(SPEC, 7, 2)
        scores = MemoryRuntime().open(model).run(inputs)["scores"] + golden_off
        manifest = Manifest(
            name=name,
            task="tabular-classification",
            graphs=(Graph(blob="net", input="input", scores="scores", pre=SPEC, norms=told),),
            labels=("ok", "crack"),
            good_label="ok",
            golden=Golden(seed=7, count=2, scores=tuple(tuple(float(v) for v in row) for row in scores)),
            needs=Needs(**{"opset": 18, "ram_mb": 10, "latency_ms": 1, **needs}),
            provenance=Provenance(
                order=None if order is None else order.id,
                revision=None if order is None else order.revision,
                trained_at=self.hub.now(),
                variant=variant,
                variant_of=variant_of,
                site=site,
                sums=sums,
                trainer="test",
                code_version="0",
            ),
            blobs={"net": Blob(sha256=blob, size_bytes=len(model))},
        )
        return bundles.add_bundle(
            self.store, encode(manifest), runtime=self.hub.runtime, who="worker", now=self.hub.now()
        )

    def candidate(
        self,
        *,
        variants: Mapping[str, Mapping[str, Any]] | None = None,
        robustness: Robustness | None = None,
        **options: Any,
    ) -> str:
        """A bundle that answers an order, with these variants; the gate has not seen it yet.

        Args:
            robustness: what the worker tells of the bundle and of each of its variants.
        """
        hub = self.hub
        wish = OrderWish(use_case=NAME, why="test")
        order = orders.create(self.store, wish, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits)
        orders.claim(self.store, "worker", ["train"], now=hub.now(), limits=hub.limits)
        name = f"net-{order.id[:6]}"
        made = self.bundle(order=order, name=name, **options)
        beside = {
            kind: self.bundle(order=order, name=name, variant=kind, variant_of=made, **about)
            for kind, about in (variants or {}).items()
        }
        told = None if robustness is None else dict.fromkeys((made, *beside.values()), robustness)
        answer = Candidate(order=order.id, bundle=made, variants=beside, robustness=told)
        orders.take_candidate(self.store, order.id, "worker", answer, now=hub.now())
        return made

    def sign(self, bundle: str, *, override: str | None = None, variants: Mapping[str, str] | None = None) -> Release:
        """Sign a bundle as a signer would, without looking at anything."""
        with self.store.read() as connection:
            known = verdicts.newest_on(connection, bundle)
            version = releases.rows.newest_version(connection, NAME) + 1
        release = Release(
            id=f"{NAME}@{version}",
            use_case=NAME,
            version=version,
            bundles={"fp32": bundle, **(variants or {})},
            verdict=known.digest if known and override is None else None,
            signed_as="gate" if override is None else "override",
            override_reason=override,
            approved_by="test",
            created_at=self.hub.now(),
        )
        return self.keeper.sign(release, self.hub.now())

    def roll_out(self, release: str, **policy: Any) -> str:
        """A person starts a rollout; its id."""
        hub = self.hub
        row = rollouts.create(self.store, release, policy, who="ann", why="drill", now=hub.now(), chance=hub.chance)
        return str(row.id)

    def release_bundle(self, release: str) -> str:
        with self.store.read() as connection:
            row = releases.rows.get(connection, release)
        assert row is not None
        return row.bundle

    # -- devices ---------------------------------------------------------------------------------------------------

    def enrol(self, name: str, site: str = "a") -> None:
        hub = self.hub
        token, _ = enrol.make_token(
            self.store, site=site, use_case=NAME, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits
        )
        key = CertificateKey.generate(seed=name.encode())
        self.door.enrol(enrol.Enrolment(token=token, device=name, public=key.public))

    def row(self, device: str) -> Any:
        with self.store.read() as connection:
            return devices.get(connection, device)

    def hear(self, device: str, **changes: Any) -> None:
        """A report of the device arrives; without changes it says what it was told to run."""
        told = self.row(device).wanted
        values: dict[str, Any] = {"at": self.hub.now(), "phase": "committed", "previous": None}
        if told is not None and told.shadow:
            row = self.row(device)
            values |= {"phase": "shadow", "release": row.release, "bundle": row.bundle, "assignment": told.number}
        elif told is not None:
            values |= {"release": told.release, "bundle": told.bundle, "assignment": told.number}
        elif "release" not in changes:
            values["phase"] = "idle"
        report = Report(**{**values, **changes})
        with self.store.write() as connection:
            row = devices.get(connection, device)
            assert row is not None
            reports.heard(connection, row, report, sent_at=self.hub.now(), now=self.hub.now())

    def count(self, device: str, *, start: datetime, end: datetime, **counts: Any) -> None:
        """The device's counts of one window arrive."""
        self._frames += 1
        name = digest(f"window {self._frames}".encode())[:32]
        fields = {"id": name, "site": self.row(device).site, "start": start, "end": end, "overrides": 0, **counts}
        with self.store.write() as connection:
            row = intake_rows.telemetry_row(NAME, device, Telemetry(**fields), self.hub.now())
            intake_rows.add_telemetry(connection, [row])

    def pair(
        self,
        device: str,
        rollout: str,
        *,
        ours: str,
        theirs: str,
        truth: str | None,
        candidate: str,
        champion: str,
        why: str = "disagreement",
        **changes: Any,
    ) -> str:
        """Both bundles decided on one frame of the device, and a person labelled it; the sample's id.

        Args:
            truth: the label; None leaves it to others.
        """
        self._frames += 1
        name = digest(str(self._frames).encode())[:32]
        data = canonical({"x": self._frames})
        word = {"confidence": 0.9, "margin": 0.8}
        sample = Sample(
            id=name,
            frame=f"f{self._frames}",
            site=self.row(device).site,
            taken_at=self.hub.now(),
            kept_at=self.hub.now(),
            why=why,  # type: ignore[arg-type]
            inclusion_probability=1.0,
            blob=self.store.blobs.put(data),
            size_bytes=len(data),
            media_type="application/json",
            decision=Decision(label=ours, bundle=candidate, **word),
            shadow=Decision(label=theirs, bundle=champion, **word),
            rollout=rollout,
        )
        priority = sample_rows.PRIORITY[why]
        extra = {"use_case": NAME, "device": device, "priority": priority, "epoch": None, "number": None, **changes}
        with self.store.write() as connection:
            sample_rows.add(connection, [sample_row(sample, self.hub.now()) | extra])
        if truth is not None:
            labels.set_labels(self.store, [(name, truth)], who="admin", now=self.hub.now())
        return name


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[str]:
    """The address of this hub, served over real HTTP on a loopback port."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(hub), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def scorecard_world() -> LoopWorld:
    """parts@1 and parts@2 on the gate's word, and parts@3 against it.

    Parts under an old lamp have a small `x`, for which parts@1 takes good ones for cracks. parts@2 has two variants, of
    which int8 is always wrong, and its worker told how it does on worse pictures.
    """
    lamp = {"name": "old-lamp", "conditions": [{"fact": "hour", "op": "eq", "value": 22}]}
    outcome = {"metric": "balanced_accuracy", "labels_that_matter": ["crack"]}
    made = LoopWorld(usecase=a_usecase(slices=[lamp], outcome=outcome))
    made.label(40)
    made.clock.advance(14 * 3600)
    made.label(12, size=0.01)
    told = Robustness(
        samples=80,
        unreadable=2,
        harms=(
            Harm(harm="none", macro_recall=Metric(value=0.9, low=0.85, high=0.95, n=78)),
            Harm(
                harm="blur",
                macro_recall=Metric(value=0.7, low=0.6, high=0.8, n=78),
                loss=Metric(value=0.2, low=0.12, high=0.28, n=78),
            ),
        ),
    )
    made.candidate(least=0.4)
    made.tick()
    _sign_newest(made)
    made.enrol("d1")
    made.tick()
    made.hear("d1")
    made.candidate(variants={"fp16": {}, "int8": {"right": False}}, robustness=told)
    made.tick()
    _sign_newest(made)
    made.tick()
    made.sign(made.bundle(name="other"), override="drill")
    return made


def _sign_newest(world: LoopWorld) -> None:
    with world.store.read() as connection:
        verdict = verdicts.find(connection, use_case=NAME, limit=1)[0].verdict
        passed = {
            name: row.candidate
            for name, word in verdict.variants.items()
            if (row := verdicts.get(connection, word)) is not None and row.result == "passed"
        }
    world.sign(verdict.candidate, variants=passed)
