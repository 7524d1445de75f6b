"""Releases in and out of a use case's role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from securesystemslib.signer import Signer  # type: ignore[attr-defined]

from edgewise.signer._desk import Desk
from edgewise.signer._evidence import VARIANT, Checked, HubReader
from edgewise.trust.roles import (
    RELEASES_MAX,
    TARGETS,
    Validity,
    add_signatures,
    delegated_roles,
    keys_of,
    next_releases,
    parse,
    read_release,
    release_files,
    release_path,
    role_of,
    use_case_of,
    version_of,
    versions_in,
)
from edgewise.wire import NotTrusted, NotValid, Release, digest

VALIDITY = Validity()


def next_release(hub: HubReader, use_case: str) -> dict[str, Any]:
    """Id and version of the next release; versions of a use case only grow."""
    versions = [int(item["version"]) for item in hub.get("/releases", use_case=use_case)]
    version = max(versions, default=0) + 1
    return {"id": f"{use_case}@{version}", "version": version}


def publish_release(desk: Desk, release: Release, signers: Sequence[Signer], *, now: datetime) -> dict[str, Any]:
    """Add a release to what its use case's role vouches for, and hand that in."""
    manifests = {}
    for variant, bundle in release.bundles.items():
        body = desk.hub.get_bytes(f"/bundles/{bundle}/manifest")
        if digest(body) != bundle:
            raise NotTrusted(
                f"the hub's manifest of bundle {bundle[:12]}… has digest {digest(body)[:12]}…", code="bundle_corrupt"
            )
        manifests[variant] = body
    files = release_files(release, manifests)
    role = role_of(release.use_case)
    desk.load()
    body = next_releases(desk.document(role), release.use_case, signers, now=now, validity=VALIDITY, add=files)
    record = {path: data for path, data in files.items() if path.endswith("/release.json")}
    return desk.publish({role: body}, record)


def join_release(
    desk: Desk, use_case: str, bundles: Mapping[str, str], signers: Sequence[Signer]
) -> tuple[Release, dict[str, Any]] | None:
    """Add signatures to a release of this candidate that waits for them; None where none waits.

    Args:
        bundles: by variant, those that were checked here; the candidate itself comes first.
    Raises:
        NotTrusted: what waits does more than add this release, or names a variant that was not checked here.
    """
    role = role_of(use_case)
    desk.load()
    body = desk.waiting(role)
    if body is None:
        return None
    current, new = desk.document(role), parse(body, role).signed
    old = None if current is None else parse(current, role).signed
    before = set() if old is None else versions_in(old, use_case)
    fresh, gone = versions_in(new, use_case) - before, before - versions_in(new, use_case)
    kept = old is None or all(new.targets[path] == old.targets[path] for path in new.targets if path in old.targets)
    if len(fresh) != 1 or not kept or (gone and len(versions_in(new, use_case)) < RELEASES_MAX):
        raise NotTrusted(
            f"what waits for {role} adds {len(fresh)} releases and takes {len(gone)} out; only one new release is "
            "signed here",
            code="waiting_wrong",
        )
    (version,) = fresh
    files = next(item["files"] for item in desk.state()["waiting"] if item["role"] == role)
    record = files.get(release_path(use_case, version), "").encode()
    target = new.targets[release_path(use_case, version)]
    if target.hashes.get("sha256") != digest(record):
        raise NotTrusted(f"the record of {use_case}@{version} is not what waits to be signed", code="waiting_wrong")
    release = read_release(record, use_case=use_case, version=version)
    if next(iter(bundles.values())) not in release.bundles.values():
        return None
    unknown = {name: made for name, made in release.bundles.items() if bundles.get(name) != made}
    if unknown:
        name, made = next(iter(unknown.items()))
        raise NotTrusted(
            f"{release.id}, which waits for signatures, names bundle {made[:12]}… as its variant {name}, which was not "
            "found to hold here; it is not signed",
            code="waiting_wrong",
        )
    return release, desk.publish({role: add_signatures(body, role, signers)})


def check_base(desk: Desk, checked: Checked) -> None:
    """The bundle beside a site variant must be one that release keys vouch for already; nobody looked at it again.

    Raises:
        NotTrusted: it is not.
    """
    if checked.base is None:
        return
    desk.load()
    current = desk.document(role_of(checked.use_case))
    targets = {} if current is None else parse(current, role_of(checked.use_case)).signed.targets
    known = {
        target.hashes.get("sha256") for path, target in targets.items() if path.endswith(f"/{VARIANT}/manifest.json")
    }
    if checked.base not in known:
        raise NotTrusted(
            f"bundle {checked.base[:12]}…, which the variant of {checked.site} was made of, is in no release that is "
            "vouched for; sign that one first",
            code="base_unsigned",
        )


def signed_already(desk: Desk, use_case: str, signers: Sequence[Signer]) -> bool:
    """Whether one of these keys has signed what waits for more signatures."""
    ours = {signer.public_key.keyid for signer in signers}
    role = role_of(use_case)
    return any(item["role"] == role and ours & set(item["signed"]) for item in desk.state()["waiting"])


def renew_releases(desk: Desk, signers: Sequence[Signer], *, now: datetime) -> int:
    """Sign anew, unchanged, what these keys may sign alone and what has less than a third of its time left."""
    desk.load()
    targets = parse(desk.document(TARGETS) or b"", TARGETS).signed
    ours = {signer.public_key.keyid for signer in signers}
    count = 0
    for role in delegated_roles(targets):
        use_case, body, held = use_case_of(role) or "", desk.raw(role), keys_of(targets, role)
        if body is None or len(ours & {key.keyid for key in held.keys}) < held.threshold:
            continue
        if parse(body, role).signed.expires - now < VALIDITY.releases / 3:
            current = desk.document(role)
            desk.publish({role: next_releases(current, use_case, signers, now=now, validity=VALIDITY)})
            desk.load()
            count += 1
    return count


def withdraw_release(desk: Desk, release: str, signers: Sequence[Signer], *, why: str, now: datetime) -> dict[str, Any]:
    """Take a release out: no device installs it or goes back to it any more.

    Raises:
        NotValid: no such release is vouched for, or no reason is given.
    """
    if not why.strip():
        raise NotValid("a withdrawal needs its reason: --reason TEXT", code="reason_missing")
    use_case = release.rpartition("@")[0]
    version, role = version_of(release, use_case), role_of(use_case)
    desk.load()
    current = desk.document(role)
    if current is None or version not in versions_in(parse(current, role).signed, use_case):
        raise NotValid(f"release {release} is not vouched for now; see `edgewise release list`", code="release_unknown")
    body = next_releases(current, use_case, signers, now=now, validity=VALIDITY, withdraw=[version])
    return desk.publish({role: body}, why=why)


def holds_role(desk: Desk, use_case: str, signers: Sequence[Signer]) -> bool:
    """Whether the targets role gives a use case's releases to one of these keys."""
    targets = desk.document(TARGETS)
    assert targets is not None
    signed, role = parse(targets, TARGETS).signed, role_of(use_case)
    if role not in delegated_roles(signed):
        return False
    return bool({key.keyid for key in keys_of(signed, role).keys} & {signer.public_key.keyid for signer in signers})
