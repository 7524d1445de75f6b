"""The report as a page: one self-contained HTML text made from the report's plain values."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from edgewise.apps._plots import (
    Mark,
    Series,
    Span,
    bytes_chart,
    evidence_chart,
    line_chart,
    size_text,
    timeline_chart,
)
from edgewise.apps._report_words import revert_steps, what_went_badly

Values = Mapping[str, Any]
METRIC_WORDS = {
    "balanced_accuracy": "balanced accuracy: mean of good found good and defective found defective",
    "auc": "area under the ROC curve: how well good and defective are ranked",
    "macro_recall": "macro recall: mean over the classes of the share named rightly",
    "recall": "recall: share of these parts named rightly",
    "called_defective": "share called defective",
}
GUESSING = {"balanced_accuracy": 0.5, "auc": 0.5}
COLOURS = 8  # of releases in the style sheet
NOTHING = "–"


def render_page(report: Values, wrong_pictures: Sequence[tuple[str, bytes, str]] = ()) -> str:
    """The whole page.

    Args:
        report: the values of `apps.report.Report`, as plain JSON types.
        wrong_pictures: (title, bytes, media type) of hold-out pictures that the last network got wrong.
    """
    style = files("edgewise.apps").joinpath("report.css").read_text(encoding="utf-8")
    kind = report["data"].upper()
    sections = [
        _head(report),
        _tiles(report),
        _quality(report),
        _bytes(report),
        _timeline(report),
        _drill(report),
        _proofs(report),
        _bad_news(report, wrong_pictures),
        _moments(report),
        _foot(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report['title'])} – {kind} data</title><style>{style}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _head(report: Values) -> str:
    kind = "quick run" if report["quick"] else "full run"
    facts = [kind, f"{len(report['rounds'])} rounds", f"{report['wall_s']:.0f} s in all"]
    facts += [f"seed {report['seed']}"] if report["seed"] is not None else []
    facts += [report[key] for key in ("made_at", "machine") if report[key]]
    text = report["data_text"] or f"{report['data'].upper()} data"
    return (
        f"<h1>{escape(report['title'])}</h1><p class='soft'>{escape(' · '.join(facts))}</p>"
        f"<div class='data {report['data']}'><strong>{_data_word(report)}</strong><br>{escape(text)}</div>"
    )


def _data_word(report: Values) -> str:
    if report["data"] == "real":
        return "These figures were measured on REAL photographs."
    return (
        "These figures were measured on GENERATED pictures: they show how the loop behaves, "
        "not how well defects would be found in a real plant."
    )


def _tiles(report: Values) -> str:
    sent = sum(one["bytes_uploaded"] for one in report["rounds"])
    whole, bad, offline = report["bytes_if_all_uploaded"], report["bad_candidate"], report["offline"]
    latency = report["decision_latency_ms"]
    kept = offline["records_lost"] == 0 and offline["records_duplicated"] == 0
    share = f"{sent / whole:.1%}" if whole else NOTHING
    tiles = [
        (_mean_text(report), "mean over the measures, first network → last round", ""),
        (share, f"of the bytes sent: {size_text(sent)} of {size_text(whole)}", ""),
        (
            f"{sum(one['labels_used'] for one in report['rounds'])} labels",
            f"given in {len(report['rounds'])} rounds, beside {_first_labels(report)}",
            "",
        ),
        (
            "reverted" if bad["reverted"] else "not reverted",
            f"the bad candidate, after {_count(bad['decisions_until_revert'])} decisions and "
            f"{_count(bad['labels_until_revert'])} labels on {bad['devices_exposed']} of {_devices(report)} devices",
            "good" if bad["reverted"] else "bad",
        ),
        (
            f"{offline['records_lost']} lost, {offline['records_duplicated']} doubled",
            f"records of {offline['device']}, which made {offline['decisions_made']} decisions without a link",
            "good" if kept else "bad",
        ),
        (
            f"{_number(latency['p50'], 2)} ms",
            f"per decision at the median; 99th percentile {_number(latency['p99'], 2)} ms, "
            f"bare runtime {_number(latency['bare_p50'], 2)} ms",
            "",
        ),
    ]
    body = "".join(
        f"<div class='tile'><b class='{style}'>{escape(big)}</b><span>{escape(small)}</span></div>"
        for big, small, style in tiles
    )
    return f"<div class='tiles'>{body}</div>"


def _mean_text(report: Values) -> str:
    def mean(quality: Values) -> str:
        values = [one["value"] for one in quality.values() if one["value"] is not None]
        return _number(sum(values) / len(values) if values else None, 2)

    last = mean(report["rounds"][-1]["quality"])
    return f"{mean(report['start']['quality'])} → {last}" if report["start"] else last


def _first_labels(report: Values) -> str:
    return (
        f"the {report['start']['labels_used']} of the first network"
        if report["start"]
        else "those of the first network"
    )


def _devices(report: Values) -> str:
    devices = {run["device"] for run in report["waves"]}
    return str(len(devices)) if devices else "all"


def _quality(report: Values) -> str:
    band = f"{report['interval_level']:.0%} interval over groups"
    key = (
        f"<div class='key'><span class='ours'><i></i>this loop (band: {band})</span>"
        "<span class='random'><i></i>random upload, equal bytes and labels</span>"
        "<span class='everything'><i></i>training on everything</span></div>"
    )
    rounds = report["rounds"]
    plots = "".join(_measure(report, name, "quality") for name in rounds[-1]["quality"])
    beside = "".join(_measure(report, name, "beside") for name in rounds[-1]["beside"])
    # Four plots stand better as two rows of two than as three and one.
    width = "pairs" if len(rounds[-1]["quality"]) in (2, 4) else ""
    more = (
        f"<h3 style='margin:1.4rem 0 .6rem'>Beside the measures</h3><div class='plots pairs'>{beside}</div>"
        if beside
        else ""
    )
    return (
        "<h2>Quality on the hold-out, round by round</h2>"
        "<p>The same pictures after every round; neither a trainer nor the gate ever sees them, and no part, tile or "
        f"position is on both sides.</p>{key}<div class='plots {width}'>{plots}</div>{more}{_rounds_table(report)}"
    )


def _measure(report: Values, name: str, section: str) -> str:
    points = ([("start", report["start"][section].get(name))] if report["start"] else []) + [
        (str(one["number"] or index), one[section].get(name)) for index, one in enumerate(report["rounds"], start=1)
    ]
    known = [one for _, one in points if one is not None]
    text = report["measures"].get(name) or {"title": name, "metric": known[-1]["metric"], "note": ""}
    metric = known[-1]["metric"]
    chart = line_chart(
        _series(points),
        [position for position, _ in points],
        low=_floor(known),
        high=1.0,
        chance=GUESSING.get(metric),
        label=f"{text['title']}: {metric} by round",
    )
    count = f", n = {known[-1]['n']}" if known[-1].get("n") else ""
    note = f" {escape(text['note'][:1].upper() + text['note'][1:])}." if text["note"] else ""
    words = escape(METRIC_WORDS.get(metric, metric)).capitalize()
    return (
        f"<figure><figcaption><h3>{escape(text['title'])}</h3><span class='small soft'>"
        f"{escape(metric.replace('_', ' '))}{count}</span></figcaption>{chart}{_measure_table(points)}"
        f"<p class='small soft'>{words}.{note}</p></figure>"
    )


def _floor(known: Sequence[Values]) -> float:
    """The lowest tenth that all shown values and intervals are above, 0.4 at most."""
    keys = ("value", "low", "random", "everything")
    values = [one[key] for one in known for key in keys if one.get(key) is not None]
    return max(0.0, int(min([0.4, *values]) * 10) / 10)


def _series(points: Sequence[tuple[str, Values | None]]) -> list[Series]:
    def column(key: str) -> tuple[float | None, ...]:
        return tuple(one[key] if one else None for _, one in points)

    found = [Series(name="loop", style="ours", values=column("value"), low=column("low"), high=column("high"))]
    for key, name in (("random", "random"), ("everything", "all")):
        values = column(key)
        if any(value is not None for value in values):
            # Both baselines begin from the same first network, so their lines begin where ours does.
            if points[0][0] == "start" and points[0][1]:
                values = (points[0][1]["value"], *values[1:])
            found.append(Series(name=name, style=key, values=values))
    return found


def _measure_table(points: Sequence[tuple[str, Values | None]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(position)}</td><td>{_number(one['value'])}</td><td>{_interval(one)}</td>"
        f"<td>{_number(one['random'])}</td><td>{_number(one['everything'])}</td></tr>"
        for position, one in points
        if one is not None
    )
    head = "<tr><th>round</th><th>loop</th><th>interval</th><th>random</th><th>all</th></tr>"
    return f"<div class='scroll'><table>{head}{rows}</table></div>"


def _rounds_table(report: Values) -> str:
    rows = ""
    for index, one in enumerate(report["rounds"], start=1):
        why = "; ".join(one["gate_reasons"])
        gate = one["gate"] or NOTHING
        style = {"passed": "good", "failed": "bad"}.get(gate, "")
        rows += (
            f"<tr><td>{one['number'] or index}</td><td>{_count(one['decisions'])}</td><td>{one['labels_used']}</td>"
            f"<td>{size_text(one['bytes_uploaded'])}</td><td>{_number(one['seconds'], 1)}</td>"
            f"<td class='text'><span class='{style}'>{escape(gate)}</span>{escape(f': {why}') if why else ''}</td>"
            f"<td class='text'>{escape(one['release'] or NOTHING)}</td></tr>"
        )
    head = (
        "<tr><th>round</th><th>decisions</th><th>labels</th><th>sent</th><th>seconds</th>"
        "<th style='text-align:left'>gate</th><th style='text-align:left'>runs after it</th></tr>"
    )
    return f"<h3 style='margin:1.4rem 0 .4rem'>The rounds</h3><div class='scroll'><table>{head}{rows}</table></div>"


def _bytes(report: Values) -> str:
    rounds, whole = report["rounds"], report["bytes_if_all_uploaded"]
    sent = sum(one["bytes_uploaded"] for one in rounds)
    even = whole // len(rounds)
    bars = [
        (f"round {one['number'] or index}", one["bytes_uploaded"], one["bytes_decided"] or even)
        for index, one in enumerate(rounds, start=1)
    ]
    known = all(one["bytes_decided"] for one in rounds)
    said = "" if known else " Bytes decided on are not known by round: the outline is an even share of the whole."
    share = f" ({sent / whole:.1%})" if whole else ""
    return (
        "<h2>Bytes</h2>"
        f"<p>{size_text(sent)} went up in all rounds{share}, pictures, telemetry and reports together. "
        f"Every picture decided on would have been {size_text(whole)}.{said}</p>"
        f"<figure class='wide'>{bytes_chart(bars, label='bytes sent of bytes decided on, by round')}</figure>"
    )


def _timeline(report: Values) -> str:
    runs = report["waves"]
    if not runs:
        return ""
    releases = list(dict.fromkeys(run["release"] for run in runs))
    rows = list(dict.fromkeys(run["device"] for run in runs))
    end = report["wall_s"]
    spans = [
        Span(
            row=run["device"],
            start=run["from_s"],
            end=end if run["until_s"] is None else run["until_s"],
            text=run["release"].rpartition("@")[2] if "@" in run["release"] else run["release"],
            style="span-bad" if run["bad"] else f"span-{releases.index(run['release']) % COLOURS}",
        )
        for run in runs
    ]
    offline, cut = report["offline"], report["power_cut"]
    if offline["device"] in rows and offline["from_s"] is not None and offline["until_s"] is not None:
        spans.append(
            Span(
                row=offline["device"], start=offline["from_s"], end=offline["until_s"], text="no link", style="span-off"
            )
        )
    marks = [
        Mark(row=one["device"], at=one["at_s"], text=one["text"]) for one in report["timeline"] if one["device"] in rows
    ]
    if cut["device"] in rows and cut["at_s"] is not None:
        marks.append(Mark(row=cut["device"], at=cut["at_s"], text="power cut"))
    chart = timeline_chart(rows, spans, marks, end=end, label="release on each device over time")
    return (
        "<h2>Releases on devices</h2>"
        "<p>Each bar is a release running on a device, named by its version; red is the bad candidate, shaded is time "
        "without a link, circles are events. A release reaches one device first and the others "
        f"after its bake.</p><figure class='wide'>{chart}</figure>{_waves_table(runs)}"
    )


def _waves_table(runs: Sequence[Values]) -> str:
    rows = "".join(
        f"<tr><td>{escape(run['device'])}</td>"
        f"<td class='text'>{escape(run['release'])}{' (bad)' if run['bad'] else ''}</td>"
        f"<td>{run['wave'] if run['wave'] is not None else NOTHING}</td><td>{_number(run['from_s'], 1)}</td>"
        f"<td>{_number(run['until_s'], 1)}</td></tr>"
        for run in runs
    )
    head = (
        "<tr><th>device</th><th style='text-align:left'>release</th><th>wave</th><th>from s</th><th>until s</th></tr>"
    )
    return f"<details><summary class='small soft'>the same as numbers</summary><table>{head}{rows}</table></details>"


def _drill(report: Values) -> str:
    bad = report["bad_candidate"]
    steps = "".join(f"<li>{escape(step)}</li>" for step in revert_steps(bad, _devices(report)))
    chart = ""
    if bad["evidence"]:
        curve = [(float(point["labels"]), point["e_value"]) for point in bad["evidence"]]
        svg = evidence_chart(
            curve, limit=bad["revert_at"], x_name="labelled disagreements", label="e-value over labelled disagreements"
        )
        chart = f"<figure class='wide'>{svg}{_evidence_table(bad['evidence'])}</figure>"
    return (
        "<h2>The bad candidate</h2>"
        "<p>Sent in on purpose, to see that nothing but evidence decides. The new bundle acts, the old one decides in "
        "shadow on the same frames; where they disagree, the picture goes up first and is labelled. "
        f"The e-value bets that the new one is worse: were it not, at most {1 / bad['revert_at']:.0%} of rollouts "
        f"would ever reach {bad['revert_at']:g}, however often one looks.</p>"
        f"<ol class='steps'>{steps}</ol>{chart}"
    )


def _evidence_table(points: Sequence[Values]) -> str:
    rows = "".join(
        f"<tr><td>{point['decisions']}</td><td>{point['labels']}</td><td>{point['e_value']:.3g}</td></tr>"
        for point in points
    )
    head = "<tr><th>paired decisions</th><th>labels</th><th>e-value</th></tr>"
    return f"<details><summary class='small soft'>the same as numbers</summary><table>{head}{rows}</table></details>"


def _proofs(report: Values) -> str:
    offline, cut, latency = report["offline"], report["power_cut"], report["decision_latency_ms"]
    made = f" It made {offline['records_made']} records" if offline["records_made"] is not None else " Of its records"
    where = f" in phase {cut['phase']}" if cut["phase"] else ""
    bundle = f" (bundle {cut['bundle'][:12]})" if cut["bundle"] else ""
    whole = f"ran a whole bundle{bundle}" if cut["bundle_whole"] else "did NOT run a whole bundle"
    more = (
        f" That is {latency['p50'] / latency['bare_p50']:.2f} times the bare runtime."
        if latency["p50"] and latency["bare_p50"]
        else ""
    )
    items = [
        f"<b>Link cut.</b> {escape(offline['device'])} lost its link and went on: {offline['decisions_made']} "
        f"decisions without it.{made}; after the link came back {offline['records_lost']} were lost and "
        f"{offline['records_duplicated']} stored twice.",
        f"<b>Power cut.</b> {escape(cut['device'] or 'One agent')} was killed (SIGKILL){escape(where)} while it "
        f"switched; after its restart it {escape(whole)}, every blob checked against its digest.",
        f"<b>Latency.</b> A decision took {_number(latency['p50'], 3)} ms at the median and "
        f"{_number(latency['p99'], 3)} ms at the 99th percentile, decoding, preparing and recording included; "
        "the bare runtime on the same prepared input "
        f"took {_number(latency['bare_p50'], 3)} ms.{more}",
    ]
    return f"<h2>Proofs</h2><ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _bad_news(report: Values, wrong_pictures: Sequence[tuple[str, bytes, str]]) -> str:
    items = "".join(f"<li>{escape(item)}</li>" for item in what_went_badly(report))
    shown = "".join(
        f"<figure><img alt='{escape(title, quote=True)}' "
        f"src='data:{media_type};base64,{base64.b64encode(data).decode()}'><figcaption>{escape(title)}</figcaption></figure>"
        for title, data, media_type in wrong_pictures
    )
    pictures = (
        "<h3 style='margin-top:1.2rem'>Some hold-out pictures that the last network got wrong</h3>"
        f"<div class='pictures'>{shown}</div>"
        if shown
        else ""
    )
    return f"<h2>What did not go well, and limits</h2><ul>{items}</ul>{pictures}"


def _moments(report: Values) -> str:
    if not report["timeline"]:
        return ""
    rows = "".join(
        f"<tr><td>{one['at_s']:.1f}</td><td class='text'>{escape(one['who'])}</td>"
        f"<td class='text'>{escape(one['text'])}</td></tr>"
        for one in report["timeline"]
    )
    head = "<tr><th>s</th><th style='text-align:left'>who</th><th style='text-align:left'>what</th></tr>"
    return (
        "<h2>The run, moment by moment</h2><details><summary class='small soft'>"
        f"{len(report['timeline'])} moments</summary><div class='scroll'><table>{head}{rows}</table></div></details>"
    )


def _foot(report: Values) -> str:
    version = f"edgewise {report['version']}. " if report["version"] else ""
    return (
        f"<footer>{escape(version)}The same numbers are in report.json beside this page; its keys are explained in "
        "docs/report.md.</footer>"
    )


def _number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _count(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def _interval(one: Values) -> str:
    if one["low"] is None or one["high"] is None:
        return NOTHING
    return f"{one['low']:.2f}–{one['high']:.2f}"
