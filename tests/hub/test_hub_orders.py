"""Orders: frozen revisions without the evaluation share, triggers, leases, bounded tries, candidates with a trace."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from edgewise.hub import bundles, labels, likeness, orders
from edgewise.hub.order_states import MOVES, STATES, Event, after
from edgewise.hub.orders import OrderWish
from edgewise.hub.store import bundles as bundle_rows
from edgewise.hub.store import orders as rows
from edgewise.hub.store import tables
from edgewise.ports import OnnxRuntime
from edgewise.wire import (
    Blob,
    Candidate,
    Golden,
    Graph,
    ImageSpec,
    Manifest,
    Needs,
    NotTrusted,
    NotValid,
    Order,
    Provenance,
    canonical,
    digest,
    encode,
    revision_digest,
)


def label_some(yard, count: int, *, start: int = 0, label: str = "pit") -> list[str]:
    return yard.bring_in(*(("north", f"frame {number}", "", label) for number in range(start, start + count)))


def create(yard, **wish: Any) -> Order:
    hub = yard.hub
    made = OrderWish(**{"use_case": "press"} | wish)
    return orders.create(hub.store, made, who="test", now=hub.now(), chance=hub.chance, limits=hub.limits)


def claim(yard, worker: str = "w1") -> Order | None:
    return orders.claim(yard.hub.store, worker, ["train"], now=yard.hub.now(), limits=yard.hub.limits)


def tick(yard) -> None:
    likeness.tick(yard.hub.store)
    orders.tick(yard.hub.store, yard.hub.now(), chance=yard.hub.chance, limits=yard.hub.limits)


def make_bundle(yard, made_for: Order, **lie: Any) -> str:
    blob = yard.hub.store.blobs.put(canonical({"classes": 2, "seed": 1, "embedding": 2, "of": made_for.id}))
    made = {"order": made_for.id, "revision": made_for.revision} | lie
    manifest = Manifest(
        name="press",
        task="image-classification",
        graphs=(Graph(blob="main.onnx", input="x", scores="y", pre=ImageSpec(width=32, height=32)),),
        labels=("good", "pit"),
        golden=Golden(seed=1, count=1, scores=((0.5, 0.5),)),
        needs=Needs(opset=20, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=yard.hub.now(), trainer="vision", code_version="1", **made),
        blobs={"main.onnx": Blob(sha256=blob, size_bytes=yard.hub.store.blobs.size(blob))},
    )
    return bundles.add_bundle(
        yard.hub.store, encode(manifest), runtime=yard.hub.runtime, who="test", now=yard.hub.now()
    )


def test_a_revision_never_holds_the_evaluation_share_and_names_what_is_new(yard):
    first = label_some(yard, 20)
    order = create(yard)
    with yard.hub.store.read() as connection:
        revision = rows.revision(connection, order.revision)
    purposes = {row["id"]: row["purpose"] for row in yard.rows(tables.samples)}
    assert {purposes[sample.sample] for sample in revision.samples} == {"train"}
    assert revision_digest(revision) == order.revision
    assert set(revision.new) == {sample for sample in first if purposes[sample] == "train"}

    finish(yard, claim(yard))
    changed = revision.samples[0].sample
    labels.set_labels(yard.hub.store, [(changed, "scratch")], who="ann", now=yard.hub.now())
    added = label_some(yard, 5, start=20)
    second = create(yard)
    with yard.hub.store.read() as connection:
        revision = rows.revision(connection, second.revision)
    purposes = {row["id"]: row["purpose"] for row in yard.rows(tables.samples)}
    assert revision.parent == order.revision
    assert set(revision.new) == {changed} | {sample for sample in added if purposes[sample] == "train"}


def finish(yard, order: Order, worker: str = "w1") -> str:
    bundle = make_bundle(yard, order)
    candidate = Candidate(order=order.id, bundle=bundle)
    orders.take_candidate(yard.hub.store, order.id, worker, candidate, now=yard.hub.now())
    return bundle


def test_enough_new_labels_make_one_order_and_ticking_again_makes_no_other(yard):
    label_some(yard, 3)
    tick(yard)
    assert yard.rows(tables.orders) == []
    label_some(yard, 1, start=3)
    tick(yard)
    tick(yard)
    assert [row["state"] for row in yard.rows(tables.orders)] == ["open"]
    finish(yard, claim(yard))
    tick(yard)
    label_some(yard, 3, start=4)
    tick(yard)
    assert len(yard.rows(tables.orders)) == 1, "labels that an order has seen do not count again"
    label_some(yard, 1, start=7)
    tick(yard)
    assert len(yard.rows(tables.orders)) == 2


def test_time_alone_makes_an_order_once_there_is_any_new_label(yard):
    usecase = yard.apply()
    yard.apply(retrain=usecase.retrain.model_copy(update={"every_hours": 2.0}))
    label_some(yard, 4)
    tick(yard)
    finish(yard, claim(yard))
    yard.clock.advance(3 * 3600)
    tick(yard)
    assert len(yard.rows(tables.orders)) == 1
    label_some(yard, 1, start=4)
    tick(yard)
    assert len(yard.rows(tables.orders)) == 2


@pytest.mark.parametrize("trigger", ["labels", "every", "daily"])
def test_a_trigger_fires_once_a_cause_over_many_rounds(yard, trigger: str) -> None:
    """Six rounds: ticking between causes makes nothing, and each cause makes one order."""
    usecase = yard.apply()
    settings = {
        "labels": {"labels_min": 4},
        "every": {"labels_min": 500, "every_hours": 2.0},
        "daily": {"labels_min": 500, "daily_at": "02:30", "zone": "Asia/Tokyo"},
    }[trigger]
    label_some(yard, 8)
    if trigger != "labels":
        create(yard)
        finish(yard, claim(yard))
    yard.apply(retrain=usecase.retrain.model_copy(update=settings))
    before = len(yard.rows(tables.orders))
    for number in range(6):
        label_some(yard, 4, start=100 + 10 * number)
        if trigger != "labels":
            tick(yard)
            assert len(yard.rows(tables.orders)) == before + number, "its time has not come"
            yard.clock.advance({"every": 2 * 3600 + 60, "daily": 86_400}[trigger])
        for _ in range(3):
            tick(yard)
        assert len(yard.rows(tables.orders)) == before + number + 1
        finish(yard, claim(yard))
        for _ in range(3):
            tick(yard)
            yard.clock.advance(5)
        assert len(yard.rows(tables.orders)) == before + number + 1, "nothing new has happened"


@pytest.mark.parametrize(("local", "made"), [("02:29", 1), ("02:31", 2)])
def test_a_time_of_day_is_that_of_its_zone(yard, local: str, made: int) -> None:
    usecase = yard.apply()
    label_some(yard, 6)
    create(yard)
    finish(yard, claim(yard))
    zone = ZoneInfo("Asia/Tokyo")
    here = yard.hub.now().astimezone(zone)
    hour, minute = map(int, local.split(":"))
    morning = here.replace(hour=2, minute=30, second=0, microsecond=0)
    daily = {"labels_min": 500, "daily_at": "02:30", "zone": "Asia/Tokyo"}
    # From just after one 02:30 there, so that the next one is the cause.
    start = (morning + timedelta(days=1, minutes=1) - here).total_seconds()
    yard.clock.advance(start)
    yard.apply(retrain=usecase.retrain.model_copy(update={"labels_min": 500}))
    label_some(yard, 2, start=50)
    create(yard)
    finish(yard, claim(yard))
    yard.apply(retrain=usecase.retrain.model_copy(update=daily))
    label_some(yard, 2, start=60)
    target = (morning + timedelta(days=2)).replace(hour=hour, minute=minute)
    yard.clock.advance((target - yard.hub.now().astimezone(zone)).total_seconds())
    tick(yard)
    assert len(yard.rows(tables.orders)) == made + 1


def test_one_unfinished_order_a_use_case(yard):
    label_some(yard, 6)
    create(yard)
    with pytest.raises(NotValid, match="one order at a time") as caught:
        create(yard)
    assert caught.value.code == "order_open"


def test_nothing_labelled_nothing_to_train(yard):
    with pytest.raises(NotValid, match="label some"):
        create(yard)
    with pytest.raises(NotValid, match="no use case"):
        create(yard, use_case="other")
    label_some(yard, 6)
    with pytest.raises(NotValid, match="to start from"):
        create(yard, base="f" * 64)


def test_a_silent_worker_loses_its_order_and_the_tries_are_bounded(yard):
    label_some(yard, 6)
    order = create(yard)
    for attempt in range(1, 4):
        assert claim(yard, f"w{attempt}").id == order.id
        assert claim(yard, "other") is None
        orders.heartbeat(yard.hub.store, order.id, f"w{attempt}", now=yard.hub.now(), limits=yard.hub.limits)
        yard.clock.advance(yard.hub.limits.order_lease_s - 1)
        tick(yard)
        assert yard.rows(tables.orders)[0]["state"] == "claimed"
        yard.clock.advance(2)
        tick(yard)
        with pytest.raises(NotValid, match="stop and claim again"):
            orders.heartbeat(yard.hub.store, order.id, f"w{attempt}", now=yard.hub.now(), limits=yard.hub.limits)
    (row,) = yard.rows(tables.orders)
    assert (row["state"], row["attempts"], row["error"]) == ("failed", 3, "worker w3 went silent")
    assert claim(yard) is None
    assert create(yard).id != order.id, "after a failed order the next can be made"


def test_a_failure_is_told_and_the_order_opens_again(yard):
    label_some(yard, 6)
    order = create(yard)
    claim(yard)
    with pytest.raises(NotValid, match="not claimed by w2"):
        orders.fail(yard.hub.store, order.id, "w2", "mine", now=yard.hub.now())
    assert orders.fail(yard.hub.store, order.id, "w1", "out of memory", now=yard.hub.now()).state == "open"
    assert yard.rows(tables.orders)[0]["error"] == "out of memory"


def test_a_candidate_must_be_stored_and_say_what_it_was_made_from(yard):
    label_some(yard, 6)
    order = create(yard)
    claim(yard)
    store, now = yard.hub.store, yard.hub.now()
    with pytest.raises(NotValid, match="is not stored"):
        orders.take_candidate(store, order.id, "w1", Candidate(order=order.id, bundle="0" * 64), now=now)
    for lie in ({"order": "f" * 32}, {"revision": "f" * 64}):
        wrong = make_bundle(yard, made_for=order, **lie)
        with pytest.raises(NotValid, match="traced back"):
            orders.take_candidate(store, order.id, "w1", Candidate(order=order.id, bundle=wrong), now=now)
    bundle = finish(yard, order)
    assert finish(yard, order) == bundle, "the same candidate again changes nothing"
    (row,) = yard.rows(tables.orders)
    assert (row["state"], row["bundle"]) == ("returned", bundle)
    assert [row["order"] for row in yard.rows(tables.bundles) if row["digest"] == bundle] == [order.id]


def test_work_finished_after_the_lease_is_taken_unless_another_has_the_order(yard):
    label_some(yard, 6)
    order = create(yard)
    claim(yard, "slow")
    yard.clock.advance(yard.hub.limits.order_lease_s + 1)
    tick(yard)
    claim(yard, "other")
    with pytest.raises(NotValid, match="claimed by other"):
        finish(yard, order, worker="slow")
    yard.clock.advance(yard.hub.limits.order_lease_s + 1)
    tick(yard)
    finish(yard, order, worker="slow")
    assert yard.rows(tables.orders)[0]["state"] == "returned"


def test_a_bundle_is_taken_only_whole(yard):
    label_some(yard, 6)
    order = create(yard)
    name = make_bundle(yard, order)
    with yard.hub.store.read() as connection:
        manifest = bundle_rows.manifest(connection, name)
        assert bundle_rows.manifest_bytes(connection, name) == encode(manifest)
    (blob,) = manifest.blobs.values()
    wrong_size = blob.model_copy(update={"size_bytes": 1})
    missing = blob.model_copy(update={"sha256": "0" * 64})
    for key, lie, text in (
        ("main.onnx", wrong_size, "has .* bytes, the manifest says 1"),
        ("main.onnx", missing, "is not stored"),
        ("else", blob, "names blob 'main.onnx'"),
    ):
        body = encode(manifest.model_copy(update={"blobs": {key: lie}}))
        with pytest.raises(NotValid, match=text):
            bundles.add_bundle(yard.hub.store, body, runtime=yard.hub.runtime, who="test", now=yard.hub.now())
    with pytest.raises(NotValid, match="not a valid Manifest"):
        bundles.add_bundle(
            yard.hub.store, canonical({"name": 1}), runtime=yard.hub.runtime, who="test", now=yard.hub.now()
        )


def test_a_bundle_that_could_harm_whoever_opens_it_is_refused_with_an_audit_entry(yard):
    label_some(yard, 6)
    good = make_bundle(yard, create(yard))
    with yard.hub.store.read() as connection:
        manifest = bundle_rows.manifest(connection, good)
    pickled = b"\x80\x04cos\nsystem\n"
    name = yard.hub.store.blobs.put(pickled)
    (blob,) = manifest.blobs.values()
    evil = blob.model_copy(update={"sha256": name, "size_bytes": len(pickled)})
    body = encode(manifest.model_copy(update={"blobs": {"main.onnx": evil}}))
    with pytest.raises(NotTrusted, match="Python pickle") as caught:
        bundles.add_bundle(yard.hub.store, body, runtime=OnnxRuntime(), who="worker", now=yard.hub.now())
    assert caught.value.code == "foreign_file"
    entry = yard.rows(tables.audit)[-1]
    assert (entry["actor"], entry["action"], entry["subject"]) == ("worker", "bundle.refused", digest(body))
    assert entry["data"]["code"] == "foreign_file"
    with yard.hub.store.read() as connection:
        assert bundle_rows.get(connection, digest(body)) is None


def test_a_cancelled_order_is_nobodys_any_more_and_the_next_label_makes_another(yard):
    hub = yard.hub
    label_some(yard, 20)
    order = create(yard)
    assert claim(yard) is not None
    row = orders.cancel(hub.store, order.id, reason="wrong labels", who="ann", now=hub.now())
    assert (row.state, row.worker, row.error) == ("cancelled", None, "cancelled by ann: wrong labels")
    assert orders.cancel(hub.store, order.id, reason="again", who="bob", now=hub.now()) == row, "again changes nothing"
    for act in (
        lambda: orders.heartbeat(hub.store, order.id, "w1", now=hub.now(), limits=hub.limits),
        lambda: orders.fail(hub.store, order.id, "w1", "no", now=hub.now()),
        lambda: finish(yard, order),
    ):
        with pytest.raises(NotValid, match="is cancelled, not claimed by w1") as caught:
            act()
        assert caught.value.code == "order_lost"
    assert claim(yard) is None
    notes = [row["action"] for row in yard.rows(tables.audit) if row["action"].startswith("order.")]
    assert notes == ["order.made", "order.claimed", "order.cancelled"]
    assert create(yard).id != order.id


def test_only_an_unfinished_order_can_be_cancelled_and_only_with_a_reason(yard):
    hub = yard.hub
    label_some(yard, 20)
    order = create(yard)
    with pytest.raises(NotValid, match="needs a reason"):
        orders.cancel(hub.store, order.id, reason=" ", who="ann", now=hub.now())
    claim(yard)
    finish(yard, order)
    with pytest.raises(NotValid, match="is returned, cancel is not possible any more; what still is: nothing"):
        orders.cancel(hub.store, order.id, reason="late", who="ann", now=hub.now())


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", list(Event))
def test_every_move_is_in_the_table_or_refused(state: str, event: Event) -> None:
    if (state, event) in MOVES:
        assert after("x", state, event) in STATES
    else:
        with pytest.raises(NotValid, match=f"order x is {state}, {event} is not possible"):
            after("x", state, event)


def test_what_has_ended_stays_so() -> None:
    assert {state for state, _ in MOVES} == {"open", "claimed"}


def test_the_docs_draw_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "learn.md").read_text()
    drawn = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if "|" in line}
    assert {(state, str(event), then) for (state, event), then in MOVES.items()} <= drawn
    rows = {row for row in drawn if len(row) == 3 and row[0] in STATES and row[1] in list(Event)}
    assert len(rows) == len(MOVES)
