"""Labels: a queue in order of urgency, a history, and a split that never changes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.hub import labels
from edgewise.hub.store import labels as label_rows
from edgewise.hub.store import samples, tables
from edgewise.wire import Annotation, Box, Decision, NotValid, plain


def test_the_queue_begins_with_alarms_and_ends_with_the_least_uncertain(yard):
    device = yard.enrol("one")

    def margin(value: float) -> Decision:
        return Decision(label="good", confidence=0.5, margin=value, bundle="0" * 64)

    device.send(
        device.segment(1, device.sample("sure", decision=margin(0.9)), device.sample("unsure", decision=margin(0.1))),
        device.segment(2, device.sample("audit", why="audit"), record_class="audit_sample"),
        device.segment(3, device.sample("pair", why="disagreement"), record_class="disagreement"),
        device.segment(4, device.sample("told", why="feedback"), record_class="feedback"),
        device.segment(5, device.sample("alarm", why="alarm"), record_class="alarm"),
    )
    yard.bring_in(("north", "imported", "", None))
    queue = labels.next_to_label(yard.hub.store, "press", limit=10, now=yard.hub.now())
    assert [item["frame"] for item in queue] == ["alarm", "told", "pair", "audit", "unsure", "sure", "imported"]
    assert queue[0]["labels"] == ["good", "pit"]


def test_a_label_that_is_known_is_a_duplicate_and_a_new_one_is_added_to_the_history(yard):
    (sample,) = yard.bring_in(("north", "a", "", None))
    store, now = yard.hub.store, yard.clock.now()
    assert labels.set_labels(store, [(sample, "pit")], who="ann", now=now) == (1, 0)
    assert labels.set_labels(store, [(sample, " pit ")], who="bob", now=now) == (0, 1)
    assert labels.set_labels(store, [(sample, "scratch")], who="bob", now=now) == (1, 0)
    with store.read() as connection:
        history = [(row["label"], row["who"]) for row in label_rows.history(connection, sample)]
        assert samples.get(connection, sample).label == "scratch"
        assert labels.known_labels(connection, "press") == ["good", "pit", "scratch"]
    assert history == [("pit", "ann"), ("scratch", "bob")]


@pytest.mark.parametrize("label", ["", "  ", "x" * 129, "a\nb", "\0"])
def test_what_is_no_label_is_refused_and_nothing_is_labelled(yard, label):
    first, second = yard.bring_in(("north", "a", "", None), ("north", "b", "", None))
    with pytest.raises(NotValid, match="is not a label"):
        labels.set_labels(yard.hub.store, [(first, "pit"), (second, label)], who="ann", now=yard.clock.now())
    with pytest.raises(NotValid, match="not known here"):
        labels.set_labels(yard.hub.store, [(first, "pit"), ("0" * 32, "pit")], who="ann", now=yard.clock.now())
    assert [row["label"] for row in yard.rows(tables.samples)] == [None, None]


def test_a_group_is_for_one_purpose_for_ever_whatever_is_relabelled_or_added_later(yard):
    frames = [("north", f"{group}-{number}", group, "pit") for group in "abcdefghij" for number in range(3)]
    yard.bring_in(*frames)
    before = {row["group"]: row["purpose"] for row in yard.rows(tables.samples)}
    assert set(before.values()) == {"train", "evaluation"}
    late = [("north", f"{group}-late", group, "good") for group in "abcdefghij"]
    ids = yard.bring_in(*late)
    labels.set_labels(yard.hub.store, [(name, "pit") for name in ids], who="ann", now=yard.clock.now())
    purposes = {(row["group"], row["purpose"]) for row in yard.rows(tables.samples)}
    assert purposes == set(before.items())


def test_the_split_does_not_depend_on_the_order_of_the_request(make_yard):
    frames = [("north", f"{number}", f"group {number % 7}", "pit") for number in range(21)]
    splits = []
    for order in (frames, frames[::-1]):
        yard = make_yard()
        yard.bring_in(*order)
        splits.append({(row["frame"], row["purpose"]) for row in yard.rows(tables.samples)})
    assert splits[0] == splits[1]


def test_every_site_and_label_gets_its_share_of_evaluation(yard):
    frames = [
        (site, f"{site}-{label}-{number}", "", label)
        for site in ("north", "south")
        for label in ("good", "pit", "rare")
        for number in range(3 if label == "rare" else 40)
    ]
    yard.bring_in(*frames)
    counts = Counter((row["site"], row["label"], row["purpose"]) for row in yard.rows(tables.samples))
    for site in ("north", "south"):
        assert counts[site, "good", "evaluation"] == counts[site, "pit", "evaluation"] == 8
        assert counts[site, "rare", "evaluation"] == 1


@settings(max_examples=200, deadline=None, database=None)
@given(share=st.floats(0.01, 0.89), count=st.integers(1, 400))
def test_the_split_stays_within_one_sample_of_its_share(share, count):
    train = evaluation = 0
    for _ in range(count):
        if labels.to_evaluation(train, evaluation, share):
            evaluation += 1
        else:
            train += 1
    assert abs(evaluation - share * count) <= 1


def test_an_annotation_is_kept_with_its_label_and_goes_with_another_one(yard):
    (sample,) = yard.bring_in(("north", "a", "", None))
    store, now = yard.hub.store, yard.clock.now()
    boxes = Annotation(boxes=(Box(label="pit", x1=0.1, y1=0.2, x2=0.3, y2=0.4),))
    assert labels.set_labels(store, [labels.NewLabel(sample, "pit", boxes)], who="ann", now=now) == (1, 0)
    assert labels.set_labels(store, [(sample, "pit")], who="ann", now=now) == (0, 1), "the boxes are not taken away"
    with store.read() as connection:
        assert samples.labelled_rows(connection, "press", "train")[0].annotation == plain(boxes)
        assert samples.labelled(connection, "press", "train")[0].annotation == boxes
    labels.set_labels(store, [(sample, "scratch")], who="bob", now=now)
    with store.read() as connection:
        assert samples.labelled(connection, "press", "train")[0].annotation is None
        assert [row["annotation"] for row in label_rows.history(connection, sample)] == [plain(boxes), None]
