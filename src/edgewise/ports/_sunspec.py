"""SunSpec: a map of registers that inverters and meters describe themselves.

Source: SunSpec Device Information Model Specification, and the models 101 to 103, 111 to 113, 201 to 204 of the SunSpec
Alliance. A model starts with its number and its length; ``0xFFFF`` ends the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgewise.wire import NotValid, SunSpec
from edgewise.wire.sources import REGISTER_WORDS, RegisterType

MARK = [0x5375, 0x6E53]  # "SunS"
BASES = (40_000, 50_000, 0)
MODELS_MAX = 64
END = 0xFFFF
# Raw values that mean "not there", by type; an energy counter of zero has never counted.
ABSENT: dict[RegisterType, int] = {"int16": -0x8000, "uint16": 0xFFFF, "uint32": 0}
Read = Callable[[int, int], list[int]]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a model: registers from the model's start, and where its power of ten is."""

    name: str
    at: int
    type: RegisterType
    scale_at: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A model as found in a machine."""

    model: int
    address: int  # of its number
    length: int  # registers after number and length


def find_blocks(read: Read, spec: SunSpec) -> list[Block]:
    """The models of a machine, in their order.

    Args:
        read: registers by first address and count; raises NotValid where there are none.
    Raises:
        NotValid: there is no SunSpec map, or its list does not end. NotNow: as `read` raises.
    """
    bases = BASES if spec.base is None else (spec.base,)
    base = next((base for base in bases if _is_marked(read, base)), None)
    if base is None:
        raise NotValid(f"no SunSpec map at register {', '.join(map(str, bases))}; name `base`", code="sunspec_missing")
    found: list[Block] = []
    address = base + len(MARK)
    for _ in range(MODELS_MAX):
        model, length = read(address, 2)
        if model == END:
            return found
        found.append(Block(model, address, length))
        address += 2 + length
        if address > 65_533:
            break
    raise NotValid(f"the SunSpec list from {base} has no end within {MODELS_MAX} models", code="sunspec_invalid")


def points_of(block: Block) -> Sequence[Point]:
    """The points of a model that we know and the machine has; none for a model that we do not know."""
    known = KNOWN.get(block.model, ("", ()))[1]
    return [point for point in known if point.at + REGISTER_WORDS[point.type] <= block.length + 2]


def family_of(model: int) -> str:
    """What a model is about, the same for one and three phases: inverter or meter; its number where we do not know."""
    return KNOWN[model][0] if model in KNOWN else str(model)


def _is_marked(read: Read, base: int) -> bool:
    try:
        return read(base, len(MARK)) == MARK
    except NotValid:
        return False


def _lay_out(text: str, *, kinds: dict[str, RegisterType], start: int = 2) -> tuple[Point, ...]:
    """Points from their names in order: ``name:type:scale``, where a scale is the name of another point of type sf."""
    placed: list[tuple[str, str, str, int]] = []
    at = start
    for item in text.split():
        name, kind, scale = [*item.split(":"), ""][:3]
        placed.append((name, kind, scale, at))
        at += 1 if kind == "sf" else REGISTER_WORDS[kinds[kind]]
    scales = {name: place for name, kind, _, place in placed if kind == "sf"}
    return tuple(
        Point(name, place, kinds[kind], scales.get(scale)) for name, kind, scale, place in placed if kind != "sf"
    )


KINDS: dict[str, RegisterType] = {"u": "uint16", "i": "int16", "e": "uint16", "acc": "uint32", "f": "float32"}
INVERTER = _lay_out(
    "A:u:A_SF AphA:u:A_SF AphB:u:A_SF AphC:u:A_SF A_SF:sf "
    "PPVphAB:u:V_SF PPVphBC:u:V_SF PPVphCA:u:V_SF PhVphA:u:V_SF PhVphB:u:V_SF PhVphC:u:V_SF V_SF:sf "
    "W:i:W_SF W_SF:sf Hz:u:Hz_SF Hz_SF:sf VA:i:VA_SF VA_SF:sf VAr:i:VAr_SF VAr_SF:sf PF:i:PF_SF PF_SF:sf "
    "WH:acc:WH_SF WH_SF:sf DCA:u:DCA_SF DCA_SF:sf DCV:u:DCV_SF DCV_SF:sf DCW:i:DCW_SF DCW_SF:sf "
    "TmpCab:i:Tmp_SF TmpSnk:i:Tmp_SF TmpTrns:i:Tmp_SF TmpOt:i:Tmp_SF Tmp_SF:sf St:e StVnd:e",
    kinds=KINDS,
)
INVERTER_FLOAT = _lay_out(
    "A:f AphA:f AphB:f AphC:f PPVphAB:f PPVphBC:f PPVphCA:f PhVphA:f PhVphB:f PhVphC:f W:f Hz:f VA:f VAr:f PF:f "
    "WH:f DCA:f DCV:f DCW:f TmpCab:f TmpSnk:f TmpTrns:f TmpOt:f St:e StVnd:e",
    kinds=KINDS,
)
METER = _lay_out(
    "A:i:A_SF AphA:i:A_SF AphB:i:A_SF AphC:i:A_SF A_SF:sf PhV:i:V_SF PhVphA:i:V_SF PhVphB:i:V_SF PhVphC:i:V_SF "
    "PPV:i:V_SF PhVphAB:i:V_SF PhVphBC:i:V_SF PhVphCA:i:V_SF V_SF:sf Hz:i:Hz_SF Hz_SF:sf "
    "W:i:W_SF WphA:i:W_SF WphB:i:W_SF WphC:i:W_SF W_SF:sf "
    "VA:i:VA_SF VAphA:i:VA_SF VAphB:i:VA_SF VAphC:i:VA_SF VA_SF:sf "
    "VAR:i:VAR_SF VARphA:i:VAR_SF VARphB:i:VAR_SF VARphC:i:VAR_SF VAR_SF:sf "
    "PF:i:PF_SF PFphA:i:PF_SF PFphB:i:PF_SF PFphC:i:PF_SF PF_SF:sf TotWhExp:acc:TotWh_SF TotWhExpPhA:acc:TotWh_SF "
    "TotWhExpPhB:acc:TotWh_SF TotWhExpPhC:acc:TotWh_SF TotWhImp:acc:TotWh_SF TotWhImpPhA:acc:TotWh_SF "
    "TotWhImpPhB:acc:TotWh_SF TotWhImpPhC:acc:TotWh_SF TotWh_SF:sf",
    kinds=KINDS,
)
KNOWN: dict[int, tuple[str, tuple[Point, ...]]] = {
    **dict.fromkeys((101, 102, 103), ("inverter", INVERTER)),
    **dict.fromkeys((111, 112, 113), ("inverter", INVERTER_FLOAT)),
    **dict.fromkeys((201, 202, 203, 204), ("meter", METER)),
}


def named_points(blocks: Sequence[Block], spec: SunSpec) -> Iterator[tuple[str, Block, Point]]:
    """Column, block and point of all that is to be read: ``inverter.W``, and ``meter2.W`` for the second meter."""
    seen: dict[str, int] = {}
    for block in blocks:
        if block.model not in KNOWN or (spec.models and block.model not in spec.models):
            continue
        family = family_of(block.model)
        seen[family] = seen.get(family, 0) + 1
        prefix = family if seen[family] == 1 else f"{family}{seen[family]}"
        for point in points_of(block):
            if not spec.points or point.name in spec.points:
                yield f"{prefix}.{point.name}", block, point
