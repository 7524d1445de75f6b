"""The base of what people and programs send as the body of a call."""

from __future__ import annotations

from pydantic import ConfigDict

from edgewise.wire import Strict


class Body(Strict):
    """A record whose checker is built at once: the web framework describes a body that is not whole in a wrong way."""

    model_config = ConfigDict(defer_build=False)
