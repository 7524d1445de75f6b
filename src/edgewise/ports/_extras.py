"""Libraries that only some devices need: asked for when a part needs them, by name of the extra that brings them."""

from __future__ import annotations

import importlib
from typing import Any

from edgewise.wire import NotValid


def library(module: str, extra: str, what: str) -> Any:
    """The module.

    Args:
        extra: of our package, that installs it.
        what: needs it, for the message.
    Raises:
        NotValid: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotValid(
            f"{what} needs a library that is not installed ({error}); run: pip install 'edgewise[{extra}]'",
            code="extra_missing",
        ) from error
