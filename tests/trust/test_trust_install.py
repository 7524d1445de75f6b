"""What a device may run (invariant 5): only a signed release and a signed assignment together; back only with proof."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from edgewise.trust import PrivateKey, may_install, open_assignment, seal
from edgewise.trust.roles import (
    Change,
    RoleKeys,
    Validity,
    crypto_signer,
    first_root,
    next_releases,
    next_targets,
    proven_release,
    public_key,
    release_path,
)
from edgewise.wire import (
    ASSIGNMENT_TYPE,
    Assignment,
    Director,
    Envelope,
    NotTrusted,
    Release,
    digest,
    encode,
    record_digest,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER, HUB, EVE = (PrivateKey.generate(seed=name) for name in (b"signer", b"hub", b"eve"))
OWNER = PrivateKey.generate(seed=b"owner")  # of root and targets
KEYS = (HUB.public,)  # the director
BUNDLE, OTHER = digest(b"bundle"), digest(b"other")
EPOCH, NEXT_EPOCH = "0" * 32, "1" * 32


def release(**change: Any) -> Release:
    fields = {"id": "surface@3", "use_case": "surface", "version": 3, "bundles": {"fp32": BUNDLE}}
    return Release.model_validate({**fields, "approved_by": "ann", "created_at": NOW, **change})


def assignment(**change: Any) -> Assignment:
    fields = {"device": "press-4", "number": 7, "hub_epoch": EPOCH, "use_case": "surface", "release": "surface@3"}
    return Assignment.model_validate({**fields, "bundle": BUNDLE, "issued_at": NOW, **change})


def signed(record: Assignment, key: PrivateKey, kind: str = ASSIGNMENT_TYPE) -> Envelope:
    return seal(encode(record), kind, [key])


def role_keys(key: PrivateKey) -> RoleKeys:
    return RoleKeys(keys=(public_key(key),))


def opened(record: bytes, key: PrivateKey = SIGNER, *, version: int = 3) -> Release:
    """What a device reads from documents whose release role is signed by this key."""
    moment: dict[str, Any] = {"now": NOW, "validity": Validity()}
    roles = {name: role_keys(OWNER) for name in ("root", "targets", "snapshot", "timestamp")}
    root = first_root(roles, [crypto_signer(OWNER)], **moment)
    change = Change(roles={"releases-surface": role_keys(SIGNER)}, director=Director(keys=(HUB.public,)))
    targets = next_targets(None, change, [crypto_signer(OWNER)], **moment)
    files = {release_path("surface", version): record}
    role = next_releases(None, "surface", [crypto_signer(key)], add=files, **moment)
    return proven_release(root, targets, role, record, use_case="surface", version=3)


def test_a_release_signed_by_a_release_key_opens() -> None:
    assert opened(encode(release())) == release()


@pytest.mark.parametrize(
    ("record", "more", "code"),
    [
        (encode(release()), {"key": HUB}, "metadata_unsigned"),  # the hub never signs releases
        (encode(release()), {"key": OWNER}, "metadata_unsigned"),  # nor do the keys above
        (encode(release()), {"version": 4}, "not_released"),
        (encode(assignment()), {}, "content_invalid"),
        (b"not json", {}, "content_invalid"),
        (encode(release(version=4)), {}, "release_invalid"),
        (encode(release(use_case="other")), {}, "release_invalid"),
        (encode(release(bundles={})), {}, "release_invalid"),
        (encode(release(bundles={"../a": BUNDLE})), {}, "release_invalid"),
        (encode(release(signed_as="override")), {}, "release_invalid"),
        (encode(release(signed_as="override", override_reason=" ")), {}, "release_invalid"),
    ],
)
def test_any_other_release_is_refused(record: bytes, more: dict[str, Any], code: str) -> None:
    with pytest.raises(NotTrusted) as refused:
        opened(record, **more)
    assert refused.value.code == code


def test_a_person_may_override_the_gate_with_a_reason() -> None:
    overridden = release(signed_as="override", override_reason="line 2 stands still")
    assert opened(encode(overridden)) == overridden


@pytest.mark.parametrize(
    ("newest", "epoch", "number"),
    [(0, None, 7), (6, EPOCH, 7), (7, EPOCH, 7), (900, NEXT_EPOCH, 7)],
)
def test_an_assignment_that_is_not_older_opens(newest: int, epoch: str | None, number: int) -> None:
    envelope = signed(assignment(number=number), HUB)
    found = open_assignment(
        envelope, KEYS, device="press-4", newest=newest, hub_epoch=epoch, newest_digest=record_digest(assignment())
    )
    assert found == assignment()


@pytest.mark.parametrize(
    ("envelope", "asked", "code"),
    [
        (signed(assignment(), SIGNER), {}, "signature_wrong"),  # a release key signs no assignments
        (signed(assignment(), EVE), {}, "signature_wrong"),
        (signed(assignment(), HUB, "application/else"), {}, "type_wrong"),
        (signed(assignment(), HUB), {"device": "press-5"}, "device_wrong"),
        (signed(assignment(number=6), HUB), {}, "assignment_old"),
        (signed(assignment(number=9), HUB), {"earlier_epochs": {EPOCH}, "hub_epoch": NEXT_EPOCH}, "assignment_old"),
        (signed(assignment(reason="other"), HUB), {"newest_digest": record_digest(assignment())}, "assignment_forked"),
    ],
)
def test_any_other_assignment_is_refused(envelope: Envelope, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(NotTrusted) as refused:
        open_assignment(envelope, KEYS, **{"device": "press-4", "newest": 7, "hub_epoch": EPOCH, **asked})
    assert refused.value.code == code


def check(wanted: Assignment, given: Release, **change: Any) -> None:
    asked: dict[str, Any] = {"manifest_digest": BUNDLE, "known_bad": set(), "committed_before": set()}
    may_install(wanted, given, **{**asked, **change})


REVERT = {"kind": "revert", "reason": "e-value 140 on 31 pairs", "evidence": digest(b"evidence")}
NEWER = release(id="surface@4", version=4, bundles={"fp32": OTHER})


@pytest.mark.parametrize(
    ("wanted", "given", "facts"),
    [
        (assignment(), release(), {}),
        (assignment(), release(bundles={"fp32": OTHER, "int8": BUNDLE}), {}),
        (assignment(), release(), {"running": release()}),  # the same desired state again
        (assignment(), release(), {"running": release(id="surface@2", version=2)}),
        (assignment(), release(), {"running": release(id="other@9", use_case="other", version=9)}),
        (assignment(**REVERT), release(), {"committed_before": {BUNDLE}, "running": NEWER}),
    ],
)
def test_what_both_keys_agree_on_may_be_installed(wanted: Assignment, given: Release, facts: dict[str, Any]) -> None:
    check(wanted, given, **facts)


@pytest.mark.parametrize(
    ("wanted", "given", "facts", "code"),
    [
        (assignment(release="surface@2"), release(), {}, "not_assigned"),
        (assignment(use_case="other"), release(), {}, "not_assigned"),
        (assignment(release=None), release(), {}, "not_assigned"),
        (assignment(bundle=None), release(), {}, "not_assigned"),
        (assignment(bundle=OTHER), release(), {}, "not_assigned"),
        (assignment(), release(), {"manifest_digest": OTHER}, "not_assigned"),
        # The hub's key alone installs nothing: a bundle that no release names stays out.
        (assignment(bundle=OTHER), release(), {"manifest_digest": OTHER}, "not_released"),
        (assignment(), release(bundles={}), {}, "not_released"),
        (assignment(), release(), {"known_bad": {BUNDLE}}, "known_bad"),
        (assignment(), release(), {"running": NEWER}, "release_old"),
        (assignment(**REVERT), release(), {}, "revert_unknown"),
        (assignment(**REVERT), release(), {"committed_before": {OTHER}}, "revert_unknown"),
        (assignment(**REVERT), release(), {"committed_before": {BUNDLE}, "known_bad": {BUNDLE}}, "known_bad"),
        (assignment(**{**REVERT, "reason": " "}), release(), {"committed_before": {BUNDLE}}, "revert_unproven"),
        (assignment(**{**REVERT, "evidence": None}), release(), {"committed_before": {BUNDLE}}, "revert_unproven"),
    ],
)
def test_anything_else_is_not_installed(wanted: Assignment, given: Release, facts: dict[str, Any], code: str) -> None:
    with pytest.raises(NotTrusted) as refused:
        check(wanted, given, **facts)
    assert refused.value.code == code
    assert refused.value.exit_code == 3
