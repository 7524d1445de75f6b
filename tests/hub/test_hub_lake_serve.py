"""A served hub writes its lake by itself, loads nothing for it before there is something to write, and ends cleanly."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from deltalake import DeltaTable

from edgewise.hub import HubConfig, read_usecase, usecases
from edgewise.hub.lake import LakeConfig
from edgewise.hub.samples import ImportedSample, import_samples
from edgewise.hub.serve import serve

USECASE = """
name: press
app: factory
outcome: {goal: find pits, labels: [good, pit], good_labels: [good]}
people: {owner: ann, approver: bob, oversight: the line's stop button}
sites: [{name: north}]
"""


def test_a_hub_starts_without_the_lakes_libraries():
    code = """
import sys, tempfile
from pathlib import Path
from edgewise.hub import Hub, HubConfig, create_app
from edgewise.hub.settings import HubSettings
with tempfile.TemporaryDirectory() as folder:
    hub = Hub(HubConfig(data_dir=Path(folder)))
    create_app(hub)
    hub.tick()
    hub.lake.tick(hub.now())
    hub.close()
loaded = {"deltalake", "duckdb", "pyarrow"} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(120)
def test_a_served_hub_writes_what_comes(tmp_path):
    path, seen = tmp_path / "hub" / "lake" / "samples", []

    def started(hub, _url):
        usecases.apply(hub.store, read_usecase(USECASE), source=USECASE, who="test", now=hub.now())
        blob = hub.store.blobs.put(b"x")
        wanted = [ImportedSample(use_case="press", site="north", frame="a", blob=blob, taken_at=hub.now())]
        seen.extend(import_samples(hub.store, wanted, who="test", now=hub.now()))

        def stop():
            end = time.monotonic() + 60
            while time.monotonic() < end and not (path.exists() and DeltaTable(path).count()):
                time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=stop, daemon=True).start()

    config = HubConfig(data_dir=tmp_path / "hub", lake=LakeConfig(commit_s=1))
    serve(config, port=0, device_port=0, out=io.StringIO(), started=started)
    assert DeltaTable(path).to_pyarrow_table()["id"].to_pylist() == seen
