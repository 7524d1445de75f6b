"""Releases are taken only with the right signatures, evidence and version; the audit chain shows any change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from edgewise.hub import audit, bundles
from edgewise.hub.repository import Published
from edgewise.hub.store import Store, champions, tables, verdicts
from edgewise.hub.store import releases as rows
from edgewise.hub.store import repository as repository_rows
from edgewise.ports import MemoryBlobs
from edgewise.signer import publish_release
from edgewise.trust import PrivateKey
from edgewise.trust.roles import crypto_signer
from edgewise.wire import (
    Blob,
    Golden,
    Graph,
    ImageSpec,
    Manifest,
    Needs,
    NotTrusted,
    NotValid,
    Provenance,
    Release,
    Report,
    Verdict,
    canonical,
    digest,
    encode,
)


def make_bundle(yard, seed: int = 0) -> str:
    data = canonical({"classes": 2, "seed": seed, "embedding": 2})
    blob = Blob(sha256=yard.hub.store.blobs.put(data), size_bytes=len(data))
    manifest = Manifest(
        name="press",
        task="image-classification",
        graphs=(Graph(blob="main.onnx", input="x", scores="y", pre=ImageSpec(width=32, height=32)),),
        labels=("good", "pit"),
        golden=Golden(seed=seed, count=1, scores=((0.5, 0.5),)),
        needs=Needs(opset=20, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=yard.hub.now(), trainer="vision", code_version="1"),
        blobs={"main.onnx": blob},
    )
    return bundles.add_bundle(
        yard.hub.store, encode(manifest), runtime=yard.hub.runtime, who="test", now=yard.hub.now()
    )


def make_verdict(yard, bundle: str, result: str = "passed") -> str:
    verdict = Verdict(
        use_case="press",
        candidate=bundle,
        champion=None,
        result=result,
        sites=(),
        reasons=(),
        margin=0.02,
        alpha=0.1,
        floor=0.5,
        scorecard="0" * 64,
        made_at=yard.hub.now(),
    )
    with yard.hub.store.write() as connection:
        return verdicts.add(connection, verdict, order=None)


def signed(yard, bundle: str, *, version: int = 1, **more: Any) -> Release:
    fields = {"id": f"press@{version}", "use_case": "press", "version": version, "bundles": {"fp32": bundle}}
    return Release(**fields | {"approved_by": "bob", "created_at": yard.hub.now()} | more)


def add(yard, release: Release) -> Release:
    return yard.keeper.sign(release, yard.hub.now())


def test_a_release_with_a_passed_verdict_is_published_as_targets_of_its_use_case(yard):
    bundle = make_bundle(yard)
    release = add(yard, signed(yard, bundle, verdict=make_verdict(yard, bundle)))
    device = yard.enrol("one").name
    path = f"targets/press/1/{digest(encode(release))}.release.json"
    assert yard.door.get_file(device, path) == encode(release)
    manifest = yard.door.get_file(device, f"targets/press/1/fp32/{bundle}.manifest.json")
    assert digest(manifest) == bundle
    assert [row["action"] for row in yard.rows(tables.audit)].count("release.signed") == 1


def test_the_same_documents_again_change_nothing(yard):
    bundle = make_bundle(yard)
    release = signed(yard, bundle, verdict=make_verdict(yard, bundle))
    add(yard, release)
    with yard.hub.store.read() as connection:
        before = repository_rows.newest(connection)
    again = {role: body for role, body in before.items() if role not in ("snapshot", "timestamp")}
    assert yard.hub.publish(again, {}, who="signer") == Published()
    with yard.hub.store.read() as connection:
        assert repository_rows.newest(connection) == before


def test_only_release_keys_sign_releases_not_even_the_hub_itself(yard):
    bundle = make_bundle(yard)
    release = signed(yard, bundle, verdict=make_verdict(yard, bundle))
    for key in (PrivateKey.generate(b"stranger"), yard.hub.key, *yard.hub.online.of("snapshot")):
        with pytest.raises(NotTrusted, match="none of the role's keys is among them"):
            publish_release(yard.keeper.desk, release, [crypto_signer(key)], now=yard.hub.now())
    assert yard.rows(tables.releases) == []


@pytest.mark.parametrize("result", ["failed", "inconclusive"])
def test_the_gates_word_is_checked_and_a_person_may_override_it_with_a_reason(yard, result):
    bundle, other = make_bundle(yard), make_bundle(yard, 1)
    for verdict in (None, "0" * 64, make_verdict(yard, other)):
        with pytest.raises(NotValid, match="gate's word, but verdict"):
            add(yard, signed(yard, bundle, verdict=verdict))
    verdict = make_verdict(yard, bundle, result)
    with pytest.raises(NotValid, match=f"its verdict is {result}"):
        add(yard, signed(yard, bundle, verdict=verdict))
    with pytest.raises(NotTrusted, match="without a reason"):
        add(yard, signed(yard, bundle, verdict=verdict, signed_as="override"))
    add(yard, signed(yard, bundle, verdict=verdict, signed_as="override", override_reason="needed tonight"))
    entry = yard.rows(tables.audit)[-1]
    assert (entry["action"], entry["data"]["override_reason"]) == ("release.overridden", "needed tonight")


def test_versions_only_grow_and_bundles_must_be_here(yard):
    bundle = make_bundle(yard)
    verdict = make_verdict(yard, bundle)
    add(yard, signed(yard, bundle, version=2, verdict=verdict))
    with pytest.raises(NotValid, match="sign it as version 3"):
        add(yard, signed(yard, bundle, version=1, verdict=verdict, approved_by="carl"))
    with pytest.raises(NotTrusted, match="never changes"):
        add(yard, signed(yard, bundle, version=2, verdict=verdict, approved_by="carl"))
    with pytest.raises(NotValid, match="no bundle"):
        add(yard, signed(yard, "f" * 64, version=3, verdict=verdict))
    with pytest.raises(NotTrusted, match="holds no bundle"):
        add(yard, signed(yard, bundle, version=3, verdict=verdict, bundles={}))


def test_the_champion_is_the_newest_proven_release_that_was_not_taken_back(yard):
    device = yard.enrol("one")
    bundle = make_bundle(yard)
    verdict = make_verdict(yard, bundle)

    def champion() -> str | None:
        with yard.hub.store.read() as connection:
            row = champions.champion(connection, "press")
        return None if row is None else row.id

    for version in (1, 2, 3):
        add(yard, signed(yard, bundle, version=version, verdict=verdict))
    assert champion() is None, "a release that nobody runs has proven nothing"
    for version in (1, 2):
        report = Report(at=yard.clock.now(), phase="committed", release=f"press@{version}", bundle=bundle)
        device.send(report=report)
    assert champion() == "press@2"
    now = yard.hub.now()
    with yard.hub.store.write() as connection:
        row = {"id": "1" * 32, "use_case": "press", "release": "press@1", "state": "finished", "policy": {}, "who": "x"}
        connection.execute(sa.insert(tables.rollouts).values(**row, made_at=now, updated_at=now))
    assert champion() == "press@1", "a finished rollout proves more than a commit"
    with yard.hub.store.write() as connection:
        rows.mark_reverted(connection, "press@1", why="worse", now=now)
    assert champion() == "press@2"


def test_the_audit_chain_shows_any_change_to_any_entry(store_url):
    store = Store(store_url, MemoryBlobs())
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for number in range(5):
        with store.write() as connection:
            data = {"number": number, "share": 0.1, "name": "grün", "none": None, "list": [1, 2.0, True]}
            audit.note(connection, actor="ann", action="test.done", subject=f"thing {number}", now=now, data=data)
    assert (audit.verify(store).entries, audit.verify(store).broken) == (5, None)
    changes: list[dict[str, Any]] = [
        {"subject": "else"},
        {"data": {"number": 9}},
        {"at": datetime(2025, 1, 1, tzinfo=UTC)},
        {"previous": "0" * 64},
    ]
    for change in changes:
        with store.read() as connection:
            before = dict(connection.execute(sa.select(tables.audit).where(tables.audit.c.index == 2)).mappings().one())
        for values, broken in ((change, 2), (before, None)):
            with store.write() as connection:
                connection.execute(sa.update(tables.audit).where(tables.audit.c.index == 2).values(**values))
            assert audit.verify(store).broken == broken
    with store.write() as connection:
        connection.execute(sa.delete(tables.audit).where(tables.audit.c.index == 3))
    assert audit.verify(store).broken == 3
    store.close()
