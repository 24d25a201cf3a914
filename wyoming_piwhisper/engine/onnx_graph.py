"""ONNX graphs put together node by node, and sessions that run them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, RuntimeException
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplemented_

from wyoming_piwhisper.engine.quantization import BLOCK, by_block, by_column
from wyoming_piwhisper.engine.whisper_config import LAYER_NORM_EPS

OPSET: Final = 20
IR_VERSION: Final = 10
MICROSOFT: Final = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
INTEGER_ACCURACY: Final = 4
"""Of `MatMulNBits`: the other factor is rounded to eight bits too."""
FAILURES: Final = (Fail, InvalidArgument, InvalidGraph, NotImplemented_, RuntimeException)
"""What ONNX Runtime raises; they have no base of their own."""

LARGE_BYTES: Final = 1024
"""Constants from this size on stay outside of the serialised graph."""

Floats = npt.NDArray[np.float32]
Shape = Sequence[int | str]


@dataclass(frozen=True)
class GraphModel:
    """A serialised graph and its large constants by name, so that a session copies them only once."""

    graph: bytes
    constants: Mapping[str, npt.NDArray[Any]]

    @property
    def constant_bytes(self) -> int:
        """Size of the large constants, which is about the memory that a session of the graph takes."""
        return sum(constant.nbytes for constant in self.constants.values())


class Graph:
    """A graph that grows; methods take and return names of tensors."""

    def __init__(self) -> None:
        """Begin without nodes."""
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._large: dict[str, npt.NDArray[Any]] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, shape: Shape, element: int = TensorProto.FLOAT) -> str:
        """An input, of float32 unless told otherwise; words in `shape` stand for lengths that vary."""
        self._inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def output(self, name: str) -> None:
        """Make a tensor an output."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    def constant(self, value: npt.NDArray[Any]) -> str:
        """A constant tensor."""
        name = f"constant_{len(self._constants)}"
        value = np.ascontiguousarray(value)
        if value.nbytes < LARGE_BYTES:
            self._constants.append(numpy_helper.from_array(value, name))
        else:
            self._constants.append(_placeholder(name, value))
            self._large[name] = value
        return name

    def node(self, operator: str, inputs: Sequence[str], domain: str = "", **attributes: object) -> str:
        """A node with one output; an empty name leaves out an optional input."""
        return self.nodes(operator, inputs, [f"{operator}_{len(self._nodes)}"], domain, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: object
    ) -> Sequence[str]:
        """A node with several outputs, named."""
        node = helper.make_node(operator, inputs, outputs, domain=domain, **attributes)  # type: ignore[arg-type]
        self._nodes.append(node)
        return outputs

    def reshape(self, states: str, shape: Sequence[int]) -> str:
        """The same elements in another shape, of which one length may be -1: whatever is left."""
        return self.node("Reshape", [states, self.constant(np.array(shape, np.int64))])

    def add(self, left: str, right: str) -> str:
        """The sum."""
        return self.node("Add", [left, right])

    def gelu(self, states: str) -> str:
        """GELU, exact."""
        return self.node("Gelu", [states], MICROSOFT)

    def layer_norm(self, states: str, weight: Floats, bias: Floats) -> str:
        """Normalise over the last axis."""
        inputs = [states, self.constant(weight), self.constant(bias)]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=LAYER_NORM_EPS)

    def split(self, states: str, parts: Sequence[str]) -> Sequence[str]:
        """Equal parts of the last axis."""
        return self.nodes("Split", [states], parts, axis=2, num_outputs=len(parts))

    def attend(self, query: str, keys: str, values: str, heads: int) -> str:
        """Multi-head attention of everything to everything; keys and values may be split into heads already."""
        return self.node("MultiHeadAttention", [query, keys, values], MICROSOFT, num_heads=heads)

    def many_times(self, states: str, weight: Floats, bias: Floats) -> str:
        """`states @ weight.T + bias` in seven bits with one scale a column; the faster form for many rows."""
        quantised = by_column(weight)
        factor = [
            self.constant(quantised.values),
            self.constant(quantised.scales),
            self.constant(quantised.zero_points),
        ]
        return self.node("DynamicQuantizeMatMul", [states, *factor, self.constant(bias)], MICROSOFT)

    def few_times(self, states: str, weight: Floats, bias: Floats | None = None) -> str:
        """`states @ weight.T + bias` in eight bits with one scale a block; the faster form for few rows."""
        quantised = by_block(weight)
        outputs, inputs = weight.shape
        product = self.node(
            "MatMulNBits",
            [states, self.constant(quantised.values), self.constant(quantised.scales.reshape(-1))],
            MICROSOFT,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=BLOCK,
            accuracy_level=INTEGER_ACCURACY,
        )
        return product if bias is None else self.add(product, self.constant(bias))

    def model(self) -> GraphModel:
        """The graph as it was put together so far."""
        graph = helper.make_graph(self._nodes, "whisper", self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return GraphModel(model.SerializeToString(), self._large)


def open_session(model: GraphModel, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU that neither spins while it waits nor keeps the memory of its largest request."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(constant) for constant in model.constants.values()]
    options.add_external_initializers(list(model.constants), values)
    return onnxruntime.InferenceSession(model.graph, options, providers=["CPUExecutionProvider"])


def _placeholder(name: str, value: npt.NDArray[Any]) -> TensorProto:
    """A constant that a session is given on its own: see `SessionOptions.add_external_initializers`."""
    placeholder = TensorProto(
        name=name,
        dims=value.shape,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    for key, entry in (("location", name), ("length", str(value.nbytes))):
        placeholder.external_data.add(key=key, value=entry)
    return placeholder
