"""A person with the release key signs: on the gate's word, or against it with a reason that everybody can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgewise.ports import Clock, OnnxRuntime, Runtime, SystemClock, read_signers
from edgewise.signer._desk import Desk, Hub
from edgewise.signer._evidence import VARIANT, Checked, Evidence
from edgewise.signer._releases import check_base, join_release, next_release, publish_release
from edgewise.wire import NotValid, Release, site_variant


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """A release that was handed in; `missing` signatures are still to come, 0 when it is published."""

    release: Release
    missing: int


def sign_by_person(
    api: Hub,
    bundle: str,
    *,
    keys: Path,
    by: str,
    override_reason: str | None = None,
    variants: Mapping[str, str] | None = None,
    runtime: Runtime | None = None,
    clock: Clock | None = None,
) -> Signed:
    """Sign a bundle as a release and bring it to the hub; one of this bundle that waits gets this signature too.

    Without a reason the same evidence is checked as by the automatic signer, and the verdict has to be passed; the
    variants that passed by themselves come with it. With a reason, the gate's verdict is overruled: the bytes and
    golden outputs of the bundle, and of the variants named, are still checked, and the release and the audit log carry
    the reason.

    Args:
        variants: manifest digests by name; only with a reason, for the gate chooses them otherwise.
    Raises:
        NotTrusted: the evidence does not hold. NotValid: no such bundle or key, or an empty reason.
    """
    now = (clock or SystemClock()).now()
    signers = read_signers([keys])
    desk = Desk(api, keys if keys.is_dir() else keys.parent)
    evidence = Evidence(api, runtime or OnnxRuntime())
    verdicts = api.get("/verdicts", candidate=bundle)
    newest = verdicts[0] if verdicts else None
    verdict: str | None = newest["digest"] if newest else None
    if override_reason is None:
        if variants:
            raise NotValid(
                "the gate says which variants a release has; naming others overrules it and needs --override REASON",
                code="reason_missing",
            )
        checked = evidence.check(bundle, verdict, automatic=False, now=now)
        use_case = checked.use_case
        check_base(desk, checked)
        bundles = checked.bundles
    else:
        if not override_reason.strip():
            raise NotValid("an override needs its reason: --override REASON", code="reason_missing")
        manifest = evidence.check_bundle(bundle)
        bundles = {manifest.provenance.variant or VARIANT: bundle}
        for name, variant in (variants or {}).items():
            evidence.check_kin(name, variant, manifest, bundle)
            bundles[name] = variant
        use_case = newest["use_case"] if newest else _use_case_of(api, bundle)
        made = manifest.provenance
        if made.site is not None and made.variant_of is not None:  # it never stands where other sites would get it
            evidence.check_kin(site_variant(made.site), bundle, evidence.check_bundle(made.variant_of), made.variant_of)
            of_site = Checked(
                use_case=use_case, bundle=bundle, verdict="", samples=0, site=made.site, base=made.variant_of
            )
            check_base(desk, of_site)
            bundles = of_site.bundles
    joined = join_release(desk, use_case, bundles, signers)
    if joined is not None:
        return Signed(release=joined[0], missing=max(joined[1]["waiting"].values(), default=0))
    release = Release(
        **next_release(api, use_case),
        use_case=use_case,
        bundles=bundles,
        verdict=verdict,
        signed_as="gate" if override_reason is None else "override",
        override_reason=override_reason,
        approved_by=by,
        created_at=now,
    )
    done = publish_release(desk, release, signers, now=now)
    return Signed(release=release, missing=max(done["waiting"].values(), default=0))


def _use_case_of(api: Hub, bundle: str) -> str:
    for item in api.get("/bundles"):
        if item["digest"] == bundle and item["use_case"]:
            return str(item["use_case"])
    raise NotValid(
        f"the hub does not know for which use case bundle {bundle[:12]}… is; bring it as an order's candidate first",
        code="bundle_unknown",
    )
