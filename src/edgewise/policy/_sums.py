"""Whether sums by channel carry the noise that a policy asks for, as far as their event says."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from edgewise.wire import DataPolicy, Event, NoiseApplied, SumsNoise

CHANNEL_SUMS = "channel_sums"  # what an event with sums by channel is called
ROUNDING = 1 + 1e-9


def noise_missing(policy: DataPolicy, event: Event) -> str:
    """What an event with sums lacks of the noise that the policy asks for; '' when nothing, or it is another event.

    >>> noise_missing(DataPolicy(), Event(id="0" * 32, at="2026-03-01T00:00:00Z", what="channel_sums", text=""))
    ''
    """
    wanted = policy.private.sums_noise
    if wanted is None or event.what != CHANNEL_SUMS:
        return ""
    try:
        applied = NoiseApplied.model_validate(event.data.get("noise"))
    except ValidationError:
        return "no noise that can be read"
    if event.data.get("evidence") is not None:
        return "the exact evidence of the alarm beside noisy sums"
    return _too_little(wanted, applied, event.data.get("norms"))


def _too_little(wanted: SumsNoise, applied: NoiseApplied, norms: Any) -> str:
    if applied.epsilon > wanted.epsilon * ROUNDING or applied.delta > wanted.delta * ROUNDING:
        return f"epsilon {applied.epsilon:g} and delta {applied.delta:g}"
    count = len(norms) if isinstance(norms, list | tuple) else 0
    if count > len(applied.parts):
        return f"exact sums of {count - len(applied.parts)} of {count} norms"
    wide = [part.clip for part in applied.parts if part.clip > wanted.clip * ROUNDING]
    return f"values clipped to ±{wide[0]:g} deviations" if wide else ""
