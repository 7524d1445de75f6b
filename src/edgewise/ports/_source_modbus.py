"""Registers of a Modbus machine as rows, those of SunSpec machines found by themselves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgewise.ports._clock import Clock
from edgewise.ports._modbus import ModbusLine, Table
from edgewise.ports._registers import blocks, number_of, scaled
from edgewise.ports._rows import live_name, row_frame
from edgewise.ports._source import Frame
from edgewise.ports._source_thread import ThreadSource, live_source
from edgewise.ports._sunspec import ABSENT, Block, Point, find_blocks, named_points
from edgewise.wire import ModbusSpec, NotValid, Register, RowFields, SunSpec
from edgewise.wire.sources import REGISTER_WORDS

Values = Mapping[tuple[Table, int], int]  # words by table and address


@dataclass(frozen=True, slots=True)
class Reading:
    """One column: where it is, absolutely, and how its words become a number."""

    register: Register
    address: int
    scale_address: int | None

    def spans(self) -> Iterator[tuple[Table, tuple[int, int]]]:
        """The registers it needs."""
        yield self.register.table, (self.address, REGISTER_WORDS[self.register.type])
        if self.scale_address is not None:
            yield "holding", (self.scale_address, 1)

    def number(self, values: Values) -> float | None:
        """Its number; None where the machine says that it has none."""
        register, width = self.register, REGISTER_WORDS[self.register.type]
        raw = number_of(
            [values[register.table, self.address + at] for at in range(width)], register.type, register.words
        )
        if raw == register.missing or not math.isfinite(raw):
            return None
        if self.scale_address is not None:
            power = number_of([values["holding", self.scale_address]], "int16")
            if not -10 <= power <= 10:  # the range of a sunssf; 0x8000 says that there is none
                return None
            raw = scaled(raw, int(power))
        return raw * register.scale + register.offset


def modbus_source(spec: ModbusSpec, *, clock: Clock) -> ThreadSource:
    """Rows of a machine's registers, one every ``every_s``.

    Raises:
        NotValid: the Modbus library is not installed.
    """
    count = itertools.count(1)
    ModbusLine(spec.host, spec.port, spec.unit, timeout_s=spec.timeout_s)  # says at once what is not installed

    def read(source: ThreadSource) -> Iterator[Frame | None]:
        line = ModbusLine(spec.host, spec.port, spec.unit, timeout_s=spec.timeout_s)
        try:
            readings = _readings(line, spec)
            due_s = clock.monotonic_s()
            while True:
                values = _read_all(line, readings)
                source.well()
                now = clock.now()
                row = {reading.register.column: reading.number(values) for reading in readings}
                try:
                    name = live_name(spec.name, now, next(count))
                    yield row_frame(row, RowFields(), name=name, taken_at=now, group=spec.group)
                except NotValid as error:
                    source.skip(f"{spec.host}: {error}")
                due_s = max(due_s + spec.every_s, clock.monotonic_s())
                source.stop.wait(due_s - clock.monotonic_s())
                yield None
        finally:
            line.close()

    return live_source(read, spec)


def _readings(line: ModbusLine, spec: ModbusSpec) -> list[Reading]:
    """Every column with its absolute addresses. NotValid: a model that the machine does not have."""
    needs_map = spec.sunspec is not None or any(register.model is not None for register in spec.registers)
    found = (
        find_blocks(lambda at, count: line.read("holding", at, count), spec.sunspec or SunSpec()) if needs_map else []
    )
    made = [_of_register(register, found) for register in spec.registers]
    if spec.sunspec is not None:
        made += [_of_point(column, block, point) for column, block, point in named_points(found, spec.sunspec)]
    if not made:
        models = ", ".join(str(block.model) for block in found)
        raise NotValid(f"{spec.host} has the SunSpec models {models}, none of which is to be read", code="sunspec_none")
    return made


def _of_register(register: Register, found: Sequence[Block]) -> Reading:
    if register.model is None:
        return Reading(register, register.address, register.scale_address)
    start = next((block.address for block in found if block.model == register.model), None)
    if start is None:
        raise NotValid(f"the machine has no SunSpec model {register.model} for {register.column}", code="sunspec_none")
    scale_at = None if register.scale_address is None else start + register.scale_address
    return Reading(register, start + register.address, scale_at)


def _of_point(column: str, block: Block, point: Point) -> Reading:
    register = Register(column=column, address=point.at, type=point.type, missing=ABSENT.get(point.type))
    return Reading(
        register, block.address + point.at, None if point.scale_at is None else block.address + point.scale_at
    )


def _read_all(line: ModbusLine, readings: Sequence[Reading]) -> Values:
    spans: dict[Table, list[tuple[int, int]]] = {}
    for reading in readings:
        for table, span in reading.spans():
            spans.setdefault(table, []).append(span)
    values: dict[tuple[Table, int], int] = {}
    for table, wanted in spans.items():
        for start, size in blocks(wanted):
            values.update({(table, start + at): word for at, word in enumerate(line.read(table, start, size))})
    return values
