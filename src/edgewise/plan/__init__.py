"""What a placement costs and whether it can be: compatibility, bytes to fetch, what a cascade defers; pure."""

from edgewise.plan._choose import EXACT_FIRST, Choice, choose, exactness
from edgewise.plan._defer import BURST, DeferRule, DeferState, Verdict, consider, first_state, give_back, settle
from edgewise.plan._fit import misfits, predicted_bytes, predicted_disk_bytes, predicted_latency_ms
from edgewise.plan._kin import variant_faults
from edgewise.plan._stages import summed

__all__ = [
    "BURST",
    "EXACT_FIRST",
    "Choice",
    "DeferRule",
    "DeferState",
    "Verdict",
    "choose",
    "consider",
    "exactness",
    "first_state",
    "give_back",
    "misfits",
    "predicted_bytes",
    "predicted_disk_bytes",
    "predicted_latency_ms",
    "settle",
    "summed",
    "variant_faults",
]
