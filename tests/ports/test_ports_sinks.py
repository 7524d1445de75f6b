"""The promise of a sink, kept by real servers, files, the console and the list in memory; then what each adds."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from conftest import missing
from edgewise.ports import MemoryClock, MemorySink, Sink, open_sink
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid, SinkEvent, SinkSpec
from field_servers import Broker, Hook, Listener, Machine, closing_all, needs_broker, until

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SPEC: TypeAdapter[SinkSpec] = TypeAdapter(SinkSpec)
GATE = {"name": "gate", "address": 7, "min": 0, "max": 10}


def event(label: str = "crack", number: int = 1, **more: Any) -> SinkEvent:
    values: dict[str, Any] = {
        "id": f"{number:032x}", "event": "alarm", "at": NOW, "device": "d1", "site": "north", "use_case": "parts",
        "frame": f"f{number}", "label": label, "confidence": 0.9, "margin": 0.8, "bundle": "b" * 64, "text": "a crack",
    }  # fmt: skip
    return SinkEvent.model_validate(values | more)


@pytest.fixture
def hold() -> Iterator[Callable[[Any], Any]]:
    with closing_all() as hold:
        yield hold


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock(NOW)


class Opened:
    """A sink and how to see what reached the other side."""

    def __init__(self, sink: Sink, seen: Callable[[], list[str]]) -> None:
        self.sink, self.seen = sink, seen


def opening(folder: Path, clock: MemoryClock, **spec: Any) -> Sink:
    made = SPEC.validate_python({"name": "s", "timeout_s": 3} | spec)
    return open_sink(made, folder=folder, device="d1", clock=clock)


@pytest.fixture(params=["memory", "file", "console", "webhook", "mqtt", "modbus"])
def opened(request, hold, tmp_path, clock, capsys) -> Opened:
    def make(**spec: Any) -> Sink:
        return hold(opening(tmp_path, clock, **spec))

    match request.param:
        case "memory":
            sink = hold(MemorySink())
            return Opened(sink, lambda: [item.label for item in sink.events])
        case "file":
            file = tmp_path / "sinks" / "events.jsonl"
            return Opened(
                make(kind="file", path="events.jsonl"),
                lambda: [json.loads(line)["label"] for line in file.read_text().splitlines()],
            )
        case "console":
            lines: list[str] = []

            def read() -> list[str]:
                lines.extend(json.loads(line)["label"] for line in capsys.readouterr().out.splitlines())
                return lines

            return Opened(make(kind="console", format="json"), read)
        case "webhook":
            hook = hold(Hook())
            return Opened(
                make(kind="webhook", url=hook.url), lambda: [json.loads(body)["label"] for _, body in hook.posts]
            )
        case "mqtt":
            broker = brokered(hold, tmp_path)
            ear = hold(Listener(broker.port))
            sink = make(kind="mqtt", host="127.0.0.1", port=broker.port, topic="alarms")

            def heard() -> list[str]:
                until(lambda: len(ear.heard) >= 2, "both are heard")
                return [item["label"] for item in ear.on("alarms")]

            return Opened(sink, heard)
    machine = hold(Machine({7: [0]}).start())
    writes = [{"labels": ["crack"], "to": "gate", "value": 3}, {"labels": ["pit"], "to": "gate", "value": 4}]
    names = {3: "crack", 4: "pit"}
    sink = make(kind="modbus", host="127.0.0.1", port=machine.port, registers=[GATE], writes=writes)
    return Opened(sink, lambda: [names[values[0]] for _, values in machine.writes])


def brokered(hold: Callable[[Any], Any], folder: Path) -> Broker:
    needs_broker()
    return hold(Broker(folder).start())


def test_what_was_sent_is_there_in_order_when_the_call_comes_back(opened):
    opened.sink.send(event("crack", 1))
    opened.sink.idle()
    opened.sink.send(event("pit", 2))
    assert opened.seen() == ["crack", "pit"]


def test_closing_twice_is_closing_once(opened):
    opened.sink.send(event("crack", 1))
    opened.sink.close()
    opened.sink.close()


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "webhook", "url": "http://127.0.0.1:9/hook"},
        {"kind": "mqtt", "host": "127.0.0.1", "port": 9, "topic": "a"},
        {"kind": "modbus", "host": "127.0.0.1", "port": 9, "registers": [GATE], "writes": [{"to": "gate", "value": 1}]},
    ],
    ids=lambda spec: spec["kind"],
)
def test_where_nobody_answers_it_is_not_now(hold, tmp_path, clock, spec):
    sink = hold(opening(tmp_path, clock, **spec))
    with pytest.raises(NotNow, match=r"127\.0\.0\.1"):
        sink.send(event())


# -- webhook -----------------------------------------------------------------------------------------------------------


def test_a_post_is_signed_and_names_its_event(hold, tmp_path, clock, monkeypatch):
    hook = hold(Hook())
    monkeypatch.setenv("EDGEWISE_SECRET_HOOK", "s3cret")
    token = tmp_path / "secrets" / "hook-token"
    token.parent.mkdir()
    token.write_text("t0ken\n")
    token.chmod(0o600)
    sink = hold(
        opening(
            tmp_path, clock, kind="webhook", url=hook.url, secret_env="EDGEWISE_SECRET_HOOK", token_file="hook-token"
        )
    )
    sink.send(event(number=7))
    headers, body = hook.posts[0]
    assert headers["idempotency-key"] == f"{7:032x}"
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["x-edgewise-timestamp"] == str(int(NOW.timestamp()))
    wanted = hmac.new(b"s3cret", headers["x-edgewise-timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["x-edgewise-signature"] == f"sha256={wanted}"
    token.chmod(0o644)
    with pytest.raises(NotTrusted, match="chmod 600"):
        opening(tmp_path, clock, kind="webhook", url=hook.url, token_file="hook-token")


@pytest.mark.parametrize(
    ("status", "family"),
    [(500, NotNow), (503, NotNow), (408, NotNow), (429, NotNow), (400, NotValid), (404, NotValid), (302, NotValid)],
)
def test_an_answer_says_whether_to_try_again(hold, tmp_path, clock, status, family):
    hook = hold(Hook())
    hook.answers = [status]
    sink = hold(opening(tmp_path, clock, kind="webhook", url=hook.url))
    with pytest.raises(family, match=f"answers {status}"):
        sink.send(event())
    assert len(hook.posts) == 1
    sink.send(event())


@pytest.mark.parametrize(
    "where",
    [
        {"token_file": "/etc/shadow"},
        {"token_file": "../data.key"},
        {"token_file": ".hidden"},
        {"secret_file": "a/b"},
        {"token_env": "EDGEWISE_EDGE_DATA_KEY"},
        {"secret_env": "AWS_SECRET_ACCESS_KEY"},
    ],
    ids=str,
)
def test_a_use_case_cannot_have_the_devices_other_secrets_sent(where):
    with pytest.raises(ValueError, match="pattern"):
        SPEC.validate_python({"kind": "webhook", "name": "w", "url": "https://evil.example"} | where)
    login = {"user": "a"} | {
        key.replace("token", "password").replace("secret", "password"): v for key, v in where.items()
    }
    with pytest.raises(ValueError, match="pattern"):
        SPEC.validate_python({"kind": "mqtt", "name": "m", "host": "evil.example", "topic": "a", "login": login})


def test_a_sink_logs_in_with_the_password_that_lies_on_the_device(hold, tmp_path, clock):
    needs_broker()
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "broker").write_text("right\n")
    (secrets / "broker").chmod(0o600)
    passwords = shutil.which("mosquitto_passwd")
    if passwords is None:
        missing("mosquitto", "mosquitto_passwd is not installed")
    subprocess.run([passwords, "-b", "-c", str(tmp_path / "users"), "ann", "right"], check=True, capture_output=True)
    guarded = hold(Broker(tmp_path, lines=("allow_anonymous false", f"password_file {tmp_path}/users")).start())
    spec = {"kind": "mqtt", "host": "127.0.0.1", "port": guarded.port, "topic": "a"}
    hold(opening(tmp_path, clock, login={"user": "ann", "password_file": "broker"}, **spec)).send(event())
    (secrets / "broker").write_text("wrong\n")
    with pytest.raises(NotValid, match=r"refuses (this user|user or password)"):
        hold(opening(tmp_path, clock, login={"user": "ann", "password_file": "broker"}, **spec)).send(event())


# -- MQTT --------------------------------------------------------------------------------------------------------------


def test_a_topic_is_made_of_the_event_and_cannot_be_widened_by_a_label(hold, tmp_path, clock):
    broker = brokered(hold, tmp_path)
    ear = hold(Listener(broker.port))
    topic = "{site}/{device}/{event}/{label}"
    sink = hold(opening(tmp_path, clock, kind="mqtt", host="127.0.0.1", port=broker.port, topic=topic))
    sink.send(event("a/#/b"))
    until(lambda: ear.heard, "it is heard")
    assert ear.heard[0][0] == "north/d1/alarm/a___b"


def test_the_broker_knows_whether_the_device_is_there(hold, tmp_path, clock):
    broker = brokered(hold, tmp_path)
    ear = hold(Listener(broker.port))
    spec = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "topic": "a", "status_topic": "{device}/status"}
    sink = hold(opening(tmp_path, clock, **spec))
    sink.idle()
    until(lambda: ear.on("d1/status") == [{"online": True}], "it says that it is there")
    sink.close()
    until(lambda: ear.on("d1/status")[-1] == {"online": False}, "it says good-bye")
    lost = opening(tmp_path, clock, **spec)
    lost.idle()
    until(lambda: ear.on("d1/status")[-1] == {"online": True}, "it is back")
    lost._line._client.socket().close()  # as a device whose cable is pulled
    until(lambda: ear.on("d1/status")[-1] == {"online": False}, "the broker says that it is lost")
    late = hold(Listener(broker.port, "d1/status"))
    until(lambda: late.heard and late.heard[0][2], "who comes later is told too")
    lost.close()


def test_a_broker_that_was_away_is_found_again(hold, tmp_path, clock):
    broker = brokered(hold, tmp_path)
    sink = hold(opening(tmp_path, clock, kind="mqtt", host="127.0.0.1", port=broker.port, topic="a"))
    sink.send(event())
    broker.stop()
    with pytest.raises(NotNow):
        sink.send(event())
    broker.start()
    ear = hold(Listener(broker.port))
    sink.send(event("pit"))
    until(lambda: [item["label"] for item in ear.on("a")] == ["pit"], "it is heard")


# -- Modbus ------------------------------------------------------------------------------------------------------------


def writing(hold: Any, folder: Path, clock: MemoryClock, machine: Machine, **register: Any) -> Sink:
    writes = [{"labels": [f"to {value}"], "to": "gate", "value": value} for value in (0, 2, 3, 9)]
    spec = {"kind": "modbus", "host": "127.0.0.1", "port": machine.port, "registers": [GATE | register]}
    return hold(opening(folder, clock, writes=writes, **spec))


def test_a_step_that_is_too_large_is_refused_and_nothing_is_written(hold, tmp_path, clock):
    machine = hold(Machine({7: [1]}).start())
    sink = writing(hold, tmp_path, clock, machine, step_max=2)
    with pytest.raises(NotValid, match="it is 1 now, the largest step is 2"):
        sink.send(event("to 9"))
    assert machine.writes == []
    sink.send(event("to 3"))
    assert machine.writes == [(7, [3])]


def test_writes_that_come_too_soon_are_refused_except_the_same_one(hold, tmp_path, clock):
    machine = hold(Machine({7: [1]}).start())
    sink = writing(hold, tmp_path, clock, machine, interval_s_min=10)
    sink.send(event("to 3"))
    sink.send(event("to 3"))
    with pytest.raises(NotValid, match="of 10 s have passed"):
        sink.send(event("to 2"))
    clock.advance(10)
    sink.send(event("to 2"))
    assert [values for _, values in machine.writes] == [[3], [2]]


def test_what_is_not_held_is_not_written_for_good(hold, tmp_path, clock):
    machine = hold(Machine({7: [1]}, stubborn=True).start())
    sink = writing(hold, tmp_path, clock, machine)
    with pytest.raises(NotNow, match="was written 3 and reads 1"):
        sink.send(event("to 3"))


def test_without_news_and_at_the_end_a_register_is_safe(hold, tmp_path, clock):
    machine = hold(Machine({7: [1]}).start())
    sink = writing(hold, tmp_path, clock, machine, safe=0, hold_s=5, step_max=3, interval_s_min=60)
    sink.idle()
    assert machine.writes == [], "what was never written is left alone"
    sink.send(event("to 3"))
    clock.advance(4)
    sink.idle()
    clock.advance(1)
    sink.idle()
    sink.idle()
    assert [values for _, values in machine.writes] == [[3], [0]]
    clock.advance(60)
    sink.send(event("to 2"))
    sink.close()
    assert [values for _, values in machine.writes] == [[3], [0], [2], [0]]


def test_a_label_without_a_write_writes_nothing(hold, tmp_path, clock):
    machine = hold(Machine({7: [1]}).start())
    writing(hold, tmp_path, clock, machine).send(event("good"))
    assert machine.writes == []


def test_a_coil_is_switched(hold, tmp_path, clock):
    machine = hold(Machine({7: [1]}, coils={0: [False] * 16}).start())
    gate = {"name": "gate", "address": 2, "table": "coil", "type": "bool", "min": 0, "max": 1}
    spec = {"kind": "modbus", "host": "127.0.0.1", "port": machine.port, "registers": [gate]}
    sink = hold(opening(tmp_path, clock, writes=[{"to": "gate", "value": 1}], **spec))
    sink.send(event())
    assert machine.writes == [(2, [1])]


def test_a_register_that_the_machine_refuses_is_for_a_person(hold, tmp_path, clock):
    machine = hold(Machine({9: [1]}).start())
    with pytest.raises(NotValid, match="no such register"):
        writing(hold, tmp_path, clock, machine).send(event("to 3"))


# -- file and console --------------------------------------------------------------------------------------------------


def test_a_file_is_rotated_and_stays_below_its_bound(hold, tmp_path, clock):
    sink = hold(opening(tmp_path, clock, kind="file", path="line/a.jsonl", bytes_max=2000, files_max=3))
    for number in range(40):
        sink.send(event(number=number))
    files = sorted((tmp_path / "sinks" / "line").iterdir())
    assert [file.name for file in files] == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    names = [json.loads(line)["frame"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert names == [f"f{number}" for number in range(40 - len(names), 40)]
    assert len(names) > 8


def test_one_file_alone_begins_anew(hold, tmp_path, clock):
    sink = hold(opening(tmp_path, clock, kind="file", path="a.jsonl", bytes_max=1000, files_max=1))
    for number in range(9):
        sink.send(event(number=number))
    assert [file.name for file in (tmp_path / "sinks").iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("path", ["/etc/motd", "../device.json", "a/../../b", "", "c:/x", "a//b", "./a"])
def test_a_file_stays_inside_of_its_folder(path):
    with pytest.raises(ValueError, match=r"leads out|at least 1"):
        SPEC.validate_python({"kind": "file", "name": "f", "path": path})


def test_a_file_that_cannot_be_written_says_so(hold, tmp_path, clock):
    (tmp_path / "sinks").write_text("in the way")
    sink = hold(opening(tmp_path, clock, kind="file", path="a.jsonl"))
    with pytest.raises(EdgewiseError, match=r"a\.jsonl"):
        sink.send(event())


def test_the_console_speaks_to_people(hold, tmp_path, clock, capsys):
    hold(opening(tmp_path, clock, kind="console")).send(event())
    assert capsys.readouterr().out == "2026-03-04 05:06:07 alarm crack (0.90) on f1: a crack\n"
