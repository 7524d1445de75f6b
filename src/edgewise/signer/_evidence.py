"""The evidence for a release, computed again: the hub's word is compared with the bytes, never taken for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from edgewise.measure import judge, judge_site_variant, judge_variant
from edgewise.plan import variant_faults
from edgewise.ports import Runtime
from edgewise.ports.scoring import Answers, score_bundle
from edgewise.wire import (
    LabelledSample,
    Manifest,
    NotTrusted,
    Precision,
    Prediction,
    Scorecard,
    UseCase,
    Verdict,
    decode,
    digest,
    record_digest,
    site_variant,
    slices_of,
)

Model = TypeVar("Model", bound=BaseModel)
# Another CPU may round a score differently; a label that differs is another answer.
DEFECT_TOLERANCE = 1e-3
VARIANT = "fp32"
VALUE_TOLERANCE = 1e-3  # of a stated value, in widths of its interval


class HubReader(Protocol):
    """What the signer needs of a hub: `ports.api.HubApi` is one."""

    def get(self, path: str, **query: str | int | float | bool) -> Any: ...
    def get_bytes(self, path: str) -> bytes: ...
    def get_blob(self, sha256: str) -> bytes: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What was found to hold."""

    use_case: str
    bundle: str
    verdict: str  # digest
    samples: int
    variants: Mapping[str, str] = field(default_factory=dict)  # bundles of those that passed by themselves, by name
    site: str | None = None  # of a site variant
    base: str | None = None  # that it was made of

    @property
    def bundles(self) -> dict[str, str]:
        """What a release of it holds, by variant; what was checked comes first."""
        if self.site is not None and self.base is not None:
            return {site_variant(self.site): self.bundle, VARIANT: self.base}
        return {VARIANT: self.bundle, **self.variants}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """A candidate whose own evidence holds, for the look at its variants."""

    verdict: Verdict
    manifest: Manifest
    usecase: UseCase
    share: Sequence[LabelledSample]
    samples: Sequence[LabelledSample]  # those of the share that the verdict is about
    now: datetime


class Evidence:
    """Checks candidates of one hub.

    Args:
        usecases: use cases by name that were given to the signer itself. For these the hub cannot soften the gate;
            others are taken as the hub has them.
    """

    def __init__(self, hub: HubReader, runtime: Runtime, usecases: Mapping[str, UseCase] | None = None) -> None:
        self._hub = hub
        self._runtime = runtime
        self._usecases = dict(usecases or {})
        self._answers = Answers()

    def check(self, bundle: str, verdict_digest: str | None, *, automatic: bool, now: datetime) -> Checked:
        """Nothing wrong, or an error that says what.

        Args:
            automatic: no person looks at it, so the use case has to allow that.
        Raises:
            NotTrusted: bytes, predictions or verdict differ from what was computed here, or the verdict is not passed.
            NotValid: the hub does not have what it names. NotNow: it does not answer.
        """
        verdict = self._verdict(bundle, verdict_digest)
        usecase = self._usecase(verdict.use_case)
        if automatic and not usecase.signing.automatic:
            raise _no(f"use case {usecase.name} allows no automatic signer; a person has to sign", "signing_by_person")
        self._check_gate(verdict, usecase)
        self._check_champion(verdict)
        manifest = self.check_bundle(bundle)
        if manifest.provenance.variant is not None:
            raise _no(
                f"bundle {bundle[:12]}… is the variant {manifest.provenance.variant} of "
                f"{str(manifest.provenance.variant_of)[:12]}…, with which it is signed",
                "variant_alone",
            )
        share = [LabelledSample.model_validate(item) for item in self._hub.get("/evaluation", use_case=usecase.name)]
        if verdict.site is not None or manifest.provenance.site is not None:
            return self._check_site(verdict, manifest, usecase, share, now)
        _check_slices(share, usecase)
        stored = self._scorecard(verdict.scorecard, bundle)
        samples = _named(stored, share)
        ours = self._score(bundle, samples, usecase, now)
        _compare(stored, ours)
        theirs = None
        if verdict.champion is not None:
            rival = self._scorecard(verdict.champion_scorecard or "", verdict.champion)
            theirs = self._score(verdict.champion, samples, usecase, now)
            _compare(rival, theirs)
        self._check_word(verdict, judge(ours, theirs, use_case=usecase, now=now))
        if len(share) > len(samples):
            self._check_whole_share(bundle, verdict.champion, share, usecase, now)
        case = _Case(verdict=verdict, manifest=manifest, usecase=usecase, share=share, samples=samples, now=now)
        variants: dict[str, str] = {
            name: made
            for name, word in verdict.variants.items()
            if (made := self._check_variant(name, word, case, ours, theirs)) is not None
        }
        assert verdict_digest is not None
        return Checked(
            use_case=usecase.name,
            bundle=bundle,
            verdict=verdict_digest,
            samples=len(samples),
            variants=variants,
        )

    def _check_site(
        self, verdict: Verdict, manifest: Manifest, usecase: UseCase, share: Sequence[LabelledSample], now: datetime
    ) -> Checked:
        """A site's variant: judged at that site alone, beside the bundle that it was made of, which runs now.

        Raises:
            NotTrusted: as `check`.
        """
        site, base = verdict.site, verdict.champion
        if site is None or base is None or site != manifest.provenance.site:
            raise _no(
                f"bundle {verdict.candidate[:12]}… is the variant of site {manifest.provenance.site}, its verdict is "
                f"about site {site} beside {str(base)[:12]}…; it has to be judged there, beside what it was made of",
                "verdict_wrong",
            )
        faults = variant_faults(manifest, site_variant(site), self.check_bundle(base), base)
        if faults:
            raise _no(
                f"bundle {verdict.candidate[:12]}… is no variant of {base[:12]}… for {site}: {'; '.join(faults)}",
                "variant_wrong",
            )
        ours_share = [item for item in share if item.site == site]
        _check_slices(ours_share, usecase)
        stored = self._scorecard(verdict.scorecard, verdict.candidate)
        samples = _named(stored, ours_share)
        ours = self._score(verdict.candidate, samples, usecase, now)
        _compare(stored, ours)
        theirs = self._score(base, samples, usecase, now)
        _compare(self._scorecard(verdict.champion_scorecard or "", base), theirs)
        self._check_word(verdict, judge_site_variant(ours, theirs, site=site, use_case=usecase, now=now))
        if len(ours_share) > len(samples):
            cards = [self._score(bundle, ours_share, usecase, now) for bundle in (verdict.candidate, base)]
            again = judge_site_variant(cards[0], cards[1], site=site, use_case=usecase, now=now)
            if again.result == "failed":
                raise _no(
                    f"on the whole evaluation share of {site}, {len(ours_share)} samples, it fails: {_short(again)}",
                    "not_passed",
                )
        return Checked(
            use_case=usecase.name,
            bundle=verdict.candidate,
            verdict=record_digest(verdict),
            samples=len(samples),
            site=site,
            base=base,
        )

    def check_kin(self, name: str, variant: str, source: Manifest, source_digest: str) -> Manifest:
        """The manifest of a bundle that is this variant of another, once its own bytes and golden outputs hold.

        Raises:
            NotTrusted: it is not, or they do not.
        """
        manifest = self.check_bundle(variant)
        faults = variant_faults(manifest, name, source, source_digest)
        if faults:
            raise _no(
                f"bundle {variant[:12]}… is no variant {name} of {source_digest[:12]}…: {'; '.join(faults)}",
                "variant_wrong",
            )
        return manifest

    def _check_variant(
        self, name: Precision, word: str, case: _Case, candidate: Scorecard, champion: Scorecard | None
    ) -> str | None:
        """The bundle of a variant whose evidence holds; None where it did not pass, here or at the gate.

        Raises:
            NotTrusted: the gate's word on it is not what is computed here.
        """
        verdict = self._document(Verdict, "verdicts", word)
        if verdict.variant != name or verdict.champion != case.verdict.champion:
            raise _no(
                f"the verdict on variant {name} is about variant {verdict.variant} beside champion "
                f"{str(verdict.champion)[:12]}…, the candidate's about {str(case.verdict.champion)[:12]}…",
                "verdict_wrong",
            )
        newest = self._hub.get("/verdicts", candidate=verdict.candidate)
        if verdict.result != "passed" or (newest and newest[0]["result"] != "passed"):
            return None
        self._check_gate(verdict, case.usecase)
        self.check_kin(name, verdict.candidate, case.manifest, case.verdict.candidate)
        stored = self._scorecard(verdict.scorecard, verdict.candidate)
        if [item.sample for item in stored.predictions] != [item.sample for item in case.samples]:
            raise _no(f"variant {name} was judged on other samples than its candidate", "samples_differ")
        ours = self._score(verdict.candidate, case.samples, case.usecase, case.now)
        _compare(stored, ours)
        again = judge_variant(ours, name, candidate=candidate, champion=champion, use_case=case.usecase, now=case.now)
        self._check_word(verdict, again)
        return verdict.candidate if self._holds_on_whole_share(name, verdict, case) else None

    def _holds_on_whole_share(self, name: Precision, verdict: Verdict, case: _Case) -> bool:
        """Whether samples that the verdict leaves out speak for the variant too; else it is left out of the release."""
        if len(case.share) == len(case.samples):
            return True
        cards = [
            None if bundle is None else self._score(bundle, case.share, case.usecase, case.now)
            for bundle in (verdict.candidate, case.verdict.candidate, verdict.champion)
        ]
        assert cards[0] is not None
        assert cards[1] is not None
        found = judge_variant(
            cards[0], name, candidate=cards[1], champion=cards[2], use_case=case.usecase, now=case.now
        )
        return found.result != "failed"

    def check_bundle(self, bundle: str) -> Manifest:
        """The manifest, once its bytes and every blob have their digests and the golden outputs come out here."""
        body = self._hub.get_bytes(f"/bundles/{bundle}/manifest")
        if digest(body) != bundle:
            raise _no(f"the hub's manifest of bundle {bundle[:12]}… has digest {digest(body)[:12]}…", "bundle_corrupt")
        manifest = decode(Manifest, body)
        for name, blob in manifest.blobs.items():
            size_bytes = len(self._hub.get_blob(blob.sha256))
            if size_bytes != blob.size_bytes:
                raise _no(
                    f"blob {name} of bundle {bundle[:12]}… has {size_bytes} bytes, its manifest says {blob.size_bytes}",
                    "bundle_corrupt",
                )
        score_bundle(
            body, (), read_blob=self._hub.get_blob, runtime=self._runtime, good_labels=(), now=manifest_time(manifest)
        )
        return manifest

    def _verdict(self, bundle: str, name: str | None) -> Verdict:
        if name is None:
            raise _no(f"the gate has given no verdict on bundle {bundle[:12]}…; wait for it", "not_judged")
        verdict = self._document(Verdict, "verdicts", name)
        if verdict.candidate != bundle:
            raise _no(f"the verdict is about bundle {verdict.candidate[:12]}…, not {bundle[:12]}…", "verdict_wrong")
        newest = self._hub.get("/verdicts", candidate=bundle)
        if newest and newest[0]["digest"] != name:
            raise _no(
                f"there is a newer verdict on bundle {bundle[:12]}… ({newest[0]['result']}) than the one to sign on",
                "verdict_old",
            )
        if verdict.result != "passed":
            raise _no(
                f"the gate's verdict is {verdict.result}: {_short(verdict)}. A person with the release key can decide "
                "otherwise: `edgewise release sign BUNDLE --key FILE --override REASON`",
                "not_passed",
            )
        return verdict

    def _usecase(self, name: str) -> UseCase:
        if name in self._usecases:
            return self._usecases[name]
        return UseCase.model_validate(self._hub.get(f"/usecases/{name}")["usecase"])

    def _check_gate(self, verdict: Verdict, usecase: UseCase) -> None:
        gate = usecase.gate
        seen, needed = (verdict.margin, verdict.alpha, verdict.floor), (gate.margin, gate.alpha, gate.floor)
        if seen != needed:
            raise _no(
                f"the verdict was made with margin, alpha and floor {seen}, the use case says {needed}; judge it again",
                "gate_differs",
            )

    def _check_champion(self, verdict: Verdict) -> None:
        """The candidate must have been compared with what runs, not with something weaker or with nothing."""
        finished = {
            item["release"]
            for item in self._hub.get("/rollouts", use_case=verdict.use_case)
            if item["state"] == "finished"
        }
        running = [
            item
            for item in self._hub.get("/releases", use_case=verdict.use_case)
            if item["id"] in finished and item["reverted_at"] is None
        ]
        if not running:
            return
        newest = max(running, key=lambda item: item["version"])
        if newest["bundle"] not in (verdict.champion, verdict.candidate):
            raise _no(
                f"the candidate was judged against {str(verdict.champion)[:12]}…, but {newest['id']} runs now; "
                "judge it again",
                "champion_differs",
            )

    def _scorecard(self, name: str, bundle: str) -> Scorecard:
        card = self._document(Scorecard, "scorecards", name)
        if card.bundle != bundle:
            raise _no(f"the scorecard is about bundle {card.bundle[:12]}…, not {bundle[:12]}…", "scorecard_wrong")
        return card

    def _document(self, kind: type[Model], family: str, name: str) -> Model:
        body = self._hub.get_bytes(f"/{family}/{name}")
        if digest(body) != name:
            raise _no(f"the hub's {family[:-1]} {name[:12]}… has digest {digest(body)[:12]}…", "evidence_corrupt")
        return decode(kind, body)

    def _score(self, bundle: str, samples: Sequence[LabelledSample], usecase: UseCase, now: datetime) -> Scorecard:
        body = self._hub.get_bytes(f"/bundles/{bundle}/manifest")
        if digest(body) != bundle:
            raise _no(f"the hub's manifest of bundle {bundle[:12]}… has digest {digest(body)[:12]}…", "bundle_corrupt")
        return score_bundle(
            body,
            samples,
            read_blob=self._hub.get_blob,
            runtime=self._runtime,
            good_labels=usecase.outcome.good_labels,
            now=now,
            answers=self._answers,
        )

    def _check_word(self, verdict: Verdict, again: Verdict) -> None:
        seen = (verdict.result, [(item.site, item.result) for item in verdict.sites])
        found = (again.result, [(item.site, item.result) for item in again.sites])
        if seen != found:
            raise _no(
                f"the hub's verdict is {seen[0]}, computed again it is {found[0]}: {_short(again)}",
                "verdict_differs",
            )

    def _check_whole_share(
        self, bundle: str, champion: str | None, share: Sequence[LabelledSample], usecase: UseCase, now: datetime
    ) -> None:
        """Samples that the verdict leaves out, labelled since or passed over, must not speak against the candidate."""
        ours = self._score(bundle, share, usecase, now)
        theirs = None if champion is None else self._score(champion, share, usecase, now)
        verdict = judge(ours, theirs, use_case=usecase, now=now)
        if verdict.result == "failed":
            raise _no(
                f"on the whole evaluation share of {len(share)} samples the candidate fails: {_short(verdict)}",
                "not_passed",
            )


def check_evidence(
    hub: HubReader, bundle: str, verdict: str | None, *, runtime: Runtime, now: datetime, automatic: bool = True
) -> Checked:
    """Check one candidate; see `Evidence.check`."""
    return Evidence(hub, runtime).check(bundle, verdict, automatic=automatic, now=now)


def manifest_time(manifest: Manifest) -> datetime:
    return manifest.provenance.trained_at


def _named(card: Scorecard, share: Sequence[LabelledSample]) -> list[LabelledSample]:
    """The samples that the scorecard is about, in its order, as they are labelled now."""
    known = {item.sample: item for item in share}
    missing = [item.sample for item in card.predictions if item.sample not in known]
    if missing:
        raise _no(
            f"the scorecard is about {len(missing)} samples that are not in the evaluation share, such as {missing[0]}",
            "samples_differ",
        )
    return [known[item.sample] for item in card.predictions]


def _check_slices(share: Sequence[LabelledSample], usecase: UseCase) -> None:
    """The slices must be those that this use case makes of the facts: else a hub could fill them with what it likes."""
    for item in share:
        found = slices_of(usecase.slices, {**(item.facts or {}), "site": item.site})
        if found != (item.slices or ()):
            raise _no(
                f"the hub has sample {item.sample} in {_slices(item)}, by its facts it is in "
                f"{', '.join(found) or 'no slice'}",
                "slices_differ",
            )


def _slices(item: LabelledSample | Prediction) -> str:
    return ", ".join(item.slices or ()) or "no slice"


def _compare(stored: Scorecard, again: Scorecard) -> None:
    differing = [
        (seen, found)
        for seen, found in zip(stored.predictions, again.predictions, strict=True)
        if not _same(seen, found)
    ]
    if differing:
        seen, found = differing[0]
        raise _no(
            f"{len(differing)} of {len(stored.predictions)} predictions of {stored.bundle[:12]}… are not what it "
            f"says here, such as sample {seen.sample}: the hub has {seen.label} for {seen.truth} in "
            f"{_slices(seen)}, here it is {found.label} for {found.truth} in {_slices(found)}",
            "predictions_differ",
        )


def _same(seen: Prediction, found: Prediction) -> bool:
    if _facts(seen) != _facts(found):
        return False
    if not _same_values(seen, found) or not _same_boxes(seen, found):
        return False
    if seen.defect is None or found.defect is None:
        return seen.defect == found.defect
    return abs(seen.defect - found.defect) <= DEFECT_TOLERANCE


def _same_values(seen: Prediction, found: Prediction) -> bool:
    """Whether both state the same value beside the same baseline, up to rounding: a thousandth of the interval."""
    if seen.stated is None or found.stated is None:
        return seen.stated == found.stated and seen.baseline == found.baseline
    near = VALUE_TOLERANCE * (found.stated[2] - found.stated[0])
    pairs = zip((*seen.stated, seen.baseline or 0.0), (*found.stated, found.baseline or 0.0), strict=True)
    return all(math.isclose(one, two, rel_tol=1e-5, abs_tol=near) for one, two in pairs)


def _same_boxes(seen: Prediction, found: Prediction) -> bool:
    """Whether both found the same boxes beside the same true ones, up to rounding; a box at the threshold may be one's.

    What is judged are labels; boxes stand beside them, so one box more or less at the edge of sureness is no lie.
    """
    if (seen.boxes is None) != (found.boxes is None) or seen.true_boxes != found.true_boxes:
        return False
    return abs(len(seen.boxes or ()) - len(found.boxes or ())) <= 1


def _facts(item: Prediction) -> tuple[object, ...]:
    return (item.sample, item.site, item.group, item.truth, item.label, item.slices or ())


def _short(verdict: Verdict) -> str:
    return "; ".join(verdict.reasons[:3])


def _no(text: str, code: str) -> NotTrusted:
    return NotTrusted(text, code=code)
