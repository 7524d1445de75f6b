"""Other engines read the tables as docs/lake.md says."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from edgewise.hub.lake import TABLES
from lake_world import POLICY, START, Pond, readings

PAGE = (Path(__file__).parents[2] / "docs" / "lake.md").read_text()
FOLDER = "edgewise-data/hub/lake/"


@pytest.fixture
def pond(yard, tmp_path):
    yard.apply(data=POLICY)
    pond = Pond(yard=yard, path=tmp_path / "lake")
    for name, site in (("one", "north"), ("two", "south")):
        device = yard.enrol(name, site)
        device.send(
            device.segment(1, readings(device, [1.5, 2.5]), device.telemetry(labels={"good": 3}), policy_version=2)
        )
        pond.lake().commit(START)
    return pond


def snippets(pond, engine):
    """The code blocks of the page that name an engine, for this lake."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    return "".join(block for block in blocks if block.startswith(engine)).replace(FOLDER, f"{pond.path}/")


def test_polars_reads_it_as_the_page_says(pond):
    polars = pytest.importorskip("polars")
    code = snippets(pond, "import polars")
    assert "scan_delta" in code
    names = {}
    exec(code, names)
    assert names["means"].to_dicts() == [{"channel": "ac_power", "value": 2.0}]
    for name in TABLES:
        if (pond.path / name).exists():
            assert polars.scan_delta(str(pond.path / name)).collect().height == len(pond.rows(name))


def test_delta_readers_read_it_as_the_page_says(pond):
    code = snippets(pond, "from deltalake")
    assert "to_pyarrow_table" in code
    names = {}
    exec(code.replace("version=3", "version=2"), names)
    assert names["table"].to_pyarrow_table().num_rows == 4
    assert len(pond.rows("readings", version=2)) == 2


def test_pandas_reads_it_as_the_page_says(pond):
    pytest.importorskip("pandas")
    exec(snippets(pond, "table.to_pandas"), {"table": DeltaTable(pond.path / "readings")})


def test_duckdb_reads_it_as_the_page_says_without_an_extension(pond):
    code = snippets(pond, "import duckdb")
    names = {"DeltaTable": DeltaTable}
    exec(code, names)
    readings = DeltaTable(pond.path / "readings").to_pyarrow_dataset()
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.register("readings", readings)
    assert connection.execute("SELECT channel, count(*) FROM readings GROUP BY 1").fetchall() == [("ac_power", 4)]


def test_the_page_shows_every_column_as_it_is():
    for table in TABLES.values():
        _, _, part = PAGE.partition(f"### {table.name} – {table.text}\n")
        assert part, f"docs/lake.md lacks the table {table.name}"
        shown = part.partition("\n## ")[0].partition("\n### ")[0]
        common = {column.name for column in TABLES["readings"].columns[:8]}
        for column in table.columns:
            if column.name not in common or table.name in ("readings", "labels"):
                assert f"| `{column.name}` | {column.kind} | {column.text} |" in shown
