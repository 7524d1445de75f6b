"""The signer's loop: ask what waits, check it, sign or refuse, wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Protocol

from edgewise.ports import Clock, FolderKeys, Keys, OnnxRuntime, Runtime, SystemClock
from edgewise.signer._evidence import Checked, Evidence, HubReader
from edgewise.trust import PrivateKey, seal
from edgewise.wire import RELEASE_TYPE, NotNow, NotTrusted, NotValid, Release, TrustRoot, UseCase, encode, plain

KEY = "release"
VARIANT = "fp32"
# These say that the signer itself is wrong here, not the candidate: nothing can be refused on their ground.
OURS = frozenset({"no_token", "token_revoked", "token_ended", "role_wrong", "site_wrong", "http_401", "http_403"})
log = logging.getLogger("edgewise.signer")


class Hub(HubReader, Protocol):
    """A hub that also takes answers."""

    def post(self, path: str, body: Any = None) -> Any: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of the loop."""

    retry_s_max: float = 30.0  # longest wait between two tries while the hub is away
    away_s_max: float = 86_400.0  # then the signer ends, so that somebody looks
    requests_max: int = 32  # answered in one look


class Signer:
    """Answers the requests of one hub.

    Args:
        key: the release key; the hub's trust root has to name it.
        usecases: see `Evidence`.
    """

    def __init__(
        self,
        hub: Hub,
        key: PrivateKey,
        *,
        runtime: Runtime,
        clock: Clock,
        usecases: Mapping[str, UseCase] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._hub = hub
        self._key = key
        self._clock = clock
        self._evidence = Evidence(hub, runtime, usecases)
        self.limits = limits or Limits()
        self.name = f"signer-{key.public.keyid[:12]}"

    def step(self) -> int:
        """Answer what waits now; comes back with how many requests were answered.

        Raises:
            NotNow: the hub does not answer, or does not trust the key yet. NotTrusted: the token is not accepted.
        """
        waiting = self._hub.get("/signing", state="waiting")
        if not waiting:
            return 0
        self._check_trusted()
        # The oldest first: the list has the newest in front.
        for request in list(reversed(waiting))[: self.limits.requests_max]:
            self._answer(request)
        return min(len(waiting), self.limits.requests_max)

    def _answer(self, request: Mapping[str, Any]) -> None:
        bundle = str(request["bundle"])
        try:
            checked = self._evidence.check(bundle, request["verdict"], automatic=True, now=self._clock.now())
            release = self._sign(checked, str(request["id"]))
        except (NotTrusted, NotValid) as error:
            if error.code in OURS:
                raise
            if error.code == "release_version":
                return  # another release came between; the request still waits
            log.warning("refused bundle %s: %s", bundle[:12], error)
            self._hub.post(f"/signing/{request['id']}/refuse", {"reason": str(error)[:1000]})
            return
        log.info("signed %s over bundle %s", release.id, bundle[:12])

    def _sign(self, checked: Checked, request: str) -> Release:
        release = Release(
            **next_release(self._hub, checked.use_case),
            use_case=checked.use_case,
            bundles={VARIANT: checked.bundle},
            verdict=checked.verdict,
            signed_as="gate",
            approved_by=self.name,
            created_at=self._clock.now(),
        )
        post_release(self._hub, release, self._key, request=request)
        return release

    def _check_trusted(self) -> None:
        root = TrustRoot.model_validate(self._hub.get("/root"))
        if self._key.public.keyid not in {key.keyid for key in root.release_keys}:
            raise NotNow(
                f"the hub does not trust release key {self._key.public.keyid[:12]}… yet; an administrator has to add "
                "it: `edgewise signer init` prints it, POST /api/v1/root/release-keys takes it",
                code="key_not_trusted",
            )


def next_release(hub: HubReader, use_case: str) -> dict[str, Any]:
    """Id and version of the next release; versions of a use case only grow."""
    versions = [int(item["version"]) for item in hub.get("/releases", use_case=use_case)]
    version = max(versions, default=0) + 1
    return {"id": f"{use_case}@{version}", "version": version}


def post_release(hub: Hub, release: Release, key: PrivateKey, *, request: str | None) -> None:
    """Sign the release's exact bytes and bring them to the hub."""
    envelope = seal(encode(release), RELEASE_TYPE, [key])
    body: dict[str, Any] = {"envelope": plain(envelope)}
    if request is not None:
        body["request"] = request
    hub.post("/releases", body)


def release_key(keys: Keys) -> PrivateKey:
    """The release key; made the first time."""
    try:
        return keys.load(KEY)
    except NotValid as error:
        if error.code != "key_missing":
            raise
    return keys.create(KEY)


def run(
    api: Hub,
    keys: Path,
    *,
    poll_s: float = 1.0,
    usecases: Mapping[str, UseCase] | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    pause: Callable[[float], None] = sleep,
) -> None:
    """Sign what the gate passed until stopped (Ctrl-C or SIGTERM).

    Args:
        keys: folder of the release key; made the first time.
        poll_s: seconds between looks at the hub; twice as long after each try without an answer, up to a bound.
    Raises:
        NotNow: the hub was away for longer than the bound. NotTrusted: the token is not accepted.
    """
    ours = clock or SystemClock()
    signer = Signer(
        api, release_key(FolderKeys(keys)), runtime=OnnxRuntime(), clock=ours, usecases=usecases, limits=limits
    )
    log.info("%s waits for requests", signer.name)
    try:
        _loop(signer, ours, poll_s, pause)
    except KeyboardInterrupt:
        return


def _loop(signer: Signer, clock: Clock, poll_s: float, pause: Callable[[float], None]) -> None:
    wait_s = poll_s
    answered_at = clock.monotonic_s()
    while True:
        try:
            signer.step()
            wait_s, answered_at = poll_s, clock.monotonic_s()
        except NotNow as error:
            if clock.monotonic_s() - answered_at > signer.limits.away_s_max:
                raise
            if wait_s == poll_s:
                log.warning("%s; trying again", error)
            wait_s = min(max(2 * wait_s, poll_s), signer.limits.retry_s_max)
        pause(wait_s)
