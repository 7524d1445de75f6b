"""A person with the release key signs: on the gate's word, or against it with a reason that everybody can read."""

from __future__ import annotations

from pathlib import Path

from edgewise.ports import Clock, OnnxRuntime, Runtime, SystemClock
from edgewise.signer._evidence import Evidence
from edgewise.signer._loop import VARIANT, Hub, next_release, post_release
from edgewise.trust import PrivateKey
from edgewise.wire import NotValid, Release


def sign_by_person(
    api: Hub,
    bundle: str,
    *,
    key_file: Path,
    by: str,
    override_reason: str | None = None,
    runtime: Runtime | None = None,
    clock: Clock | None = None,
) -> Release:
    """Sign a bundle as a release and bring it to the hub.

    Without a reason the same evidence is checked as by the automatic signer, and the verdict has to be passed. With
    one, the gate's verdict is overruled: the bundle's bytes and golden outputs are still checked, and the release and
    the audit log carry the reason.

    Raises:
        NotTrusted: the evidence does not hold. NotValid: no such bundle or key file, or an empty reason.
    """
    now = (clock or SystemClock()).now()
    key = load_key(key_file)
    evidence = Evidence(api, runtime or OnnxRuntime())
    verdicts = api.get("/verdicts", candidate=bundle)
    newest = verdicts[0] if verdicts else None
    verdict: str | None = newest["digest"] if newest else None
    if override_reason is None:
        use_case = evidence.check(bundle, verdict, automatic=False, now=now).use_case
    else:
        if not override_reason.strip():
            raise NotValid("an override needs its reason: --override REASON", code="reason_missing")
        evidence.check_bundle(bundle)
        use_case = newest["use_case"] if newest else _use_case_of(api, bundle)
    release = Release(
        **next_release(api, use_case),
        use_case=use_case,
        bundles={VARIANT: bundle},
        verdict=verdict,
        signed_as="gate" if override_reason is None else "override",
        override_reason=override_reason,
        approved_by=by,
        created_at=now,
    )
    post_release(api, release, key, request=None)
    return release


def load_key(key_file: Path) -> PrivateKey:
    """The key in a PEM file.

    Raises:
        NotValid: there is no such file, or it holds something else.
    """
    try:
        return PrivateKey.from_pem(key_file.read_bytes())
    except OSError as error:
        raise NotValid(
            f"the release key {key_file} cannot be read: {error.strerror}; name its file with --key", code="key_missing"
        ) from error


def _use_case_of(api: Hub, bundle: str) -> str:
    for item in api.get("/bundles"):
        if item["digest"] == bundle and item["use_case"]:
            return str(item["use_case"])
    raise NotValid(
        f"the hub does not know for which use case bundle {bundle[:12]}… is; bring it as an order's candidate first",
        code="bundle_unknown",
    )
