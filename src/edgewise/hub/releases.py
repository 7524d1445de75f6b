"""Releases: signed elsewhere, checked and kept here. The hub has no release key (invariant 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import audit, usecases
from edgewise.hub.store import bundles, verdicts
from edgewise.hub.store import releases as rows
from edgewise.wire import NotValid, Release, Verdict, site_of_variant, site_variant


def take(connection: sa.Connection, release: Release, *, keyids: Sequence[str], who: str, now: datetime) -> Release:
    """Keep a release that its use case's role vouches for. Signing requests for its bundle are answered by it.

    Raises:
        NotValid: an unknown use case or bundle, a version that does not grow, or evidence that does not fit.
    """
    usecases.need(connection, release.use_case)
    bundle = _check(connection, release)
    rows.add(connection, release, bundle=bundle, now=now)
    for one in release.bundles.values():
        rows.answer_requests(connection, one, release=release.id, by=release.approved_by, now=now)
    data = {
        "bundle": bundle,
        "verdict": release.verdict,
        "signed_as": release.signed_as,
        "override_reason": release.override_reason,
        "approved_by": release.approved_by,
        "keys": list(keyids),
    }
    action = "release.overridden" if release.signed_as == "override" else "release.signed"
    audit.note(connection, actor=who, action=action, subject=release.id, data=data, now=now)
    return release


def withdraw(connection: sa.Connection, release: str, *, why: str, who: str, now: datetime) -> None:
    """Its signers took the release out: it is never assigned again."""
    rows.mark_withdrawn(connection, release, why=why, now=now)
    audit.note(connection, actor=who, action="release.withdrawn", subject=release, data={"reason": why}, now=now)


def need(connection: sa.Connection, release: str) -> rows.ReleaseRow:
    """The release.

    Raises:
        NotValid: there is none.
    """
    row = rows.get(connection, release)
    if row is None:
        raise NotValid(f"there is no release {release[:80]!r} here; see GET /api/v1/releases", code="release_unknown")
    return row


def default_bundle(release: Release) -> str:
    """The bundle of the default variant.

    Raises:
        NotValid: the release holds no bundle.
    """
    if not release.bundles:
        raise NotValid(f"release {release.id} holds no bundle; sign one that does", code="release_invalid")
    return release.bundles.get(rows.DEFAULT_VARIANT) or next(iter(release.bundles.values()))


def _check(connection: sa.Connection, release: Release) -> str:
    newest = rows.newest_version(connection, release.use_case)
    if release.version <= newest:
        raise NotValid(
            f"release {release.id} has version {release.version}, {release.use_case} is at {newest} already; "
            f"sign it as version {newest + 1}",
            code="release_version",
        )
    for bundle in release.bundles.values():
        if bundles.get(connection, bundle) is None:
            raise NotValid(
                f"release {release.id} names bundle {bundle[:12]}…, which is not stored here", code="bundle_unknown"
            )
    bundle = default_bundle(release)
    site = _check_sites(connection, release, bundle)
    if release.signed_as == "gate":
        verdict = _check_evidence(connection, release, bundle if site is None else release.bundles[site_variant(site)])
        if site is None:
            _check_variants(connection, release, bundle, verdict)
        elif verdict.site != site or verdict.champion != bundle:
            raise NotValid(
                f"release {release.id} is a variant of bundle {bundle[:12]}… for {site}, its verdict is about one of "
                f"{str(verdict.champion)[:12]}… for {verdict.site}; name the right one, or sign with --override REASON",
                code="verdict_wrong",
            )
    return bundle


def site_of(variants: Iterable[str]) -> str | None:
    """The site that a release with these variants is for; None where it is for all.

    >>> site_of(["fp32", "site:north"])
    'north'
    """
    return next((site for name in variants if (site := site_of_variant(name)) is not None), None)


def _check_sites(connection: sa.Connection, release: Release, default: str) -> str | None:
    """The site whose variant the release brings: it is beside the bundle that it was made of, and nothing else is."""
    made_for = {}
    for name, bundle in release.bundles.items():
        manifest = bundles.manifest(connection, bundle)
        assert manifest is not None, f"bundle {bundle} was just found"
        if (made := manifest.provenance.site) is not None or site_of_variant(name) is not None:
            made_for[name] = (made, manifest.provenance.variant_of)
    if not made_for:
        return None
    (name, (site, base)), *more = made_for.items()
    if more or site is None or name != site_variant(site) or set(release.bundles) != {rows.DEFAULT_VARIANT, name}:
        raise NotValid(
            f"release {release.id} holds {', '.join(release.bundles)}; a variant for a site is released as site:NAME "
            f"beside {rows.DEFAULT_VARIANT}, the bundle that it was made of, and nothing else",
            code="variant_wrong",
        )
    if base != default:
        raise NotValid(
            f"release {release.id} has a variant of bundle {str(base)[:12]}… beside bundle {default[:12]}…; it has to "
            "be beside the one that it was made of",
            code="variant_wrong",
        )
    return site


def _check_variants(connection: sa.Connection, release: Release, default: str, verdict: Verdict) -> None:
    """Each further bundle must be a variant that the gate judged with this candidate, and passed."""
    for name, bundle in release.bundles.items():
        if bundle == default:
            continue
        word = verdict.variants.get(name)  # type: ignore[call-overload]  # any name of a release may be asked for
        row = None if word is None else verdicts.get(connection, word)
        if row is None or row.candidate != bundle or row.result != "passed":
            seen = "none" if row is None else f"one that is {row.result}, on bundle {row.candidate[:12]}…"
            raise NotValid(
                f"release {release.id} names bundle {bundle[:12]}… as its variant {name}, which needs a passed verdict "
                f"beside its candidate's; the gate has {seen}: leave the variant out",
                code="variant_wrong",
            )


def _check_evidence(connection: sa.Connection, release: Release, bundle: str) -> Verdict:
    """A release that claims the gate's word must name a verdict of this hub on this bundle that passed."""
    row = None if release.verdict is None else verdicts.get(connection, release.verdict)
    verdict = None if row is None else row.verdict
    if verdict is None or verdict.candidate != bundle or verdict.use_case != release.use_case:
        raise NotValid(
            f"release {release.id} is signed on the gate's word, but verdict {str(release.verdict)[:12]}… is not about "
            f"bundle {bundle[:12]}…; name the right one, or sign with --override REASON",
            code="verdict_wrong",
        )
    if verdict.variant is not None:
        raise NotValid(
            f"release {release.id} is signed on the gate's word on {verdict.variant}, a variant; its candidate has to "
            "be in it, or a person has to sign with --override REASON",
            code="verdict_wrong",
        )
    if verdict.result != "passed":
        raise NotValid(
            f"release {release.id} is signed on the gate's word, but its verdict is {verdict.result}; "
            "only a person can decide otherwise, with --override REASON",
            code="verdict_wrong",
        )
    return verdict
