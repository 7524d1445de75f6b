"""The app's part on the device: a function of a decision, found by the use case's app among what is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import metadata

from edgewise.edge._limits import LimitAlarms
from edgewise.edge._period import Act
from edgewise.wire import NotValid, Target

GROUP = "edgewise.acts"  # entry points: the name is the use case's `app`


def act_maker(app: str, target: Target | None = None) -> Callable[[], Act | None]:
    """What makes the app's function, one for each pipeline so that hysteresis has a state of its own; or None.

    An app is a Python package installed beside edgewise. Its entry point in the group ``edgewise.acts`` has the name
    that the use case calls the app by, and is a function without arguments that returns an `Act`: called with each
    frame and decision, it returns the text of an alarm, or None. Bundles carry no code.

    Args:
        target: of the use case. Where it has limits and no app is installed, crossing them raises alarms.
    Raises:
        NotValid: two packages claim the app, or what the entry point names cannot be loaded.
    """
    found = list(metadata.entry_points(group=GROUP, name=app))
    if not found:
        limited = target is not None and (target.above is not None or target.below is not None)
        return functools.partial(LimitAlarms, target) if limited and target is not None else lambda: None
    if len(found) > 1:
        names = ", ".join(sorted({point.value for point in found}))
        raise NotValid(f"app {app} is claimed by {names}; uninstall all but one of them", code="app_ambiguous")
    try:
        made: Callable[[], Act] = found[0].load()
    except Exception as error:  # an app's module may raise anything while it loads
        raise NotValid(
            f"app {app} cannot be loaded from {found[0].value}: {type(error).__name__}: {error}; reinstall it",
            code="app_broken",
        ) from error
    if not callable(made):
        raise NotValid(
            f"app {app} names {found[0].value}, which is no function; it needs to make an act", code="app_broken"
        )
    return made
