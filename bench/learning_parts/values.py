"""Stated values on real solar stations: error beside persistence, and whether intervals hold, site by site.

Power four hours ahead from a day of the past (three stations, a quarter of an hour a step, a decision an hour), and
power now from the weather now. Whole weeks of each station are held out by the seed; window and target lie in one
week, so no reading is on both sides. Beside it the split that drift makes hard: trained on 2019, asked in 2020.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.frames import SERIES_TYPE, baseline_of
from edgewise.learn import TrainedBundle, TrainingSample, train
from edgewise.learn._recorded import Wanted, read_recorded
from edgewise.measure import score_values
from edgewise.ports import OnnxRuntime, open_pipeline
from edgewise.wire import Prediction, canonical

HELD_SHARE = 0.3  # of each station's weeks
HORIZON_S = 4 * 3600
COVERAGE = 0.9
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
NEW_YEAR = datetime(2020, 1, 1, tzinfo=UTC)
WANTED = Wanted(target="power_mw", horizon_s=HORIZON_S)
NOT_WEATHER = ("time", "power_mw")
ROW_HOURS = 168


def all_figures(data: str, seeds: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """Figures by way, seed and station."""
    folder = Path(data) / "energy" / "stations"
    recorded = read_recorded(folder, WANTED)
    config = {
        "target": "power_mw",
        "unit": "MW",
        "horizon_s": HORIZON_S,
        "step_s": recorded.step_s,
        "columns": ",".join(recorded.columns),
        "coverage": COVERAGE,
    }
    windows, rows = recorded.dataset.samples, _rows(folder)
    found: dict[str, Any] = {}
    for seed in seeds:
        kept, held = _weeks_apart(windows, seed)
        pooled = train(kept, now=MADE_AT, trainer="forecast", seed=seed, config=config)
        _note(found, "4 h ahead, one bundle for all", seed, _scores(pooled, held), say)
        apart: dict[str, Any] = {}
        for site in sorted({one.site for one in windows}):
            mine = train(_of(kept, site), now=MADE_AT, trainer="forecast", seed=seed, config=config)
            apart |= _scores(mine, _of(held, site))
        _note(found, "4 h ahead, a bundle for each", seed, apart, say)
        row_kept, row_held = _weeks_apart(rows, seed)
        now = {name: config[name] for name in ("target", "unit", "coverage")}
        made = {
            site: train(_of(row_kept, site), now=MADE_AT, trainer="regression", seed=seed, config=now)
            for site in sorted({one.site for one in rows})
        }
        told = {site: _scores(bundle, _of(row_held, site))[site] for site, bundle in made.items()}
        _note(found, "now, from the weather", seed, told, say)
        late: dict[str, Any] = {}
        for site in sorted({one.site for one in windows if one.taken_at is not None and one.taken_at >= NEW_YEAR}):
            before, after = _by_year(_of(windows, site))
            late |= _scores(train(before, now=MADE_AT, trainer="forecast", seed=seed, config=config), after)
        _note(found, "4 h ahead, trained on 2019, asked in 2020", seed, late, say)
    return found


def _note(found: dict[str, Any], way: str, seed: int, told: Mapping[str, Any], say: Callable[[str], None]) -> None:
    found.setdefault(way, {})[str(seed)] = told
    for site, one in told.items():
        say(
            f"{way}, seed {seed}, {site}: {one['ratio']:.3f} of the baseline's error, coverage {one['coverage']:.3f}, "
            f"width {one['width']:.1f} MW"
        )


def _of(samples: Sequence[TrainingSample], site: str) -> list[TrainingSample]:
    return [one for one in samples if one.site == site]


def _weeks_apart(samples: Sequence[TrainingSample], seed: int) -> tuple[list[TrainingSample], list[TrainingSample]]:
    """Kept and held out: whole weeks, the same share of each station's."""
    weeks: dict[str, list[str]] = {}
    for site, week in sorted({(one.site, one.group) for one in samples}):
        weeks.setdefault(site, []).append(week)
    chance = random.Random(seed)
    out = {week for held in weeks.values() for week in chance.sample(held, round(HELD_SHARE * len(held)))}
    return [one for one in samples if one.group not in out], [one for one in samples if one.group in out]


def _by_year(samples: Sequence[TrainingSample]) -> tuple[list[TrainingSample], list[TrainingSample]]:
    """Those whose target lies in 2019, and those whose window lies wholly in 2020."""
    dated = [(one, one.taken_at) for one in samples if one.taken_at is not None]
    ahead, back = timedelta(seconds=HORIZON_S), timedelta(days=1)
    return [one for one, at in dated if at + ahead < NEW_YEAR], [one for one, at in dated if at - back >= NEW_YEAR]


def _rows(folder: Path) -> list[TrainingSample]:
    """The stations' rows, one an hour: the weather and the power of that moment."""
    made = []
    for path in sorted(folder.glob("*.csv.gz")):
        site = path.name.partition(".")[0]
        with gzip.open(path, "rt", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                if number % 4 or not row["power_mw"]:
                    continue
                at = datetime.fromisoformat(row["time"]).replace(tzinfo=UTC)
                numbers = {name: float(value) for name, value in row.items() if name not in NOT_WEATHER and value}
                body = canonical({name: value for name, value in numbers.items() if math.isfinite(value)})
                made.append(
                    TrainingSample(
                        name=f"{site} {row['time']}",
                        label=row["power_mw"],
                        group=f"{site}/{int(at.timestamp() // (ROW_HOURS * 3600))}",
                        site=site,
                        read=_reader(body),
                        media_type="application/json",
                        taken_at=at,
                    )
                )
    return made


def _reader(body: bytes) -> Callable[[], bytes]:
    return lambda: body


def _scores(made: TrainedBundle, held: Sequence[TrainingSample]) -> dict[str, Any]:
    """What the gate's own measure says of each station, and a naive rule that knows the day: as it was yesterday."""
    states, spec = made.manifest.states, made.manifest.graphs[0].pre
    assert states is not None
    pipeline = open_pipeline(made.manifest, made.digest, made.blobs.__getitem__, OnnxRuntime())
    said: list[Prediction] = []
    yesterday: dict[str, list[float]] = {}
    for number, one in enumerate(held):
        data = one.read()
        decision = pipeline.judge(data, one.media_type, None).decision
        said.append(
            Prediction(
                sample=f"{number:032x}",
                site=one.site,
                group=one.group,
                truth=one.label,
                label=decision.label,
                stated=decision.stated,
                baseline=baseline_of(states, spec, data),
            )
        )
        if one.media_type == SERIES_TYPE:
            same = np.frombuffer(data, "<f4")[: spec.length][_same_time(spec.step_s)]
            yesterday.setdefault(one.site, []).append(abs(float(same) - float(one.label)))
    found = {}
    for score in score_values(said, states.quantiles)[0]:
        values = score.values
        assert values is not None
        assert values.skill.value is not None
        assert values.baseline.value is not None
        naive = yesterday.get(score.site)
        found[score.site] = {
            "n": score.n,
            "weeks": len({item.group for item in said if item.site == score.site}),
            "mae": values.mae.value,
            "ratio": 1 - values.skill.value,
            "ratio_low": None if values.skill.high is None else 1 - values.skill.high,
            "ratio_high": None if values.skill.low is None else 1 - values.skill.low,
            "yesterday": None if naive is None else float(np.mean(naive)) / values.baseline.value,
            "coverage": values.coverage.value,
            "coverage_low": values.coverage.low,
            "coverage_high": values.coverage.high,
            "width": values.width.value,
        }
    return found


def _same_time(step_s: float) -> int:
    """The place in a window of the step a day before the target."""
    return -1 - round((86_400 - HORIZON_S) / step_s)


def table(found: Mapping[str, Any]) -> list[str]:
    """Markdown: one row a way and station, seeds side by side."""
    lines = [
        "| way | station | error over the baseline's (90 % interval), by seed | yesterday's "
        "| coverage (interval), by seed | width MW |",
        "|---|---|---|---|---|---|",
    ]
    for way, by_seed in found.items():
        for site in sorted({site for told in by_seed.values() for site in told}):
            told = [one[site] for one in by_seed.values() if site in one]
            naive = "–" if told[0]["yesterday"] is None else " / ".join(f"{one['yesterday']:.2f}" for one in told)
            lines.append(
                f"| {way} | {site} | {' / '.join(_with(one, 'ratio', 2) for one in told)} | {naive} | "
                f"{' / '.join(_with(one, 'coverage', 3) for one in told)} | "
                f"{' / '.join(format(one['width'], '.0f') for one in told)} |"
            )
    return lines


def _with(one: Mapping[str, Any], name: str, digits: int) -> str:
    low, high = one[f"{name}_low"], one[f"{name}_high"]
    between = "" if low is None or high is None else f" ({low:.{digits}f}–{high:.{digits}f})"
    return f"{one[name]:.{digits}f}{between}"
