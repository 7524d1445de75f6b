"""The gate: it scores each candidate and the champion on samples that no trainer ever saw, and judges.

The hub only judges; it cannot sign (invariant 5). Evidence – both scorecards with every prediction, and the verdict –
is stored by digest in one transaction with its audit entry, so that the signer, or anybody, can compute it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from edgewise.hub import audit, usecases
from edgewise.hub.labels import EVALUATION, evaluation_share
from edgewise.hub.store import Store, bundles, champions, samples
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import verdicts as rows
from edgewise.hub.store.verdicts import RequestRow, WaitingCandidate
from edgewise.measure import compare, judge, judge_variant, score_sites
from edgewise.ports import Chance, Runtime
from edgewise.ports.scoring import Answers, score_bundle
from edgewise.wire import (
    Candidate,
    LabelledSample,
    NotTrusted,
    NotValid,
    Precision,
    Robustness,
    Scorecard,
    UseCase,
    Verdict,
    record_digest,
)

ACTOR = "gate"
REASON_CHARACTERS_MAX = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """Everything that one judgement is about, read at one moment."""

    usecase: UseCase
    candidate: WaitingCandidate
    manifest: bytes
    variants: Mapping[Precision, tuple[str, bytes]]  # bundle and manifest of each
    robustness: Mapping[str, Robustness]  # by bundle, as the worker told
    champion: str | None
    champion_manifest: bytes | None
    evaluation: list[LabelledSample]


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
    """Judge the candidate that waits longest; None when none waits. Again changes nothing.

    Args:
        answers: what bundles said before; bundles and blobs never change, so it saves work and alters nothing.
        check: called first in the transaction; it raises where this hub no longer holds the controllers' lease.
        beat: called again and again while bundles are opened, scored and compared, outside of any transaction: it keeps
            the lease, or raises like check.
    """
    with store.read() as connection:
        case = _next_case(connection, use_case)
    if case is None:
        return None
    # Scoring takes seconds and holds no connection: contacts of devices go on meanwhile.
    bench = _Bench(store=store, case=case, now=now, runtime=runtime, answers=answers, beat=beat)
    ours, problem = bench.score(case.candidate.bundle, case.manifest)
    theirs = None
    if case.champion_manifest is not None and problem is None:
        theirs = bench.card(case.champion_manifest)
    ours = bench.complete(ours, theirs)
    verdict = judge(ours, theirs, use_case=case.usecase, now=now, beat=beat)
    if problem is not None:
        verdict = verdict.model_copy(update={"result": "failed", "reasons": (problem, *verdict.reasons)})
    # The candidate decides whether there is a release at all; only then its variants are worth a look.
    variants = bench.judge_variants(ours, theirs) if verdict.result == "passed" else []
    verdict = verdict.model_copy(
        update={"variants": {item.variant: record_digest(item) for item, _ in variants if item.variant is not None}}
    )
    with store.write() as connection:
        check(connection)
        _keep(connection, case, verdict, ours, theirs, variants, now, chance)
    return verdict


def evaluation_samples(store: Store, use_case: str) -> list[LabelledSample]:
    """The evaluation share as labelled now. For the signer and people, never for a trainer.

    Raises:
        NotValid: no such use case.
    """
    with store.read() as connection:
        return evaluation_share(connection, usecases.need(connection, use_case))


def ask_to_sign(store: Store, bundle: str, *, by: str, why: str, now: datetime, chance: Chance) -> RequestRow:
    """Ask the signer to sign a bundle, whatever the gate said; the signer looks at the evidence itself.

    A request that waits already is given back instead of a second one.

    Raises:
        NotValid: no such bundle, or the gate has not judged it.
    """
    with store.write() as connection:
        if bundles.get(connection, bundle) is None:
            raise NotValid(f"there is no bundle {bundle[:80]!r} here; see GET /api/v1/bundles", code="bundle_unknown")
        last = rows.newest_on(connection, bundle)
        if last is None:
            raise NotValid(
                f"the gate has not judged bundle {bundle[:12]}… yet, so there is no evidence to sign on; wait for it",
                code="not_judged",
            )
        if last.verdict.variant is not None:
            raise NotValid(
                f"bundle {bundle[:12]}… is the {last.verdict.variant} variant of a candidate; ask for that one, its "
                "variants that passed are signed with it",
                code="variant_alone",
            )
        return ask_in(connection, last.verdict, last.digest, by=by, why=why, now=now, chance=chance)


def refuse(store: Store, request: str, *, reason: str, by: str, now: datetime) -> RequestRow:
    """The signer will not sign. The same refusal again changes nothing.

    Raises:
        NotValid: no such request, no reason, or it was answered otherwise.
    """
    if not reason.strip():
        raise NotValid("a refusal needs its reason; say what was wrong with the evidence", code="reason_missing")
    with store.write() as connection:
        row = rows.request(connection, request)
        if row is None:
            raise NotValid(
                f"there is no signing request {request[:80]!r}; see GET /api/v1/signing", code="request_unknown"
            )
        if row.state == rows.REFUSED:
            return row
        if row.state != rows.WAITING:
            raise NotValid(
                f"signing request {request} is {row.state} already; it cannot be refused", code="request_answered"
            )
        text = reason[:REASON_CHARACTERS_MAX]
        rows.answer_request(connection, request, state=rows.REFUSED, by=by, answer=text, release=None, now=now)
        data = {"request": request, "reason": text, "verdict": row.verdict}
        audit.note(connection, actor=by, action="signing.refused", subject=row.bundle, data=data, now=now)
        answered = rows.request(connection, request)
        assert answered is not None
        return answered


def _next_case(connection: sa.Connection, use_case: str) -> _Case | None:
    usecase = usecases.need(connection, use_case)
    waiting = rows.unjudged(connection, use_case)
    candidate = waiting[0] if waiting else _worth_another_look(connection, usecase)
    if candidate is None:
        return None
    manifest = bundles.manifest_bytes(connection, candidate.bundle)
    assert manifest is not None, (
        f"order {candidate.order} was answered by bundle {candidate.bundle}, which is not stored"
    )
    order = order_rows.get(connection, candidate.order)
    returned = None if order is None else order.returned
    release = champions.champion(connection, use_case)
    # A champion is not its own rival: a candidate with the same bytes is judged by the floor, and changes nothing.
    champion = None if release is None or release.bundle == candidate.bundle else release.bundle
    return _Case(
        usecase=usecase,
        candidate=candidate,
        manifest=manifest,
        variants=_variants(connection, returned),
        robustness={} if returned is None else returned.robustness or {},
        champion=champion,
        champion_manifest=None if champion is None else bundles.manifest_bytes(connection, champion),
        evaluation=evaluation_share(connection, usecase),
    )


def _worth_another_look(connection: sa.Connection, usecase: UseCase) -> WaitingCandidate | None:
    """The newest candidate, where it was held for too few samples and enough new ones are labelled now."""
    found = order_rows.find(connection, use_case=usecase.name, kind="train", limit=20)
    last = next((row for row in found if row.bundle), None)
    if last is None or last.bundle is None:
        return None
    held = rows.newest_on(connection, last.bundle)
    if held is None or held.result != "inconclusive":
        return None
    seen = rows.scorecard_size(connection, held.verdict.scorecard)
    if len(samples.labelled(connection, usecase.name, EVALUATION)) < seen + usecase.gate.samples_min:
        return None
    return WaitingCandidate(order=last.id, bundle=last.bundle, updated_at=last.updated_at)


def _variants(connection: sa.Connection, returned: Candidate | None) -> dict[Precision, tuple[str, bytes]]:
    """What the worker returned beside the candidate; it was checked to be the candidate's variants when it came."""
    if returned is None:
        return {}
    found: dict[Precision, tuple[str, bytes]] = {}
    for name, bundle in returned.variants.items():
        manifest = bundles.manifest_bytes(connection, bundle)
        assert manifest is not None, f"order {returned.order} was answered by variant {bundle}, which is not stored"
        found[name] = (bundle, manifest)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """Runs bundles over the evaluation share of one case."""

    store: Store
    case: _Case
    now: datetime
    runtime: Runtime
    answers: Answers
    beat: Callable[[], None]

    def card(self, manifest: bytes) -> Scorecard:
        return score_bundle(
            manifest,
            self.case.evaluation,
            read_blob=self.store.blobs.get,
            runtime=self.runtime,
            good_labels=self.case.usecase.outcome.good_labels,
            now=self.now,
            metric=self.case.usecase.outcome.metric,
            answers=self.answers,
            beat=self.beat,
        )

    def score(self, bundle: str, manifest: bytes) -> tuple[Scorecard, str | None]:
        """The scorecard, and what is wrong where the bundle does not run."""
        try:
            return self.card(manifest), None
        except (NotValid, NotTrusted) as error:
            if error.code == "blob_missing":
                raise  # the hub lost a sample's content: that is no fault of the bundle
            # A bundle that does not run is judged, not retried: else it would wait for ever and block those after it.
            sites, overall = score_sites((), good_labels=self.case.usecase.outcome.good_labels)
            empty = Scorecard(bundle=bundle, made_at=self.now, sites=sites, overall=overall)
            return empty, f"it does not run here: {error}"

    def complete(self, card: Scorecard, champion: Scorecard | None) -> Scorecard:
        """The scorecard with what it says beside the champion, and with what the worker measured of the bundle."""
        told: dict[str, object] = {"robustness": self.case.robustness.get(card.bundle)}
        if champion is not None and self.case.usecase.outcome.target is None:
            told["compared"] = compare(card, champion, use_case=self.case.usecase, beat=self.beat)
        return card.model_copy(update=told)

    def judge_variants(self, candidate: Scorecard, champion: Scorecard | None) -> list[tuple[Verdict, Scorecard]]:
        """A verdict on each variant, by itself, on the same samples as the candidate."""
        found = []
        for name, (bundle, manifest) in self.case.variants.items():
            card, problem = self.score(bundle, manifest)
            if problem is None:
                card = self.complete(card, champion)
                verdict = judge_variant(
                    card,
                    name,
                    candidate=candidate,
                    champion=champion,
                    use_case=self.case.usecase,
                    now=self.now,
                    beat=self.beat,
                )
            else:
                verdict = judge(card, None, use_case=self.case.usecase, now=self.now)
                told = {"variant": name, "result": "failed", "reasons": (problem, *verdict.reasons)}
                verdict = verdict.model_copy(update=told)
            found.append((verdict, card))
        return found


def _keep(
    connection: sa.Connection,
    case: _Case,
    verdict: Verdict,
    ours: Scorecard,
    theirs: Scorecard | None,
    variants: Sequence[tuple[Verdict, Scorecard]],
    now: datetime,
    chance: Chance,
) -> None:
    name = case.usecase.name
    rows.add_scorecard(connection, name, ours)
    if theirs is not None:
        rows.add_scorecard(connection, name, theirs)
    digest = rows.add(connection, verdict, order=case.candidate.order)
    data = {
        "verdict": digest,
        "result": verdict.result,
        "order": case.candidate.order,
        "champion": verdict.champion,
        "scorecard": verdict.scorecard,
        "samples": len(ours.predictions),
    }
    audit.note(connection, actor=ACTOR, action="candidate.judged", subject=verdict.candidate, data=data, now=now)
    for made, card in variants:
        rows.add_scorecard(connection, name, card)
        told = {
            "verdict": rows.add(connection, made, order=None),
            "variant": made.variant,
            "of": verdict.candidate,
            "result": made.result,
            "reason": made.reasons[0] if made.reasons else "",
        }
        audit.note(connection, actor=ACTOR, action="variant.judged", subject=made.candidate, data=told, now=now)
    if verdict.result == "passed" and case.usecase.signing.automatic:
        ask_in(connection, verdict, digest, by=ACTOR, why="the gate passed it", now=now, chance=chance)


def ask_in(
    connection: sa.Connection, verdict: Verdict, digest: str, *, by: str, why: str, now: datetime, chance: Chance
) -> RequestRow:
    """Ask the signer to sign what a verdict is about, inside the caller's write."""
    waiting = rows.requests(connection, states=(rows.WAITING,), bundle=verdict.candidate, limit=1)
    if waiting:
        return waiting[0]
    name = chance.id()
    rows.add_request(
        connection,
        name,
        use_case=verdict.use_case,
        bundle=verdict.candidate,
        verdict=digest,
        asked_by=by,
        why=why[:REASON_CHARACTERS_MAX],
        now=now,
    )
    data = {"request": name, "verdict": digest, "result": verdict.result, "why": why[:REASON_CHARACTERS_MAX]}
    audit.note(connection, actor=by, action="signing.asked", subject=verdict.candidate, data=data, now=now)
    request = rows.request(connection, name)
    assert request is not None
    return request
