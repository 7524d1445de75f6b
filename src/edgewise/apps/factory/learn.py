"""What the factory asks of its trainer; the names are those of the `vision` trainer (docs/learn.md)."""

from __future__ import annotations

TRAINER = "vision"
BUNDLE_NAME = "surface-inspection"


def training_config(*, seconds: float | None = None) -> dict[str, str | float | int | bool]:
    """The settings of a training order.

    Args:
        seconds: budget of one training; None leaves it to the trainer.

    >>> training_config(seconds=5)
    {'seconds': 5}
    """
    return {} if seconds is None else {"seconds": seconds}
