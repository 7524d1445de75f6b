"""Releases, assignments, and the signed envelope around an assignment (DSSE)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from edgewise.wire._record import Digest, Id, Name, Record, Time
from edgewise.wire.erasure import ERASURES_MAX, Erasure
from edgewise.wire.terms import Terms

ASSIGNMENT_TYPE = "application/vnd.edgewise.assignment+json"
SITE_PREFIX = "site:"
VARIANT_MAX = 128  # characters of a variant's name, which is a part of a path


def site_variant(site: str) -> str:
    """The name that a site's variant has in a release.

    >>> site_variant("north")
    'site:north'
    """
    return SITE_PREFIX + site


def site_of_variant(variant: str) -> str | None:
    """The site whose variant this is; None for a variant by precision.

    >>> site_of_variant("site:north"), site_of_variant("int8")
    ('north', None)
    """
    return variant.removeprefix(SITE_PREFIX) if variant.startswith(SITE_PREFIX) else None


class Signature(Record):
    keyid: Digest
    sig: str  # base64


class Envelope(Record):
    """DSSE v1: the signature covers the payload's exact bytes and its type.

    Source: secure-systems-lab/dsse, protocol.md.
    """

    payload_type: str = Field(alias="payloadType")
    payload: str  # base64 of the canonical bytes
    signatures: tuple[Signature, ...]

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class PublicKey(Record):
    """An ed25519 public key; keyid is the SHA-256 of the 32 raw bytes."""

    keyid: Digest
    public: str  # base64 of 32 bytes


class Director(Record):
    """Which of the hub's online keys sign assignments: a target of the offline targets role."""

    keys: tuple[PublicKey, ...] = Field(min_length=1, max_length=8)


class Release(Record):
    """An approved bundle, a target of its use case's role. Versions only grow; `id` is ``<use case>@<version>``."""

    id: Name
    use_case: Name
    version: int = Field(ge=1)
    bundles: dict[str, Digest]  # variant -> manifest digest
    verdict: Digest | None = None  # digest of the gate's verdict
    signed_as: Literal["gate", "override"] = "gate"
    override_reason: str | None = None
    approved_by: str
    created_at: Time


class Assignment(Record):
    """The whole desired state of one device, signed by the hub's online key for this device only."""

    device: Name
    number: int = Field(ge=1)  # grows with every change; a device refuses a lower one of the same hub epoch
    hub_epoch: Id
    use_case: Name
    kind: Literal["run", "revert"] = "run"
    release: Name | None = None
    bundle: Digest | None = None  # manifest digest of the variant chosen for this device
    rollout: Id | None = None
    trial_s: float = Field(0, ge=0)
    bake: bool = False  # run the previous bundle in shadow on the same frames, until an assignment says otherwise
    shadow: bool = False  # let the new bundle decide beside the running one, without acting, until one says otherwise
    shadow_cpu_share: float = Field(1.0, gt=0, le=1)  # of the time between frames that the second bundle may take
    download: Terms = Terms()  # when its bytes may come
    activation: Terms = Terms()  # when it may be switched to
    zone: str = "UTC"  # the site's time zone, in which their windows are
    bytes_per_s_max: float | None = Field(None, gt=0)  # of the download
    policy_version: int = Field(1, ge=1)
    reason: str = ""
    evidence: Digest | None = None
    issued_at: Time
    sums: Id | None = None  # a question: tell the channel sums of the bundle that runs, once for each
    erasures: tuple[Erasure, ...] = Field((), max_length=ERASURES_MAX)  # by number; those not reported as done
