"""The signer's loop: ask what waits, check it, sign or refuse, wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from securesystemslib.signer import Signer as KeySigner  # type: ignore[attr-defined]

from edgewise.ports import Clock, OnnxRuntime, Runtime, SystemClock, read_signers
from edgewise.signer._ceremony import Holders, delegate
from edgewise.signer._desk import Desk, Hub
from edgewise.signer._evidence import Checked, Evidence
from edgewise.signer._releases import (
    check_base,
    holds_role,
    join_release,
    next_release,
    publish_release,
    renew_releases,
    signed_already,
)
from edgewise.wire import NotNow, NotTrusted, NotValid, Release, UseCase

RENEW_S = 3600.0  # between two looks at what runs out
# These say that the signer itself is wrong here, not the candidate: nothing can be refused on their ground.
# These say that the hub's repository is wrong, not the candidate: the request waits until a person has looked.
NOT_THE_CANDIDATE = frozenset({"metadata_unsigned", "metadata_rollback", "metadata_malformed", "role_unknown"})
OURS = frozenset({"no_token", "token_revoked", "token_ended", "role_wrong", "site_wrong", "http_401", "http_403"})
log = logging.getLogger("edgewise.signer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of the loop."""

    retry_s_max: float = 30.0  # longest wait between two tries while the hub is away
    away_s_max: float = 86_400.0  # then the signer ends, so that somebody looks
    requests_max: int = 32  # answered in one look


class Signer:
    """Answers the requests of one hub.

    Args:
        keys: the release keys; the targets role has to give them the use case's releases.
        targets: keys of the targets role, where this signer may also take on use cases that nobody signs for yet.
        folder: see `Desk`.
        usecases: see `Evidence`.
    """

    def __init__(
        self,
        hub: Hub,
        keys: Sequence[KeySigner],
        *,
        runtime: Runtime,
        clock: Clock,
        targets: Sequence[KeySigner] = (),
        folder: Path | None = None,
        usecases: Mapping[str, UseCase] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._hub = hub
        self._keys = tuple(keys)
        self._targets = tuple(targets)
        self._desk = Desk(hub, folder)
        self._clock = clock
        self._evidence = Evidence(hub, runtime, usecases)
        self.limits = limits or Limits()
        self.name = f"signer-{self._keys[0].public_key.keyid[:12]}"

    def step(self) -> int:
        """Answer what waits now; comes back with how many requests were answered.

        Raises:
            NotNow: the hub does not answer, or does not trust the key yet. NotTrusted: the token is not accepted.
        """
        waiting = self._hub.get("/signing", state="waiting")
        if not waiting:
            return 0
        self._desk.load()
        # The oldest first: the list has the newest in front.
        for request in list(reversed(waiting))[: self.limits.requests_max]:
            self._answer(request)
        return min(len(waiting), self.limits.requests_max)

    def _answer(self, request: Mapping[str, Any]) -> None:
        bundle = str(request["bundle"])
        use_case = str(request["use_case"])
        self._check_trusted(use_case)
        if signed_already(self._desk, use_case, self._keys):
            return  # others have to sign now
        try:
            checked = self._evidence.check(bundle, request["verdict"], automatic=True, now=self._clock.now())
            release = self._sign(checked)
        except (NotTrusted, NotValid) as error:
            if error.code in OURS:
                raise
            if error.code in ("release_version", "metadata_version"):
                return  # another release came between; the request still waits
            if error.code in NOT_THE_CANDIDATE:
                raise NotNow(str(error), code=error.code) from error
            log.warning("refused bundle %s: %s", bundle[:12], error)
            self._hub.post(f"/signing/{request['id']}/refuse", {"reason": str(error)[:1000]})
            return
        log.info("signed %s over bundle %s, variants %s", release.id, bundle[:12], ", ".join(release.bundles))

    def _sign(self, checked: Checked) -> Release:
        bundles = checked.bundles
        check_base(self._desk, checked)
        joined = join_release(self._desk, checked.use_case, bundles, self._keys)
        if joined is not None:
            return joined[0]
        release = Release(
            **next_release(self._hub, checked.use_case),
            use_case=checked.use_case,
            bundles=bundles,
            verdict=checked.verdict,
            signed_as="gate",
            approved_by=self.name,
            created_at=self._clock.now(),
        )
        done = publish_release(self._desk, release, self._keys, now=self._clock.now())
        for role, missing in done["waiting"].items():
            log.info("%s waits for %d more signatures", role, missing)
        return release

    def renew(self) -> int:
        """Sign anew what this signer published before and what runs out; comes back with how many roles."""
        return renew_releases(self._desk, self._keys, now=self._clock.now())

    def _check_trusted(self, use_case: str) -> None:
        if holds_role(self._desk, use_case, self._keys):
            return
        if not self._targets:
            raise NotNow(
                f"nobody gave the releases of {use_case} to key {self._keys[0].public_key.keyid[:12]}… yet; the keeper "
                f"of the targets keys has to run `edgewise trust delegate {use_case}`",
                code="key_not_trusted",
            )
        keys = [key.public_key for key in self._keys]
        delegate(self._desk, use_case, Holders(keys=keys, signers=self._keys), self._targets, now=self._clock.now())
        log.info("took on the releases of %s", use_case)


def run(
    api: Hub,
    keys: Path,
    *,
    targets: Path | None = None,
    poll_s: float = 1.0,
    usecases: Mapping[str, UseCase] | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    pause: Callable[[float], None] = sleep,
) -> None:
    """Sign what the gate passed until stopped (Ctrl-C or SIGTERM).

    Args:
        keys: folder of the release keys, as `edgewise trust init` makes it.
        targets: folder of targets keys, where this signer may take on use cases by itself.
        poll_s: seconds between looks at the hub; twice as long after each try without an answer, up to a bound.
    Raises:
        NotNow: the hub was away for longer than the bound. NotTrusted: the token is not accepted.
    """
    ours = clock or SystemClock()
    signer = Signer(
        api,
        read_signers([keys]),
        runtime=OnnxRuntime(),
        clock=ours,
        targets=read_signers([targets]) if targets is not None else (),
        folder=keys,
        usecases=usecases,
        limits=limits,
    )
    log.info("%s waits for requests", signer.name)
    try:
        _loop(signer, ours, poll_s, pause)
    except KeyboardInterrupt:
        return


def _loop(signer: Signer, clock: Clock, poll_s: float, pause: Callable[[float], None]) -> None:
    wait_s = poll_s
    answered_at = renew_at = clock.monotonic_s()
    while True:
        try:
            signer.step()
            if answered_at >= renew_at:
                signer.renew()
                renew_at = answered_at + RENEW_S
            wait_s, answered_at = poll_s, clock.monotonic_s()
        except NotNow as error:
            if clock.monotonic_s() - answered_at > signer.limits.away_s_max:
                raise
            if wait_s == poll_s:
                log.warning("%s; trying again", error)
            wait_s = min(max(2 * wait_s, poll_s), signer.limits.retry_s_max)
        pause(wait_s)
