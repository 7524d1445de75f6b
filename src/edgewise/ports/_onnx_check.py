"""What an ONNX file says about itself, checked by walking over its bytes: before any runtime parses it, and in memory
that does not grow with the file.

Everything is judged as a Protocol Buffers parser would read it: numbers are cut to the size of their field, and a field
that may occur once must not occur twice, since parsers differ in what they then make of it.

Only numpy and the walk are imported, because a short-lived process pays for every import.

Source of the field numbers: onnx.proto of the ONNX project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edgewise.delta import BYTES, FIXED32, VARINT, Field
from edgewise.ports._foreign import HEAD_BYTES, foreign
from edgewise.ports._onnx_tensors import Bounds, TensorCheck, Unfit, signed

MICROSOFT = "com.microsoft"
STANDARD = ("", "ai.onnx", "ai.onnx.ml")
# ONNX Runtime's own operators that its quantiser and optimiser write. The others of this domain are left out: some read
# files that they name, and none is needed to run a trained network.
_MICROSOFT_NAMES = (
    "Attention BiasGelu ConvTransposeWithDynamicPads DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul "
    "EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul Gelu GroupNorm LayerNormalization "
    "MatMulInteger16 MatMulIntegerToFloat MatMulNBits MultiHeadAttention NhwcConv NhwcMaxPool QGemm QLinearAdd "
    "QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul "
    "QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu ReduceSumInteger "
    "SkipLayerNormalization"
)
MICROSOFT_OPERATORS = frozenset(_MICROSOFT_NAMES.split())


def may_run(domain: str, operator: str) -> bool:
    """Whether bundles may use this operator at all.

    >>> may_run("", "Conv"), may_run("com.microsoft", "Irfft")
    (True, False)
    """
    return domain in STANDARD or (domain == MICROSOFT and operator in MICROSOFT_OPERATORS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a checked file says."""

    opset: int  # of the standard operators
    nodes: int


def check(view: memoryview, bounds: Bounds, forget: Callable[[int, int], None] = lambda _start, _stop: None) -> Found:
    """Check a whole ONNX file.

    Args:
        view: its bytes, mapped rather than read.
        bounds: how much it may hold.
        forget: told each range that is not needed any more, so that its pages can be given back.
    Raises:
        Unfit: the file is refused.
    """
    what = foreign(bytes(view[:HEAD_BYTES]))
    if what is not None:
        raise Unfit("foreign_file", f"the file is {what}; needs an ONNX network, export it as one")
    try:
        return _Check(view, bounds, forget).model()
    except ValueError as error:  # from the walk: not a message, or too many fields
        raise Unfit("onnx_invalid", f"the file is not a whole ONNX network: {error}") from error


class _Check(TensorCheck):
    def __init__(self, view: memoryview, bounds: Bounds, forget: Callable[[int, int], None]) -> None:
        super().__init__(view, bounds, forget)
        self._defined: dict[tuple[str, str], Field] = {}
        self._calls: Counter[tuple[str, str]] = Counter()  # of the body that is walked now

    # -- the model and its functions ---------------------------------------------------------------------------------

    def model(self) -> Found:
        graphs: list[Field] = []
        functions: list[Field] = []
        imports: dict[str, int] = {}
        whole = Field(0, BYTES, 0, 0, len(self._view))
        for field in self._fields(whole, "the model", once={1, 2, 3, 4, 5, 6, 7}):
            if field.number == 7 and field.wire == BYTES:
                graphs.append(field)
            elif field.number == 8 and field.wire == BYTES:
                domain, version = self._import(field)
                imports[domain] = max(version, imports.get(domain, 0))
            elif field.number == 20:
                raise Unfit("training_info", "the file holds training steps; needs a network for inference only")
            elif field.number == 25 and field.wire == BYTES:
                functions.append(field)
        if not graphs:
            raise Unfit("onnx_invalid", "the file holds no graph; it is cut short, or no ONNX network")
        if "" not in imports:
            raise Unfit("opset_wrong", "the file names no opset of the standard operators; needs one")
        for function in functions:
            self._define(function)
        nodes = self._written_out(graphs[0])
        return Found(opset=imports[""], nodes=nodes)

    def _import(self, field: Field) -> tuple[str, int]:
        domain, version = "", 0
        for part in self._fields(field, "an opset", once={1, 2}):
            if part.number == 1 and part.wire == BYTES:
                domain = self._text(part, "a domain")
            elif part.number == 2 and part.wire == VARINT:
                version = signed(self._walk.number(part), 64)
        if version < 1:
            raise Unfit("opset_wrong", f"opset {version} of domain {domain!r} is impossible; needs 1 or more")
        return "" if domain == "ai.onnx" else domain, version

    def _define(self, function: Field) -> None:
        name = domain = ""
        for part in self._fields(function, "a function", once={1, 10}):
            if part.number == 1 and part.wire == BYTES:
                name = self._text(part, "a function's name")
            elif part.number == 10 and part.wire == BYTES:
                domain = self._text(part, "a function's domain")
        if domain in (*STANDARD, MICROSOFT):
            raise Unfit(
                "operator_hidden", f"function {name[:80]!r} takes the place of a standard operator of {domain!r}"
            )
        if (domain, name) in self._defined:
            raise Unfit("operator_hidden", f"function {domain[:80]}.{name[:80]} is defined twice; needs one definition")
        self._defined[domain, name] = function

    def _written_out(self, graph: Field) -> int:
        """How many nodes run when every function is written out where it is called; the bodies are checked as well."""
        own: dict[tuple[str, str], int] = {}
        calls: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
        for key, function in self._defined.items():
            self._calls = Counter()
            own[key] = sum(self._node(part, 1) for part in self._each(function, 7))
            own[key] += sum(self._attribute(part, 1) for part in self._each(function, 11))
            calls[key] = self._calls
        self._calls = Counter()
        nodes = self._graph(graph, 0)
        sizes: dict[tuple[str, str], int] = {}
        while len(sizes) < len(own):
            ready = [key for key in own if key not in sizes and calls[key].keys() <= sizes.keys()]
            if not ready:
                stuck = next(key for key in own if key not in sizes)
                raise Unfit("function_endless", f"function {stuck[1][:80]!r} calls itself; needs an end")
            for key in ready:
                sizes[key] = own[key] + sum(sizes[name] * count for name, count in calls[key].items())
        total = nodes + sum(sizes[name] * count for name, count in self._calls.items())
        if total > self._bounds.nodes_max:
            raise Unfit("too_many_nodes", f"the network has {total} nodes, at most {self._bounds.nodes_max} are run")
        return total

    # -- graphs and nodes --------------------------------------------------------------------------------------------

    def _graph(self, graph: Field, depth: int) -> int:
        """How many nodes it has, those of its inner graphs too."""
        if depth > self._bounds.depth_max:
            raise Unfit("too_deep", f"graphs lie {depth} deep in each other, at most {self._bounds.depth_max} are read")
        nodes = 0
        for field in self._fields(graph, "a graph", once={2, 10}):
            if field.wire != BYTES:
                continue
            if field.number == 1:
                nodes += self._node(field, depth)
            elif field.number == 5:
                self._tensor(field)
            elif field.number == 15:
                self._sparse(field)
            elif field.number in (11, 12, 13):
                self._value_info(field)
        return nodes

    def _node(self, node: Field, depth: int) -> int:
        if node.wire != BYTES:
            return 0
        operator = domain = name = ""
        nodes = 1
        for field in self._fields(node, "a node", once={3, 4, 6, 7, 8}):
            if field.wire != BYTES:
                continue
            if field.number == 3:
                name = self._text(field, "a node's name")
            elif field.number == 4:
                operator = self._text(field, "an operator")
            elif field.number == 7:
                domain = self._text(field, "a domain")
            elif field.number in (1, 2):
                self._text(field, "a value's name")
            elif field.number == 5:
                nodes += self._attribute(field, depth)
        if (domain, operator) in self._defined:
            self._calls[domain, operator] += 1
        elif not may_run(domain, operator):
            raise Unfit(
                "operator_custom",
                f"node {name[:80]!r} is a {domain[:80]}.{operator[:80]}; only operators of ai.onnx, ai.onnx.ml and "
                "those that ONNX Runtime's quantiser writes are run",
            )
        return nodes

    def _attribute(self, attribute: Field, depth: int) -> int:
        nodes = 0
        for field in self._fields(attribute, "an attribute", once={1, 2, 3, 4, 5, 6, 20, 21, 22}, runs=True):
            if field.number in (2, 7) and field.wire == FIXED32:
                self._no_nan(field)
            elif field.wire != BYTES:
                continue
            elif field.number == 7:
                self._finite(1, field.start, field.stop, "an attribute", nan_only=True)
            elif field.number in (5, 10):
                self._tensor(field)
            elif field.number in (22, 23):
                self._sparse(field)
            elif field.number in (6, 11):
                nodes += self._graph(field, depth + 1)
            elif field.number == 1:
                self._text(field, "an attribute's name")
        return nodes

    def _value_info(self, info: Field) -> None:
        name, values = "", 1
        for field in self._fields(info, "a declared value", once={1, 2}):
            if field.number == 1 and field.wire == BYTES:
                name = self._text(field, "a value's name")
            elif field.number == 2 and field.wire == BYTES:
                values = self._declared(field)
        if not 0 <= values <= self._bounds.values_max:
            raise Unfit(
                "shape_huge", f"{name[:80]!r} is declared with {values} values; needs 0 to {self._bounds.values_max}"
            )

    def _declared(self, kind: Field) -> int:
        """The values of a declared tensor type, open axes counted as 1; negative when an axis is."""
        values = 1
        for tensor in self._each(kind, 1):
            for shape in self._each(tensor, 2):
                for axis in self._each(shape, 1):
                    for size in self._each(axis, 1):
                        number = signed(self._walk.number(size), 64) if size.wire == VARINT else 1
                        values = number if number < 0 else values * max(number, 1)
                        if values < 0 or values > self._bounds.values_max:
                            return values
        return values
