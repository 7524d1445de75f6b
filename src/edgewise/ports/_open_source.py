"""The source that a record describes. Each kind's module, and its libraries, load when one is opened."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from edgewise.ports._clock import Clock
from edgewise.ports._source import FolderSource, Source
from edgewise.wire import (
    CameraSpec,
    CsvSpec,
    FolderSpec,
    ModbusSpec,
    MqttSpec,
    OpcUaSpec,
    PushSpec,
    SourceSpec,
    VideoSpec,
)


def open_source(spec: SourceSpec, after: str | None, *, clock: Clock) -> Source:
    """The source of this description.

    Args:
        spec: kind, place and bounds.
        after: name of the last frame that was recorded; folders, videos and CSV files go on behind it.
        clock: dates frames, and paces a replay.
    Raises:
        NotValid: it cannot be opened as described: no such folder or file, or its library is not installed.
    """
    source = _open(spec, after, clock)
    if spec.window is None:
        return source
    from edgewise.ports._source_window import WindowSource

    return WindowSource(source, spec.window)


def _open(spec: SourceSpec, after: str | None, clock: Clock) -> Source:
    match spec:
        case FolderSpec():
            return FolderSource(Path(spec.path), after)
        case CsvSpec():
            from edgewise.ports._source_csv import CsvSource

            return CsvSource(spec, after, clock=clock)
        case PushSpec():
            from edgewise.ports._source_push import PushSource

            return PushSource(spec, clock=clock)
        case MqttSpec():
            from edgewise.ports._source_mqtt import mqtt_source

            return mqtt_source(spec, clock=clock)
        case ModbusSpec():
            from edgewise.ports._source_modbus import modbus_source

            return modbus_source(spec, clock=clock)
        case OpcUaSpec():
            from edgewise.ports._source_opcua import opcua_source

            return opcua_source(spec, clock=clock)
        case VideoSpec():
            from edgewise.ports._source_video import video_source

            return video_source(spec, after)
        case CameraSpec():
            from edgewise.ports._source_camera import camera_source

            return camera_source(spec, clock=clock)
        case _:
            assert_never(spec)
