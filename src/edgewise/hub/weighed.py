"""How good a release was found to be before it went out, from the documents that its verdict names by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from edgewise.hub import releases, usecases
from edgewise.hub.store import releases as release_rows
from edgewise.hub.store import verdicts as rows
from edgewise.hub.store.releases import ReleaseRow
from edgewise.wire import NotValid, Outcome, Precision, Scorecard, Verdict, decode


@dataclass(frozen=True, kw_only=True, slots=True)
class WeighedVariant:
    """The gate's word on one variant and what it rests on."""

    verdict: Verdict
    scorecard: Scorecard
    in_release: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """A release's scorecard beside that of the champion that it was judged against, on the same samples."""

    release: ReleaseRow
    outcome: Outcome  # of the use case as it is now: its metric, the good labels and those that matter
    verdict: Verdict
    scorecard: Scorecard
    champion: Scorecard | None
    champion_release: str | None  # the newest release of the champion's bundle
    variants: Mapping[Precision, WeighedVariant]


def weigh(connection: sa.Connection, release: str) -> Weighed:
    """Everything that the gate knew of a release.

    Raises:
        NotValid: no such release, or it was signed without the gate's word.
    """
    row = releases.need(connection, release)
    found = rows.get(connection, row.verdict) if row.verdict else None
    if found is None:
        raise NotValid(
            f"release {release} was signed without the gate's word, so it has no scorecard; "
            f"its reason: {row.body.get('override_reason') or 'none given'}",
            code="scorecard_unknown",
        )
    verdict = found.verdict
    champion = verdict.champion and release_rows.of_bundle(connection, verdict.champion)
    return Weighed(
        release=row,
        outcome=usecases.need(connection, row.use_case).outcome,
        verdict=verdict,
        scorecard=_card(connection, verdict.scorecard),
        champion=_card(connection, verdict.champion_scorecard) if verdict.champion_scorecard else None,
        champion_release=champion[0].id if champion else None,
        variants={name: _variant(connection, row, word) for name, word in verdict.variants.items()},
    )


def _variant(connection: sa.Connection, release: ReleaseRow, digest: str) -> WeighedVariant:
    row = rows.get(connection, digest)
    assert row is not None, f"verdict {digest} is named by that of {release.id} and not stored"
    verdict = row.verdict
    bundles = release.body.get("bundles", {}).values()
    return WeighedVariant(
        verdict=verdict, scorecard=_card(connection, verdict.scorecard), in_release=verdict.candidate in bundles
    )


def _card(connection: sa.Connection, digest: str) -> Scorecard:
    body = rows.scorecard_bytes(connection, digest)
    assert body is not None, f"scorecard {digest} is named by a verdict and not stored"
    return decode(Scorecard, body)
