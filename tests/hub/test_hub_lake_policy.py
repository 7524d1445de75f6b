"""Policy and the lake: retention, erasure to the last file, versions, compaction, and what people are shown."""

from __future__ import annotations

from datetime import timedelta

import pytest

from edgewise.hub import erasures, labels, people
from edgewise.hub.access import Person
from edgewise.hub.console import data
from edgewise.hub.lake import LakeConfig
from edgewise.hub.lake._tidy import compact
from edgewise.hub.limits import LakeLimits
from edgewise.wire import Erasure, digest
from lake_world import POLICY, START, Pond, event, feedback, readings, served

ADA, BEA = digest(b"Ada"), digest(b"Bea")
BOSS = Person(name="boss", role="approver")


@pytest.fixture
def pond(yard, tmp_path):
    fields = (*POLICY.fields, "subject")
    yard.apply(data=POLICY.model_copy(update={"retention_days": 30, "fields": fields}))
    return Pond(yard=yard, path=tmp_path / "lake")


@pytest.fixture
def device(pond):
    return pond.yard.enrol("one")


def send(device, number, *records, **changes):
    return device.send(device.segment(number, *records, **{"policy_version": 2} | changes))


def erase(pond, **wish):
    erasures.create(pond.yard.hub, "press", Erasure(reason="asked for", **wish), BOSS)


def files_with(pond, text: str) -> list[str]:
    """Files of the lake, its log too, in which a text stands; Parquet is read, not searched."""
    import pyarrow.parquet as pq

    found = []
    for path in sorted(pond.path.rglob("*")):
        if path.suffix == ".parquet":
            says = str(pq.read_table(path, partitioning=None).to_pylist())
        elif path.is_file():
            says = path.read_text(errors="replace")
        else:
            continue
        found += [path.name] if text in says else []
    return found


def test_an_erased_subject_is_gone_from_the_newest_version_and_from_all_files_behind_the_history(pond, device):
    ada, bea = device.sample(facts={"subject": ADA}), device.sample(facts={"subject": BEA})
    send(device, 1, ada, bea)
    labels.set_labels(pond.yard.hub.store, [(ada.id, "pit"), (bea.id, "good")], who="ann", now=START)
    lake = pond.lake()
    lake.commit(START)
    assert files_with(pond, ADA)
    erase(pond, subject=ADA)
    lake.commit(START)
    assert pond.ids("samples") == pond.ids("labels") == [bea.id]
    old = Pond(yard=pond.yard, path=pond.path, config=LakeConfig(history_s=0)).lake()
    old.commit(pond.yard.clock.now())
    assert files_with(pond, ADA) == []
    assert files_with(pond, BEA)
    # That records of these ids were deleted is told by the log until its own entries are as old as the history.
    assert [name for name in files_with(pond, ada.id) if name.endswith(".parquet")] == []


def test_what_is_erased_before_its_commit_never_enters(pond, device):
    ada, bea = device.sample(facts={"subject": ADA}), device.sample(facts={"subject": BEA})
    send(device, 1, ada, bea)
    labels.set_labels(pond.yard.hub.store, [(ada.id, "pit")], who="ann", now=START)
    erase(pond, subject=ADA)
    pond.lake().commit(START)
    assert pond.ids("samples") == [bea.id]
    assert pond.ids("labels") == []
    assert files_with(pond, ada.id) == []


def test_a_sample_brought_in_again_behind_its_erasure_stays(pond):
    (name,) = pond.yard.bring_in(("north", "a", "g1", "pit"))
    pond.lake().commit(START)
    erase(pond, site="north")
    assert pond.yard.bring_in(("north", "a", "g1", "good")) == [name]
    pond.lake().commit(START)
    assert pond.ids("samples") == [name]
    assert [row["label"] for row in pond.rows("labels")] == ["good"]


def test_a_device_has_its_own_records_erased_and_nobody_elses(pond, device):
    other = pond.yard.enrol("two")
    mine, theirs = device.sample("f1"), other.sample("f2")
    send(device, 1, mine)
    send(other, 1, theirs)
    word = feedback(device, "f1")
    send(device, 2, word, record_class="feedback")
    pond.lake().commit(START)
    ids = [mine.id, word.id, theirs.id]
    send(device, 3, event(device, "erased", erasure=1, stored=ids), record_class="audit")
    pond.lake().commit(START)
    assert pond.ids("samples") == [theirs.id]
    assert pond.ids("feedback") == []


def test_rows_past_their_retention_go_and_do_not_come_back(pond, device):
    late = readings(device, [1.0, 2.0], first_s=20 * 86_400)
    send(device, 1, readings(device, [1.5, 2.5]), device.telemetry())
    send(device, 2, late)
    pond.lake().commit(START)
    assert len(pond.ids("readings")) == 4
    pond.yard.clock.advance(31 * 86_400)
    now = pond.yard.clock.now()
    pond.lake().commit(now)
    assert pond.ids("readings") == [late.id] * 2
    assert pond.ids("telemetry") == []
    pond.lake(hub_epoch="e" * 32).commit(now)  # made anew from the store, which still has them
    assert pond.ids("readings") == [late.id] * 2
    assert pond.ids("telemetry") == []


def test_small_files_become_large_ones_and_hold_the_same_rows(pond, device):
    lake = pond.lake()
    for number in range(1, 8):
        send(device, number, device.telemetry())
        lake.commit(START)
    before = pond.rows("telemetry")
    files = lake._tables["telemetry"].size().files
    compact(lake._tables, LakeLimits(small_files_max=5), lambda: None)
    assert (files, lake._tables["telemetry"].size().files) == (7, 1)
    assert sorted(pond.rows("telemetry"), key=lambda row: row["number"]) == sorted(
        before, key=lambda row: row["number"]
    )
    assert pond.rows("telemetry", version=3) != before
    send(device, 8, device.telemetry())
    lake.commit(START)
    assert len(pond.ids("telemetry")) == 8


# -- what people are shown ---------------------------------------------------------------------------------------------


@pytest.fixture
def plant(make_yard, tmp_path):
    """A hub with a folder, two sites that sent, and a lake that has it."""
    yard = make_yard(data_dir=tmp_path / "hub")
    yard.apply(data=POLICY)
    for name, site in (("one", "north"), ("two", "south")):
        device = yard.enrol(name, site)
        send(device, 1, readings(device, [1.5, 2.5]))
    assert yard.hub.lake is not None
    yard.hub.lake.commit(START)
    return yard


@pytest.fixture
def client(plant):
    with served(plant.hub) as held:
        yield held


def asking(yard, sites=None, role="viewer"):
    hub = yard.hub
    about = {"now": hub.now(), "chance": hub.chance, "limits": hub.limits, "expires_at": None}
    admin = Person(name="admin", role="admin")
    token = people.make_token(
        hub.store, by=admin, name=f"ann-{'-'.join(sites or ())}", role=role, sites=sites, **about
    )[0]
    return {"Authorization": f"Bearer {token}"}


def test_the_lake_is_asked_over_the_api_with_the_callers_sites(plant, client):
    count = {"sql": "SELECT site, count(*) FROM readings GROUP BY 1 ORDER BY 1"}
    answer = client.post("/api/v1/lake/query", json=count, headers=asking(plant))
    assert answer.json()["rows"] == [["north", 2], ["south", 2]]
    assert answer.headers["edgewise-rows"] == "2"
    assert answer.headers["edgewise-truncated"] == "false"
    answer = client.post("/api/v1/lake/query", json=count, headers=asking(plant, ["south"]))
    assert answer.json()["rows"] == [["south", 2]]
    wrong = client.post("/api/v1/lake/query", json={"sql": "SELEKT"}, headers=asking(plant, ["north"]))
    assert (wrong.status_code, wrong.json()["code"]) == (422, "sql_invalid")
    assert "line 1, column 1" in wrong.json()["detail"]
    assert client.post("/api/v1/lake/query", json=count).status_code == 401
    worker = {"Authorization": f"Bearer {plant.hub.tokens.text('worker')}"}
    assert client.post("/api/v1/lake/query", json=count, headers=worker).status_code == 403


def test_its_tables_and_its_state_are_shown(plant, client):
    who = asking(plant)
    tables = {table["name"]: table for table in client.get("/api/v1/lake/tables", headers=who).json()}
    assert tables["readings"]["rows"] == 4
    assert {"name": "value", "kind": "number", "text": "the reading, in the channel's own unit"} in tables["readings"][
        "columns"
    ]
    told = client.get("/api/v1/lake", headers=who).json()
    assert (told["waiting"], told["error"], told["tables"]["readings"]["rows"]) == (0, None, 4)
    assert client.get("/api/v1/lake", headers=asking(plant, ["north"])).status_code == 403
    metrics = client.get("/metrics").text
    assert 'edgewise_hub_lake_rows{table="readings"} 4.0' in metrics
    assert "edgewise_hub_lake_lag_seconds 0.0" in metrics


def todo(yard):
    found = data.overview(yard.hub.store, Person(name="ann", role="viewer"), None, yard.hub.now())["todo"]
    return " ".join(item.text for item in found)


def test_a_lake_that_is_not_written_is_among_what_needs_a_person(plant, client):
    lake = plant.hub.lake
    path = plant.hub.folder.path / "lake"
    path.rename(path.with_name("away"))
    path.write_text("no folder")
    lake._tables.clear()
    device = plant.enrol("three")
    send(device, 1, device.telemetry())
    plant.clock.advance(40)
    lake.tick(plant.clock.now())
    assert "The lake is not written" in todo(plant)
    assert "edgewise_hub_lake_failing 1.0" in client.get("/metrics").text
    assert "edgewise_hub_lake_lag_seconds 40.0" in client.get("/metrics").text
    path.unlink()
    path.with_name("away").rename(path)
    plant.clock.advance(31)
    lake.tick(plant.clock.now())
    assert "The lake is not written" not in todo(plant)


def test_a_hub_without_a_lake_says_so(yard):
    with served(yard.hub) as client:
        answer = client.get("/api/v1/lake", headers=asking(yard))
    assert (answer.status_code, answer.json()["code"]) == (409, "no_lake")


def test_everything_is_kept_for_the_time_that_was_told(pond, device):
    """An old version stays readable for its history, also when the clock of the hub is far ahead."""
    send(device, 1, device.telemetry())
    lake = pond.lake()
    lake.commit(START)
    send(device, 2, device.telemetry())
    lake.commit(START)
    pond.yard.clock.advance(timedelta(hours=2).total_seconds())
    lake.commit(pond.yard.clock.now())
    assert len(pond.rows("telemetry", version=2)) == 1
