"""The gate for site variants: each is scored on its site's evaluation samples beside the champion it was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import adapt_orders, audit, gate, usecases
from edgewise.hub.labels import evaluation_share
from edgewise.hub.store import Store, bundles, champions
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import verdicts as rows
from edgewise.hub.store.orders import OrderRow
from edgewise.measure import compare, judge_site_variant, of_site_alone, score_sites
from edgewise.ports import Chance, Runtime
from edgewise.ports.scoring import Answers, score_bundle
from edgewise.wire import LabelledSample, NotTrusted, NotValid, Scorecard, UseCase, Verdict

LOOKED_AT_MAX = 50  # orders that may be held for too few labels


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    usecase: UseCase
    order: OrderRow
    site: str
    base: str
    bundle: str
    manifests: tuple[bytes, bytes]  # of the variant, and of its base
    champion: str | None  # what runs on the whole fleet now
    evaluation: list[LabelledSample]  # of the site


def judge_next(
    store: Store,
    use_case: str,
    now: datetime,
    *,
    runtime: Runtime,
    chance: Chance,
    answers: Answers,
    check: Callable[[sa.Connection], None],
    beat: Callable[[], None] = lambda: None,
) -> Verdict | None:
    """Judge the site variant that waits longest; None when none waits. Arguments as `gate.judge_next`."""
    with store.read() as connection:
        case = _next_case(connection, use_case)
    if case is None:
        return None
    good_labels = case.usecase.outcome.good_labels

    def card(manifest: bytes) -> Scorecard:
        return score_bundle(
            manifest,
            case.evaluation,
            read_blob=store.blobs.get,
            runtime=runtime,
            good_labels=good_labels,
            now=now,
            answers=answers,
            beat=beat,
        )

    theirs = card(case.manifests[1])
    problem = None
    try:
        ours = card(case.manifests[0])
        beside = compare(ours, theirs, use_case=of_site_alone(case.usecase, ours, case.site), beat=beat)
        ours = ours.model_copy(update={"compared": beside})
        verdict = judge_site_variant(ours, theirs, site=case.site, use_case=case.usecase, now=now, beat=beat)
    except (NotValid, NotTrusted) as error:
        if error.code == "blob_missing":
            raise  # the hub lost a sample's content: that is no fault of the bundle
        # What does not run is judged, not retried: else it would wait for ever and block those after it.
        sites, overall = score_sites((), good_labels=good_labels)
        ours = Scorecard(bundle=case.bundle, made_at=now, sites=sites, overall=overall)
        empty = theirs.model_copy(update={"predictions": (), "sites": sites, "overall": overall})
        verdict = judge_site_variant(ours, empty, site=case.site, use_case=case.usecase, now=now)
        theirs, problem = empty, f"it does not run here: {error}"
    if case.champion != case.base:
        problem = f"it was made of {case.base[:12]}…, and {str(case.champion)[:12]}… runs now; order another one"
    if problem is not None:
        verdict = verdict.model_copy(update={"result": "failed", "reasons": (problem, *verdict.reasons)})
    with store.write() as connection:
        check(connection)
        _keep(connection, case, verdict, ours, theirs, now, chance)
    return verdict


def _next_case(connection: sa.Connection, use_case: str) -> _Case | None:
    usecase = usecases.need(connection, use_case)
    waiting = rows.unjudged(connection, use_case, kind=adapt_orders.KIND)
    row = order_rows.get(connection, waiting[0].order) if waiting else _worth_another_look(connection, usecase)
    if row is None or row.bundle is None:
        return None
    order = row.order
    assert order.site is not None, f"order {row.id} adapts to no site"
    assert order.base is not None, f"order {row.id} adapts nothing"
    manifests = [bundles.manifest_bytes(connection, bundle) for bundle in (row.bundle, order.base)]
    ours, theirs = manifests
    assert ours is not None, f"order {row.id} was answered by bundle {row.bundle}, which is not stored"
    assert theirs is not None, f"order {row.id} adapts bundle {order.base}, which is not stored"
    champion = champions.whole(connection, use_case)
    return _Case(
        usecase=usecase,
        order=row,
        site=order.site,
        base=order.base,
        bundle=row.bundle,
        manifests=(ours, theirs),
        champion=None if champion is None else champion.bundle,
        evaluation=_of_site(connection, usecase, order.site),
    )


def _of_site(connection: sa.Connection, usecase: UseCase, site: str) -> list[LabelledSample]:
    return [sample for sample in evaluation_share(connection, usecase) if sample.site == site]


def _worth_another_look(connection: sa.Connection, usecase: UseCase) -> OrderRow | None:
    """The newest variant of a site that was held for too few samples, where enough new ones are labelled now."""
    champion, seen = champions.whole(connection, usecase.name), set()
    for row in order_rows.find(connection, use_case=usecase.name, kind=adapt_orders.KIND, limit=LOOKED_AT_MAX):
        site = row.order.site
        if site is None or site in seen or row.bundle is None:
            continue
        seen.add(site)
        held = rows.newest_on(connection, row.bundle)
        if held is None or held.result != "inconclusive" or champion is None or champion.bundle != row.order.base:
            continue
        judged = rows.scorecard_size(connection, held.verdict.scorecard)
        if len(_of_site(connection, usecase, site)) >= judged + usecase.gate.samples_min:
            return row
    return None


def _keep(
    connection: sa.Connection,
    case: _Case,
    verdict: Verdict,
    ours: Scorecard,
    theirs: Scorecard,
    now: datetime,
    chance: Chance,
) -> None:
    name = case.usecase.name
    rows.add_scorecard(connection, name, ours)
    rows.add_scorecard(connection, name, theirs)
    digest = rows.add(connection, verdict, order=case.order.id)
    data = {
        "verdict": digest,
        "result": verdict.result,
        "order": case.order.id,
        "site": case.site,
        "champion": verdict.champion,
        "scorecard": verdict.scorecard,
        "samples": len(ours.predictions),
        "reason": verdict.reasons[0] if verdict.reasons else "",
    }
    audit.note(connection, actor=gate.ACTOR, action="candidate.judged", subject=verdict.candidate, data=data, now=now)
    if verdict.result == "passed" and case.usecase.signing.automatic:
        gate.ask_in(connection, verdict, digest, by=gate.ACTOR, why="the gate passed it", now=now, chance=chance)
