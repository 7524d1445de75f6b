"""Tuning: what is measured, what is chosen, and that the agent reads it."""

from __future__ import annotations

import json

import pytest
from onnx import helper
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.edge.runtime import TUNED_FILE, RuntimeConfig, open_runtime, runtime_status, tuned
from edgewise.edge.tune import Row, TuneLimits, Variant, choose, measure, read_network, tune, variants
from edgewise.wire import NotValid
from networks import info, onnx_model, picture_network

QUICK = TuneLimits(seconds=0.6, rounds=2)


def row(ms: float, cpu_ms: float | None = None, error: str = "", **more: object) -> Row:
    variant = Variant(**more)  # type: ignore[arg-type]
    return Row(variant=variant, p10_ms=ms, p50_ms=ms, p95_ms=ms, cpu_ms=cpu_ms or ms, runs=9, error=error)


def chosen(*rows: Row, busy: bool = False, ram_free_mb: float = 8000):
    return choose(rows, TuneLimits(), busy=busy, ram_free_mb=ram_free_mb)


def test_more_threads_are_chosen_where_they_pay_and_cost_little():
    found = chosen(row(10), row(6, 11, threads=2), row(5, 19, threads=4))
    assert (found.threads, found.spinning) == (2, False)  # four take almost twice the processor time
    assert "2 threads" in found.why
    assert chosen(row(10), row(9.5, threads=2)).threads == 1
    assert "one thread" in chosen(row(10), row(9.5, threads=2)).why


def test_spinning_must_beat_the_same_without_it_and_is_never_chosen_on_a_busy_machine():
    rows = (row(10), row(6, threads=2), row(5.7, threads=2, spinning=True), row(3, threads=4, spinning=True))
    assert not chosen(*rows[:3]).spinning
    assert chosen(*rows).spinning
    found = chosen(*rows, busy=True)
    assert (found.threads, found.spinning) == (1, False)
    assert "busy" in found.why
    assert not any(item.spinning for item in variants(4, ["cpu"], busy=True))


def test_a_provider_that_is_there_and_faster_is_chosen_with_the_processor_behind_it():
    assert chosen(row(10), row(3, provider="openvino")).providers == ("openvino", "cpu")
    assert chosen(row(10), row(1, error="no driver", provider="cuda")).providers == ("cpu",)


def test_workers_are_always_used_where_they_cost_nothing_and_memory_is_free():
    assert chosen(row(10), row(10.1, place="worker")).isolate == "always"
    assert chosen(row(10), row(10.1, place="worker"), ram_free_mb=100).isolate == "auto"
    assert chosen(row(0.01), row(0.02, place="worker")).isolate == "auto"


def test_batches_are_allowed_where_they_bring_a_third_more():
    assert chosen(row(1), row(1.2, batch=2), row(4, batch=8)).batch_max == 8
    assert chosen(row(1), row(1.9, batch=2), row(7, batch=8)).batch_max == 1


def test_a_real_network_is_measured_in_every_way_and_the_agent_reads_the_choice(tmp_path):
    (tmp_path / "net.onnx").write_bytes(picture_network())
    seen: list[float] = []
    rows, found = tune(
        tmp_path / "net.onnx", data_dir=tmp_path, limits=QUICK, advance=lambda _words, share: seen.append(share)
    )
    assert seen == sorted(seen)
    assert all(row.runs >= 6 for row in rows)
    assert {row.variant.place for row in rows} == {"inline", "worker"}
    assert tuned(tmp_path) == found
    status = runtime_status(open_runtime(RuntimeConfig(), tmp_path))
    assert (status["threads"], status["isolate"]) == (found.threads, found.isolate)


def test_a_network_with_a_fixed_first_axis_is_measured_without_batches():
    model = picture_network(batch=1)
    rows = measure(model, (1, 1, 10, 12), [Variant(), Variant(batch=2)], QUICK, lambda _words, _share: None)
    assert rows[0].runs > 0
    assert rows[1].error


def test_a_network_that_cannot_be_measured_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "two.onnx").write_bytes(
        onnx_model([helper.make_node("Add", ["a", "b"], ["c"])], [info("a", [2]), info("b", [2])], [info("c", [2])])
    )
    (tmp_path / "open.onnx").write_bytes(
        onnx_model([helper.make_node("Relu", ["a"], ["c"])], [info("a", ["N", "M"])], [info("c", ["N", "M"])])
    )
    (tmp_path / "none.onnx").write_bytes(b"no network")
    for name in ("two", "open", "none", "missing"):
        with pytest.raises(NotValid):
            read_network(tmp_path / f"{name}.onnx")


def test_the_command_prints_a_table_and_json(tmp_path):
    (tmp_path / "net.onnx").write_bytes(picture_network())
    arguments = ["edge", "tune", str(tmp_path / "net.onnx"), "--seconds", "1"]
    table = CliRunner().invoke(build(), arguments)
    assert table.exit_code == 0
    assert "Chosen: " in table.output
    assert not (tmp_path / TUNED_FILE).exists()
    data = json.loads(CliRunner().invoke(build(), [*arguments, "-o", "json"]).output)
    assert data["measured"][0]["threads"] == 1
    assert data["chosen"]["why"]
