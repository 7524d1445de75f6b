"""``edgewise data query`` and ``data tables`` against a real hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.hub import Hub, HubConfig, read_usecase, usecases
from edgewise.hub.samples import ImportedSample, import_samples
from lake_world import START, served

USECASE = """
name: press
app: factory
outcome: {goal: find pits, labels: [good, pit], good_labels: [good]}
people: {owner: ann, approver: bob, oversight: the line's stop button}
sites: [{name: north}, {name: south}]
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and token of a hub whose lake has two samples."""
    made = Hub(HubConfig(data_dir=tmp_path_factory.mktemp("hub")))
    usecases.apply(made.store, read_usecase(USECASE), source=USECASE, who="test", now=made.now())
    blob = made.store.blobs.put(b"x")
    about = {"use_case": "press", "blob": blob, "taken_at": made.now()}
    wanted = [
        ImportedSample(site=site, frame=site, label=label, **about)
        for site, label in (("north", "pit"), ("south", None))
    ]
    import_samples(made.store, wanted, who="test", now=made.now())
    assert made.lake is not None
    made.lake.commit(START)
    with served(made) as client:
        yield str(client.base_url), made.tokens.text("admin")
    made.close()


def run(hub: tuple[str, str], *arguments: str, code: int = 0) -> str:
    url, token = hub
    result = CliRunner().invoke(build(), [*arguments, "--hub", url, "--token", token])
    if code:
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


SITES = "SELECT site, count(*) AS samples FROM samples GROUP BY 1 ORDER BY 1"


def test_a_question_is_answered_as_a_table_as_json_and_as_csv(hub: tuple[str, str]) -> None:
    assert "north" in run(hub, "data", "query", SITES)
    assert json.loads(run(hub, "data", "query", SITES, "-o", "json")) == [
        {"site": "north", "samples": 1},
        {"site": "south", "samples": 1},
    ]
    assert run(hub, "data", "query", SITES, "-o", "csv") == "site,samples\nnorth,1\nsouth,1\n"


def test_an_answer_goes_into_a_new_file(hub: tuple[str, str], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    file = tmp_path / "sites.parquet"
    assert "2 rows" in run(hub, "data", "query", SITES, "-o", str(file))
    assert pq.read_table(file).to_pylist() == [{"site": "north", "samples": 1}, {"site": "south", "samples": 1}]
    assert "is there already" in run(hub, "data", "query", SITES, "-o", str(file), code=1)
    assert "none of table, json, csv" in run(hub, "data", "query", SITES, "-o", "xml", code=1)


def test_a_mistake_and_a_cut_answer_are_told(hub: tuple[str, str]) -> None:
    assert "line 1, column 8, at 'nope'" in run(hub, "data", "query", "SELECT nope FROM samples", code=1)
    url, token = hub
    result = CliRunner().invoke(
        build(), ["data", "query", SITES, "--rows", "1", "-o", "csv", "--hub", url, "--token", token]
    )
    assert (result.exit_code, result.stdout) == (1, "site,samples\nnorth,1\n")
    assert "cut after 1 rows" in result.stderr


def test_the_tables_and_their_columns_are_shown(hub: tuple[str, str]) -> None:
    rows = {row["name"]: row for row in json.loads(run(hub, "data", "tables", "-o", "json"))}
    assert (rows["samples"]["rows"], rows["labels"]["rows"], rows["readings"]["rows"]) == (2, 1, 0)
    assert "the reading, in the channel's own unit" in run(hub, "data", "tables", "readings").replace("\n", " ")
    assert "there is no table nope" in run(hub, "data", "tables", "nope", code=1)
