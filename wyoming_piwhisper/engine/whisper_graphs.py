"""The Whisper architecture as ONNX graphs, built from a checkpoint's sizes and weights.

Three graphs: the encoder, which ends in the keys and values that the decoder attends to; the decoder's body, from
embedded tokens to hidden states; the head, from hidden states to logits. Embeddings stay outside.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from onnx import TensorProto

from wyoming_piwhisper.engine.onnx_graph import MICROSOFT, Floats, Graph, GraphModel
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


def encoder_graph(config: WhisperConfig, weights: Weights) -> GraphModel:
    """`log_mel` (1, mel bins, frames) and `positions` (states, d_model) to `cross_names`.

    Each output: (1, heads, states, d_model / heads).
    """
    graph = Graph()
    states = graph.input("log_mel", (1, config.num_mel_bins, "frames"))
    for name, stride in (("conv1", 1), ("conv2", 2)):
        kernel = (graph.constant(weights[f"model.encoder.{name}.{part}"]) for part in ("weight", "bias"))
        states = graph.gelu(graph.node("Conv", [states, *kernel], pads=[1, 1], strides=[stride]))
    positions = graph.input("positions", ("states", config.d_model))
    states = graph.add(graph.node("Transpose", [states], perm=[0, 2, 1]), positions)
    for layer in range(config.encoder_layers):
        states = _encoder_layer(graph, config, _Part(weights, f"model.encoder.layers.{layer}."), states)
    states = _Part(weights, "model.encoder.").layer_norm(graph, "layer_norm", states)
    _cross_keys_values(graph, config, weights, states)
    return graph.model()


def decoder_graph(config: WhisperConfig, weights: Weights) -> GraphModel:
    """`embedded` (1, tokens, d_model), `cross_names`, past `cache_names` and counts to hidden states and `cache_names`.

    Each cache: (answers, heads, room, d_model / heads), to be bound as input and as output, for it is written in place.
    The tokens belong to one answer, or one to each of several; `BY_ANSWER` (3,) holds [answers, -1, 3 * d_model].
    `LAST` (answers,) holds the number of the last token and `TOTAL` () that of all tokens, these included.
    """
    graph = Graph()
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
        states = _decoder_layer(graph, config, layer, _Part(weights, f"model.decoder.layers.{layer}."), states)
    graph.nodes("Identity", [_Part(weights, "model.decoder.").layer_norm(graph, "layer_norm", states)], [HIDDEN])
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


class _Part:
    """The weights of one layer."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        self._weights = weights
        self._prefix = prefix

    def part(self, name: str) -> "_Part":
        return _Part(self._weights, f"{self._prefix}{name}.")

    def weight(self, name: str) -> Floats:
        return self._weights[f"{self._prefix}{name}.weight"]

    def bias(self, name: str) -> Floats:
        """Zeros for keys, which have none."""
        key = f"{self._prefix}{name}.bias"
        return self._weights[key] if key in self._weights else np.zeros(len(self.weight(name)), np.float32)

    def layer_norm(self, graph: Graph, name: str, states: str) -> str:
        return graph.layer_norm(states, self.weight(name), self.bias(name))

    def joined(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Weights and biases of several projections of the same input, side by side."""
        return np.concatenate([self.weight(name) for name in names]), np.concatenate(
            [self.bias(name) for name in names]
        )


_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def _encoder_layer(graph: Graph, config: WhisperConfig, part: _Part, states: str) -> str:
    attention = part.part("self_attn")
    projected = graph.many_times(
        part.layer_norm(graph, "self_attn_layer_norm", states), *attention.joined(_PROJECTIONS)
    )
    query, keys, values = graph.split(projected, [f"{projected}_{name}" for name in _PROJECTIONS])
    mixed = graph.attend(query, keys, values, config.encoder_attention_heads)
    states = graph.add(states, graph.many_times(mixed, *attention.joined(["out_proj"])))
    normed = part.layer_norm(graph, "final_layer_norm", states)
    inner = graph.gelu(graph.many_times(normed, *part.joined(["fc1"])))
    return graph.add(states, graph.many_times(inner, *part.joined(["fc2"])))


def _cross_keys_values(graph: Graph, config: WhisperConfig, weights: Weights, states: str) -> None:
    layers = [_Part(weights, f"model.decoder.layers.{layer}.encoder_attn.") for layer in range(config.decoder_layers)]
    joined = [layer.joined(_PROJECTIONS[1:]) for layer in layers]
    projected = graph.many_times(states, *map(np.concatenate, zip(*joined, strict=True)))
    by_head = (0, 0, config.decoder_attention_heads, -1)
    parts = graph.split(projected, [f"{name}_flat" for name in cross_names(config)])
    for flat, name in zip(parts, cross_names(config), strict=True):
        graph.nodes("Transpose", [graph.reshape(flat, by_head)], [name], perm=[0, 2, 1, 3])
        graph.output(name)


def _decoder_layer(graph: Graph, config: WhisperConfig, layer: int, part: _Part, states: str) -> str:
    heads = config.decoder_attention_heads
    attention = part.part("self_attn")
    normed = part.layer_norm(graph, "self_attn_layer_norm", states)
    projected = graph.node("Reshape", [graph.few_times(normed, *attention.joined(_PROJECTIONS)), BY_ANSWER])
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
    states = graph.add(states, graph.few_times(mixed, *attention.joined(["out_proj"])))
    cross = part.part("encoder_attn")
    query = graph.few_times(part.layer_norm(graph, "encoder_attn_layer_norm", states), *cross.joined(["q_proj"]))
    mixed = graph.attend(query, f"cross_keys_{layer}", f"cross_values_{layer}", heads)
    states = graph.add(states, graph.few_times(mixed, *cross.joined(["out_proj"])))
    normed = part.layer_norm(graph, "final_layer_norm", states)
    inner = graph.gelu(graph.few_times(normed, *part.joined(["fc1"])))
    return graph.add(states, graph.few_times(inner, *part.joined(["fc2"])))
