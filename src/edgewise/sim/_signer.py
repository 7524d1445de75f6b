"""The simulated signer: keys of its own, and a look at the gate's evidence before it signs."""

from __future__ import annotations

from datetime import datetime, timedelta

from edgewise.hub import Hub, gate
from edgewise.hub.store import bundles as bundle_rows
from edgewise.hub.store import releases as release_rows
from edgewise.hub.store import usecases as usecase_rows
from edgewise.hub.store import verdicts
from edgewise.hub.store.verdicts import RequestRow
from edgewise.measure import judge
from edgewise.ports import MemoryRuntime
from edgewise.ports.scoring import Answers, score_bundle
from edgewise.sim._keeper import Keeper
from edgewise.sim._log import EventLog
from edgewise.wire import EdgewiseError, LabelledSample, Release, Scorecard

WHO = "signer"


class Signer:
    """Signs what passes when everything is computed again from bytes, refuses the rest."""

    def __init__(self, hub: Hub, log: EventLog, keeper: Keeper, use_case: str) -> None:
        self._hub = hub
        self._log = log
        self._keeper = keeper
        self._use_case = use_case
        self._answers = Answers()

    def turn(self, now: datetime) -> None:
        """Answer every request that waits."""
        with self._hub.store.read() as connection:
            waiting = verdicts.requests(connection, states=(verdicts.WAITING,), use_case=self._use_case)
        for request in reversed(waiting):
            problem = self._problem(request, now)
            if problem is None:
                release = self.sign(request.bundle, request.verdict, now)
                self._log.write(now, WHO, "signed", release=release.id, bundle=request.bundle)
            else:
                gate.refuse(self._hub.store, request.id, reason=problem, by=WHO, now=now)
                self._log.write(now, WHO, "signing_refused", bundle=request.bundle, reason=problem[:200])

    def sign(self, bundle: str, verdict: str | None, now: datetime, *, override: str | None = None) -> Release:
        """Sign a bundle as the next release and hand it in; a person does this with `override`."""
        hub = self._hub
        with hub.store.read() as connection:
            version = release_rows.newest_version(connection, self._use_case) + 1
        release = Release(
            id=f"{self._use_case}@{version}",
            use_case=self._use_case,
            version=version,
            bundles={"fp32": bundle},
            verdict=verdict,
            signed_as="gate" if override is None else "override",
            override_reason=override,
            approved_by=WHO if override is None else "operator",
            created_at=now,
        )
        return self._keeper.sign(release, now)

    def _problem(self, request: RequestRow, now: datetime) -> str | None:
        """Why not to sign: the verdict is not a pass, or computing it again gives something else."""
        store = self._hub.store
        with store.read() as connection:
            row = None if request.verdict is None else verdicts.get(connection, request.verdict)
            usecase_row = usecase_rows.newest(connection, self._use_case)
        if row is None or usecase_row is None or row.candidate != request.bundle:
            return "the request names no verdict on this bundle"
        if row.result != "passed":
            return f"the gate's verdict is {row.result}: {'; '.join(row.verdict.reasons)}"
        usecase, samples = usecase_row.usecase, gate.evaluation_samples(store, self._use_case)
        if now - row.made_at > timedelta(hours=1):
            return "the evidence is older than an hour; let the gate judge it again"
        try:
            ours = self._card(request.bundle, samples, now)
            theirs = None if row.champion is None else self._card(row.champion, samples, now)
        except EdgewiseError as error:
            return f"the evidence cannot be computed again: {error}"
        again = judge(ours, theirs, use_case=usecase, now=now)
        return None if again.result == "passed" else f"computed again it is {again.result}: {'; '.join(again.reasons)}"

    def _card(self, bundle: str, samples: list[LabelledSample], now: datetime) -> Scorecard:
        store = self._hub.store
        with store.read() as connection:
            manifest = bundle_rows.manifest_bytes(connection, bundle)
            usecase_row = usecase_rows.newest(connection, self._use_case)
        assert manifest is not None
        assert usecase_row is not None
        return score_bundle(
            manifest,
            samples,
            read_blob=store.blobs.get,
            runtime=MemoryRuntime(),
            good_labels=usecase_row.usecase.outcome.good_labels,
            now=now,
            answers=self._answers,
        )
