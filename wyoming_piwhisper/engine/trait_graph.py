"""The network that tells a speaker's trait from log-Mel: twelve convolutions, then statistics over time.

Source of the pooling: Snyder et al., "X-vectors: robust DNN embeddings for speaker recognition", 2018.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from wyoming_piwhisper.engine.onnx_graph import Floats, Graph, GraphModel

CONVOLUTIONS: Final = 12
WIDTHS: Final = (1, 16, 24, 24, 32, 32, 48, 48, 64, 64, 96, 96, 96)
"""Channels before, between and after the convolutions."""
STRIDES: Final = ((2, 2), (1, 1), (2, 1), (1, 1), (2, 2), (1, 1), (2, 1), (1, 1), (2, 2), (1, 1), (1, 1), (1, 1))
"""Over Mel bins and frames: 80 bins become 3, and 8 frames one."""
POOLED_BINS: Final = 3
NORM_EPS: Final = 1e-5
SPREAD_FLOOR: Final = 1e-5


def trait_graph(weights: Mapping[str, Floats], mel_bins: int) -> GraphModel:
    """`log_mel` (1, mel bins, frames) to `logits` (1, labels), from the weights of a trained network.

    Raises:
        KeyError: a tensor is missing.
    """
    graph = Graph()
    heard = graph.input("log_mel", (1, mel_bins, "frames"))
    # The level of a recording says something of the microphone, not of the speaker.
    centred = graph.node("Sub", [heard, graph.node("ReduceMean", [heard, _axes(graph, 1, 2)])])
    states = graph.node("Unsqueeze", [centred, _axes(graph, 1)])
    for layer in range(CONVOLUTIONS):
        kernel, bias = (graph.constant(value) for value in _with_norm(weights, layer))
        after = graph.node("Conv", [states, kernel, bias], pads=[1, 1, 1, 1], strides=STRIDES[layer])
        after = graph.node("Relu", [after])
        is_residual = STRIDES[layer] == (1, 1) and WIDTHS[layer] == WIDTHS[layer + 1]
        states = graph.add(after, states) if is_residual else after
    shape = graph.constant(np.array([0, WIDTHS[-1] * POOLED_BINS, -1], np.int64))
    pooled = _statistics(graph, graph.node("Reshape", [states, shape]))
    head = [graph.constant(weights[f"head.{part}"]) for part in ("weight", "bias")]
    graph.output(graph.node("Gemm", [pooled, *head], transB=1))
    return graph.model()


def _with_norm(weights: Mapping[str, Floats], layer: int) -> tuple[Floats, Floats]:
    """Kernel and bias of a convolution with the batch norm behind it."""
    norm = {part: weights[f"norms.{layer}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(NORM_EPS))
    kernel = weights[f"convolutions.{layer}.weight"] * scale[:, None, None, None]
    return kernel, norm["bias"] - norm["running_mean"] * scale


def _statistics(graph: Graph, series: str) -> str:
    """Mean and standard deviation over time: (1, channels, time) to (1, 2 * channels)."""
    mean = graph.node("ReduceMean", [series, _axes(graph, 2)])
    deviation = graph.node("Sub", [series, mean])
    variance = graph.node("ReduceMean", [graph.node("Mul", [deviation, deviation]), _axes(graph, 2)], keepdims=0)
    spread = graph.node("Sqrt", [graph.add(variance, graph.constant(np.array(SPREAD_FLOOR, np.float32)))])
    return graph.node("Concat", [graph.node("Squeeze", [mean, _axes(graph, 2)]), spread], axis=1)


def _axes(graph: Graph, *axes: int) -> str:
    return graph.constant(np.array(axes, np.int64))
