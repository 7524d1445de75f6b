"""Python's search for reference cycles, kept out of the start and away from what the start made.

A start makes some 300,000 objects that stay. Going through them again and again takes a tenth of its time, and later a
tenth of a second in which no frame is decided on.
"""

from __future__ import annotations

import gc


def put_off() -> None:
    """Search for nothing until `resume`; for the first line of a process that goes on to serve."""
    gc.disable()


def resume() -> None:
    """The start is over: search again, but never in what is there now. Does nothing where nothing was put off."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
