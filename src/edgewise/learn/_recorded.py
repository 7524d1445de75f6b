"""Recorded series as samples: each a window of the past, labelled by what the target was some time later."""

from __future__ import annotations

import csv
import gzip
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from edgewise.frames import CLOCK, SERIES_TYPE, Windower, series_bytes
from edgewise.learn._dataset import NOT_FEATURES, Dataset, TrainingSample
from edgewise.learn._formats import BOUNDS, ReadBounds
from edgewise.learn._formats._listed import number_in
from edgewise.learn._formats._reading import Notes, time_of
from edgewise.learn._trainer import ConfigValue, number
from edgewise.wire import Manifest, NotValid, PastSpec

ENDINGS = (".csv", ".csv.gz")
TIMES = ("time", "taken_at", "timestamp", "measured_on")
DAY_S = 86_400.0
BLOCK_HOURS = 168.0  # a week: its windows of a day stay inside it for the most part
SAMPLES_MAX = 200_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """How a series is cut.

    Attributes:
        target: the column to be told ahead. horizon_s: how far.
        columns: channels of a window; None for the target, every other column of numbers, and the clock.
        past_s: length of a window, seconds.
        hop_s: from one window to the next; None for an hour, or a step where that is longer.
        block_hours: a window and its target lie in one block of so many hours; blocks are the groups.
        step_s: of the series; None to find it.
    """

    target: str
    horizon_s: float
    columns: tuple[str, ...] | None = None
    past_s: float = DAY_S
    hop_s: float | None = None
    block_hours: float = BLOCK_HOURS
    step_s: float | None = None

    @staticmethod
    def of_config(config: Mapping[str, ConfigValue], target: str) -> Wanted:
        """What the settings of a training ask for: `horizon_s`, `columns`, `past_s`, `hop_s`, `block_hours`, `step_s`.

        Raises:
            NotValid: no horizon, or a setting of another kind.
        """
        if "horizon_s" not in config:
            raise NotValid(
                "a forecast needs config horizon_s: how far ahead, in seconds, such as 14400", code="config_invalid"
            )
        told = config.get("columns")
        if told is not None and not isinstance(told, str):
            raise NotValid(f"config columns is {told!r}, needs names separated by commas", code="config_invalid")
        seconds = {
            name: number(config, name, 0.0, low=1e-3, high=1e9)
            for name in ("horizon_s", "past_s", "hop_s", "block_hours", "step_s")
            if name in config
        }
        columns = None if told is None else tuple(name.strip() for name in told.split(","))
        return Wanted(target=target, columns=columns, **seconds)

    @staticmethod
    def of_bundle(manifest: Manifest) -> Wanted | None:
        """How a series is cut for a bundle that tells a value ahead; None for any other."""
        states, spec, data = manifest.states, manifest.graphs[0].pre, manifest.provenance.data
        if states is None or states.horizon_s is None or not isinstance(spec, PastSpec):
            return None
        hop_s, hours = data.get("hop_s"), data.get("block_hours")
        return Wanted(
            target=states.target,
            horizon_s=states.horizon_s,
            columns=spec.columns,
            past_s=spec.length * spec.step_s,
            step_s=spec.step_s,
            hop_s=float(hop_s) if isinstance(hop_s, int | float) else None,
            block_hours=float(hours) if isinstance(hours, int | float) else BLOCK_HOURS,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """Windows with what came after, and how they were cut."""

    dataset: Dataset
    columns: tuple[str, ...]
    length: int
    step_s: float


class _Row(NamedTuple):
    at: datetime
    values: dict[str, float]  # what is a number


@dataclass(frozen=True, slots=True)
class _Series:
    site: str
    path: Path
    columns: tuple[str, ...]
    rows: list[_Row]


def read_recorded(data_dir: Path | str, wanted: Wanted, *, bounds: ReadBounds = BOUNDS) -> Recorded:
    """The samples of a folder of recorded series: one CSV file (also packed by gzip) a site, one row a moment.

    The time is in the first of the columns `time`, `taken_at`, `timestamp`, `measured_on`; one without a zone is UTC.
    The site is the column `site`, else the file's name. A window ends where a row is missing, late or not whole, and
    so does a target: what is missing is never made up. No window and no target lies in two blocks.

    Raises:
        NotValid: no such file, no target in any, no window that is whole with its target, or more than `bounds` allow.
    """
    folder = Path(data_dir)
    notes = Notes()
    paths = [path for path in sorted(folder.iterdir()) if path.name.endswith(ENDINGS)] if folder.is_dir() else []
    if not paths:
        raise NotValid(
            f"{folder} holds no recorded series; put one {' or '.join(ENDINGS)} file a site there, with a column "
            "`time`",
            code="data_missing",
        )
    series = [one for path in paths for one in _read(path, bounds)]
    columns = _columns(series, wanted, notes)
    step_s = wanted.step_s or _step_s(series)
    steps = wanted.horizon_s / step_s
    if round(steps) < 1 or abs(steps - round(steps)) > 0.01:
        raise NotValid(
            f"horizon_s is {wanted.horizon_s:g}, and a row comes every {step_s:g} s; it needs to be a whole number of "
            "these",
            code="config_invalid",
        )
    length = max(1, round(wanted.past_s / step_s))
    hop = max(1, round((wanted.hop_s or max(3600.0, step_s)) / step_s))
    samples: list[TrainingSample] = []
    for one in series:
        samples += _cut(one, wanted, columns, step_s=step_s, length=length, hop=hop, notes=notes)
        if len(samples) > SAMPLES_MAX:
            raise NotValid(
                f"{folder} gives more than {SAMPLES_MAX} windows; set hop_s to more than {hop * step_s:g}",
                code="data_too_large",
            )
    if not samples:
        why = f" ({'; '.join(notes.said)})" if notes.said else ""
        raise NotValid(
            f"{folder} holds no window of {length} steps of {step_s:g} s with a target {wanted.horizon_s:g} s later in "
            f"one block of {wanted.block_hours:g} hours{why}; record longer, or set past_s or horizon_s to less",
            code="data_empty",
        )
    dataset = Dataset(source=folder.name, samples=tuple(samples), group_column="group", said=notes.said)
    return Recorded(dataset=dataset, columns=columns, length=length, step_s=step_s)


def _read(path: Path, bounds: ReadBounds) -> list[_Series]:
    """The series of one file, one a site; rows in the order of their time."""
    text = _text(path, bounds)
    csv.field_size_limit(max(csv.field_size_limit(), bounds.cell_characters_max))
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = tuple(reader.fieldnames or ())
    time = next((name for name in TIMES if name in names), None)
    if time is None:
        raise NotValid(
            f"{path} has no column of time; its columns are {', '.join(names) or 'none at all'}; name one {TIMES[0]}",
            code="column_missing",
        )
    by_site: dict[str, list[_Row]] = {}
    try:
        for number, row in enumerate(reader, 2):
            if number > bounds.rows_max:
                raise NotValid(f"{path} has more than {bounds.rows_max} rows; split it", code="data_too_large")
            at = time_of(row.get(time), f"{path} line {number}")
            if at is None:
                raise NotValid(f"{path} line {number} has no time; fill it in or remove it", code="labels_invalid")
            numbers = {name: number_in(row.get(name)) for name in names if name != time and name not in NOT_FEATURES}
            held = {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
            site = row.get("site") or path.name.partition(".")[0]
            by_site.setdefault(site, []).append(_Row(at, held))
    except csv.Error as error:
        raise NotValid(f"{path} is not a valid CSV file: {error}", code="labels_invalid") from error
    found = []
    for site, rows in by_site.items():
        rows.sort(key=lambda row: row.at)
        told = {name for row in rows for name in row.values}
        found.append(_Series(site, path, tuple(name for name in names if name in told), rows))
    return found


def _text(path: Path, bounds: ReadBounds) -> str:
    try:
        with path.open("rb") as plain:
            file = gzip.GzipFile(fileobj=plain) if path.name.endswith(".gz") else plain
            data: bytes = file.read(bounds.list_bytes_max + 1)
        if len(data) > bounds.list_bytes_max:
            raise NotValid(f"{path} has more than {bounds.list_bytes_max} bytes; split it", code="data_too_large")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise NotValid(f"{path} cannot be read: {error}; write it again as UTF-8", code="labels_invalid") from error


def _columns(series: Sequence[_Series], wanted: Wanted, notes: Notes) -> tuple[str, ...]:
    """The channels: those that were asked for, else what all series have."""
    for one in series:
        missing = [name for name in (wanted.target, *(wanted.columns or ())) if name not in (*one.columns, *CLOCK)]
        if missing:
            raise NotValid(
                f"{one.path} has no numbers in a column {missing[0]!r}; its columns of numbers are "
                f"{', '.join(one.columns) or 'none'}; name one of them",
                code="column_missing",
            )
    if wanted.columns is not None:
        return wanted.columns
    common = [name for name in series[0].columns if all(name in one.columns for one in series)]
    for one in series:
        for name in one.columns:
            if name not in common:
                notes.count("columns that not all files have were left out", f"{name} of {one.path.name}")
    return (wanted.target, *(name for name in common if name != wanted.target), *CLOCK)


def _step_s(series: Sequence[_Series]) -> float:
    """The usual time from one row to the next."""
    apart = [(after.at - before.at).total_seconds() for one in series for before, after in pairwise(one.rows)]
    step_s = statistics.median(apart) if apart else 0.0
    if step_s <= 0:
        raise NotValid(
            "the rows of the recorded series do not follow each other in time; give each row a time of its own",
            code="labels_invalid",
        )
    return step_s


def _cut(
    one: _Series,
    wanted: Wanted,
    columns: tuple[str, ...],
    *,
    step_s: float,
    length: int,
    hop: int,
    notes: Notes,
) -> Iterator[TrainingSample]:
    """The windows of one series that lie in one block with their target."""
    later = {round(row.at.timestamp() / step_s): row.values.get(wanted.target) for row in one.rows}
    ahead = round(wanted.horizon_s / step_s)
    windower = Windower(columns, length=length, hop=hop, step_s=step_s)
    for row in one.rows:
        gaps = windower.gaps
        try:
            window = windower.add(row.values, row.at)
        except NotValid:
            notes.count("rows without all numbers end a window", f"{one.path.name} at {row.at.isoformat()}")
            continue
        if windower.gaps > gaps:
            notes.count("gaps in time end a window", f"{one.path.name} before {row.at.isoformat()}")
        if window is None:
            continue
        target = later.get(round(row.at.timestamp() / step_s) + ahead)
        block = block_of(row.at + timedelta(seconds=wanted.horizon_s), wanted.block_hours)
        if target is None:
            notes.count("windows without a target were left out", f"{one.path.name} at {row.at.isoformat()}")
        elif block_of(row.at - timedelta(seconds=(length - 1) * step_s), wanted.block_hours) == block:
            yield _sample(one.site, row.at, block, series_bytes(window), target)


def _sample(site: str, at: datetime, block: int, data: bytes, target: float) -> TrainingSample:
    group = f"{site}/{block}"
    return TrainingSample(
        name=f"{site} {at.isoformat()}",
        label=repr(target),
        group=group,
        site=site,
        read=lambda: data,
        media_type=SERIES_TYPE,
        taken_at=at,
        columns={"site": site, "group": group, "taken_at": at.isoformat()},
    )


def block_of(at: datetime, hours: float) -> int:
    """The number of the block of so many hours, by UTC, that a moment lies in."""
    return math.floor(at.astimezone(UTC).timestamp() / (hours * 3600))
