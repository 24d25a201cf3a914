"""The Whisper architecture as ONNX graphs, built from a checkpoint's sizes and weights.

Three graphs: the encoder, which ends in the keys and values that the decoder attends to; the decoder's body, from
embedded tokens to hidden states; the head, from hidden states to logits. Embeddings stay outside.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from onnx import TensorProto

from wyoming_piwhisper.engine.onnx_graph import MICROSOFT, Floats, Graph, GraphModel
from wyoming_piwhisper.engine.run_time_adapters import AdaptableMatrix, add_adapters
from wyoming_piwhisper.engine.whisper_config import WhisperConfig

Weights = Mapping[str, Floats]
"""Tensors of a checkpoint by name, float32."""
EMBEDDING: Final = "model.decoder.embed_tokens.weight"
HIDDEN: Final = "hidden"
LOGITS: Final = "logits"
BY_ANSWER: Final = "by_answer"
LAST: Final = "last"
TOTAL: Final = "total"


def cross_names(config: WhisperConfig) -> list[str]:
    """The encoder's outputs and inputs of the decoder: keys and values for each of its layers."""
    return [f"cross_{kind}_{layer}" for layer in range(config.decoder_layers) for kind in ("keys", "values")]


def cache_names(config: WhisperConfig) -> list[str]:
    """The decoder's outputs besides the hidden states; see `past` for its inputs."""
    return [f"{kind}_{layer}" for layer in range(config.decoder_layers) for kind in ("keys", "values")]


def past(cache: str) -> str:
    """The input that is the same memory as the output `cache`."""
    return f"past_{cache}"


def encoder_graph(config: WhisperConfig, weights: Weights, *, adaptable: bool = False) -> GraphModel:
    """`log_mel` (1, mel bins, frames) and `positions` (states, d_model) to `cross_names`.

    Each output: (1, heads, states, d_model / heads). An adaptable graph has more inputs: see `adapter_inputs`.
    """
    graph = Graph()
    model = _Part(graph, weights, "model.", adaptable)
    states = graph.input("log_mel", (1, config.num_mel_bins, "frames"))
    for name, stride in (("conv1", 1), ("conv2", 2)):
        kernel = (graph.constant(weights[f"model.encoder.{name}.{part}"]) for part in ("weight", "bias"))
        states = graph.gelu(graph.node("Conv", [states, *kernel], pads=[1, 1], strides=[stride]))
    positions = graph.input("positions", ("states", config.d_model))
    states = graph.add(graph.node("Transpose", [states], perm=[0, 2, 1]), positions)
    for layer in range(config.encoder_layers):
        states = _encoder_layer(config, model.part(f"encoder.layers.{layer}"), states)
    states = model.part("encoder").layer_norm("layer_norm", states)
    _cross_keys_values(config, model, states)
    return graph.model()


def decoder_graph(config: WhisperConfig, weights: Weights, *, adaptable: bool = False) -> GraphModel:
    """`embedded` (1, tokens, d_model), `cross_names`, past `cache_names` and counts to hidden states and `cache_names`.

    Each cache: (answers, heads, room, d_model / heads), to be bound as input and as output, for it is written in place.
    The tokens belong to one answer, or one to each of several; `BY_ANSWER` (3,) holds [answers, -1, 3 * d_model].
    `LAST` (answers,) holds the number of the last token and `TOTAL` () that of all tokens, these included.
    An adaptable graph has more inputs: see `adapter_inputs`.
    """
    graph = Graph()
    model = _Part(graph, weights, "model.", adaptable)
    heads, width = config.decoder_attention_heads, config.d_model // config.decoder_attention_heads
    states = graph.input("embedded", (1, "tokens", config.d_model))
    for name in cross_names(config):
        graph.input(name, (1, heads, "states", width))
    for name in cache_names(config):
        graph.input(past(name), ("answers", heads, "room", width))
    graph.input(BY_ANSWER, (3,), TensorProto.INT64)
    graph.input(LAST, ("answers",), TensorProto.INT32)
    graph.input(TOTAL, (), TensorProto.INT32)
    for layer in range(config.decoder_layers):
        states = _decoder_layer(config, layer, model.part(f"decoder.layers.{layer}"), states)
    graph.nodes("Identity", [model.part("decoder").layer_norm("layer_norm", states)], [HIDDEN])
    for name in (HIDDEN, *cache_names(config)):
        graph.output(name)
    return graph.model()


def head_graph(config: WhisperConfig, weights: Weights) -> GraphModel:
    """`HIDDEN` (1, tokens, d_model) to `LOGITS` (1, tokens, vocabulary)."""
    graph = Graph()
    states = graph.input(HIDDEN, (1, "tokens", config.d_model))
    graph.nodes("Identity", [graph.few_times(states, weights[EMBEDDING])], [LOGITS])
    graph.output(LOGITS)
    return graph.model()


@dataclass(frozen=True)
class _Projection:
    matrix: AdaptableMatrix
    weight: Floats
    bias: Floats
    """Zeros for keys, which have none in checkpoints."""


@dataclass(frozen=True)
class _Part:
    """A module of the model on its way into a graph."""

    graph: Graph
    weights: Weights
    prefix: str
    adaptable: bool

    def part(self, name: str) -> "_Part":
        return replace(self, prefix=f"{self.prefix}{name}.")

    def layer_norm(self, name: str, states: str) -> str:
        weight, bias = (self.weights[f"{self.prefix}{name}.{part}"] for part in ("weight", "bias"))
        return self.graph.layer_norm(states, weight, bias)

    def projection(self, name: str) -> _Projection:
        matrix, bias = (f"{self.prefix}{name}.{part}" for part in ("weight", "bias"))
        weight = self.weights[matrix]
        shift = self.weights[bias] if bias in self.weights else np.zeros(len(weight), np.float32)
        return _Projection(AdaptableMatrix(matrix, *weight.shape), weight, shift)

    def many_times(self, states: str, *names: str) -> str:
        """Projections of `states` side by side, in the form for many rows."""
        projections = [self.projection(name) for name in names]
        return self._adapted(self.graph.many_times(states, *_joined(projections)), states, projections)

    def few_times(self, states: str, *names: str) -> str:
        """Projections of `states` side by side, in the form for few rows."""
        projections = [self.projection(name) for name in names]
        return self._adapted(self.graph.few_times(states, *_joined(projections)), states, projections)

    def _adapted(self, product: str, states: str, projections: Sequence[_Projection]) -> str:
        if not self.adaptable:
            return product
        return add_adapters(self.graph, product, states, [projection.matrix for projection in projections])


def _joined(projections: Sequence[_Projection]) -> tuple[Floats, Floats]:
    """Weights and biases of several projections of the same input, side by side."""
    weights, biases = ([getattr(one, part) for one in projections] for part in ("weight", "bias"))
    return np.concatenate(weights), np.concatenate(biases)


_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def _encoder_layer(config: WhisperConfig, part: _Part, states: str) -> str:
    graph, attention = part.graph, part.part("self_attn")
    projected = attention.many_times(part.layer_norm("self_attn_layer_norm", states), *_PROJECTIONS)
    query, keys, values = graph.split(projected, [f"{projected}_{name}" for name in _PROJECTIONS])
    mixed = graph.attend(query, keys, values, config.encoder_attention_heads)
    states = graph.add(states, attention.many_times(mixed, "out_proj"))
    inner = graph.gelu(part.many_times(part.layer_norm("final_layer_norm", states), "fc1"))
    return graph.add(states, part.many_times(inner, "fc2"))


def _cross_keys_values(config: WhisperConfig, model: _Part, states: str) -> None:
    graph = model.graph
    layers = [model.part(f"decoder.layers.{layer}.encoder_attn") for layer in range(config.decoder_layers)]
    projections = [layer.projection(name) for layer in layers for name in _PROJECTIONS[1:]]
    projected = graph.many_times(states, *_joined(projections))
    parts = graph.split(projected, [f"{name}_flat" for name in cross_names(config)])
    by_head = (0, 0, config.decoder_attention_heads, -1)
    for flat, name, projection in zip(parts, cross_names(config), projections, strict=True):
        adapted = add_adapters(graph, flat, states, [projection.matrix]) if model.adaptable else flat
        graph.nodes("Transpose", [graph.reshape(adapted, by_head)], [name], perm=[0, 2, 1, 3])
        graph.output(name)


def _decoder_layer(config: WhisperConfig, layer: int, part: _Part, states: str) -> str:
    graph, heads = part.graph, config.decoder_attention_heads
    attention = part.part("self_attn")
    normed = part.layer_norm("self_attn_layer_norm", states)
    projected = graph.node("Reshape", [attention.few_times(normed, *_PROJECTIONS), BY_ANSWER])
    caches = [f"keys_{layer}", f"values_{layer}"]
    mixed, *_ = graph.nodes(
        "GroupQueryAttention",
        [projected, "", "", *map(past, caches), LAST, TOTAL],
        [f"mixed_{layer}", *caches],
        MICROSOFT,
        num_heads=heads,
        kv_num_heads=heads,
    )
    mixed = graph.reshape(mixed, (1, -1, config.d_model))
    states = graph.add(states, attention.few_times(mixed, "out_proj"))
    cross = part.part("encoder_attn")
    query = cross.few_times(part.layer_norm("encoder_attn_layer_norm", states), "q_proj")
    mixed = graph.attend(query, f"cross_keys_{layer}", f"cross_values_{layer}", heads)
    states = graph.add(states, cross.few_times(mixed, "out_proj"))
    inner = graph.gelu(part.few_times(part.layer_norm("final_layer_norm", states), "fc1"))
    return graph.add(states, part.few_times(inner, "fc2"))
