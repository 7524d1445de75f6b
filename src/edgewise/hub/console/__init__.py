"""The console: server-rendered pages that work offline, in light and dark, on a telephone, and with the keyboard."""

from edgewise.hub.console._router import router

# Last, because its imports lead through the application, which asks this module for the router.
from edgewise.hub.console import (  # isort: skip
    app_pages,
    audit_pages,
    compare_pages,
    cost_pages,
    data_pages,
    device_pages,
    drift_pages,
    fleet_pages,
    label_pages,
    ledger_pages,
    login,
    order_pages,
    pages,
    rollout_pages,
    scorecard_pages,
    settings_pages,
    usecase_pages,
)

__all__ = [
    "app_pages",
    "audit_pages",
    "compare_pages",
    "cost_pages",
    "data_pages",
    "device_pages",
    "drift_pages",
    "fleet_pages",
    "label_pages",
    "ledger_pages",
    "login",
    "order_pages",
    "pages",
    "rollout_pages",
    "router",
    "scorecard_pages",
    "settings_pages",
    "usecase_pages",
]
