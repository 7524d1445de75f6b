"""Dataset revisions: nothing leaks from the evaluation share, and an erasure leaves identity and tombstones."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from edgewise.hub import erasures, forget, labels, ledger, likeness, orders, revisions, samples
from edgewise.hub.access import Person
from edgewise.hub.labels import in_evaluation_block
from edgewise.hub.orders import OrderWish
from edgewise.hub.samples import ImportedSample
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import samples as sample_rows
from edgewise.hub.store import tables
from edgewise.wire import DatasetRevision, Erasure, LabelledSample, NotValid, revision_digest

START = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
BOSS = Person(name="boss", role="approver")


def surface(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = np.repeat(np.repeat(rng.normal(0, 40, (24, 24)), 3, 0), 3, 1)
    return Image.fromarray(np.clip(120 + coarse, 0, 255).astype(np.uint8), "L")


def stored(yard: Any, picture: Image.Image, quality: int = 90) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return str(yard.hub.store.blobs.put(file.getvalue()))


def bring(yard: Any, *wanted: tuple[str, str, str, str], at: datetime = START, site: str = "north") -> list[str]:
    """Import (frame, group, label, blob) samples."""
    made = [
        ImportedSample(use_case="press", site=site, frame=frame, group=group, label=label, blob=blob, taken_at=at)
        for frame, group, label, blob in wanted
    ]
    return samples.import_samples(yard.hub.store, made, who="test", now=yard.hub.now())


def freeze(yard: Any) -> DatasetRevision:
    while likeness.tick(yard.hub.store):
        continue
    with yard.hub.store.write() as connection:
        return revisions.freeze(connection, "press", now=yard.hub.now())[1]


def purposes(yard: Any) -> dict[str, str]:
    return {row["id"]: row["purpose"] for row in yard.rows(tables.samples)}


# -- leaks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_no_picture_or_near_copy_is_on_both_sides_whatever_comes_in_which_order(yard: Any, seed: int) -> None:
    """Thirty strangers, and copies of some of them under other groups: saved again, or taken darker."""
    rng = np.random.default_rng([7, seed])
    wanted, original = [], {}
    for number in range(30):
        blob = stored(yard, surface(number))
        wanted.append((f"f{number}", f"part {number}", ("good", "pit")[number % 2], blob))
        original[blob] = number
        if rng.random() < 0.4:
            copy = surface(number) if rng.random() < 0.5 else ImageEnhance.Brightness(surface(number)).enhance(0.7)
            blob = stored(yard, copy, quality=int(rng.integers(60, 90)))
            wanted.append((f"c{number}", f"copy {number}", ("good", "pit")[number % 2], blob))
            original[blob] = number
    for place in rng.permutation(len(wanted)):
        bring(yard, wanted[place])
        if rng.random() < 0.2:
            likeness.tick(yard.hub.store)
    held = {original[line.blob] for line in freeze(yard).samples}
    judged = {original[row["blob"]] for row in yard.rows(tables.samples) if row["purpose"] == "evaluation"}
    assert judged
    assert not held & judged


def test_what_is_left_out_is_counted_with_its_reason(yard: Any) -> None:
    bring(yard, *((f"f{number}", f"p{number}", "pit", stored(yard, surface(number))) for number in range(30)))
    judged = next(row for row in yard.rows(tables.samples) if row["purpose"] == "evaluation")
    again = surface(int(judged["frame"][1:]))
    bring(yard, ("same", "other", "pit", judged["blob"]), ("near", "another", "pit", stored(yard, again, quality=70)))
    twice = stored(yard, surface(99))
    bring(yard, ("one", "q1", "pit", twice), ("two", "q2", "good", twice))
    by_frame = {row["frame"]: row["purpose"] for row in yard.rows(tables.samples)}
    twin = revisions.CONTRADICTED if by_frame["one"] == by_frame["two"] else revisions.SAME
    reasons = {"same": revisions.SAME, "near": revisions.NEAR, "one": twin, "two": twin}
    expected = Counter(reason for frame, reason in reasons.items() if by_frame[frame] == "train")
    assert expected
    assert freeze(yard).left_out == expected


def test_a_picture_that_cannot_be_read_stops_nothing(yard: Any) -> None:
    bring(
        yard,
        *(
            (f"f{number}", f"p{number}", "pit", yard.hub.store.blobs.put(b"no picture %d" % number))
            for number in range(4)
        ),
    )
    assert len(freeze(yard).samples) + sum(purpose == "evaluation" for purpose in purposes(yard).values()) == 4


def test_a_trigger_waits_until_all_labelled_pictures_were_looked_at(yard: Any) -> None:
    bring(yard, *((f"f{number}", f"p{number}", "pit", stored(yard, surface(number))) for number in range(300)))
    hub, made = yard.hub, []
    for _ in range(4):
        orders.tick(hub.store, hub.now(), chance=hub.chance, limits=hub.limits)
        made.append(len(yard.rows(tables.orders)))
        likeness.tick(hub.store)
    assert made == [0, 0, 1, 1], "so many pictures are two ticks"


def test_nothing_that_may_be_trained_on_is_said_in_words(yard: Any) -> None:
    twice = stored(yard, surface(1))
    bring(yard, ("one", "q1", "pit", twice), ("two", "q2", "good", twice))
    with pytest.raises(NotValid, match="2 labelled samples to train on, and none may be: 2 are labelled in two ways"):
        freeze(yard)


# -- split by time -----------------------------------------------------------------------------------------------------


def test_a_split_by_time_keeps_whole_blocks_and_never_changes_a_purpose(yard: Any) -> None:
    usecase = yard.apply()
    yard.apply(gate=usecase.gate.model_copy(update={"split": "time", "block_hours": 24.0, "evaluation_share": 0.25}))
    for day in range(12):
        at = START + timedelta(days=day)
        bring(yard, *((f"{day}-{n}", "", "pit", stored(yard, surface(50 * day + n))) for n in range(3)), at=at)
    by_day: dict[str, set[str]] = {}
    for row in yard.rows(tables.samples):
        by_day.setdefault(row["frame"].split("-")[0], set()).add(row["purpose"])
    assert all(len(found) == 1 for found in by_day.values())
    assert sum(found == {"evaluation"} for found in by_day.values()) == 3
    before = purposes(yard)
    labels.set_labels(yard.hub.store, [(next(iter(before)), "scratch")], who="ann", now=yard.hub.now())
    assert purposes(yard) == before


@given(st.floats(0.01, 0.89), st.floats(0.5, 400), st.integers(0, 10**6))
def test_as_many_blocks_as_the_share_says_are_for_evaluation(share: float, hours: float, start: int) -> None:
    times = (
        [datetime.fromtimestamp((start + number + 0.5) * 3600 * hours, UTC) for number in range(400)]
        if hours < 20
        else []
    )
    found = sum(in_evaluation_block(at, hours, share) for at in times)
    assert abs(found - share * len(times)) <= 2


# -- erasure -----------------------------------------------------------------------------------------------------------


def order(yard: Any) -> Any:
    hub = yard.hub
    wish = OrderWish(use_case="press")
    return orders.create(hub.store, wish, who="test", now=hub.now(), chance=hub.chance, limits=hub.limits)


def test_an_erasure_leaves_tombstones_and_the_identity_of_every_revision(yard: Any) -> None:
    bring(yard, *((f"n{number}", f"p{number}", "pit", stored(yard, surface(number))) for number in range(6)))
    bring(yard, *((f"s{n}", f"p{n}", "pit", stored(yard, surface(50 + n))) for n in range(6)), site="south")
    made = order(yard)
    blobs = {row["id"]: (row["site"], row["blob"], row["purpose"]) for row in yard.rows(tables.samples)}
    number = erasures.create(yard.hub, "press", Erasure(site="north", reason="asked for"), BOSS).row.number

    with yard.hub.store.read() as connection:
        revision = order_rows.revision(connection, made.revision)
        row = order_rows.get(connection, made.id)
        gone = [name for name, (site, _, _) in blobs.items() if site == "north"]
        entries = [ledger.find(connection, name) for name in gone]
    assert revision is not None
    assert revision_digest(revision) == made.revision
    assert {line.site for line in revision.samples} == {"south"}
    trained = {name for name in gone if blobs[name][2] == "train"}
    assert {stone.sample for stone in revision.erased or ()} == trained
    assert row is not None
    assert (row.state, row.worker) == ("failed", None)
    assert "were erased by erasure" in (row.error or "")
    assert all(f"erased by erasure {number}" in entry.text for entry in entries)
    for site, blob, _ in blobs.values():
        assert yard.hub.store.blobs.has(blob) == (site == "south")
    assert {item["sample"] for item in yard.rows(tables.labels)} == {
        name for name in blobs if blobs[name][0] == "south"
    }
    fresh = order(yard)
    with yard.hub.store.read() as connection:
        after = order_rows.revision(connection, fresh.revision)
    assert after is not None
    assert after.erased is None
    assert {line.site for line in after.samples} == {"south"}


def test_content_that_another_sample_holds_stays(yard: Any) -> None:
    shared = stored(yard, surface(1))
    bring(yard, ("n", "p", "pit", shared))
    bring(yard, ("s", "p", "pit", shared), site="south")
    erasures.create(yard.hub, "press", Erasure(site="north", reason="asked for"), BOSS)
    assert yard.hub.store.blobs.has(shared)
    assert len(yard.rows(tables.samples)) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.data())
def test_the_digest_holds_after_any_erasures_and_not_after_any_other_change(count: int, data: Any) -> None:
    lines = tuple(
        LabelledSample(sample=f"{number:032x}", blob=f"{number + 7:064x}", label="pit", site="a", labelled_by="ann")
        for number in range(count)
    )
    whole = DatasetRevision(use_case="press", made_at=START, samples=lines, new=(lines[0].sample,), format=2)
    name, now = revision_digest(whole), whole
    for number in range(data.draw(st.integers(0, 4))):
        ids = {line.sample for line in data.draw(st.lists(st.sampled_from(lines), min_size=1))}
        now = forget.with_tombstones(now, ids, erasure=number, now=START) or now
    assert revision_digest(now) == name
    assert len(now.samples) + len(now.erased or ()) == count
    for change in (
        {"samples": now.samples[1:]} if now.samples else {"new": ()},
        {"use_case": "other"},
        {"samples": tuple(line.model_copy(update={"label": "good"}) for line in now.samples)}
        if now.samples
        else {"new": ()},
        {"left_out": {"x": 1}},
    ):
        assert revision_digest(now.model_copy(update=change)) != name


def test_a_revision_from_before_keeps_its_digest_and_can_be_read(yard: Any) -> None:
    line = LabelledSample(sample="0" * 32, blob="1" * 64, label="pit", site="a")
    old = DatasetRevision(use_case="press", made_at=START, samples=(line,))
    with yard.hub.store.write() as connection:
        name = order_rows.add_revision(connection, old)
        assert order_rows.revision(connection, name) == old
        assert sample_rows.labelled(connection, "press", "train") == []


def test_two_revisions_are_compared_by_what_came_in_what_went_out_and_what_is_called_otherwise(yard: Any) -> None:
    names = bring(yard, *((f"f{number}", f"p{number}", "pit", stored(yard, surface(number))) for number in range(4)))
    before = freeze(yard)
    yard.clock.advance(1)
    labels.set_labels(yard.hub.store, [(before.samples[0].sample, "scratch")], who="ann", now=yard.hub.now())
    bring(yard, ("new", "p9", "good", stored(yard, surface(9))), site="south")
    erased = next(name for name in names if name in {line.sample for line in before.samples[1:]})
    with yard.hub.store.write() as connection:
        forget.forget(connection, [sample_rows.these(connection, [erased])[erased]], erasure=1, now=yard.hub.now())
    added, removed, relabelled = revisions.difference(before, freeze(yard))
    assert (added, removed, relabelled) == ({"south": {"good": 1}}, {"north": {"pit": 1}}, {"pit -> scratch": 1})
