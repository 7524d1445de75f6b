"""Whether sums by channel carry the noise that a policy asks for, as far as their event says."""

from __future__ import annotations

from pydantic import ValidationError

from edgewise.wire import DataPolicy, Event, NoiseApplied, SumsNoise

CHANNEL_SUMS = "channel_sums"  # what an event with sums by channel is called
PARTS = ("embedding", "input")
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
    if "evidence" in event.data:
        return "the exact evidence of the alarm beside noisy sums"
    return _too_little(wanted, applied, {name for name in PARTS if name in event.data})


def _too_little(wanted: SumsNoise, applied: NoiseApplied, parts: set[str]) -> str:
    if applied.epsilon > wanted.epsilon * ROUNDING or applied.delta > wanted.delta * ROUNDING:
        return f"epsilon {applied.epsilon:g} and delta {applied.delta:g}"
    if not parts <= set(applied.parts):
        return f"exact sums of {', '.join(sorted(parts - set(applied.parts)))}"
    bounds = {"embedding": wanted.embedding_clip, "input": wanted.input_clip}
    wide = [name for name in sorted(parts) if applied.parts[name].clip > bounds[name] * ROUNDING]
    return f"{wide[0]} clipped to ±{applied.parts[wide[0]].clip:g}" if wide else ""
