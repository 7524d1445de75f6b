"""What a placement costs and whether it can be: compatibility, bytes to fetch, what a cascade defers; pure."""

from edgewise.plan._defer import BURST, DeferRule, DeferState, Verdict, consider, first_state, give_back, settle
from edgewise.plan._fit import misfits, predicted_bytes, predicted_latency_ms
from edgewise.plan._stages import summed

__all__ = [
    "BURST",
    "DeferRule",
    "DeferState",
    "Verdict",
    "consider",
    "first_state",
    "give_back",
    "misfits",
    "predicted_bytes",
    "predicted_latency_ms",
    "settle",
    "summed",
]
