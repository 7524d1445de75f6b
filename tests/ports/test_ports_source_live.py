"""The promise of a source that is read in a thread of its own, kept over real servers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewise.ports import Frame, Source, SystemClock, open_source
from edgewise.ports._source_thread import ThreadSource
from edgewise.wire import EdgewiseError, MqttSpec, NotNow, NotValid, SourceSpec
from edgewise.wire.sources import SOURCE
from field_servers import Broker, Listener, Machine, OpcUa, closing_all, free_port, needs_broker, until

FAST = {"retry_s_min": 0.05, "retry_s_max": 0.2}


@pytest.fixture
def hold() -> Iterator[Callable[[Any], Any]]:
    with closing_all() as hold:
        yield hold


@pytest.fixture
def broker(hold: Callable[[Any], Any], tmp_path: Path) -> Broker:
    needs_broker()
    return hold(Broker(tmp_path).start())


def opened(hold: Callable[[Any], Any], **spec: Any) -> Source:
    made: SourceSpec = SOURCE.validate_python(FAST | spec)
    return hold(open_source(made, None, clock=SystemClock()))


def taken(source: Source) -> Frame:
    """The next frame, soon."""
    frame = until(lambda: quiet(source), "a frame comes")
    assert isinstance(frame, Frame)
    return frame


def quiet(source: Source) -> Frame | None:
    try:
        return source.next()
    except EdgewiseError:
        return None


def error_of(source: Source) -> EdgewiseError | None:
    try:
        source.next()
    except EdgewiseError as error:
        return error
    return None


def row(frame: Frame) -> dict[str, Any]:
    assert frame.media_type == "application/json"
    return dict(json.loads(frame.data))


# -- the thread and its queue, without any server ----------------------------------------------------------------------


class Reading:
    """A reader that gives these, or raises them, once it is let go."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self._go = threading.Event()

    def __call__(self, source: ThreadSource) -> Iterator[Frame | None]:
        assert self._go.wait(10)
        while self.items:
            item = self.items.pop(0)
            if isinstance(item, Exception):
                raise item
            yield item
        source.stop.wait(10)
        yield None

    def begin(self, source: ThreadSource) -> None:
        """Ask for a first frame, when there is none yet, and let go."""
        assert source.next() is None
        self._go.set()


def frame(number: int, size: int = 1) -> Frame:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return Frame(name=f"f{number:03d}", data=b"x" * size, media_type="image/jpeg", taken_at=now)


@pytest.mark.parametrize(("when_full", "kept"), [("drop_oldest", [7, 8, 9]), ("drop_newest", [0, 1, 2])])
def test_what_finds_no_room_is_dropped_by_rule_and_counted(hold, when_full, kept):
    reader = Reading([frame(number) for number in range(10)])
    source = hold(ThreadSource(reader, name="x", queue_max=3, bytes_max=99, when_full=when_full))
    reader.begin(source)
    until(lambda: not reader.items and source.skipped == 7, "all are read")
    assert [source.next().name for _ in kept] == [f"f{number:03d}" for number in kept]
    assert source.next() is None
    assert "slower than this source" in source.last_skip


def test_a_source_that_nobody_asks_is_not_opened(hold):
    reader = Reading([frame(0)])
    source = hold(ThreadSource(reader, name="x", queue_max=3, bytes_max=99, when_full="wait"))
    assert not [thread for thread in threading.enumerate() if thread.name == "edgewise-source-x"]
    reader.begin(source)
    assert taken(source).name == "f000"


def test_a_queue_is_bounded_in_bytes_too(hold):
    reader = Reading([frame(0, 60), frame(1, 60), frame(2, 200)])
    source = hold(ThreadSource(reader, name="x", queue_max=9, bytes_max=100, when_full="drop_oldest"))
    reader.begin(source)
    until(lambda: source.skipped == 2, "all are read")
    assert source.next().name == "f001"
    assert "200 bytes, the queue holds 100" in source.last_skip


def test_a_source_that_can_wait_loses_nothing(hold):
    reader = Reading([frame(number) for number in range(50)])
    source = hold(ThreadSource(reader, name="x", queue_max=2, bytes_max=99, when_full="wait"))
    reader.begin(source)
    assert [taken(source).name for _ in range(50)] == [f"f{number:03d}" for number in range(50)]
    assert source.skipped == 0


def test_an_error_of_any_kind_is_told_and_the_source_is_opened_again(hold):
    reader = Reading([frame(0), RuntimeError("the driver is confused"), frame(1)])
    pauses = {"retry_s_min": 0.2, "retry_s_max": 0.2}
    source = hold(ThreadSource(reader, name="x", queue_max=9, bytes_max=99, when_full="wait", **pauses))
    reader.begin(source)
    assert taken(source).name == "f000"
    error = until(lambda: error_of(source), "the error is told")
    assert isinstance(error, NotNow)
    assert "the driver is confused" in str(error)
    assert taken(source).name == "f001"
    assert source.next() is None, "an error that is over is told no more"


# -- MQTT -----------------------------------------------------------------------------------------------------------


def test_messages_of_a_topic_are_frames(hold, broker):
    source = opened(
        hold, kind="mqtt", host="127.0.0.1", port=broker.port, topic="press/+", row={"time": "at", "facts": ["line"]}
    )
    mouth = hold(Listener(broker.port, "none"))
    listening(mouth, source)
    mouth.say("press/1", {"force": 3.5, "at": "2026-01-01T00:00:00Z", "line": "A"})
    seen = taken(source)
    assert row(seen) == {"force": 3.5}
    assert dict(seen.facts) == {"topic": "press/1", "line": "A"}
    assert seen.taken_at.isoformat() == "2026-01-01T00:00:00+00:00"
    mouth.say("press/2", b"\xff\xd8\xff\xe0 a picture")
    assert taken(source).media_type == "image/jpeg"


def listening(mouth: Listener, source: Source) -> None:
    """Say hello until the source hears it, and let it hear the last hello: what comes now is new."""
    said = 0

    def heard() -> Frame | None:
        nonlocal said
        said += 1
        mouth.say("press/hello", {"hello": said})
        time.sleep(0.02)
        return quiet(source)

    newest = row(until(heard, "the source listens"))
    while newest["hello"] < said:
        newest = row(taken(source))


def test_a_sensor_that_sends_text_is_passed_over_and_counted(hold, broker):
    source = opened(hold, kind="mqtt", host="127.0.0.1", port=broker.port, topic="press/+")
    mouth = hold(Listener(broker.port, "none"))
    listening(mouth, source)
    for number in range(200):
        mouth.say("press/1", b"ERROR: overheated" if number % 2 else {"force": "high"})
    mouth.say("press/1", {"force": 1})
    assert row(taken(source)) == {"force": 1}
    assert source.skipped == 200
    assert "press/1" in source.last_skip


def test_while_the_device_is_away_the_broker_keeps_its_messages(hold, broker):
    spec = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "topic": "press/+", "client": "d1-mqtt"}
    mouth = hold(Listener(broker.port, "none"))
    source = opened(hold, **spec)
    listening(mouth, source)
    source.close()
    for number in range(5):
        mouth.say("press/1", {"force": number})
    again = opened(hold, **spec)
    seen: list[float] = []
    while len(seen) < 5:
        values = row(taken(again))
        seen += [values["force"]] if "force" in values else []
    assert seen == [0, 1, 2, 3, 4]


def test_a_shared_subscription_gives_each_message_to_one_device(hold, broker):
    spec = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "topic": "press/+", "share": "inspectors"}
    mouth = hold(Listener(broker.port, "none"))
    sources = [opened(hold, **spec) for _ in range(2)]
    heard: list[Any] = [[], []]

    def collect() -> None:
        for number, source in enumerate(sources):
            while (seen := quiet(source)) is not None:
                heard[number].append(row(seen))

    def both_listen() -> bool:
        mouth.say("press/1", {"hello": 1})
        time.sleep(0.02)
        collect()
        return all(heard)

    until(both_listen, "both listen")
    for number in range(20):
        mouth.say("press/1", {"force": number})
    until(lambda: collect() or sum("force" in item for items in heard for item in items) >= 20, "all came")
    forces = [item["force"] for items in heard for item in items if "force" in item]
    assert sorted(forces) == list(range(20))


def test_a_broker_that_goes_and_comes_back_is_joined_again(hold, broker):
    source = opened(hold, kind="mqtt", host="127.0.0.1", port=broker.port, topic="press/+")
    mouth = hold(Listener(broker.port, "none"))
    listening(mouth, source)
    broker.stop()
    error = until(lambda: error_of(source), "the loss is told")
    assert isinstance(error, NotNow)
    assert "127.0.0.1" in str(error)
    broker.start()
    until(lambda: error_of(source) is None, "the loss is over, even before a message comes")


def test_a_wrong_password_is_for_a_person(hold, tmp_path, monkeypatch):
    needs_broker()
    (tmp_path / "users").write_text("")
    guarded = hold(Broker(tmp_path, lines=("allow_anonymous false", f"password_file {tmp_path}/users")).start())
    monkeypatch.setenv("BROKER_PASSWORD", "wrong")
    login = {"user": "ann", "password_env": "BROKER_PASSWORD"}
    source = opened(hold, kind="mqtt", host="127.0.0.1", port=guarded.port, topic="a", login=login)
    error = until(lambda: error_of(source), "the refusal is told")
    assert isinstance(error, NotValid)
    assert "user" in str(error)
    monkeypatch.delenv("BROKER_PASSWORD")
    spec = MqttSpec.model_validate({"host": "127.0.0.1", "topic": "a", "login": login})
    with pytest.raises(NotValid, match="environment variable BROKER_PASSWORD"):
        open_source(spec, None, clock=SystemClock())


# -- Modbus ---------------------------------------------------------------------------------------------------------

REGISTERS = [
    {"column": "force", "address": 10, "type": "int16", "scale": 0.1},
    {"column": "count", "address": 12, "type": "uint32"},
    {"column": "heat", "address": 14, "type": "float32", "words": "little"},
    {"column": "open", "address": 3, "table": "coil", "type": "bool"},
]


def plc() -> Machine:
    return Machine({10: [0xFFFE], 12: [1, 2, 0, 0x41C8]}, coils={0: [False] * 3 + [True] + [False] * 12})


def test_registers_are_read_together_as_a_row(hold):
    machine = hold(plc().start())
    source = opened(
        hold, kind="modbus", host="127.0.0.1", port=machine.port, every_s=0.02, registers=REGISTERS, group="p"
    )
    seen = taken(source)
    assert row(seen) == {"force": -0.2, "count": 65_538.0, "heat": 25.0, "open": 1.0}
    assert seen.group == "p"
    assert taken(source).name != seen.name


def test_a_register_that_does_not_exist_is_for_a_person(hold):
    machine = hold(plc().start())
    wrong = [{"column": "x", "address": 500}]
    source = opened(hold, kind="modbus", host="127.0.0.1", port=machine.port, registers=wrong)
    error = until(lambda: error_of(source), "the refusal is told")
    assert isinstance(error, NotValid)
    assert "no such register" in str(error)


def test_a_machine_that_is_off_is_told_and_read_when_it_is_on(hold, capfd):
    machine = plc()
    source = opened(hold, kind="modbus", host="127.0.0.1", port=machine.port, every_s=0.02, registers=REGISTERS)
    error = until(lambda: error_of(source), "it is off")
    assert isinstance(error, NotNow)
    assert "does not answer" in str(error)
    hold(machine.start())
    assert row(taken(source))["count"] == 65_538.0
    assert capfd.readouterr() == ("", ""), "the library's own messages would come a thousand times"


def inverter() -> dict[int, list[int]]:
    """A three-phase inverter (model 103) behind a common block, and a model that we do not know."""
    common = [1, 4, 0, 0, 0, 0]
    values = [0xFFFF] * 50
    values[0:5] = [231, 77, 77, 77, 0xFFFF]  # A, phases, scale -1
    values[8:12] = [2301, 2302, 0xFFFF, 0xFFFF]  # two phase voltages, V_SF = -1
    values[12:14] = [0xFF38, 1]  # W = -200 x 10
    values[22:25] = [1, 0, 0x8000]  # WH, whose scale says that there is none
    values[31] = 412  # TmpCab
    values[35:37] = [0xFFFF, 4]  # Tmp_SF -1, St
    return {40_000: [0x5375, 0x6E53, *common, 64_999, 2, 7, 7, 103, 50, *values, 0xFFFF, 0]}


def test_a_sunspec_machine_is_found_and_read_by_itself(hold):
    machine = hold(Machine(inverter()).start())
    source = opened(hold, kind="modbus", host="127.0.0.1", port=machine.port, every_s=0.02, sunspec={})
    values = row(taken(source))
    assert values["inverter.A"] == 23.1
    assert values["inverter.PhVphA"] == 230.1
    assert values["inverter.PhVphB"] == 230.2
    assert values["inverter.PhVphC"] is None
    assert values["inverter.W"] == -2000
    assert values["inverter.WH"] is None
    assert values["inverter.TmpCab"] == 41.2
    assert values["inverter.St"] == 4


def test_single_points_and_registers_of_unknown_models_can_be_named(hold):
    machine = hold(Machine(inverter()).start())
    own = [{"column": "own", "address": 3, "model": 64_999}]
    source = opened(
        hold, kind="modbus", host="127.0.0.1", port=machine.port, every_s=0.02, sunspec={"points": ["W"]}, registers=own
    )
    assert row(taken(source)) == {"own": 7, "inverter.W": -2000}


def test_a_machine_without_a_sunspec_map_is_for_a_person(hold):
    machine = hold(plc().start())
    source = opened(hold, kind="modbus", host="127.0.0.1", port=machine.port, sunspec={})
    error = until(lambda: error_of(source), "it is told")
    assert isinstance(error, NotValid)
    assert "no SunSpec map" in str(error)


# -- OPC UA ------------------------------------------------------------------------------------------------------------

NODES = [{"column": "force", "node": "ns=2;s=Force"}, {"column": "open", "node": "ns=2;s=Open"}]


@pytest.fixture(scope="module")
def only_server() -> Iterator[OpcUa]:
    server = OpcUa({"Force": 1.5, "Open": True, "Text": "high"}, users={"ann": "good"}).start()
    yield server
    server.stop()


@pytest.fixture
def server(only_server: OpcUa) -> OpcUa:
    only_server.write("Force", 1.5)
    only_server.write("Open", True)
    return only_server


def newest(source: Source, **wanted: Any) -> None:
    """Rows come until one says this."""
    until(lambda: (seen := quiet(source)) is not None and row(seen) == wanted, f"a row of {wanted}")


def test_nodes_are_a_row_whenever_one_changes(hold, server):
    source = opened(hold, kind="opcua", url=server.url, nodes=NODES, every_s=0.05, group="press")
    newest(source, force=1.5, open=1)
    server.write("Force", 2.5)
    newest(source, force=2.5, open=1)
    server.write("Open", False)
    newest(source, force=2.5, open=0)
    time.sleep(0.2)
    assert source.next() is None, "without a change there is no row"


def test_a_value_that_its_server_does_not_trust_is_missing(hold, server):
    source = opened(hold, kind="opcua", url=server.url, nodes=NODES, every_s=0.05)
    newest(source, force=1.5, open=1)
    server.write_bad("Force")
    newest(source, force=None, open=1)


def test_a_node_with_text_is_passed_over_and_counted(hold, server):
    node = {"column": "force", "node": "ns=2;s=Text"}
    source = opened(hold, kind="opcua", url=server.url, nodes=[node], every_s=0.05)
    until(lambda: source.next() is None and source.skipped, "it is counted")
    assert "force is 'high', needs a finite number" in source.last_skip


def test_an_opc_ua_server_is_joined_when_it_comes_and_missed_when_it_goes(hold, capfd):
    server = OpcUa({"Force": 1.5, "Open": True})
    spec = {"kind": "opcua", "url": server.url, "nodes": NODES, "every_s": 0.05, "timeout_s": 2, "silence_s_max": 0.5}
    source = opened(hold, **spec)
    assert isinstance(until(lambda: error_of(source), "nobody is there"), NotNow)
    server.start()
    newest(source, force=1.5, open=1)
    server.stop()
    assert isinstance(until(lambda: error_of(source), "the loss is told"), NotNow)
    assert capfd.readouterr() == ("", ""), "asyncua's own messages would come a thousand times"


@pytest.mark.parametrize(("node", "says"), [("ns=2;s=None", "BadNodeIdUnknown"), ("i=x", "is not a node id")])
def test_a_node_that_is_not_there_is_for_a_person(hold, server, node, says):
    source = opened(hold, kind="opcua", url=server.url, nodes=[{"column": "x", "node": node}])
    error = until(lambda: error_of(source), "it is told")
    assert isinstance(error, NotValid)
    assert says in str(error)


def test_a_user_whom_the_server_refuses_is_for_a_person(hold, server, monkeypatch):
    monkeypatch.setenv("OPC_PASSWORD", "wrong")
    login = {"user": "ann", "password_env": "OPC_PASSWORD"}
    spec = {"kind": "opcua", "url": server.url, "nodes": NODES[:1], "login": login, "every_s": 0.05}
    source = opened(hold, **spec)
    error = until(lambda: error_of(source), "it is told")
    assert isinstance(error, NotValid)
    assert "refuses us" in str(error)
    monkeypatch.setenv("OPC_PASSWORD", "good")
    newest(opened(hold, **spec), force=1.5)


# -- every live source ----------------------------------------------------------------------------------------------

NOBODY: dict[str, dict[str, Any]] = {
    "mqtt": {"kind": "mqtt", "host": "127.0.0.1", "topic": "a"},
    "modbus": {"kind": "modbus", "host": "127.0.0.1", "registers": [{"column": "a", "address": 1}]},
    "opcua": {"kind": "opcua", "nodes": NODES},
}


@pytest.mark.parametrize("kind", NOBODY)
def test_looking_for_a_frame_waits_for_nothing_and_closing_is_quick(hold, kind):
    port = free_port()
    place = {"url": f"opc.tcp://127.0.0.1:{port}"} if kind == "opcua" else {"port": port}
    source = opened(hold, **NOBODY[kind], **place)
    until(lambda: error_of(source), "nobody is there")
    began = time.monotonic()
    for _ in range(1000):
        quiet(source)
    assert time.monotonic() - began < 1.0, "a look takes far less than a millisecond"
    began = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - began < 3.0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgewise-source")]
