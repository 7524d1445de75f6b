"""What a placement costs and whether it can be: compatibility of a bundle with a device, bytes to fetch; pure."""

from edgewise.plan._fit import misfits, predicted_bytes, predicted_latency_ms

__all__ = ["misfits", "predicted_bytes", "predicted_latency_ms"]
