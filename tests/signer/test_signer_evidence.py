"""The signer against a real hub over HTTP: it signs what holds, and refuses what a hub or an operator makes up."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import gate
from edgewise.hub.store import audit as audit_rows
from edgewise.hub.store import releases as release_rows
from edgewise.hub.store import samples, verdicts
from edgewise.measure import judge, score_sites
from edgewise.ports import MemoryClock, MemoryRuntime, make_keys, read_signers
from edgewise.ports.api import HubApi
from edgewise.signer import Holders, Limits, Signer, publish_release, rotate, run, sign_by_person
from edgewise.signer import _loop as loop
from edgewise.trust import PrivateKey
from edgewise.trust.roles import crypto_signer, parse
from edgewise.wire import NotNow, NotTrusted, NotValid, Release, Scorecard, decode, record_digest

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)
LoopWorld, a_usecase = loop_world.LoopWorld, loop_world.a_usecase


@pytest.fixture
def world() -> Any:
    made = LoopWorld()
    made.label(20)
    return made


@pytest.fixture
def api(world: Any) -> Iterator[HubApi]:
    with loop_world.served(world.hub) as url, HubApi(url, world.hub.tokens.text("signer")) as made:
        yield made


@pytest.fixture
def signer(world: Any, api: HubApi) -> Signer:
    return Signer(api, [world.key], runtime=MemoryRuntime(), clock=world.clock)


def request_of(world: Any, bundle: str) -> Any:
    with world.store.read() as connection:
        return verdicts.requests(connection, bundle=bundle, limit=1)[0]


def found(world: Any) -> list[Any]:
    with world.store.read() as connection:
        return release_rows.find(connection, use_case="parts")


def push(world: Any, bundle: str) -> Any:
    hub = world.hub
    return gate.ask_to_sign(world.store, bundle, by="operator", why="again", now=hub.now(), chance=hub.chance)


def champion(world: Any, signer: Signer) -> str:
    """parts@1 is signed and runs on a device."""
    bundle = str(world.candidate())
    world.tick()
    signer.step()
    world.enrol("d1")
    world.hear("d1")
    for _ in range(12):
        world.tick(15)
        world.hear("d1")
    return bundle


def forge(world: Any, bundle: str, *, lie: str) -> None:
    """What a hub in wrong hands could store: a verdict that passes a bundle which is always wrong."""
    with world.store.read() as connection:
        true = verdicts.newest_on(connection, bundle).verdict
        card = decode(Scorecard, verdicts.scorecard_bytes(connection, true.scorecard))
        rival = decode(Scorecard, verdicts.scorecard_bytes(connection, true.champion_scorecard))
    if lie == "predictions":
        better = tuple(item.model_copy(update={"label": item.truth}) for item in card.predictions)
        sites, overall = score_sites(better, good_labels=["ok"])
        card = card.model_copy(update={"predictions": better, "sites": sites, "overall": overall})
    if lie == "few samples":
        some = tuple(item for item in card.predictions if item.truth == item.label)
        card = card.model_copy(update={"predictions": some})
        kept = {item.sample for item in some}
        rival = rival.model_copy(update={"predictions": tuple(i for i in rival.predictions if i.sample in kept)})
    against = None if lie == "no champion" else rival
    verdict = judge(card, against, use_case=world.usecase, now=world.hub.now())
    verdict = verdict.model_copy(update={"result": "passed"})
    if lie == "margin":
        verdict = verdict.model_copy(update={"margin": 1.0})
    with world.store.write() as connection:
        verdicts.add_scorecard(connection, "parts", card)
        verdicts.add_scorecard(connection, "parts", rival)
        verdicts.add(connection, verdict, order=None)


def test_what_the_gate_passed_is_signed_after_everything_was_computed_again(world: Any, signer: Signer) -> None:
    bundle = world.candidate()
    world.tick()
    assert signer.step() == 1
    (row,) = found(world)
    assert (row.id, row.bundle, row.signed_as) == ("parts@1", bundle, "gate")
    targets = parse(world.keeper.desk.document("releases-parts"), "releases-parts").signed.targets
    assert targets["parts/1/fp32/manifest.json"].hashes == {"sha256": bundle}
    assert row.verdict == request_of(world, bundle).verdict
    assert (request_of(world, bundle).state, request_of(world, bundle).release) == ("signed", "parts@1")
    assert signer.step() == 0


def test_versions_grow_by_one(world: Any, signer: Signer) -> None:
    champion(world, signer)
    world.candidate()
    world.tick()
    signer.step()
    assert [row.id for row in found(world)] == ["parts@2", "parts@1"]


def test_an_operator_who_pushes_a_failed_candidate_again_is_refused(world: Any, signer: Signer) -> None:
    champion(world, signer)
    bad = world.candidate(right=False)
    world.tick()
    push(world, bad)
    assert signer.step() == 1
    refused = request_of(world, bad)
    assert refused.state == "refused"
    assert "the gate's verdict is failed" in refused.answer
    assert [row.id for row in found(world)] == ["parts@1"]
    with world.store.read() as connection:
        actions = [entry["action"] for entry in audit_rows.newest(connection, limit=5)]
    assert "signing.refused" in actions


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("predictions", "are not what it says here"),
        ("verdict", "computed again it is failed"),
        ("no champion", "judged against"),
        ("margin", "judge it again"),
        ("few samples", "fails|computed again"),
    ],
)
def test_a_hub_in_wrong_hands_gets_no_signature(world: Any, signer: Signer, lie: str, words: str) -> None:
    """Invariant 5: neither the hub's word nor stored documents with right digests are enough."""
    champion(world, signer)
    bad = world.candidate(right=False)
    world.tick()
    world.clock.advance(1)
    forge(world, bad, lie=lie)
    push(world, bad)
    signer.step()
    refused = request_of(world, bad)
    assert refused.state == "refused"
    assert any(word in refused.answer for word in words.split("|")), refused.answer


class Altered:
    """A hub whose answers are changed on their way."""

    def __init__(self, api: HubApi, what: str) -> None:
        self._api, self._what = api, what

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def get_bytes(self, path: str) -> bytes:
        body = self._api.get_bytes(path)
        return body.replace(b"parts", b"PARTS", 1) + b" " if path.startswith(self._what) else body


@pytest.mark.parametrize("what", ["/verdicts/", "/scorecards/", "/bundles/"])
def test_bytes_that_do_not_have_their_digest_are_refused(world: Any, api: HubApi, what: str) -> None:
    bundle = world.candidate()
    world.tick()
    signer = Signer(Altered(api, what), [world.key], runtime=MemoryRuntime(), clock=world.clock)
    signer.step()
    assert request_of(world, bundle).state == "refused"
    assert "digest" in request_of(world, bundle).answer


def test_a_damaged_blob_is_refused(world: Any, signer: Signer) -> None:
    bundle = world.candidate()
    world.tick()
    with world.store.read() as connection:
        from edgewise.hub.store import bundles

        manifest = bundles.manifest(connection, bundle)
    assert manifest is not None
    world.store.blobs.delete(manifest.blobs["net"].sha256)
    signer.step()
    assert request_of(world, bundle).state == "refused"


def test_a_label_that_changed_since_is_noticed(world: Any, signer: Signer) -> None:
    bundle = world.candidate()
    world.tick()
    with world.store.read() as connection:
        sample = samples.labelled(connection, "parts", "evaluation")[0]
    from edgewise.hub import labels

    labels.set_labels(world.store, [(sample.sample, "dent")], who="ann", now=world.hub.now())
    signer.step()
    assert "are not what it says here" in request_of(world, bundle).answer


def test_a_use_case_without_automatic_signer_is_refused_whatever_the_gate_said() -> None:
    world = LoopWorld(usecase=a_usecase(signing={"automatic": False}))
    world.label(20)
    good = world.candidate()
    world.tick()
    push(world, good)
    with loop_world.served(world.hub) as url, HubApi(url, world.hub.tokens.text("signer")) as api:
        Signer(api, [world.key], runtime=MemoryRuntime(), clock=world.clock).step()
    assert "a person has to sign" in request_of(world, good).answer


def test_a_use_case_given_to_the_signer_itself_cannot_be_softened_by_the_hub(world: Any, api: HubApi) -> None:
    strict = a_usecase(gate={"evaluation_share": 0.5, "samples_min": 4, "floor": 1.0, "margin": 0.0})
    bundle = world.candidate()
    world.tick()
    signer = Signer(api, [world.key], runtime=MemoryRuntime(), clock=world.clock, usecases={"parts": strict})
    signer.step()
    assert "the use case says" in request_of(world, bundle).answer


def at_night(*hours: int) -> Any:
    """The use case with a slice of parts taken at these hours."""
    return a_usecase(slices=[{"name": "night", "conditions": [{"fact": "hour", "op": "in", "value": list(hours)}]}])


def test_slices_are_computed_again_and_what_passed_in_them_is_signed() -> None:
    world = LoopWorld(usecase=at_night(8, 22))
    world.label(20)
    bundle = world.candidate()
    world.tick()
    with loop_world.served(world.hub) as url, HubApi(url, world.hub.tokens.text("signer")) as api:
        Signer(api, [world.key], runtime=MemoryRuntime(), clock=world.clock).step()
    assert request_of(world, bundle).state == "signed"
    with world.store.read() as connection:
        sites = verdicts.newest_on(connection, bundle).verdict.sites
    assert [(item.site, item.result) for item in sites][-1] == ("slice:night", "passed")


@pytest.mark.parametrize(
    ("hubs", "own", "words"),
    [
        (at_night(8), at_night(22, 23), "has sample .* in night, by its facts it is in no slice"),
        (a_usecase(), at_night(8), "computed again it is"),
    ],
    ids=["moved", "left out"],
)
def test_a_slice_that_the_signer_was_given_cannot_be_moved_or_left_out_by_the_hub(
    hubs: Any, own: Any, words: str
) -> None:
    world = LoopWorld(usecase=hubs)
    world.label(20)
    bundle = world.candidate()
    world.tick()
    with loop_world.served(world.hub) as url, HubApi(url, world.hub.tokens.text("signer")) as api:
        Signer(api, [world.key], runtime=MemoryRuntime(), clock=world.clock, usecases={"parts": own}).step()
    assert request_of(world, bundle).state == "refused"
    assert re.search(words, request_of(world, bundle).answer)


def test_a_key_that_the_hub_does_not_trust_yet_waits_and_refuses_nothing(world: Any, api: HubApi) -> None:
    bundle = world.candidate()
    world.tick()
    stranger = Signer(api, [crypto_signer(PrivateKey.generate(b"other"))], runtime=MemoryRuntime(), clock=world.clock)
    with pytest.raises(NotNow, match="nobody gave the releases of parts"):
        stranger.step()
    assert request_of(world, bundle).state == "waiting"


def test_a_token_of_another_role_ends_the_signer_and_refuses_nothing(world: Any, api: HubApi) -> None:
    bundle = world.candidate()
    world.tick()
    with HubApi(api.url, world.hub.tokens.text("worker")) as weak, pytest.raises(NotTrusted):
        Signer(weak, [world.key], runtime=MemoryRuntime(), clock=world.clock).step()
    assert request_of(world, bundle).state == "waiting"


def test_a_person_signs_on_the_gates_word(world: Any, api: HubApi, tmp_path: Path) -> None:
    bundle = world.candidate()
    world.tick()
    signed = sign_by_person(api, bundle, keys=key_file(tmp_path), by="bob", runtime=MemoryRuntime(), clock=world.clock)
    release = signed.release
    assert signed.missing == 0
    assert (release.signed_as, release.approved_by) == ("gate", "bob")
    assert [row.id for row in found(world)] == ["parts@1"]


def test_a_person_can_overrule_the_gate_only_with_a_reason_that_is_kept(
    world: Any, signer: Signer, api: HubApi, tmp_path: Path
) -> None:
    champion(world, signer)
    bad = world.candidate(right=False)
    world.tick()
    options: dict[str, Any] = {"keys": key_file(tmp_path), "by": "bob", "runtime": MemoryRuntime()}
    with pytest.raises(NotTrusted, match="verdict is failed"):
        sign_by_person(api, bad, **options)
    with pytest.raises(NotValid, match="needs its reason"):
        sign_by_person(api, bad, override_reason="  ", **options)
    release = sign_by_person(api, bad, override_reason="drill", **options).release
    assert (release.signed_as, release.override_reason) == ("override", "drill")
    with world.store.read() as connection:
        entry = next(item for item in audit_rows.newest(connection) if item["action"] == "release.overridden")
    assert entry["data"]["override_reason"] == "drill"
    assert release.id in [row.id for row in found(world)]


def test_even_an_override_needs_a_bundle_that_works(world: Any, api: HubApi, tmp_path: Path) -> None:
    broken = world.candidate(golden_off=0.5)
    world.tick()
    options: dict[str, Any] = {"keys": key_file(tmp_path), "by": "bob", "runtime": MemoryRuntime()}
    with pytest.raises(NotValid, match="golden"):
        sign_by_person(api, broken, override_reason="drill", **options)


def test_a_missing_key_file_is_named(api: HubApi, tmp_path: Path) -> None:
    with pytest.raises(NotValid, match=r"none\.pem"):
        sign_by_person(api, "0" * 64, keys=tmp_path / "none.pem", by="bob", runtime=MemoryRuntime())


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    first = [key.public_key for key in make_keys(tmp_path, 2)]
    assert [key.public_key for key in make_keys(tmp_path, 2)] == first
    assert (tmp_path / "1.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "1.pem").chmod(0o644)
    with pytest.raises(NotTrusted, match="can be read by others"):
        read_signers([tmp_path])


def test_a_hub_that_is_away_is_asked_less_and_less_often_and_not_for_ever(tmp_path: Path) -> None:
    clock = MemoryClock(loop_world.START)
    waits: list[float] = []
    make_keys(tmp_path, 1)

    def pause(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    with HubApi("http://127.0.0.1:9", "token", timeout_s=1) as api, pytest.raises(NotNow, match="no hub answers"):
        run(api, tmp_path, poll_s=1, limits=Limits(away_s_max=120), clock=clock, pause=pause)
    assert waits[:5] == [2, 4, 8, 16, 30]
    assert max(waits) == 30
    assert sum(waits) < 200


def test_the_loop_goes_on_when_the_hub_is_back(world: Any, api: HubApi) -> None:
    bundle = world.candidate()
    world.tick()
    tries: list[float] = []

    class Flaky(Altered):
        def get(self, path: str, **query: Any) -> Any:
            if len(tries) < 2:
                raise NotNow("no hub answers")
            return self._api.get(path, **query)

    def pause(seconds: float) -> None:
        tries.append(seconds)
        if found(world):
            raise KeyboardInterrupt

    signer = Signer(Flaky(api, "nothing"), [world.key], runtime=MemoryRuntime(), clock=world.clock)
    with pytest.raises(KeyboardInterrupt):
        loop._loop(signer, world.clock, 0.5, pause)
    assert tries == [1, 2, 0.5]
    assert request_of(world, bundle).state == "signed"


def key_file(folder: Path) -> Path:
    place = folder / "release.pem"
    place.write_bytes(PrivateKey.generate(seed=b"offline keys of a test/release 0").to_pem())
    place.chmod(0o600)
    return place


# -- variants --------------------------------------------------------------------------------------------------------


def variants_of(world: Any, bundle: str) -> dict[str, str]:
    with world.store.read() as connection:
        return {
            name: verdicts.get(connection, word).candidate for name, word in word_on(world, bundle).variants.items()
        }


def word_on(world: Any, bundle: str) -> Any:
    with world.store.read() as connection:
        return verdicts.newest_on(connection, bundle).verdict


def test_variants_that_passed_are_signed_with_the_candidate_and_the_others_left_out(world: Any, signer: Signer) -> None:
    good = world.candidate(variants={"fp16": {}, "int8": {"right": False}})
    world.tick()
    signer.step()
    (row,) = found(world)
    assert row.body["bundles"] == {"fp32": good, "fp16": variants_of(world, good)["fp16"]}
    targets = parse(world.keeper.desk.document("releases-parts"), "releases-parts").signed.targets
    assert targets["parts/1/fp16/manifest.json"].hashes == {"sha256": row.body["bundles"]["fp16"]}
    assert "parts/1/int8/manifest.json" not in targets


def forge_variant(world: Any, good: str, *, lie: str) -> None:
    """What a hub in wrong hands could store: an always wrong variant with a verdict that passed."""
    word = word_on(world, good)
    bad = variants_of(world, good)["int8"]
    with world.store.read() as connection:
        stored = verdicts.newest_on(connection, bad).verdict
        card = decode(Scorecard, verdicts.scorecard_bytes(connection, stored.scorecard))
    if lie in ("predictions", "few samples"):
        kept = card.predictions if lie == "predictions" else card.predictions[:4]
        better = tuple(item.model_copy(update={"label": item.truth}) for item in kept)
        card = card.model_copy(update={"predictions": better})
    if lie == "other bundle":
        stored = verdict_of_champion(world, stored)
    told = {"result": "passed", "scorecard": record_digest(card), "made_at": world.hub.now()}
    told = {} if lie == "other bundle" else told
    stored = stored.model_copy(update=told)
    with world.store.write() as connection:
        verdicts.add_scorecard(connection, "parts", card)
        digest = verdicts.add(connection, stored, order=None)
        later = {"variants": {"int8": digest}, "made_at": world.hub.now()}
        verdicts.add(connection, word.model_copy(update=later), order=None)


def verdict_of_champion(world: Any, like: Any) -> Any:
    """A true, passed verdict, but on a bundle that is no variant of the candidate."""
    with world.store.read() as connection:
        passed = next(row for row in verdicts.find(connection, use_case="parts") if row.champion is None)
        card = decode(Scorecard, verdicts.scorecard_bytes(connection, passed.verdict.scorecard))
    verdict = judge(card, None, use_case=world.usecase, now=like.made_at)
    return verdict.model_copy(update={"variant": "int8", "champion": like.champion})


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("verdict", "computed again it is failed"),
        ("predictions", "are not what it says here"),
        ("few samples", "on other samples than its candidate"),
        ("other bundle", "is no variant int8 of"),
    ],
)
def test_a_hub_in_wrong_hands_gets_no_variant_signed(world: Any, signer: Signer, lie: str, words: str) -> None:
    """A variant without a passed verdict is never signed automatically, whatever documents the hub makes of it."""
    champion(world, signer)
    good = world.candidate(variants={"int8": {"right": False}})
    world.tick()
    with world.store.write() as connection:
        row = verdicts.requests(connection, bundle=good)[0]
        verdicts.answer_request(
            connection, row.id, state="refused", by="x", answer="", release=None, now=world.hub.now()
        )
    world.clock.advance(1)
    forge_variant(world, good, lie=lie)
    push(world, good)
    signer.step()
    refused = request_of(world, good)
    assert refused.state == "refused"
    assert words in refused.answer
    assert [item.id for item in found(world)] == ["parts@1"]


def test_a_waiting_release_that_names_an_unchecked_variant_is_not_signed(world: Any, api: HubApi) -> None:
    good = world.candidate(variants={"int8": {"right": False}})
    world.tick()
    desk = world.keeper.desk
    two = [crypto_signer(PrivateKey.generate(name)) for name in (b"one", b"two")]
    rotate(
        desk,
        "parts",
        world.keeper.targets,
        holders=Holders(keys=[key.public_key for key in two], threshold=2),
        now=world.hub.now(),
    )
    release = Release(
        id="parts@1",
        use_case="parts",
        version=1,
        bundles={"fp32": good, **variants_of(world, good)},
        verdict=request_of(world, good).verdict,
        approved_by="mallory",
        created_at=world.hub.now(),
    )
    publish_release(desk, release, two[:1], now=world.hub.now())
    second = Signer(api, two[1:], runtime=MemoryRuntime(), clock=world.clock)
    second.step()
    assert "which was not found to hold here" in str(request_of(world, good).answer)
    assert found(world) == []


def test_a_person_signs_the_variants_that_passed_too(world: Any, api: HubApi, tmp_path: Path) -> None:
    good = world.candidate(variants={"fp16": {}, "int8": {"right": False}})
    world.tick()
    options: dict[str, Any] = {"keys": key_file(tmp_path), "by": "bob", "runtime": MemoryRuntime()}
    made = variants_of(world, good)
    with pytest.raises(NotValid, match="needs --override"):
        sign_by_person(api, good, variants={"int8": made["int8"]}, **options)
    signed = sign_by_person(api, good, clock=world.clock, **options).release
    assert signed.bundles == {"fp32": good, "fp16": made["fp16"]}


def test_a_person_may_add_a_variant_against_the_gate_with_a_reason_if_it_is_one(
    world: Any, api: HubApi, tmp_path: Path
) -> None:
    good = world.candidate(variants={"fp16": {}, "int8": {"right": False}})
    world.tick()
    options: dict[str, Any] = {"keys": key_file(tmp_path), "by": "bob", "runtime": MemoryRuntime()}
    made = variants_of(world, good)
    with pytest.raises(NotTrusted, match="is no variant int8"):
        sign_by_person(api, good, override_reason="drill", variants={"int8": made["fp16"]}, **options)
    signed = sign_by_person(
        api, good, override_reason="drill", variants={"int8": made["int8"]}, clock=world.clock, **options
    ).release
    assert signed.bundles == {"fp32": good, "int8": made["int8"]}
    assert signed.signed_as == "override"
