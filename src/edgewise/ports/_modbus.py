"""One connection to a Modbus TCP machine, with its errors told apart by who has to act."""

from __future__ import annotations

import logging
from typing import Any, Literal

from edgewise.ports._extras import library
from edgewise.wire import NotNow, NotValid

Table = Literal["holding", "input", "coil", "discrete"]
READS = {
    "holding": "read_holding_registers",
    "input": "read_input_registers",
    "coil": "read_coils",
    "discrete": "read_discrete_inputs",
}
# Modbus Application Protocol 1.1b3, section 7: what no waiting will mend.
FOR_A_PERSON = {1: "it does not know this kind of request", 2: "it has no such register", 3: "it does not take this"}
BUSY = {4: "it failed", 5: "it is still at it", 6: "it is busy", 10: "no way leads to it", 11: "it does not answer"}


class ModbusLine:
    """A connection that opens when it is used. Not for several threads; every call is bounded in time."""

    def __init__(self, host: str, port: int, unit: int, *, timeout_s: float) -> None:
        tcp = library("pymodbus.client", "factory", "Modbus")
        self._failed = library("pymodbus.exceptions", "factory", "Modbus").ModbusException
        # It writes every failure to standard error by itself; we say it once.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL + 1)
        self._client = tcp.ModbusTcpClient(host, port=port, timeout=timeout_s, retries=0)
        self._unit = unit
        self._where = f"{host}:{port} unit {unit}"

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """The registers from an address on; coils and inputs as 0 and 1.

        Raises:
            NotNow: the machine does not answer. NotValid: it has no such registers.
        """
        answer = self._ask(READS[table], f"{table} {address}", address, count=count)
        values = answer.bits[:count] if table in ("coil", "discrete") else answer.registers
        if len(values) != count:
            raise NotNow(f"{self._where} gave {len(values)} of {count} registers from {address}", code="modbus_short")
        return [int(value) for value in values]

    def write(self, table: Table, address: int, words: list[int]) -> None:
        """Write registers from an address on, or one coil. Raises as `read`."""
        if table == "coil":
            self._ask("write_coil", f"coil {address}", address, bool(words[0]))
        elif len(words) == 1:
            self._ask("write_register", f"holding {address}", address, words[0])
        else:
            self._ask("write_registers", f"holding {address}", address, words)

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, what: str, *values: Any, **more: Any) -> Any:
        try:
            answer = getattr(self._client, method)(*values, device_id=self._unit, **more)
        except (self._failed, OSError) as error:
            self.close()  # a late answer to this request must not be taken for the next one's
            raise NotNow(f"the Modbus machine {self._where} does not answer ({error})", code="modbus_down") from error
        if not answer.isError():
            return answer
        code = int(getattr(answer, "exception_code", 0))
        if code in FOR_A_PERSON:
            raise NotValid(f"{self._where} refuses {what}: {FOR_A_PERSON[code]} (code {code})", code="modbus_refused")
        raise NotNow(f"{self._where}, {what}: {BUSY.get(code, 'it says no')} (code {code})", code="modbus_busy")
