"""The hub's HTTP interface: device routes as raw ASGI, people's routes with small models, health and documentation."""

from edgewise.hub.api.app import create_app, create_device_app

__all__ = ["create_app", "create_device_app"]
