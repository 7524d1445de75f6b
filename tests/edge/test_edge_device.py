"""The whole device: it decides whatever happens around it, and what it keeps arrives exactly once."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from edgewise.edge._decider import LoopLimits
from edgewise.edge.device import DeviceLimits
from edgewise.edge.outbox import OutboxLimits
from edgewise.frames import Decided
from edgewise.ports import LinkDown, ListSource
from edgewise.wire import NotNow, NotValid


def ready(fleet, **more):
    """A device with its first bundle committed."""
    device = fleet.device(**more)
    fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    assert device.updater.running is not None
    return device


def test_frames_wait_at_their_source_until_there_is_a_bundle(fleet):
    device = fleet.device()
    fleet.feed(10)
    assert fleet.run(device, 20) == 0
    fleet.assign(fleet.release(1))
    fleet.clock.advance(100)
    assert fleet.run(device, 30) == 10


def test_what_is_kept_is_within_the_share_and_arrives_exactly_once(fleet):
    device = ready(fleet)
    fleet.feed(160)
    weather = iter([True, False, False, True, False] * 500)
    fleet.lost = lambda _what: next(weather, False)
    assert fleet.run(device, 600) == 160
    fleet.lost = lambda _what: False
    fleet.run(device, 600, seconds=5)
    samples = fleet.stored("sample")
    frames = [record["frame"] for record in samples]
    assert len(frames) == len(set(frames)) >= 20
    kept = sum(record["size_bytes"] for record in samples)
    assert kept <= 0.25 * sum(len(frame.data) for frame in fleet.frames)
    assert {record["why"] for record in samples} >= {"margin", "audit"}
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 160
    assert device.backlog == 0


def test_every_decision_is_counted_once_over_a_power_cut_and_none_is_skipped(fleet):
    device = ready(fleet)
    fleet.feed(100)
    fleet.run(device, 37)  # in the middle of a period
    device.outbox.close()  # nothing else is said: the process is gone
    device = fleet.device()
    fleet.run(device, 400)
    fleet.run(device, 400, seconds=5)
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 100
    assert device.keeper.cursor == "f000099"
    frames = [record["frame"] for record in fleet.stored("sample")]
    assert len(frames) == len(set(frames))


def test_a_planned_stop_loses_nothing_and_decides_nothing_twice(fleet):
    device = ready(fleet)
    fleet.feed(100)
    made = fleet.run(device, 37)
    device.close(fleet.clock.now())
    device = fleet.device()
    made += fleet.run(device, 400)
    assert made == 100
    assert device.decisions == 100


def test_a_link_that_blocks_for_ever_does_not_hold_up_a_single_decision(fleet):
    device = ready(fleet)
    device.close(fleet.clock.now())

    class Blocked:
        entered, free = threading.Event(), threading.Event()

        def __getattr__(self, _name):
            def wait(*_values, **_more):
                self.entered.set()
                self.free.wait(30)
                raise LinkDown("it was blocked")

            return wait

    link = Blocked()
    device = fleet.device(link=link)
    talk = threading.Thread(target=lambda: device.contact_step(fleet.clock.now()))
    talk.start()
    assert link.entered.wait(10)
    fleet.feed(50)
    made = [device.decide_step(fleet.clock.now()) for _ in range(50)]
    assert all(isinstance(decision, Decided) for decision in made)
    assert talk.is_alive()
    link.free.set()
    talk.join(10)


def test_a_full_disk_does_not_hold_up_decisions_and_what_is_shed_is_counted(fleet):
    device = ready(fleet)
    fleet.run(device, 5)
    (pages,) = device.outbox._file._connection.execute("PRAGMA page_count").fetchone()
    device.outbox._file._connection.execute(f"PRAGMA max_page_count = {pages}")
    fleet.hub.down = True
    fleet.lost = lambda _what: True
    fleet.feed(400)
    assert fleet.run(device, 420) == 400
    shed = device.keeper.shed()
    assert shed.get("sample", 0) > 0
    device.outbox._file._connection.execute("PRAGMA max_page_count = 1000000")
    fleet.lost = lambda _what: False
    fleet.run(device, 300, seconds=5)
    assert sum(record["decisions"] for record in fleet.stored("telemetry")) == 400  # counts are not shed
    assert device.backlog == 0


def test_a_stuck_disk_does_not_hold_up_decisions_and_memory_stays_bounded(fleet):
    device = ready(fleet)
    fleet.feed(1000)
    made = sum(device.decide_step(fleet.clock.now()) is not None for _ in range(1000))  # nobody records anything
    assert made == 1000
    assert len(device.decider.closed) == LoopLimits().periods_waiting_max
    device.record_step(fleet.clock.now())
    device.decider.close_period()
    device.record_step(fleet.clock.now())
    assert device.keeper.decisions == 1000
    assert device.keeper.not_kept["disk_stuck"] > 800


def test_while_baking_disagreements_go_up_first_with_both_decisions(fleet):
    device = ready(fleet)
    fleet.assign(fleet.release(2), bake=True, rollout="b" * 32)
    fleet.clock.advance(100)
    fleet.run(device, 3)
    assert device.updater.shadow is not None
    fleet.feed(64)
    fleet.run(device, 64, seconds=0.1)
    fleet.run(device, 300, seconds=2)
    found = [record for record in fleet.stored("sample") if record["why"] == "disagreement"]
    assert found
    for record in found:
        assert record["decision"]["release"] == "parts@2"
        assert record["shadow"]["release"] == "parts@1"
        assert record["decision"]["label"] != record["shadow"]["label"]
        assert record["rollout"] == "b" * 32
    windows = [record for record in fleet.stored("telemetry") if record.get("rollout") == "b" * 32]
    assert sum(record["paired"] for record in windows) == 64
    assert sum(record["disagreed"] for record in windows) >= len(found)
    kept = sum(record["size_bytes"] for record in fleet.stored("sample"))
    earned = 0.25 * sum(len(frame.data) for frame in fleet.frames)
    assert kept <= earned * 1.3  # one period may be spent ahead, and is paid back
    # A disagreement does not wait for the next planned contact, nor behind more than the share of the oldest record.
    classes = [segment.record_class for segment in fleet.hub.headers]
    assert classes.index("disagreement") <= classes.index("audit_sample") + 1


def test_a_failing_shadow_never_disturbs_the_decision(fleet):
    device = ready(fleet)
    fleet.assign(fleet.release(2), bake=True)
    fleet.clock.advance(100)
    fleet.run(device, 3)

    class Broken:
        def judge(self, *_values):
            raise RuntimeError("the shadow is broken")

    device.updater.installed.shadow = replace(device.updater.shadow, pipeline=Broken())
    fleet.feed(5)
    assert all(device.step(fleet.clock.now()) for _ in range(5))
    assert device.beside.left_out["failed"] == 5


def test_a_bundle_that_fails_on_good_frames_goes_back_by_itself_offline(fleet):
    device = ready(fleet)
    fleet.assign(fleet.release(2))
    fleet.clock.advance(100)
    fleet.run(device, 3)

    class Broken:
        manifest = device.updater.running.pipeline.manifest

        def judge(self, *_values):
            raise RuntimeError("out of memory")

    device.updater.installed.running = replace(device.updater.running, pipeline=Broken())
    fleet.lost = lambda _what: True
    fleet.feed(20)
    made = fleet.run(device, 25)
    assert made == 15
    assert device.updater.running.release == "parts@1"
    assert device.report(fleet.clock.now()).known_bad


def test_an_unreadable_frame_is_not_the_bundles_fault(fleet):
    device = ready(fleet)
    fleet.frames += [fleet.frame(number)._replace(data=b"no row") for number in range(9)]
    for frame in fleet.frames:
        fleet.source.add(frame)
    assert fleet.run(device, 12) == 0
    fleet.run(device, 100)
    assert device.keeper.undecided == 9
    assert device.updater.running is not None
    assert device.updater.state.last_failure is None


def test_a_source_that_raises_is_asked_again_and_named(fleet):
    device = ready(fleet)

    class Camera:
        def next(self):
            raise OSError("the camera is unplugged")

    device.decider._source = Camera()
    assert device.decide_step(fleet.clock.now()) is None
    assert "the camera is unplugged" in " ".join(device.waits_for())


def test_an_alarm_goes_up_at_once_with_its_frame_and_none_is_raised_unless_asked(fleet):
    device = ready(fleet)
    fleet.feed(20)
    fleet.run(device, 40)
    assert [record for record in fleet.stored("event") if record["what"] == "alarm"] == []
    device.close(fleet.clock.now())
    device = fleet.device(act=lambda frame, _decision: "look" if frame.name == "f000025" else None)
    fleet.feed(20)
    fleet.run(device, 60)
    (alarm,) = [record for record in fleet.stored("event") if record["what"] == "alarm"]
    assert alarm["text"] == "look"
    assert [record["frame"] for record in fleet.stored("sample") if record["why"] == "alarm"] == ["f000025"]


def test_feedback_on_a_recent_frame_keeps_the_frame_itself(fleet):
    device = ready(fleet)
    fleet.feed(10)
    fleet.run(device, 10)
    answer = device.feedback(fleet.clock.now(), verdict="missed", frame="f000003", label="crack")
    assert answer == {"frame": "f000003", "kept": True}
    assert device.feedback(fleet.clock.now(), verdict="wrong", frame="long ago") == {"frame": "long ago", "kept": False}
    fleet.run(device, 20)
    assert {record["verdict"] for record in fleet.stored("feedback")} == {"missed", "wrong"}
    assert [record["frame"] for record in fleet.stored("sample") if record["why"] == "feedback"] == ["f000003"]
    with pytest.raises(NotValid, match="needs wrong, missed or unknown"):
        device.feedback(fleet.clock.now(), verdict="maybe")


def test_what_the_policy_does_not_let_leave_does_not(fleet):
    data = {"data_class": "measurement", "transforms": [], "leave": ["telemetry"], "fields": []}
    device = ready(fleet, data=data)
    fleet.feed(100)
    fleet.run(device, 300, seconds=2)
    assert {segment.record_class for segment in fleet.hub.headers} == {"telemetry"}
    assert device.keeper.not_kept["class_forbidden"] > 0
    with pytest.raises(NotValid, match="may not leave"):
        device.feedback(fleet.clock.now(), verdict="wrong")
    assert all(not header.report.facts and not header.report.backlog for header in fleet.hub.uploads)


def test_names_and_groups_that_may_not_travel_are_hidden(fleet):
    data = {"data_class": "measurement", "transforms": [], "fields": []}
    device = ready(fleet, data=data)
    fleet.feed(60)
    fleet.run(device, 200)
    samples = fleet.stored("sample")
    assert samples
    for record in samples:
        assert len(record["frame"]) == 64
        assert record.get("group", "") == ""
        assert record["taken_at"] == record["kept_at"]


def test_frames_of_another_data_class_cannot_be_made_private_and_are_not_kept(fleet):
    device = ready(fleet, data={"data_class": "product-image"})
    fleet.feed(60)
    fleet.run(device, 200)
    assert fleet.stored("sample") == []
    assert device.keeper.not_kept["content_forbidden"] > 0


def test_under_a_policy_that_is_not_known_here_nothing_is_kept(fleet):
    device = fleet.device()
    fleet.assign(fleet.release(1), policy_version=2)
    fleet.run(device, 3)
    fleet.feed(60)
    assert fleet.run(device, 200) == 60
    assert fleet.stored("sample") == []
    assert any("policy 2" in reason for reason in device.waits_for())


def test_before_the_first_bundle_typical_frames_are_collected_when_wanted(fleet):
    device = fleet.device(limits=DeviceLimits(loop=LoopLimits(collect=True)))
    fleet.feed(64)
    fleet.run(device, 200)
    samples = fleet.stored("sample")
    assert len(samples) >= 10
    assert {record["decision"]["label"] for record in samples} == {"undecided"}
    assert fleet.stored("telemetry") == []


def whys(fleet, sites):
    """Why a device of the site north kept what it kept, under a bundle that says where it has learned."""
    device = fleet.device()
    fleet.assign(fleet.sign(fleet.bundle(1, sites=sites)))
    fleet.run(device, 3)
    fleet.feed(64)
    fleet.run(device, 200)
    fleet.run(device, 20, seconds=5)
    return {record["why"] for record in fleet.stored("sample")}


def test_a_bundle_that_never_learned_from_this_site_does_not_choose_by_its_doubt(fleet):
    assert whys(fleet, {"south": 400}) == {"audit", "novelty"}


def test_a_bundle_that_knows_this_site_chooses_by_its_doubt(fleet):
    assert "margin" in whys(fleet, {"south": 400, "north": 400})


def test_contacts_back_off_and_come_back(fleet):
    device = ready(fleet)
    fleet.lost = lambda _what: True
    fleet.clock.advance(100)
    for _ in range(2000):
        device.contact_step(fleet.clock.now())
        fleet.clock.advance(1)
    assert 4 <= device.contacts.failures <= 12
    fleet.lost = lambda _what: False
    fleet.clock.advance(60 * 8 * 1.2)
    assert device.contact_step(fleet.clock.now()) is True
    assert device.contacts.failures == 0


def test_the_hub_hears_soon_when_an_update_moves_on(fleet):
    device = ready(fleet)
    fleet.assign(fleet.release(2), trial_s=5)
    fleet.clock.advance(61)
    fleet.run(device, 2)
    assert fleet.hub.uploads[-1].report.phase == "trial"
    fleet.run(device, 8)
    assert fleet.hub.uploads[-1].report.phase == "committed"
    assert fleet.hub.uploads[-1].report.release == "parts@2"


def test_status_explains_what_runs_and_why(fleet):
    device = ready(fleet)
    fleet.feed(10)
    fleet.run(device, 12)
    status = device.status(fleet.clock.now())
    assert status["release"] == "parts@1"
    assert status["decisions"] == 10
    assert status["latency_ms"]["p50"] is not None
    assert "assignment 1 (run parts@1)" in status["why"]["because"]
    assert status["waits_for"] == []


def test_an_outbox_that_cannot_be_opened_says_what_to_do(fleet):
    fleet.folder.mkdir(parents=True)
    (fleet.folder / "outbox").write_text("a file is in the way")
    with pytest.raises((NotValid, NotNow), match="outbox"):
        fleet.device()


def test_a_small_outbox_sheds_samples_and_never_alarms(fleet):
    limits = DeviceLimits(outbox=OutboxLimits(bytes_max=40_000, reserve_bytes=8_000))
    device = ready(fleet, limits=limits, act=lambda frame, _decision: "x" if frame.name.endswith("00") else None)
    fleet.lost = lambda _what: True
    fleet.feed(1000)
    assert fleet.run(device, 1010) == 1000
    shed = device.keeper.shed()
    assert shed["sample"] > 0
    assert "alarm" not in shed
    assert device.outbox.backlog().held_bytes <= 40_000


def test_rows_of_different_lengths_before_the_first_bundle_still_give_a_selection(fleet):
    device = fleet.device(limits=DeviceLimits(loop=LoopLimits(collect=True)))
    fleet.feed(16)
    fleet.frames[3] = fleet.frames[3]._replace(data=b'{"x": 1}')
    device.decider._source = ListSource(fleet.frames)
    fleet.run(device, 100)
    assert fleet.stored("sample")
    assert "selection_failed" not in device.keeper.not_kept


def test_the_hub_hears_of_a_hostile_bundle_at_the_next_contact_while_the_device_decides(fleet):
    first = fleet.release(1)
    fleet.assign(first)
    device = fleet.device()
    fleet.feed(40)
    fleet.run(device, steps=200)
    assert device.updater.running.release == first.id
    release = fleet.hostile_release(2)
    fleet.assign(release)
    fleet.feed(40)
    assert fleet.run(device, steps=300) == 40
    (event,) = [record for record in fleet.stored("event") if record["what"] == "bundle_refused"]
    assert event["data"]["bundle"] == release.bundles["fp32"]
    assert device.updater.running.release == first.id
    device.close(fleet.clock.now())
