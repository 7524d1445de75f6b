"""Orders of kind `score`: the champion's word on what waits for a label, page by page, only suggested."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

import loop_world
from edgewise.hub import orders, score_orders, usecases
from edgewise.hub.store import opinions, predictions, samples, tables
from edgewise.hub.store import orders as order_rows
from edgewise.hub.suggestions import suggestions
from edgewise.wire import NotValid, Scored


@pytest.fixture
def world(store_url: str) -> Iterator[Any]:
    made = loop_world.LoopWorld(url=store_url)
    made.enrol("d1", site="a")
    made.hear("d1")
    made.label(6)
    made.sign(made.candidate(), override="test")
    made.roll_out("parts@1", waves=[{"percent": 100}])
    for _ in range(8):
        made.tick(15)
        made.hear("d1")
    yield made
    made.hub.close()


def waiting(world: Any, count: int, *, bundle: str = "0" * 64) -> list[str]:
    """So many samples without a label that an older bundle decided."""
    ids = []
    with world.store.write() as connection:
        start = int(connection.execute(sa.select(sa.func.count()).select_from(tables.samples)).scalar_one())
        for number in range(start, start + count):
            ids.append(f"{number + 1_000_000:032x}")
            decision = {"label": "ok", "confidence": 0.6, "margin": 0.2, "release": "parts@0", "bundle": bundle}
            row = {
                "id": ids[-1],
                "use_case": "parts",
                "site": "a",
                "device": "d1",
                "frame": f"f{number}",
                "group": f"part {number}",
                "taken_at": world.hub.now(),
                "kept_at": world.hub.now(),
                "received_at": world.hub.now() - timedelta(seconds=number),
                "why": "margin",
                "inclusion_probability": 1.0,
                "blob": f"{number:064x}",
                "size_bytes": 10,
                "media_type": "image/png",
                "decision": decision,
                "priority": 5,
            }
            connection.execute(sa.insert(tables.samples).values(**row))
    return ids


def create(world: Any) -> Any:
    hub = world.hub
    return score_orders.create(
        hub.store, "parts", why="test", who="ann", now=hub.now(), chance=hub.chance, limits=hub.limits
    )


def claim(world: Any) -> Any:
    hub = world.hub
    return orders.claim(hub.store, "w1", ["train", "score"], now=hub.now(), limits=hub.limits)


def take(world: Any, order: str, *said: Scored, unreadable: tuple[str, ...] = ()) -> Any:
    words = score_orders.Words(scored=said, unreadable=unreadable)
    return score_orders.take(world.hub.store, order, "w1", words, now=world.hub.now(), limits=world.hub.limits)


def word(sample: str, label: str = "crack") -> Scored:
    return Scored(sample=sample, label=label, confidence=0.9, margin=0.8)


def test_all_that_waits_is_looked_at_page_by_page_and_then_the_order_is_done(world: Any) -> None:
    ids = waiting(world, 150)
    order = create(world)
    assert claim(world).id == order.id
    first = take(world, order.id)
    assert [one.sample for one in first] == ids[:100], "newest first"
    second = take(world, order.id, *(word(one.sample) for one in first))
    assert [one.sample for one in second] == ids[100:]
    assert take(world, order.id, *(word(one.sample) for one in second)) == ()
    with world.store.read() as connection:
        row = orders.need(connection, order.id)
        kept = predictions.of(connection, ids)
    assert (row.state, row.bundle, row.body["config"]) == ("returned", None, {"done": 150, "unreadable": 0})
    assert {one.release for one in kept.values()} == {"parts@1"}
    with pytest.raises(NotValid, match="no sample of parts waits"):
        create(world)


def test_what_cannot_be_read_is_asked_for_once_and_is_no_suggestion(world: Any) -> None:
    readable, broken = waiting(world, 2)
    order = create(world)
    claim(world)
    take(world, order.id)
    assert take(world, order.id, word(readable), unreadable=(broken,)) == ()
    with world.store.read() as connection:
        row = orders.need(connection, order.id)
        sample = samples.get(connection, broken)
        assert sample is not None
        said = suggestions(connection, [sample])[broken]
    assert (row.state, row.body["config"]) == ("returned", {"done": 2, "unreadable": 1})
    assert [one.source for one in said] == ["device"]
    with pytest.raises(NotValid, match="no sample of parts waits"):
        create(world)
    score_orders.tick(world.store, world.hub.now(), chance=world.hub.chance, limits=world.hub.limits)
    with world.store.read() as connection:
        assert len([one for one in order_rows.find(connection, use_case="parts", limit=9) if one.kind == "score"]) == 1


def test_the_same_words_again_count_once(world: Any) -> None:
    ids = waiting(world, 120)
    order = create(world)
    claim(world)
    first = take(world, order.id)
    said = [word(one.sample) for one in first[:50]]
    for _ in range(2):
        take(world, order.id, *said, unreadable=(first[60].sample,))
    with world.store.read() as connection:
        assert orders.need(connection, order.id).body["config"] == {"done": 51, "unreadable": 1}
    assert len(ids) == 120


def test_the_champions_word_is_the_first_suggestion_and_the_devices_stays(world: Any) -> None:
    (name,) = waiting(world, 1)
    order = create(world)
    claim(world)
    take(world, order.id, word(name))
    with world.store.read() as connection:
        row = samples.get(connection, name)
        assert row is not None
        said = suggestions(connection, [row])[name]
    assert [(one.source, one.label, one.release) for one in said] == [
        ("champion", "crack", "parts@1"),
        ("device", "ok", "parts@0"),
    ]


def test_what_the_champion_decided_itself_and_what_has_a_label_is_left_alone(world: Any) -> None:
    waiting(world, 3, bundle=world.release_bundle("parts@1"))
    with pytest.raises(NotValid, match="no sample of parts waits"):
        create(world)
    (other,) = waiting(world, 1)
    order = create(world)
    claim(world)
    assert [one.sample for one in take(world, order.id)] == [other]


def test_a_worker_that_vanishes_loses_nothing_it_has_told(world: Any) -> None:
    ids = waiting(world, 120)
    order = create(world)
    claim(world)
    first = take(world, order.id)
    take(world, order.id, *(word(one.sample) for one in first))
    hub = world.hub
    later = hub.now() + timedelta(seconds=hub.limits.order_lease_s + 1)
    orders.tick(hub.store, later, chance=hub.chance, limits=hub.limits)
    again = orders.claim(hub.store, "w2", ["score"], now=later, limits=hub.limits)
    assert again is not None
    assert again.id == order.id
    left = score_orders.take(hub.store, order.id, "w2", score_orders.Words(), now=later, limits=hub.limits)
    assert [one.sample for one in left] == ids[100:]
    with pytest.raises(NotValid, match="not claimed by w1"):
        take(world, order.id)


def test_words_on_unknown_samples_are_dropped_and_a_training_order_takes_none(world: Any) -> None:
    waiting(world, 1)
    order = create(world)
    claim(world)
    take(world, order.id, word("f" * 32))
    with world.store.read() as connection:
        assert predictions.of(connection, ["f" * 32]) == {}
    world.label(6)
    with world.store.read() as connection:
        train = next((row for row in world_orders(connection) if row.kind == "train" and row.state == "open"), None)
    if train is None:
        wish = orders.OrderWish(use_case="parts")
        hub = world.hub
        orders.create(hub.store, wish, who="ann", now=hub.now(), chance=hub.chance, limits=hub.limits)
    claimed = orders.claim(world.hub.store, "w1", ["train"], now=world.hub.now(), limits=world.hub.limits)
    assert claimed is not None
    with pytest.raises(NotValid, match="is a train order"):
        take(world, claimed.id)


def world_orders(connection: sa.Connection) -> list[Any]:
    from edgewise.hub.store import orders as rows

    return rows.find(connection, use_case="parts")


def test_one_at_a_time_and_a_trigger_that_fires_once_a_champion(world: Any) -> None:
    hub = world.hub
    waiting(world, 2)
    score_orders.tick(hub.store, hub.now(), chance=hub.chance, limits=hub.limits)
    with world.store.read() as connection:
        assert [row for row in world_orders(connection) if row.kind == "score"] == [], "not asked for"
    order = create(world)
    with pytest.raises(NotValid, match="one at a time"):
        create(world)
    claim(world)
    while left := take(world, order.id):
        if not take(world, order.id, *(word(one.sample) for one in left)):
            break
    usecase = world.usecase.model_copy(
        update={"labelling": world.usecase.labelling.model_copy(update={"suggest": True})}
    )
    usecases.apply(hub.store, usecase, source="", who="test", now=hub.now())
    waiting(world, 1)
    for _ in range(2):
        score_orders.tick(hub.store, hub.now(), chance=hub.chance, limits=hub.limits)
    with world.store.read() as connection:
        states = [row.state for row in world_orders(connection) if row.kind == "score"]
    assert sorted(states) == ["open", "returned"]


def test_an_erasure_takes_the_word_along(world: Any) -> None:
    (name,) = waiting(world, 1)
    order = create(world)
    claim(world)
    take(world, order.id, word(name))
    from edgewise.hub.store import erasures

    with world.store.write() as connection:
        erasures.remove_records(connection, "d1", [name])
        assert predictions.of(connection, [name]) == {}
        assert opinions.of(connection, [name]) == {}
