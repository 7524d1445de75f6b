"""From labels with boxes to a device that says where things are: order, worker, gate, signer, device, upload.

Hub and its API over HTTP, a real worker and signer as clients, a device in this process; real networks on pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from box_pictures import SIDE, WIDE, picture
from edgewise.cli._scorecard import lines
from edgewise.edge import Device
from edgewise.edge.device import DeviceLimits, Identity
from edgewise.edge.update import UpdateLimits
from edgewise.hub import Hub, HubConfig, LocalDoor, deltas, enrol, samples, usecases
from edgewise.hub.samples import ImportedSample
from edgewise.learn import Worker
from edgewise.ports import (
    Frame,
    ListSource,
    MemoryBlobs,
    MemoryClock,
    MemoryKeys,
    MemoryLink,
    OnnxRuntime,
    SeededChance,
)
from edgewise.ports.api import HubApi
from edgewise.signer import Signer
from edgewise.sim._keeper import Keeper
from edgewise.trust import CertificateKey
from edgewise.wire import Annotation, UseCase, decode, overlap
from loop_world import START, served

NAME = "surfaces"
USECASE = {
    "name": NAME, "app": "factory",
    "outcome": {"goal": "find spots", "labels": ["none", WIDE], "good_labels": ["none"]},
    "people": {"owner": "Ann", "approver": "Bob", "oversight": "line lead"},
    "sites": [{"name": "north"}],
    "data": {"fields": ["frame", "boxes"]},
    "gate": {"evaluation_share": 0.3, "samples_min": 8},
    "rollout": {"bake_s": 60, "trial_s": 1, "automatic": True},
    "signing": {"automatic": True},
    "retrain": {"labels_min": 40, "trainer": "boxes", "config": {"size": SIDE, "width": 8, "steps": 120}},
    "connectivity": {"contact_s": 10},
    "upload": {"period_frames": 8, "share_of_bytes": 1.0},
}  # fmt: skip


class Plant:
    """The hub, its clients, and a device with its camera."""

    def __init__(self, hub: Hub, url: str, folder: Path) -> None:
        self.hub, self.clock, self.url = hub, hub.clock, url
        keeper = Keeper(hub, b"offline keys of a test", [NAME], now=START)
        usecases.apply(hub.store, UseCase.model_validate(USECASE), source="", who="admin", now=START)
        self.admin = HubApi(url, hub.tokens.text("admin"))
        self.apis = [self.admin, HubApi(url, hub.tokens.text("worker")), HubApi(url, hub.tokens.text("signer"))]
        self.worker = Worker(self.apis[1], folder / "worker", name="w1", clock=self.clock)
        self.signer = Signer(self.apis[2], [keeper.release_key], runtime=OnnxRuntime(), clock=self.clock)
        door, self.source = LocalDoor(hub), ListSource()
        token, _ = enrol.make_token(
            hub.store, site="north", use_case=NAME, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits
        )
        key = CertificateKey.generate(seed=b"n1")
        identity = decode(Identity, door.enrol(enrol.Enrolment(token=token, device="n1", public=key.public)))
        self.device = Device(
            folder / "n1",
            identity=identity,
            open_source=lambda _: self.source,
            link=MemoryLink(door, "n1"),
            runtime=OnnxRuntime(),
            clock=self.clock,
            chance=SeededChance(1),
            limits=DeviceLimits(update=UpdateLimits(latency_ms_max=10_000, delta_bytes_min=0)),
        )

    def label(self, count: int) -> None:
        """Import and label so many pictures of each kind, with where the spots are."""
        wanted = []
        for number in range(2 * count):
            label = ("none", WIDE)[number % 2]
            data, boxes = picture(number, kinds=() if label == "none" else (label,))
            wanted.append(
                ImportedSample(
                    use_case=NAME,
                    site="north",
                    frame=f"{label}-{number}",
                    label=label,
                    annotation=Annotation(boxes=boxes) if boxes else None,
                    blob=self.hub.store.blobs.put(data),
                    media_type="image/png",
                    size_bytes=len(data),
                    taken_at=self.hub.now(),
                )
            )
        samples.import_samples(self.hub.store, wanted, who="admin", now=self.hub.now())

    def turn(self) -> None:
        self.device.step(self.hub.now())
        self.hub.tick()
        self.worker.step()
        self.hub.tick()
        self.signer.step()
        self.clock.advance(15)

    def close(self) -> None:
        self.device.close(self.hub.now())
        for api in self.apis:
            api.close()


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    hub = Hub(
        HubConfig(), clock=MemoryClock(START), chance=SeededChance(1), runtime=OnnxRuntime(), blobs=MemoryBlobs(),
        keys=MemoryKeys(b"hub keys of a test"), run=deltas.at_once,
    )  # fmt: skip
    with served(hub) as url:
        made = Plant(hub, url, tmp_path)
        yield made
        made.close()
    hub.close()


def test_labels_with_boxes_become_a_device_that_says_where_things_are(plant: Plant) -> None:
    plant.label(45)
    for _ in range(40):
        plant.turn()
        if plant.device.updater.running is not None and plant.device.updater.running.release is not None:
            break
    running = plant.device.updater.running
    assert running is not None, plant.admin.get("/orders", use_case=NAME)
    assert running.release is not None
    manifest = running.pipeline.manifest
    assert (manifest.task, manifest.provenance.trainer) == ("object-detection", "boxes")
    # The gate's scorecard, by the code that every other bundle is judged with, and how good the boxes are beside it.
    card = plant.admin.get(f"/releases/{running.release}/scorecard")
    boxes = card["scorecard"]["overall"]["boxes"]
    assert card["verdict"]["result"] == "passed"
    assert boxes["n"] > 0
    assert boxes["centre_recall"]["value"] > 0.6
    assert any(line.startswith("Recall of boxes over all") for line in lines(card))
    with httpx.Client(base_url=plant.url, timeout=30, follow_redirects=True) as console:
        console.get("/", params={"token": plant.hub.tokens.text("admin")})
        page = console.get(f"/releases/{running.release}").text
    assert "<h3>Found boxes</h3>" in page
    assert f"{boxes['centre_recall']['value']:.3f}" in page
    # The device decides on parts that nobody has seen, says where, and its samples carry that.
    right = 0
    for number in range(24):
        data, (truth,) = picture(9_000 + number, kinds=(WIDE,))
        frame = Frame(name=f"f{number}", data=data, media_type="image/png", taken_at=plant.hub.now())
        plant.source.add(frame)
        plant.device.step(plant.hub.now())
        said = running.pipeline.judge(data, "image/png", running.release).decision
        right += any(overlap(box, truth) > 0.5 for box in said.boxes or ())
    assert right >= 14
    for _ in range(4):
        plant.turn()
    kept = plant.admin.get("/samples", use_case=NAME, device="n1")["samples"]
    told = [row["decision"] for row in kept]
    assert told
    assert any(decision.get("boxes") for decision in told)
