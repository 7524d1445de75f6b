"""``edgewise deidentify``: private copies of a folder's files, and a report of what was found, done and refused.

Nothing is changed in place. A copy is whole or not there; what cannot be made private has no copy and is listed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from edgewise.edge._deidentify_file import Private, Recipe, private_copy, private_name
from edgewise.edge._deidentify_report import FileReport, RunReport
from edgewise.frames import CannotMakePrivate
from edgewise.ports import disk_error, replace_file
from edgewise.wire import NotValid

FILES_MAX = 200_000  # of one run
DEPTH_MAX = 32  # folders in folders
FILE_BYTES_MAX = 256_000_000

__all__ = ["FileReport", "Recipe", "RunReport", "deidentify"]


def deidentify(
    source: Path,
    target: Path,
    recipe: Recipe,
    *,
    dry_run: bool = False,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> RunReport:
    """Write private copies of all files under a folder, or of one file, into another folder.

    Args:
        source: a folder, read to the bottom (links are not followed), or one file.
        target: a folder that is empty or does not exist yet, outside the source.
        dry_run: find and count everything, write nothing.
        progress: told what is done and the share of files, from 0 to 1.
    Returns:
        What was found, done and refused, file by file.
    Raises:
        NotValid: the folders cannot be used so. NotNow: the disk is full or fails.
    """
    files = list(_files(source))
    _check_target(source, target)
    taken: set[PurePosixPath] = set()
    reports = []
    for number, (path, name) in enumerate(files):
        progress(f"file {number + 1} of {len(files)}", number / len(files))
        reports.append(_one(path, name, target, recipe, taken, dry_run))
    return RunReport(files=tuple(reports), dry_run=dry_run)


def _one(
    path: Path, name: PurePosixPath, target: Path, recipe: Recipe, taken: set[PurePosixPath], dry_run: bool
) -> FileReport:
    try:
        made = private_copy(name, _read(path), recipe)
        if made.name in taken:
            raise CannotMakePrivate("another file has this name once it is private", code="name_taken")
    except CannotMakePrivate as error:
        return FileReport(name=str(private_name(name, recipe.key)), action="refused", code=error.code)
    taken.add(made.name)
    if not dry_run:
        _write(target / made.name, made)
    return FileReport(
        name=str(made.name),
        action="private",
        kind=made.kind,
        done=made.done,
        found=dict(sorted(made.found.items())),
        warnings=made.warnings,
    )


def _write(path: Path, made: Private) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, path.parent) from error
    replace_file(path, made.data, mode=0o600)


def _read(path: Path) -> bytes:
    try:
        if path.is_symlink():
            raise CannotMakePrivate("a link is not followed", code="link")
        if path.stat().st_size > FILE_BYTES_MAX:
            raise CannotMakePrivate(f"over {FILE_BYTES_MAX} bytes", code="too_large")
        return path.read_bytes()
    except OSError as error:
        raise CannotMakePrivate("it cannot be read", code="unreadable") from error


def _files(source: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Every file with its name below the source, in the order of names."""
    if source.is_file():
        yield source, PurePosixPath(source.name)
        return
    if not source.is_dir():
        raise NotValid(f"{source} is neither a folder nor a file; name what is to be made private", code="file_missing")
    count = 0
    for folder, folders, names in os.walk(source):  # does not follow links
        folders.sort()
        below = Path(folder).relative_to(source)
        if len(below.parts) > DEPTH_MAX:
            raise NotValid(f"{source} goes deeper than {DEPTH_MAX} folders; name a folder in it", code="too_deep")
        # A link to a folder comes among the folders and is not walked into: it is listed as refused.
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted((*names, *links)):
            count += 1
            if count > FILES_MAX:
                raise NotValid(f"{source} has over {FILES_MAX} files; name a folder in it", code="too_many_files")
            yield Path(folder) / name, PurePosixPath(*below.parts, name)


def _check_target(source: Path, target: Path) -> None:
    here, there = source.resolve(), target.resolve()
    if there == here or here in there.parents or there in here.parents:
        raise NotValid(f"{target} and {source} lie in one another; name an output folder beside it", code="in_place")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NotValid(
            f"{target} is not an empty folder; name a new one, so that nothing is replaced", code="not_empty"
        )
