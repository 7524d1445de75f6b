"""What ran where, and when: from what devices said, with how sure that is."""

from __future__ import annotations

from datetime import datetime

from edgewise.hub.store.ran import Stretch


def variant_of(stretch: Stretch) -> str | None:
    """The name of the bundle within its release, such as int8; None where the hub does not know the release."""
    bundles: dict[str, str] = {} if stretch.body is None else stretch.body["bundles"]
    return next((name for name, bundle in bundles.items() if bundle == stretch.bundle), None)


def is_sure(stretch: Stretch, moment: datetime) -> bool:
    """Whether the device was heard of with this bundle both before and after the moment, and with none between."""
    return stretch.since <= moment <= stretch.last_at


def how_sure(stretch: Stretch, moment: datetime) -> str:
    """How well it is known that the device ran this bundle at the moment, as a sentence."""
    since = f"committed since {_text(stretch.since)}"
    if is_sure(stretch, moment):
        return f"{since}, and still at {_text(stretch.last_at)}"
    if stretch.next_since is None:
        return f"{since}; last heard of at {_text(stretch.last_at)}"
    return (
        f"{since}, seen so until {_text(stretch.last_at)}; something else was first seen at {_text(stretch.next_since)}"
    )


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
