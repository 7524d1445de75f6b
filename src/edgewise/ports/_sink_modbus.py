"""Values written to a machine, within limits that no event can widen."""

from __future__ import annotations

from dataclasses import dataclass

from edgewise.ports._clock import Clock
from edgewise.ports._modbus import ModbusLine
from edgewise.ports._registers import number_of, words_of
from edgewise.wire import EdgewiseError, ModbusSink, NotNow, NotValid, SinkEvent, WritableRegister
from edgewise.wire.sources import REGISTER_WORDS


@dataclass(slots=True)
class Written:
    """What a register holds by our doing."""

    value: float
    at_s: float  # monotonic
    is_sure: bool = False  # False while we only tried: the machine may have heard us or not


class ModbusWriter:
    """Writes what its record says for a label, and nothing else.

    A value outside of ``min`` to ``max`` or of ``values``, a change over ``step_max``, or one before ``interval_s_min``
    has passed is refused, never bent into range. Every write is read back where the record asks for it. At the end, and
    when nothing newer was written for ``hold_s``, a register goes back to its ``safe`` value, which no limit of step or
    interval holds up.

    Raises:
        NotValid: the Modbus library is not installed.
    """

    def __init__(self, spec: ModbusSink, *, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._line = ModbusLine(spec.host, spec.port, spec.unit, timeout_s=spec.timeout_s)
        self._registers = {register.name: register for register in spec.registers}
        self._written: dict[str, Written] = {}
        self._is_closed = False

    def send(self, event: SinkEvent) -> None:
        for write in self._spec.writes:
            if not write.labels or event.label in write.labels:
                self._set(self._registers[write.to], write.value)

    def idle(self) -> None:
        now_s = self._clock.monotonic_s()
        for name, written in list(self._written.items()):
            register = self._registers[name]
            if register.hold_s is None or register.safe is None or now_s - written.at_s < register.hold_s:
                continue
            if not (written.is_sure and written.value == register.safe):
                self._write(register, register.safe)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for name in self._written:
            register = self._registers[name]
            if register.safe is not None:
                self._try_safe(register, register.safe)
        self._line.close()

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _set(self, register: WritableRegister, value: float) -> None:
        self._check(register, value)
        before = self._written.get(register.name)
        if before is not None and before.is_sure:
            passed_s = self._clock.monotonic_s() - before.at_s
            if passed_s < register.interval_s_min:
                if value == before.value:
                    return  # it holds that already
                raise _refused(register, value, f"only {passed_s:.2f} of {register.interval_s_min:g} s have passed")
        if register.step_max is not None:
            seen = self._read(register)
            if abs(value - seen) > register.step_max:
                raise _refused(register, value, f"it is {seen:g} now, the largest step is {register.step_max:g}")
        self._write(register, value)

    def _check(self, register: WritableRegister, value: float) -> None:
        if not register.may_hold(value):
            allowed = f"one of {register.values}" if register.values else f"{register.min:g} to {register.max:g}"
            raise _refused(register, value, f"{allowed} is allowed")

    def _write(self, register: WritableRegister, value: float) -> None:
        # Noted before the attempt: a machine that heard us and whose answer is lost must still be made safe.
        self._written[register.name] = written = Written(value, self._clock.monotonic_s())
        self._line.write(register.table, register.address, words_of(value, register.type, register.words))
        if register.read_back and (seen := self._read(register)) != _as_held(register, value):
            raise NotNow(
                f"register {register.name} was written {value:g} and reads {seen:g}; it is tried again",
                code="modbus_read_back",
            )
        written.is_sure = True

    def _read(self, register: WritableRegister) -> float:
        words = self._line.read(register.table, register.address, REGISTER_WORDS[register.type])
        return number_of(words, register.type, register.words)

    def _try_safe(self, register: WritableRegister, value: float) -> None:
        try:
            self._write(register, value)
        except EdgewiseError:
            return  # the machine does not answer: nothing more can be done from here, its own watchdog has to


def _as_held(register: WritableRegister, value: float) -> float:
    """The value as the register's type can hold it: a float32 rounds."""
    return number_of(words_of(value, register.type), register.type)


def _refused(register: WritableRegister, value: float, why: str) -> NotValid:
    return NotValid(f"{value:g} is not written to register {register.name}: {why}", code="write_refused")
