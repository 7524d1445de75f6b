"""The base of what people ask of the hub's routes."""

from __future__ import annotations

from pydantic import ConfigDict

from edgewise.wire import Strict


class Wish(Strict):
    """A record in the body of a request. Its checker is built at once.

    FastAPI wraps it when its route is made. One that is built later comes out without its name, and pydantic warns.
    """

    model_config = ConfigDict(defer_build=False)
