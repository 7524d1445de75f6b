"""Sums by channel as they come in, and added up over the devices of a site: what a site variant is made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import sqlalchemy as sa
from pydantic import ValidationError

from edgewise.hub import audit
from edgewise.hub.store import bundles
from edgewise.hub.store import channel_sums as rows
from edgewise.hub.store.channel_sums import SumsRow
from edgewise.hub.store.devices import DeviceRow
from edgewise.measure import SITE_FRAMES_MIN, ChannelSums, norm_sum, read_norm_sum
from edgewise.policy import CHANNEL_SUMS
from edgewise.wire import Event, NotValid, SiteSums, ToldSums, explain, plain

NOISE_MAX = 0.25  # deviation of the noise on a channel's mean, in deviations of training; our choice
REASON_CHARACTERS_MAX = 300


def take(connection: sa.Connection, device: DeviceRow, events: Sequence[Event], now: datetime) -> None:
    """Keep the sums among a device's new events; those that are of no use are audited with the reason."""
    for event in events:
        if event.what != CHANNEL_SUMS:
            continue
        try:
            told = _read(connection, event)
        except NotValid as error:
            data = {"event": event.id, "reason": str(error)[:REASON_CHARACTERS_MAX]}
            actor = f"device {device.id}"
            audit.note(connection, actor=actor, action="sums.refused", subject=device.id, data=data, now=now)
            continue
        row = {
            "event": event.id, "use_case": device.use_case, "site": device.site, "device": device.id,
            "bundle": told.bundle, "why": told.why, "frames": told.frames, "told": plain(told), "received_at": now,
        }  # fmt: skip
        rows.add(connection, row)


def _read(connection: sa.Connection, event: Event) -> ToldSums:
    try:
        told = ToldSums.model_validate(event.data)
    except ValidationError as error:
        raise NotValid(f"sums that cannot be read: {explain(error)}", code="sums_wrong") from error
    manifest = bundles.manifest(connection, told.bundle)
    if manifest is None:
        raise NotValid(f"sums of bundle {told.bundle[:12]}…, which is not stored here", code="bundle_unknown")
    norms = manifest.graphs[0].norms or ()
    if len(told.norms) != len(norms) or len(manifest.graphs) != 1:
        raise NotValid(
            f"sums of {len(told.norms)} norms, bundle {told.bundle[:12]}… names {len(norms)}; one each is needed",
            code="sums_wrong",
        )
    for one in told.norms:
        read_norm_sum(one, exact=told.noise is None)
    return told


def newest(found: Sequence[SumsRow], bundle: str) -> list[SumsRow]:
    """What each device told of a bundle."""
    return [row for row in found if row.bundle == bundle]


def pool(connection: sa.Connection, use_case: str, site: str, bundle: str) -> SiteSums:
    """The sums of a site's devices together.

    Raises:
        NotValid: no device told any of this bundle, they do not belong together, too few frames are behind them, or too
            much noise is in them.
    """
    found = rows.find(connection, use_case, site=site)
    mine = sorted(newest(found, bundle), key=lambda row: row.event)
    if not mine:
        raise _none(found, site, bundle)
    told = [ToldSums.model_validate(row.told) for row in mine]
    together: list[ChannelSums] = [read_norm_sum(one, exact=False) for one in told[0].norms]
    for row, one in zip(mine[1:], told[1:], strict=True):
        sums = [read_norm_sum(norm, exact=False) for norm in one.norms]
        if [len(norm.total) for norm in sums] != [len(norm.total) for norm in together]:
            raise NotValid(
                f"device {row.device} told {[len(norm.total) for norm in sums]} channels, {mine[0].device} "
                f"{[len(norm.total) for norm in together]}, of the same bundle; have one of the two told anew",
                code="sums_wrong",
            )
        together = [ours + theirs for ours, theirs in zip(together, sums, strict=True)]
    frames = sum(one.frames for one in told)
    if frames < SITE_FRAMES_MIN:
        raise NotValid(
            f"{frames} frames are behind the sums of {site}, needs {SITE_FRAMES_MIN} at least; wait for more",
            code="sums_too_few",
        )
    noise = _noise(told, together)
    if noise > NOISE_MAX:
        raise NotValid(
            f"the noise on the sums of {site} has a deviation of {noise:.2g} on a channel's mean, at most {NOISE_MAX} "
            f"deviations of training is of any use; it falls with the root of the devices, {len(told)} told",
            code="sums_noisy",
        )
    return SiteSums(
        use_case=use_case,
        site=site,
        bundle=bundle,
        frames=frames,
        devices=len({row.device for row in mine}),
        events=tuple(row.event for row in mine),
        norms=tuple(norm_sum(one) for one in together),
    )


def _none(found: Sequence[SumsRow], site: str, bundle: str) -> NotValid:
    if found:
        return NotValid(
            f"the sums of {site} are of bundle {found[0].bundle[:12]}…, the champion is {bundle[:12]}…: those of "
            "another bundle do not fit; wait until its devices have told the champion's",
            code="sums_missing",
        )
    return NotValid(
        f"no device of {site} has told sums of bundle {bundle[:12]}… yet; set retrain.adapt in the use case, or have "
        "them asked with --ask, and wait until they have seen enough frames",
        code="sums_missing",
    )


def _noise(told: Sequence[ToldSums], together: Sequence[ChannelSums]) -> float:
    """The largest deviation of the noise on a channel's mean over the norms; 0 where all are exact."""
    variances = np.zeros(len(together))
    for one in told:
        if one.noise is not None:
            variances += [part.total_deviation**2 for part in one.noise.parts]
    return max(math.sqrt(variance) / sums.count for variance, sums in zip(variances, together, strict=True))
