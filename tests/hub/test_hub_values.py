"""A use case with a target, through the hub: labels that are numbers, orders, the gate and the signer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

import series_world
import value_rows
from edgewise.cli._scorecard_values import value_lines
from edgewise.frames import SERIES_TYPE, Decided, series_bytes
from edgewise.hub import bundles, labels, orders, samples
from edgewise.hub.evidence import _nearer
from edgewise.hub.orders import OrderWish
from edgewise.hub.samples import ImportedSample
from edgewise.hub.store import labels as history
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import samples as sample_rows
from edgewise.hub.store import verdicts
from edgewise.learn import TrainingSample
from edgewise.learn._task import Task, do
from edgewise.ports import OnnxRuntime
from edgewise.ports.api import HubApi
from edgewise.signer import check_evidence
from edgewise.wire import Candidate, NotTrusted, NotValid, Scorecard, decode, encode
from loop_world import NAME, LoopWorld, a_usecase, served

TARGET = {"name": "wear", "unit": "um", "coverage": 0.8, "above": 60}
OUTCOME = {"labels": [], "good_labels": [], "metric": "mae", "target": TARGET}


def a_world(**changes: Any) -> LoopWorld:
    settings = {"config": {"trees": 40, "learning_rate": 0.15, "depth": 4}, "labels_min": 100_000}
    gate = {"evaluation_share": 0.4, "samples_min": 8, "floor": 0.3, "margin": 0.1, "coverage_tolerance": 0.1}
    world = LoopWorld(usecase=a_usecase(outcome=OUTCOME, retrain=settings, gate=gate, **changes))
    world.hub.runtime = OnnxRuntime()
    return world


def bring(world: Any, made: list[TrainingSample]) -> list[str]:
    wanted = [
        ImportedSample(
            use_case=NAME,
            site=one.site,
            frame=one.name,
            group=one.group,
            label=one.label or None,
            blob=world.store.blobs.put(one.read()),
            media_type=one.media_type,
            size_bytes=len(one.read()),
            taken_at=world.hub.now(),
        )
        for one in made
    ]
    return samples.import_samples(world.store, wanted, who="admin", now=world.hub.now())


def candidate(world: Any, **config: Any) -> str:
    """What a worker makes of an order, given back to the hub."""
    hub = world.hub
    wish = OrderWish(use_case=NAME, why="test", base="none", config=config)
    order = orders.create(world.store, wish, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits)
    orders.claim(world.store, "worker", ["train"], now=hub.now(), limits=hub.limits)
    with world.store.read() as connection:
        revision = order_rows.revision(connection, order.revision)
    assert revision is not None
    task = Task(order=order, revision=revision, base=None, now=hub.now())
    made = do(task, world.store.blobs.get, lambda _what, _share: None).bundle
    for data in made.blobs.values():
        world.store.blobs.put(data)
    name = bundles.add_bundle(world.store, encode(made.manifest), runtime=hub.runtime, who="worker", now=hub.now())
    orders.take_candidate(world.store, order.id, "worker", Candidate(order=order.id, bundle=name), now=hub.now())
    return name


def verdict_on(world: Any, bundle: str) -> Any:
    with world.store.read() as connection:
        return verdicts.newest_on(connection, bundle)


def test_numbers_become_a_bundle_that_the_gate_judges_and_the_signer_checks() -> None:
    world = a_world()
    bring(world, value_rows.samples(80, each=6, sites=("a", "b")))
    with world.store.read() as connection:
        held = {purpose: len(sample_rows.labelled(connection, NAME, purpose)) for purpose in ("train", "evaluation")}
    assert held["evaluation"] == pytest.approx(192, abs=12)  # numbers take turns as one class does
    good = candidate(world)
    world.tick()
    found = verdict_on(world, good)
    assert (found.result, [site.site for site in found.verdict.sites]) == ("passed", ["a", "b"])
    with world.store.read() as connection:
        card = decode(Scorecard, verdicts.scorecard_bytes(connection, found.verdict.scorecard))
    assert card.quantiles == (0.1, 0.5, 0.9)
    assert all(item.stated is not None for item in card.predictions)
    with served(world.hub) as url, HubApi(url, world.hub.tokens.text("signer")) as api:
        checked = check_evidence(api, good, found.digest, runtime=OnnxRuntime(), now=world.hub.now())
        assert checked.samples == len(card.predictions)
        forge(world, card)
        with pytest.raises(NotTrusted, match=r"predictions of .* are not what it says here"):
            check_evidence(api, good, verdict_on(world, good).digest, runtime=OnnxRuntime(), now=world.hub.now())


def forge(world: Any, card: Scorecard) -> None:
    """What a hub in wrong hands could store: values that come nearer to the truth than the bundle's own."""
    from edgewise.measure import judge

    better = tuple(
        item.model_copy(update={"stated": (float(item.truth) - 1, float(item.truth), float(item.truth) + 1)})
        for item in card.predictions
    )
    lie = card.model_copy(update={"predictions": better})
    world.clock.advance(1)
    with world.store.write() as connection:
        verdicts.add_scorecard(connection, NAME, lie)
        word = judge(lie, None, use_case=world.usecase, now=world.hub.now())
        verdicts.add(connection, word, order=None)


def test_a_candidate_with_larger_errors_at_a_site_fails_there() -> None:
    world = a_world()
    bring(world, value_rows.samples(80, each=6, sites=("a", "b")))
    champion = candidate(world)
    world.tick()
    world.sign(champion)
    world.enrol("d1")
    world.tick()
    world.hear("d1")
    worse = candidate(world, trees=3)
    world.tick()
    found = verdict_on(world, worse)
    assert (found.result, found.champion) == ("failed", champion)
    assert "part of it saved -" in found.verdict.sites[0].text


def test_a_scorecard_of_values_is_shown_in_the_console_and_within_80_columns() -> None:
    world = a_world()
    bring(world, value_rows.samples(80, each=6, sites=("a", "b")))
    first = candidate(world)
    world.tick()
    release = world.sign(first).id
    with served(world.hub) as url:
        with HubApi(url, world.hub.tokens.text("admin")) as api:
            told = list(value_lines(api.get(f"/releases/{release}/scorecard")))
        with httpx.Client(base_url=url, follow_redirects=True) as browser:
            browser.post("/login", data={"token": world.hub.tokens.text("admin")}, headers={"origin": url})
            page = browser.get(f"/releases/{release}").text
            refused = browser.get(f"/releases/{release}/samples")
    assert [line.split()[0] for line in told[:4]] == ["where", "a", "b", "overall"]
    assert max(map(len, told)) <= 80
    assert "80% of true values are stated to lie inside" in " ".join(told)
    assert "States wear in um" in page
    assert page.count('data-label="coverage"') == 3
    assert refused.status_code == 404 or "states values" in refused.text


def test_the_label_page_asks_for_a_number() -> None:
    world = a_world()
    ids = bring(world, [replace(one, label="") for one in value_rows.samples(1, each=2)])
    with served(world.hub) as url, httpx.Client(base_url=url, timeout=30) as client:
        client.get("/", params={"token": world.hub.tokens.text("admin")})
        page = client.get(f"/label/{NAME}").text
        assert 'name="new_label" inputmode="decimal"' in page
        assert "wear, um" in page
        for path in ("/", f"/label/{NAME}/progress", f"/label/{NAME}/words", f"/api/v1/usecases/{NAME}"):
            assert client.get(path).status_code == 200, path
        for said, status in (("much", 422), ("41.50", 303)):
            body = {"act": "0" * 31 + str(status)[0], "sample": ids[0], "seen": "=", "new_label": said}
            answer = client.post(f"/label/{NAME}/say", data=body, headers={"origin": url})
            assert answer.status_code == status, answer.text
            assert said == "41.50" or "needs to be a finite number" in answer.text
    with world.store.read() as connection:
        assert [sample_rows.get(connection, one).label for one in ids] == ["41.5", None]


def test_a_label_that_is_no_number_is_refused_and_nothing_is_labelled() -> None:
    world = a_world()
    with pytest.raises(NotValid, match=r"wear of sample .* is 'hot', needs to be a finite number"):
        bring(world, [*value_rows.samples(1, each=2), replace(value_rows.samples(1, each=3)[2], label="hot")])


def test_a_number_is_written_in_one_way_whoever_says_it() -> None:
    world = a_world()
    one, two = bring(world, value_rows.samples(1, each=2))
    labels.set_labels(world.store, [(one, " 12.50 "), (two, "1e1")], who="ann", now=world.hub.now())
    with world.store.read() as connection:
        assert [sample_rows.get(connection, name).label for name in (one, two)] == ["12.5", "10"]
        assert labels.known_labels(connection, NAME) == []


def test_an_order_asks_for_the_target_and_a_forecast_for_its_trainer() -> None:
    world = a_world()
    bring(world, value_rows.samples(20, each=4))
    hub = world.hub
    wish = OrderWish(use_case=NAME, why="test")
    order = orders.create(world.store, wish, who="admin", now=hub.now(), chance=hub.chance, limits=hub.limits)
    assert order.trainer == "regression"
    assert order.config == {
        "target": "wear", "unit": "um", "coverage": 0.8, "above": 60, "trees": 40, "learning_rate": 0.15, "depth": 4
    }  # fmt: skip


FORECAST = {
    "outcome": {"labels": [], "good_labels": [], "metric": "mae", "target": {"name": "power", "horizon_s": 7200}},
    "retrain": {"config": {"columns": "power,light", "step_s": 900}, "labels_min": 100_000},
    "gate": {"split": "time", "block_hours": 24},
}


def windows(world: Any, ends: list[int], *, site: str = "a", length: int = 16) -> dict[int, str]:
    """Windows of the made-up plant that end at these steps."""
    rows = list(series_world.rows(3))
    wanted = []
    for end in ends:
        held = rows[end - length + 1 : end + 1]
        data = series_bytes(np.array([[power for _, _, power in held], [light for _, light, _ in held]], np.float32))
        wanted.append(
            ImportedSample(
                use_case=NAME,
                site=site,
                frame=f"w{end}",
                blob=world.store.blobs.put(data),
                media_type=SERIES_TYPE,
                size_bytes=len(data),
                taken_at=rows[end][0],
            )
        )
    found = samples.import_samples(world.store, wanted, who="admin", now=world.hub.now())
    return dict(zip(ends, found, strict=True))


def test_what_came_later_labels_a_window_and_nobody_has_to() -> None:
    world = LoopWorld(usecase=a_usecase(**FORECAST))
    truth = [power for _, _, power in series_world.rows(3)]
    made = windows(world, [40, 44, 52, 60, 90])
    other = windows(world, [48], site="b")
    world.tick()
    with world.store.read() as connection:
        said = {end: sample_rows.get(connection, name).label for end, name in (made | other).items()}
    # 8 steps ahead: 48 and 52 lie in the window that ends at 52, 60 and 68 in none that is here but the one at 60.
    assert {end: None if value is None else float(value) for end, value in said.items()} == {
        40: pytest.approx(truth[48]), 44: pytest.approx(truth[52]), 52: pytest.approx(truth[60]), 60: None, 90: None,
        48: None,
    }  # fmt: skip
    world.tick()
    late = windows(world, [70, 92, 110])
    world.tick()
    with world.store.read() as connection:
        assert float(sample_rows.get(connection, made[60]).label) == pytest.approx(truth[68])
        # The target of 92 lies in the next day, which may be on the other side of the split.
        assert sample_rows.get(connection, late[92]).label is None
        assert set(history.newest_who(connection, NAME).values()) == {"recorded series"}


def test_a_forecast_without_the_names_of_its_channels_is_told_when_it_is_checked() -> None:
    with pytest.raises(ValueError, match="a forecast needs `columns`, the windows' channels"):
        a_usecase(**{**FORECAST, "retrain": {"config": {"step_s": 900}}})
    for gate in ({"split": "grouped"}, {"split": "time", "block_hours": 2}):
        with pytest.raises(ValueError, match="`split: time` with `block_hours` over the horizon"):
            a_usecase(**{**FORECAST, "gate": gate})


def test_of_two_stated_values_the_nearer_one_is_right() -> None:
    def said(value: float, half: float = 1.0) -> Decided:
        return Decided("within", 0.8, None, 0.5, None, "0" * 64, stated=(value - half, value, value + half))

    pairs = [_nearer("g", said(ours), said(theirs), "10") for ours, theirs in ((10, 13), (14, 11), (9, 11))]
    assert [(one.candidate_right, one.champion_right, one.apart) for one in pairs] == [
        (True, False, True), (False, True, True), (True, True, True),
    ]  # fmt: skip
    assert not _nearer("g", said(10, half=5), said(11), "10").apart
