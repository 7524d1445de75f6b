"""Every table of the hub. Changing one needs a new file in ``migrations/versions``; a test compares both.

Documents with a content address (revisions, scorecards, verdicts, manifests) are kept as the exact bytes whose
SHA-256 is their key, never as columns taken apart: what was signed or hashed must come back byte for byte.
"""

from edgewise.hub.store.tables._access import logins, sessions, tokens
from edgewise.hub.store.tables._columns import metadata
from edgewise.hub.store.tables._devices import commits, devices, enrolment_tokens, erasure_acks, erasures, failures
from edgewise.hub.store.tables._drift import channel_sums, day_sketches, drift_alarms, drift_states
from edgewise.hub.store.tables._hub import alerts, audit, leases, meta, threats, usecases
from edgewise.hub.store.tables._intake import events, feedback, readings, samples, segments, telemetry, watermarks
from edgewise.hub.store.tables._labelling import answers, label_acts, label_claims, opinions
from edgewise.hub.store.tables._learning import (
    bundles,
    deltas,
    fingerprints,
    groups,
    labels,
    orders,
    predictions,
    revisions,
    scorecards,
    tombstones,
    verdicts,
)
from edgewise.hub.store.tables._releases import (
    releases,
    rollouts,
    signing_requests,
    tuf_pending,
    tuf_roles,
    tuf_targets,
)

FORMAT_VERSION = 1  # of the whole data folder; see hub/folder.py

__all__ = [
    "FORMAT_VERSION",
    "alerts",
    "answers",
    "audit",
    "bundles",
    "channel_sums",
    "commits",
    "day_sketches",
    "deltas",
    "devices",
    "drift_alarms",
    "drift_states",
    "enrolment_tokens",
    "erasure_acks",
    "erasures",
    "events",
    "failures",
    "feedback",
    "fingerprints",
    "groups",
    "label_acts",
    "label_claims",
    "labels",
    "leases",
    "logins",
    "meta",
    "metadata",
    "opinions",
    "orders",
    "predictions",
    "readings",
    "releases",
    "revisions",
    "rollouts",
    "samples",
    "scorecards",
    "segments",
    "sessions",
    "signing_requests",
    "telemetry",
    "threats",
    "tokens",
    "tombstones",
    "tuf_pending",
    "tuf_roles",
    "tuf_targets",
    "usecases",
    "verdicts",
    "watermarks",
]
