"""Adam with decoupled weight decay, in the few lines that this trainer needs.

PyTorch's own optimisers load its compiler when the first one is made: 1.6 s of a core, and 6 s from a cold disk, which
a worker that trains for six seconds should not pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Adam:
    """Changes parameters in place by their gradients.

    Args:
        filters: parameters that decay towards zero.
        others: parameters that do not.
        decay: share of the learning rate by which a filter shrinks at each step.
        fade: how slowly the running means of gradients and of their squares follow.
    Source: Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019, algorithm 2.

    >>> value = torch.ones(1, requires_grad=True)
    >>> adam = Adam([value], [], decay=0.0)
    >>> (3 * value).sum().backward()
    >>> adam.step(0.1)
    >>> round(value.item(), 3), value.grad is None
    (0.9, True)
    """

    def __init__(
        self,
        filters: Sequence[Tensor],
        others: Sequence[Tensor],
        *,
        decay: float,
        fade: tuple[float, float] = (0.9, 0.99),
        floor: float = 1e-8,
    ) -> None:
        self._filters, self._all = list(filters), [*filters, *others]
        self._mean = [torch.zeros_like(values) for values in self._all]
        self._square = [torch.zeros_like(values) for values in self._all]
        self._decay, self._fade, self._floor = decay, fade, floor
        self._steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at this learning rate; the gradients are gone afterwards."""
        self._steps += 1
        first, second = self._fade
        gradients = [torch.zeros_like(values) if values.grad is None else values.grad for values in self._all]
        if self._decay:
            torch._foreach_mul_(self._filters, 1 - rate * self._decay)
        torch._foreach_lerp_(self._mean, gradients, 1 - first)
        torch._foreach_mul_(self._square, second)
        torch._foreach_addcmul_(self._square, gradients, gradients, 1 - second)
        spread = torch._foreach_div(self._square, 1 - second**self._steps)
        torch._foreach_sqrt_(spread)
        torch._foreach_add_(spread, self._floor)
        torch._foreach_addcdiv_(self._all, self._mean, spread, -rate / (1 - first**self._steps))
        for values in self._all:
            values.grad = None

    def state(self) -> dict[str, object]:
        """What the next step depends on, beside the parameters."""
        return {"mean": self._mean, "square": self._square, "steps": self._steps}

    @torch.no_grad()
    def go_on(self, state: dict[str, Any]) -> None:
        """Be as one that gave this state."""
        for ours, theirs in (
            *zip(self._mean, state["mean"], strict=True),
            *zip(self._square, state["square"], strict=True),
        ):
            ours.copy_(theirs)
        self._steps = state["steps"]
