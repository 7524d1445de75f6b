"""The signer and a site's variant: it signs what holds at that site, beside a bundle that keys vouch for already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import gate
from edgewise.hub.store import releases as release_rows
from edgewise.hub.store import verdicts
from edgewise.ports import MemoryRuntime
from edgewise.ports.api import HubApi
from edgewise.signer import Signer, sign_by_person
from edgewise.signer._desk import Desk
from edgewise.signer._evidence import Checked
from edgewise.signer._releases import check_base
from edgewise.trust import PrivateKey
from edgewise.wire import NotTrusted, record_digest
from loop_world import LoopWorld, a_usecase, served
from site_world import answer, ask, champion_of, run_champion, tell, told_of, verdict_on


@pytest.fixture
def world() -> Any:
    made = LoopWorld(a_usecase(signing={"automatic": False}))
    made.label(20)
    run_champion(made)
    return made


@pytest.fixture
def api(world: Any) -> Iterator[HubApi]:
    with served(world.hub) as url, HubApi(url, world.hub.tokens.text("signer")) as made:
        yield made


def variant(world: Any, **options: Any) -> str:
    tell(world, "a1", told_of(world, champion_of(world)))
    made = answer(world, ask(world), **options)
    world.tick()
    return made


def newest(world: Any) -> Any:
    with world.store.read() as connection:
        return release_rows.find(connection, use_case="parts", limit=1)[0]


def answered(world: Any, api: HubApi, bundle: str) -> Any:
    """What a signer that may sign by itself says."""
    hub = world.hub
    gate.ask_to_sign(world.store, bundle, by="ann", why="test", now=hub.now(), chance=hub.chance)
    usecases = {"parts": a_usecase()}
    Signer(api, [world.key], runtime=MemoryRuntime(), clock=world.clock, usecases=usecases).step()
    with world.store.read() as connection:
        return verdicts.requests(connection, bundle=bundle, limit=1)[0]


def store(world: Any, verdict: Any) -> None:
    with world.store.write() as connection:
        verdicts.add(connection, verdict, order=None)


def test_what_holds_is_signed_as_the_sites_variant_beside_its_base(world: Any, api: HubApi) -> None:
    made = variant(world)
    assert answered(world, api, made).state == "signed"
    release = newest(world)
    assert release.body["bundles"] == {"site:a": made, "fp32": champion_of(world)}
    assert release.verdict == record_digest(verdict_on(world, made))


def test_a_person_signs_it_on_the_gates_word_and_an_override_keeps_it_at_its_site(
    world: Any, api: HubApi, tmp_path: Path
) -> None:
    made = variant(world, least=0.66)
    keys = key_file(tmp_path)
    with pytest.raises(NotTrusted, match="verdict is inconclusive"):
        sign_by_person(api, made, keys=keys, by="bob", runtime=MemoryRuntime(), clock=world.clock)
    signed = sign_by_person(
        api, made, keys=keys, by="bob", override_reason="drill", runtime=MemoryRuntime(), clock=world.clock
    )
    assert dict(signed.release.bundles) == {"site:a": made, "fp32": champion_of(world)}
    assert newest(world).signed_as == "override"


def key_file(folder: Path) -> Path:
    """The very release key that this hub trusts."""
    place = folder / "release.pem"
    place.write_bytes(PrivateKey.generate(seed=b"offline keys of a test/release 0").to_pem())
    place.chmod(0o600)
    return place


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"site": "b"}, "its verdict is about site b"),
        ({"site": None}, "its verdict is about site None"),
        ({"champion": None}, "judged against None"),
        ({"alpha": 0.5}, "margin, alpha and floor"),
    ],
)
def test_a_verdict_that_a_hub_made_up_is_refused(world: Any, api: HubApi, lie: dict[str, Any], words: str) -> None:
    made = variant(world, right=False)
    true = verdict_on(world, made)
    forged = true.model_copy(update={"result": "passed", "made_at": world.hub.now(), **lie})
    world.clock.advance(1)
    store(world, forged.model_copy(update={"made_at": world.hub.now()}))
    found = answered(world, api, made)
    assert found.state == "refused"
    assert words in found.answer, found.answer


def test_predictions_that_differ_here_are_refused(world: Any, api: HubApi) -> None:
    made = variant(world, right=False)
    world.clock.advance(1)
    true = verdict_on(world, made)
    sites = tuple(item.model_copy(update={"result": "passed"}) for item in true.sites)
    store(world, true.model_copy(update={"result": "passed", "sites": sites, "made_at": world.hub.now()}))
    found = answered(world, api, made)
    assert (found.state, "computed again it is failed" in found.answer) == ("refused", True), found.answer


def test_a_base_that_no_key_vouches_for_is_refused(world: Any, api: HubApi) -> None:
    """Else a hub could have any bundle signed, as what a variant was made of."""
    made = variant(world)
    desk = Desk(api, None)
    held = {"use_case": "parts", "bundle": made, "verdict": "0" * 64, "samples": 1, "site": "a"}
    check_base(desk, Checked(**held, base=champion_of(world)))
    with pytest.raises(NotTrusted, match="in no release that is vouched for"):
        check_base(desk, Checked(**held, base=str(world.bundle(name="unsigned"))))
