"""Who a device is."""

from __future__ import annotations

from edgewise.wire import Record, UseCase


class Identity(Record):
    """Who this device is, as the hub said when it enrolled."""

    device: str
    site: str
    use_case: str
    usecase: UseCase
    root: str  # of the release repository, as signed
    hub_epoch: str = ""
    hub_url: str = ""
