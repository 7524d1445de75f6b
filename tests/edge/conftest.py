"""What the edge's tests share: a hub as small as possible, keys, bundles that need no training."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewise import delta
from edgewise.edge import Device
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.outbox import unpack
from edgewise.edge.update import UpdateLimits, Updater
from edgewise.frames import golden_inputs
from edgewise.ports import Frame, ListSource, MemoryClock, MemoryLink, MemoryRuntime, SeededChance
from edgewise.trust import PrivateKey, seal
from edgewise.wire import (
    ASSIGNMENT_TYPE,
    Assignment,
    Blob,
    DeltaOffer,
    Director,
    Envelope,
    Golden,
    Graph,
    Manifest,
    Needs,
    NotNow,
    NotValid,
    Provenance,
    Receipt,
    Release,
    TableSpec,
    UseCase,
    canonical,
    digest,
    encode,
    loads,
    unpack_upload,
)

_SPEC = importlib.util.spec_from_file_location("tuf_repository", Path(__file__).parents[1] / "tuf_repository.py")
assert _SPEC is not None
assert _SPEC.loader is not None
tuf_repository = importlib.util.module_from_spec(_SPEC)
sys.modules["tuf_repository"] = tuf_repository
_SPEC.loader.exec_module(tuf_repository)
Repository = tuf_repository.Repository

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LABELS = ("good", "crack", "pit")
ROLE = "releases-parts"


class TinyHub:
    """As much of a hub as a device needs: it serves releases and bundles, and stores numbered segments once."""

    def __init__(self) -> None:
        self.repository = Repository(NOW + timedelta(days=3650))  # valid by the real clock too
        self.count = 0
        self.lies: dict[str, bytes] = {}  # files served whatever was published
        self.asked: list[tuple[str, int]] = []  # files of the repository, with the bytes that went out
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}  # blobs of which not all came yet
        self.assignment: Envelope | None = None
        self.watermarks: dict[str, int] = {}
        self.records: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.uploads: list[Any] = []
        self.down = False
        self.next_contact_s = 60.0
        self.fetched: list[tuple[str, int]] = []
        self.deltas_asked: list[tuple[str, str]] = []
        self.deltas: Callable[[bytes], bytes] | None = bytes  # what happens to a delta before it is offered
        self.building = 0  # times that it says "not now"

    def exchange(self, _device: str, body: bytes) -> bytes:
        header, payloads = unpack_upload(body)
        self.uploads.append(header)
        mark, missing = self.watermarks.get(header.epoch, 0), ()
        for segment, payload in zip(header.segments, payloads, strict=True):
            if segment.number <= mark:
                continue
            if segment.number != mark + 1:
                raise NotValid("a gap", code="gap")
            missing = tuple(blob for blob in segment.blobs if blob not in self.blobs)
            if missing:
                break
            mark = segment.number
            self.headers.append(segment)
            self.records += [loads(line) for line in unpack(payload)]
        self.watermarks[header.epoch] = mark
        receipt = Receipt(
            watermark=mark,
            epoch=header.epoch,
            hub_epoch="a" * 32,
            missing_blobs=missing,
            assignment=self.assignment,
            metadata=self.metadata,
            next_contact_s=self.next_contact_s,
            at=NOW,
        )
        return encode(receipt)

    def put_blob(
        self, _device: str, sha256: str, data: bytes, *, offset: int = 0, size_bytes: int | None = None
    ) -> None:
        here = self.parts.get(sha256, b"")
        assert offset == len(here)
        self.parts[sha256] = here + data
        if size_bytes in (None, offset + len(data)):
            self.blobs[sha256] = self.parts.pop(sha256)
            assert digest(self.blobs[sha256]) == sha256

    def blob_offset(self, _device: str, sha256: str) -> int | None:
        return None if sha256 in self.blobs else len(self.parts.get(sha256, b""))

    def has_blob(self, _device: str, sha256: str) -> bool:
        return sha256 in self.blobs

    def get_blob(self, _device: str, sha256: str, *, offset: int = 0) -> bytes:
        self.fetched.append((sha256, offset))
        return self.blobs[sha256][offset:]

    def get_delta(self, _device: str, sha256: str, *, base: str, codec: int) -> bytes:
        self.deltas_asked.append((sha256, base))
        if self.deltas is None:
            raise NotValid("no such route", code="http_404")
        if self.building:
            self.building -= 1
            raise NotNow("it is being built", code="delta_building")
        data = self.deltas(delta.encode(self.blobs[base], self.blobs[sha256]))
        self.blobs[digest(data)] = data
        offer = DeltaOffer(target=sha256, base=base, codec=codec, sha256=digest(data), size_bytes=len(data))
        return encode(offer)

    def get_file(self, _device: str, path: str, *, offset: int = 0) -> bytes:
        kind, _, name = path.partition("/")
        data = self.repository.metadata(name) if kind == "metadata" else self.repository.files.get(name)
        data = self.lies.get(path, data)
        self.asked.append((path, len(data or b"")))
        if data is None:
            raise NotValid(f"{path} is not there", code="file_unknown")
        return data[offset:]

    @property
    def metadata(self) -> int:
        """The version of the newest timestamp."""
        return self.repository.timestamp.version


class Bench:
    """A hub, its keys, and everything a device under test is made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = TinyHub()
        self.clock = MemoryClock(NOW)
        self.repository = self.hub.repository
        self.assignment_key = PrivateKey.generate(b"assignment" + b"0" * 22)
        self.repository.delegate("targets", ROLE, "parts/*/release.json", "parts/*/*/manifest.json", terminating=True)
        self.direct(self.assignment_key)
        self.root = self.repository.published["root"][0].decode()
        self.count = 0
        self.manifests: dict[str, bytes] = {}
        self.lost: Callable[[str], bool] = lambda _: False

    def link(self) -> MemoryLink:
        return MemoryLink(self.hub, "d1", lambda what: self.lost(what))

    def release(self, seed: int, *, broken: bool = False, needs: Needs | None = None, version: int = 0) -> Release:
        """A signed release of a bundle that follows from the seed; a broken one answers its golden inputs wrongly."""
        return self.sign(self.bundle(seed, broken=broken, needs=needs), version)

    def sign(self, bundle: str, version: int = 0, **variants: str) -> Release:
        """A signed release of this bundle and its variants."""
        self.hub.count += 1
        version = version or self.hub.count
        release = Release(
            id=f"parts@{version}", use_case="parts", version=version, bundles={"fp32": bundle, **variants},
            approved_by="gate", created_at=NOW,
        )  # fmt: skip
        self.repository.add_target(ROLE, f"parts/{version}/release.json", encode(release))
        for name, digested in release.bundles.items():
            self.repository.add_target(ROLE, f"parts/{version}/{name}/manifest.json", self.manifests[digested])
        self.publish(ROLE)
        return release

    def publish(self, *roles: str) -> None:
        """Sign the next version of these roles, then snapshot and timestamp."""
        self.repository.publish(*roles, "snapshot", "timestamp")

    def direct(self, *keys: PrivateKey) -> None:
        """Let these keys sign assignments."""
        self.repository.add_target("targets", "director.json", encode(Director(keys=tuple(key.public for key in keys))))
        self.publish("targets")

    def withdraw(self, release: Release) -> None:
        """The release is no longer vouched for."""
        targets = self.repository.role(ROLE).targets
        for path in [path for path in targets if path.startswith(f"parts/{release.version}/")]:
            del targets[path]
        self.publish(ROLE)

    def refreshed(self, updater: Updater) -> Updater:
        """The updater, after it heard of the newest metadata."""
        updater.hear(self.link(), self.hub.metadata, self.clock.now())
        return updater

    def accept(self, updater: Updater, envelope: Envelope) -> bool:
        """What a contact does: hear of the newest metadata, then take the assignment."""
        return self.refreshed(updater).accept(envelope, self.clock.now())

    def bundle(
        self, seed: int, *, broken: bool = False, needs: Needs | None = None, sites: dict[str, int] | None = None
    ) -> str:
        # A bias makes one label win clearly in each bundle, so that two bundles disagree.
        bias = [3.0 * (index == seed % len(LABELS)) for index in range(len(LABELS))]
        about = {"classes": len(LABELS), "seed": seed, "embedding": 8, "bias": bias}
        # Long enough to break off in the middle, and worth a delta: nothing packs it, but all bundles have it.
        network = json.dumps(about | {"noise": random.Random(0).randbytes(2000).hex()}).encode()
        spec = TableSpec(columns=("x", "y"), fill=(0, 0), mean=(0, 0), std=(1, 1))
        scores = MemoryRuntime().open(network).run(golden_inputs(spec, seed, 4))["scores"]
        if broken:
            scores = np.roll(scores, 1, axis=1)
        manifest = Manifest(
            name=f"net{seed}",
            task="tabular-classification",
            graphs=(Graph(blob="net", input="input", scores="scores", embedding="embedding", pre=spec),),
            labels=LABELS,
            good_label="good",
            golden=Golden(seed=seed, count=4, scores=tuple(tuple(float(v) for v in row) for row in scores)),
            needs=needs or Needs(opset=18, ram_mb=10, latency_ms=1),
            provenance=Provenance(trained_at=NOW, trainer="none", code_version="0", sites=sites),
            blobs={"net": Blob(sha256=digest(network), size_bytes=len(network))},
        )
        data = encode(manifest)
        self.hub.blobs[digest(network)] = network
        self.manifests[digest(data)] = data
        return digest(data)

    def hostile_release(self, seed: int) -> Release:
        """A signed release whose network is a pickle."""
        manifest = loads(self.manifests[self.bundle(seed)])
        evil = b"\x80\x04cos\nsystem\n"
        manifest["blobs"]["net"] = {"sha256": digest(evil), "size_bytes": len(evil)}
        data = canonical(manifest)
        self.hub.blobs[digest(evil)], self.manifests[digest(data)] = evil, data
        return self.sign(digest(data))

    def assign(self, release: Release | None, **more: Any) -> Envelope:
        """A newer assignment for the device; the hub hands it out from now on."""
        self.count += 1
        values: dict[str, Any] = {
            "device": "d1", "number": self.count, "hub_epoch": "a" * 32, "use_case": "parts", "issued_at": NOW,
            "release": release.id if release else None, "bundle": release.bundles["fp32"] if release else None,
        }  # fmt: skip
        if more.get("kind") == "revert":
            values |= {"reason": "worse", "evidence": "e" * 64}
        record = Assignment(**(values | more))
        self.hub.assignment = seal(encode(record), ASSIGNMENT_TYPE, [self.assignment_key])
        return self.hub.assignment

    def updater(self, checkpoint: Callable[[str], None] = lambda _: None, **more: Any) -> Updater:
        return Updater(
            self.folder, device="d1", use_case="parts", root=self.root, runtime=MemoryRuntime(), clock=self.clock,
            limits=more.pop("limits", UpdateLimits()), checkpoint=checkpoint, **more,
        )  # fmt: skip

    def frame(self, number: int, **facts: Any) -> Frame:
        row = {"x": (number * 37 % 101) / 50 - 1, "y": (number * 53 % 97) / 50 - 1}
        return Frame(
            name=f"f{number:06d}", data=json.dumps(row).encode(), media_type="application/json",
            taken_at=NOW, group=f"g{number // 4}", facts=facts,
        )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "device")


def usecase(**more: Any) -> UseCase:
    """A use case of rows of numbers, everything else at its default unless named."""
    values: dict[str, Any] = {
        "name": "parts", "app": "factory",
        "outcome": {"goal": "find bad parts", "labels": LABELS, "good_labels": ["good"]},
        "people": {"owner": "a", "approver": "b", "oversight": "line"}, "sites": [{"name": "north"}],
        "data": {"data_class": "measurement", "transforms": []},
    }  # fmt: skip
    return UseCase.model_validate(values | more)


class Fleet(Bench):
    """A bench with a whole device on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.source = ListSource()
        self.fed = 0
        self.frames: list[Frame] = []

    def device(
        self,
        *,
        act: Any = None,
        limits: DeviceLimits | None = None,
        link: Any = None,
        facts: Any = None,
        runtime: Any = None,
        footprint: Any = None,
        **more: Any,
    ) -> Device:
        """A start of the agent: frames after its cursor come again, as from a folder."""
        case = usecase(**{"upload": {"period_frames": 16, "share_of_bytes": 0.25}, **more})
        identity = Identity(
            device="d1", site="north", use_case="parts", usecase=case, root=self.root, hub_epoch="a" * 32
        )

        def open_source(after: str | None) -> ListSource:
            self.source = ListSource(frame for frame in self.frames if after is None or frame.name > after)
            return self.source

        self.starts = getattr(self, "starts", 0) + 1
        return Device(
            self.folder, identity=identity, open_source=open_source, link=link or self.link(),
            runtime=runtime or MemoryRuntime(), clock=self.clock, chance=SeededChance(self.starts), act=act,
            limits=limits, live=facts, footprint=footprint,
        )  # fmt: skip

    def feed(self, count: int) -> None:
        for number in range(self.fed, self.fed + count):
            frame = self.frame(number)
            self.frames.append(frame)
            self.source.add(frame)
        self.fed += count

    def run(self, device: Device, steps: int = 400, seconds: float = 1.0) -> int:
        """Let time pass; comes back with how many decisions were made."""
        made = 0
        for _ in range(steps):
            made += device.step(self.clock.now()) is not None
            self.clock.advance(seconds)
        return made

    def stored(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.hub.records if record["kind"] == kind]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "device")


@pytest.fixture
def make_usecase() -> Callable[..., UseCase]:
    return usecase
