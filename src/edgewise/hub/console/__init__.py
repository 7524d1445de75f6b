"""The console: server-rendered pages that work offline, in light and dark, on a telephone, and with the keyboard."""

from edgewise.hub.console._router import router

# Last, because its imports lead through the application, which asks this module for the router.
from edgewise.hub.console import (  # isort: skip
    device_pages,
    drift_pages,
    label_pages,
    ledger_pages,
    login,
    pages,
    rollout_pages,
    scorecard_pages,
)

__all__ = [
    "device_pages",
    "drift_pages",
    "label_pages",
    "ledger_pages",
    "login",
    "pages",
    "rollout_pages",
    "router",
    "scorecard_pages",
]
