"""A bundle of two graphs on a device: installed, vetted, tried and decided with like any other."""

from __future__ import annotations

from edgewise.edge import Device
from edgewise.edge.device import Identity
from edgewise.ports import Frame, ListSource, OnnxRuntime, SeededChance
from edgewise.wire import digest, encode
from staged_world import NOW, Made, picture

LEAVE = ("sample", "telemetry", "report", "feedback", "alarm", "disagreement", "audit", "local-api")


def test_a_staged_bundle_is_installed_and_its_samples_tell_both_graphs(fleet, make_usecase):
    made = Made()
    data = encode(made.manifest)
    fleet.hub.blobs |= made.blobs
    fleet.manifests[digest(data)] = data
    case = make_usecase(
        data={"data_class": "product-image", "leave": LEAVE},
        upload={"period_frames": 4, "share_of_bytes": 1.0},
        outcome={"goal": "grade parts", "labels": made.manifest.labels},
    )
    identity = Identity(device="d1", site="north", use_case="parts", usecase=case, root=fleet.root, hub_epoch="a" * 32)
    source = ListSource()
    device = Device(
        fleet.folder, identity=identity, open_source=lambda _after: source, link=fleet.link(), runtime=OnnxRuntime(),
        clock=fleet.clock, chance=SeededChance(1),
    )  # fmt: skip
    fleet.assign(fleet.sign(digest(data)))
    fleet.run(device, 4)
    assert device.updater.running is not None, device.updater.state.last_failure
    pictures = [picture(0, 250), picture(1, 165), picture(None, 0), picture(2, 165)]
    for number, content in enumerate(pictures):
        frame = fleet.frame(number)._replace(data=content, media_type="image/png")
        source.add(Frame(name=frame.name, data=content, media_type="image/png", taken_at=NOW))
    labels = []
    for _ in pictures:
        decision = device.step(fleet.clock.now())
        labels.append((decision.label, decision.graph))
    assert labels == [("light", "grade"), ("dark", "grade"), ("empty", "find"), ("dark", "grade")]
    fleet.run(device, 60, seconds=5)
    kept = {record["frame"]: record["decision"] for record in fleet.stored("sample")}
    told = [decision for decision in kept.values() if decision["graph"] == "grade"]
    assert told
    assert all(decision["earlier"][0]["label"] == "part" for decision in told)
