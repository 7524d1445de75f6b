"""Pictures in a zip file, read one by one."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from edgewise.learn._formats._bounds import ReadBounds
from edgewise.wire import NotValid

# RuntimeError: it is encrypted; NotImplementedError: packed in a way that Python does not know.
UNREADABLE = (zipfile.BadZipFile, OSError, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error)


def zip_readers(path: Path, bounds: ReadBounds) -> dict[str, Callable[[], bytes]]:
    """How to read each file of an archive, by its name and by that below `images/`.

    Raises:
        NotValid: it is no readable zip file, or holds too many files.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            names = [item.filename for item in bundle.infolist() if not item.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise NotValid(f"{path} is not a readable zip file: {error}; make it again", code="zip_unreadable") from error
    if len(names) > bounds.files_max:
        raise NotValid(f"{path} holds more than {bounds.files_max} files; split it", code="data_too_large")
    shared = _Archive(path, bounds.file_bytes_max)
    readers = {name: _bind(shared.read, name) for name in names}
    return {name.removeprefix("images/"): read for name, read in readers.items()} | readers


def _bind(read: Callable[[str], bytes], name: str) -> Callable[[], bytes]:
    return lambda: read(name)


class _Archive:
    """Opened at the first read and then kept open: 0.05 ms a picture instead of 5."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._zip: zipfile.ZipFile | None = None

    def read(self, name: str) -> bytes:
        try:
            if self._zip is None:
                self._zip = zipfile.ZipFile(self._path)
            size_bytes = self._zip.getinfo(name).file_size
            if size_bytes > self._bytes_max:
                raise NotValid(
                    f"{name} in {self._path} has {size_bytes} bytes unpacked, at most {self._bytes_max} are allowed",
                    code="picture_unreadable",
                )
            return self._zip.read(name)
        except UNREADABLE as error:
            raise NotValid(
                f"{name} in {self._path} cannot be read: {error}; put a whole copy there", code="picture_unreadable"
            ) from error
