"""From settings to a finished report: prepare folders, run the story, measure beside it, write."""

from __future__ import annotations

import shutil
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgewise.apps.demo._result import Measuring, result_of, wrong_pictures
from edgewise.apps.demo._story import Story
from edgewise.apps.demo._timeline import Timeline
from edgewise.apps.demo._work import Work
from edgewise.apps.factory.learn import training_config
from edgewise.apps.factory.plants import Plan, make_plan
from edgewise.apps.factory.usecase import use_case_text
from edgewise.apps.processes import Installation, wait_until
from edgewise.apps.report import WrongPicture, write_report
from edgewise.ports import HubApi
from edgewise.wire import NotValid, UseCase

APPS = ("factory",)
MARKER = "edgewise-demo.json"
PACE_S = 0.2  # between the looks of controllers, worker and signer: a demo has people waiting
QUICK_SECONDS = 5.0  # budget of one training with --quick
# Paces only: what is judged, kept or forbidden stays as the application's own usecase.yaml says.
PACES: dict[str, dict[str, float]] = {
    "rollout": {"trial_s": 0.8, "bake_s": 1.0},
    "upload": {"period_s": 0.7},
    "connectivity": {"contact_s": 0.5},
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
DRILL_ROLLOUT = {"bake_s": 600, "bake_decisions_min": 400}  # long enough that only the evidence can end it


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a user may choose; see ``edgewise demo --help``."""

    app: str
    data: Path | None
    out: Path
    data_dir: Path
    quick: bool
    seed: int
    rounds: int
    keep: bool


def run_demo(settings: Settings) -> dict[str, Any]:
    """Run the whole story and write ``report.html`` and ``report.json``; comes back with the report's numbers.

    Raises:
        NotValid: an unknown application, a data folder that does not hold its data, a folder that is not the demo's.
        NotNow: a step of the story did not end in time.
    """
    if settings.app not in APPS:
        raise NotValid(f"there is no application {settings.app!r}; choose one of {', '.join(APPS)}", code="unknown_app")
    if settings.rounds < 2:
        raise NotValid(f"the demo needs at least 2 rounds, {settings.rounds} were asked for", code="bad_rounds")
    plan = make_plan(
        settings.data, seed=settings.seed, rounds=settings.rounds, size="quick" if settings.quick else "full"
    )
    _fresh_folder(settings.data_dir)
    for number in SIGNALS:
        signal.signal(number, _as_interrupt)
    with Timeline() as timeline:
        timeline.head(f"edgewise demo {settings.app}: {plan.data.upper()} data – {plan.text}")
        with (
            Installation(settings.data_dir, pace_s=PACE_S) as installation,
            HubApi(installation.url, installation.token("admin")) as api,
        ):
            timeline.say("hub", f"up on {installation.url}, with a worker and a signer")
            timeline.say(
                "signer", f"root, targets and release keys made in {installation.keys}; the hub never sees them"
            )
            training = training_config(seconds=QUICK_SECONDS if settings.quick else None)
            use_case = _apply_use_case(api, settings, plan, training)
            story = Story(Work(plan, use_case, installation, api, timeline))
            with (
                closing(story),
                closing(Measuring(plan, settings.data_dir, training, quick=settings.quick)) as measuring,
            ):
                _tell(story, measuring, settings.data_dir / "measured")
                result = result_of(story, measuring, quick=settings.quick)
                return _close(settings, timeline, installation, result, wrong_pictures(measuring))


def _tell(story: Story, measuring: Measuring, bundles: Path) -> None:
    """All chapters in order; the hold-out is measured after each."""
    plan, timeline = story.plan, story.timeline
    timeline.head("The first model: one plant's early pictures")
    measuring.measure(story.work.fetch_bundle(story.first_release(), bundles), timeline)
    for number in range(1, plan.rounds + 1):
        timeline.head(f"Round {number} of {plan.rounds}")
        # The second plant loses its link in the first round; the last one its power in the first rollout after that.
        offline = plan.plants[1] if number == 1 else None
        power_cut = plan.plants[-1] if number > 1 and not story.proofs.power_cut else None
        done = story.round(number, offline=offline, power_cut=power_cut)
        measuring.labelled(number, done.samples)
        measuring.measure(story.work.fetch_bundle(done.bundle, bundles), timeline)
    timeline.head("Drill: a bad candidate")
    story.drill(DRILL_ROLLOUT)
    measuring.wait_for_baselines(timeline)


def _apply_use_case(api: HubApi, settings: Settings, plan: Plan, training: dict[str, Any]) -> UseCase:
    """The application's own use case with the demo's paces, kept beside the report so that it can be read."""
    values = yaml.safe_load(use_case_text(plan.data))
    for section, paces in PACES.items():
        values[section] = {**values.get(section, {}), **paces}
    # Most of what one round is expected to keep: a round's labels make an order, the few of the drill do not.
    expected = values["upload"]["share_of_bytes"] * len(plan.streamed) / plan.rounds
    values["retrain"] |= {"config": training, "labels_min": max(4, round(0.6 * expected))}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "usecase.yaml").write_text(text)
    api.post("/usecases", content=text.encode(), media_type="application/yaml")
    return UseCase.model_validate(values)


def _close(
    settings: Settings,
    timeline: Timeline,
    installation: Installation,
    result: dict[str, Any],
    wrong: list[WrongPicture],
) -> dict[str, Any]:
    result["wall_s"] = round(timeline.now_s, 1)
    html, numbers = write_report(settings.out, result, wrong_pictures=wrong)
    timeline.head("Done")
    for line in _summary(result, html, numbers):
        timeline.console.print(line, markup=False)
    timeline.console.print(f"console: {installation.console_url}", markup=False, soft_wrap=True)
    if settings.keep:
        installation.start_worker()
        timeline.say("demo", "everything keeps running; Ctrl-C stops it")
        timeline.doing("running")
        try:
            wait_until(lambda: bool(installation.ended()), "", wait_s_max=7 * 86_400, poll_s=0.5)
        except KeyboardInterrupt:
            timeline.say("demo", "stopping")
    return result


def _summary(result: dict[str, Any], html: Path, numbers: Path) -> list[str]:
    """Five lines."""
    last = result["rounds"][-1]
    quality = ", ".join(f"{name} {_number(one['value'])}" for name, one in last["quality"].items())
    sent = sum(one["bytes_uploaded"] for one in result["rounds"])
    bad, offline = result["bad_candidate"], result["offline"]
    return [
        f"quality ({result['data']} data): {quality}",
        f"bytes: {sent:,} sent, {100 * sent / max(result['bytes_if_all_uploaded'], 1):.1f} % of all pictures' bytes",
        f"offline: {offline['decisions_made']} decisions without a link, {offline['records_lost']} records lost, "
        f"{offline['records_duplicated']} doubled; after the power cut the bundle was "
        f"{'whole' if result['power_cut']['bundle_whole'] else 'BROKEN'}",
        f"bad candidate: {'stopped' if bad['stopped_by_gate'] else 'NOT stopped'} by the gate; forced out, "
        f"{'reverted' if bad['reverted'] else 'NOT reverted'} to {bad['returned_to']} after "
        f"{bad['decisions_until_revert']} decisions, {bad['labels_until_revert']} labels, "
        f"{bad['devices_exposed']} device(s) exposed",
        f"{result['wall_s']:.0f} s in all; report: {html} and {numbers}",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _fresh_folder(folder: Path) -> None:
    """An empty folder for the run; an earlier demo's folder is cleared, anybody else's is left alone."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise NotValid(
                f"{folder} holds files that are not a demo's; name an empty folder with --data-dir",
                code="folder_not_empty",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text('{"made_by": "edgewise demo"}\n')


def _as_interrupt(*_: object) -> None:
    # The way out stops every process within seconds; a second Ctrl-C on that way would leave some of them behind.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
