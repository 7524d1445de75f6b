"""One promise for every runtime: in this process, in a worker, made of numbers."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

import numpy as np
import pytest
from onnx import helper

from edgewise.frames import golden_inputs
from edgewise.ports import (
    IsolatingRuntime,
    IsolationRule,
    MemoryRuntime,
    OnnxRuntime,
    Runtime,
    RuntimeSettings,
    Session,
    WorkerRuntime,
)
from edgewise.ports._isolate import reason_to_isolate
from edgewise.ports._runtime_settings import chosen_providers
from edgewise.wire import ImageSpec, NotValid
from networks import growing_network, info, onnx_model, picture_network, text_network

SPEC = ImageSpec(width=12, height=10, per_image=True)
RUNTIMES: dict[str, tuple[Runtime, bytes]] = {
    "onnx": (OnnxRuntime(), picture_network()),
    "worker": (WorkerRuntime(), picture_network()),
    "memory": (MemoryRuntime(), b'{"classes": 3, "seed": 7, "embedding": 4}'),
}


@dataclass
class Network:
    runtime: Runtime
    model: bytes
    session: Session


@pytest.fixture(params=list(RUNTIMES), scope="module")
def network(request) -> Network:
    runtime, model = RUNTIMES[request.param]
    return Network(runtime, model, runtime.open(model, threads=1))


# The runtime's promise


def test_a_session_gives_probabilities_and_embeddings_for_every_row(network):
    session = network.session
    results = session.run(golden_inputs(SPEC, 1, 5))
    assert results["scores"].shape == (5, 3)
    assert results["scores"].sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert results["embedding"].shape == (5, 4)
    assert [tensor.name for tensor in session.inputs] == ["input"]
    assert {tensor.name: tensor.dtype for tensor in session.outputs} == {"scores": "float32", "embedding": "float32"}


def test_the_same_bytes_give_the_same_answers(network):
    values = golden_inputs(SPEC, 1, 2)
    first, second = network.session.run(values), network.runtime.open(network.model).run(values)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_outputs_can_be_asked_for_by_name(network):
    session, values = network.session, golden_inputs(SPEC, 1, 2)
    assert list(session.run_named({"input": values}, ["embedding"])) == ["embedding"]
    assert set(session.run_named({"input": values})) == {"scores", "embedding"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda session: session.run(np.zeros(3, np.float32)),
        lambda session: session.run(np.zeros((1, 1, 10, 12), np.float64)),
        lambda session: session.run_named({"other": np.zeros((1, 1, 10, 12), np.float32)}),
        lambda session: session.run_named({"input": np.zeros((1, 1, 10, 12), np.float32)}, ["nothing"]),
    ],
)
def test_a_wrong_input_is_the_callers_fault(network, ask, capfd):
    with pytest.raises(NotValid) as caught:
        ask(network.session)
    assert caught.value.code == "run_failed"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("data", [b"", b"not a network", b"{}", b"[]", picture_network()[:-50]])
def test_bytes_that_are_no_network_are_refused(network, data):
    with pytest.raises(NotValid):
        network.runtime.open(data)


@pytest.mark.parametrize("runtime", [OnnxRuntime(), WorkerRuntime()], ids=["onnx", "worker"])
def test_a_network_with_two_inputs_runs_by_name_only(runtime):
    model = onnx_model(
        [helper.make_node("Add", ["a", "b"], ["sum"])], [info("a", [2]), info("b", [2])], [info("sum", [2])]
    )
    session = runtime.open(model)
    values = np.ones(2, np.float32)
    assert session.run_named({"a": values, "b": values})["sum"].tolist() == [2, 2]
    with pytest.raises(NotValid, match="2 inputs"):
        session.run(values)


def test_a_simulated_trainer_can_set_the_readout():
    model = json.dumps({"classes": 2, "seed": 1, "embedding": 1, "readout": [[0], [0]], "bias": [3, 0]}).encode()
    scores = MemoryRuntime().open(model).run(np.ones((1, 4), np.float32))["scores"]
    assert scores[0, 0] > 0.9


# Bound to buffers


def test_a_bound_session_gives_what_a_run_by_name_gives_bit_for_bit(network):
    bound = network.session.bind((1, 1, 10, 12), ["scores", "embedding"])
    for row in golden_inputs(SPEC, 4, 3):
        bound.input[...] = row[None]
        seen = {name: value.copy() for name, value in bound.run().items()}
        wanted = network.session.run_named({"input": row[None]}, ["scores", "embedding"])
        assert all(np.array_equal(seen[name], wanted[name]) for name in wanted)


def test_runs_by_name_leave_a_bound_session_alone(network):
    bound = network.session.bind((1, 1, 10, 12))
    frame, other = golden_inputs(SPEC, 5, 2)[:, None]
    bound.input[...] = frame
    network.session.run(other)
    assert np.array_equal(bound.run()["scores"], network.session.run(frame)["scores"])


def test_two_bound_sessions_take_turns(network):
    one, two = network.session.bind((1, 1, 10, 12)), network.session.bind((2, 1, 10, 12))
    values = golden_inputs(SPEC, 6, 2)
    one.input[...] = values[:1]
    two.input[...] = values
    for _ in range(2):
        assert np.array_equal(two.run()["scores"], network.session.run(values)["scores"])
        one.input[...] = values[:1]
        assert np.array_equal(one.run()["scores"], network.session.run(values[:1])["scores"])
        two.input[...] = values


def test_a_shape_that_does_not_fit_is_told_by_the_run_not_by_binding(network):
    if network.session.inputs[0].shape is None:
        pytest.skip("this runtime takes any shape")
    with pytest.raises(NotValid) as caught:
        network.session.bind((1, 7)).run()
    assert caught.value.code == "run_failed"


def test_threads_may_share_a_session(network):
    values = golden_inputs(SPEC, 1, 2)
    wanted, wrong = network.session.run(values)["scores"], []

    def ask() -> None:
        wrong.extend(1 for _ in range(20) if not np.array_equal(network.session.run(values)["scores"], wanted))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


REAL = pytest.mark.parametrize("runtime", [OnnxRuntime(), WorkerRuntime()], ids=["onnx", "worker"])


@REAL
def test_outputs_that_change_their_shape_come_back_whole(runtime):
    bound = runtime.open(growing_network()).bind((1, 4))
    for count in (4, 1, 3):
        bound.input[...] = [[1.0] * count + [0.0] * (4 - count)]
        assert bound.run()["out"].shape == (2, count)


@REAL
def test_text_goes_in_and_out(runtime):
    session = runtime.open(text_network())
    words = np.array(["Riß", "", "a" * 1000], dtype=object)
    assert session.run_named({"words": words})["same"].tolist() == words.tolist()
    assert session.bind((3,)).input.dtype == object


# Settings


def test_the_runtime_says_which_providers_are_there():
    with pytest.raises(NotValid, match=r"cuda is not in the ONNX Runtime installed here, which has .*cpu") as no:
        OnnxRuntime(RuntimeSettings(providers=("cuda",))).open(picture_network())
    assert no.value.code == "provider_missing"
    OnnxRuntime(RuntimeSettings(providers=("auto",))).open(picture_network())


def test_what_was_asked_for_comes_first_and_the_processor_last():
    there = ["CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"]
    assert chosen_providers(("cuda", "cpu"), there) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert chosen_providers(("auto",), there)[0] == "TensorrtExecutionProvider"


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"providers": ("gpu",)}, {"warm_up_runs": 101}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(NotValid):
        RuntimeSettings(**wrong)


def test_more_threads_and_spinning_give_the_same_answers():
    values = golden_inputs(SPEC, 1, 2)
    wanted = OnnxRuntime().open(picture_network()).run(values)
    seen = OnnxRuntime(RuntimeSettings(threads=2, spinning=True)).open(picture_network()).run(values)
    assert np.allclose(seen["scores"], wanted["scores"], atol=1e-6)


# Inline or isolated


def test_the_trusted_and_tiny_run_inline_and_the_rest_in_workers():
    tiny, rule = picture_network(), IsolationRule()
    assert reason_to_isolate(tiny, rule) is None
    assert reason_to_isolate(tiny, IsolationRule(trusted=False)) == "nobody vouches for it"
    assert "bytes" in str(reason_to_isolate(tiny, IsolationRule(inline_bytes_max=100)))
    assert "NonZero" in str(reason_to_isolate(growing_network(), rule))
    assert reason_to_isolate(growing_network(), IsolationRule(isolate="never")) is None
    assert reason_to_isolate(tiny, IsolationRule(isolate="always")) == "isolate is always"


def test_an_isolating_runtime_opens_each_where_it_belongs():
    runtime = IsolatingRuntime()
    runtime.open(picture_network()).run(golden_inputs(SPEC, 1, 1))
    grown = runtime.open(growing_network()).run(np.ones((1, 4), np.float32))["out"]
    assert grown.shape == (2, 4)
    assert runtime.opened == {"inline": 1, "worker": 1}
    assert runtime.workers.counts["started"] == 1
