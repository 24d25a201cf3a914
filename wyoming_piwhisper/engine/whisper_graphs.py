"""The Whisper architecture as ONNX graphs, built from a checkpoint's sizes and weights.

Three graphs: the encoder, which ends in the keys and values that the decoder attends to; the decoder's body, from
embedded tokens to hidden states; the head, from hidden states to logits. Embeddings stay outside.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from wyoming_piwhisper.engine.onnx_graph import MICROSOFT, Floats, Graph
from wyoming_piwhisper.engine.whisper_config import WhisperConfig

Weights = Mapping[str, Floats]
"""Tensors of a checkpoint by name, float32."""
EMBEDDING = "model.decoder.embed_tokens.weight"


def cross_names(config: WhisperConfig) -> list[str]:
    """The encoder's outputs and inputs of the decoder: keys and values for each of its layers."""
    return [f"cross_{kind}_{layer}" for layer in range(config.decoder_layers) for kind in ("keys", "values")]


def cache_names(config: WhisperConfig) -> list[str]:
    """The decoder's outputs besides the hidden states; its inputs have `past_` in front."""
    return [f"{kind}_{layer}" for layer in range(config.decoder_layers) for kind in ("keys", "values")]


def encoder_graph(config: WhisperConfig, weights: Weights) -> bytes:
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


def decoder_graph(config: WhisperConfig, weights: Weights) -> bytes:
    """`embedded` (1, tokens, d_model), `cross_names` and past `cache_names` to hidden states and `cache_names`.

    Each cache: (1, heads, tokens so far, d_model / heads).
    """
    graph = Graph()
    heads, width = config.decoder_attention_heads, config.d_model // config.decoder_attention_heads
    states = graph.input("embedded", (1, "tokens", config.d_model))
    for name in cross_names(config):
        graph.input(name, (1, heads, "states", width))
    for name in cache_names(config):
        graph.input(f"past_{name}", (1, heads, "past", width))
    for layer in range(config.decoder_layers):
        states = _decoder_layer(graph, heads, layer, _Part(weights, f"model.decoder.layers.{layer}."), states)
    hidden = _Part(weights, "model.decoder.").layer_norm(graph, "layer_norm", states)
    for name in (hidden, *cache_names(config)):
        graph.output(name)
    return graph.model()


def head_graph(config: WhisperConfig, weights: Weights) -> bytes:
    """`hidden` (1, tokens, d_model) to `logits` (1, tokens, vocabulary)."""
    graph = Graph()
    graph.output(graph.few_times(graph.input("hidden", (1, "tokens", config.d_model)), weights[EMBEDDING]))
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
    heads = graph.constant(np.array([0, 0, config.decoder_attention_heads, -1], np.int64))
    parts = graph.split(projected, [f"{name}_flat" for name in cross_names(config)])
    for flat, name in zip(parts, cross_names(config), strict=True):
        graph.nodes("Transpose", [graph.node("Reshape", [flat, heads])], [name], perm=[0, 2, 1, 3])
        graph.output(name)


def _decoder_layer(graph: Graph, heads: int, layer: int, part: _Part, states: str) -> str:
    attention = part.part("self_attn")
    normed = part.layer_norm(graph, "self_attn_layer_norm", states)
    projected = graph.few_times(normed, *attention.joined(_PROJECTIONS))
    query, keys, values = graph.split(projected, [f"{projected}_{name}" for name in _PROJECTIONS])
    mixed, *_ = graph.nodes(
        "MultiHeadAttention",
        [query, keys, values, "", "", "", f"past_keys_{layer}", f"past_values_{layer}"],
        [f"mixed_{layer}", f"keys_{layer}", f"values_{layer}"],
        MICROSOFT,
        num_heads=heads,
        unidirectional=1,
    )
    states = graph.add(states, graph.few_times(mixed, *attention.joined(["out_proj"])))
    cross = part.part("encoder_attn")
    query = graph.few_times(part.layer_norm(graph, "encoder_attn_layer_norm", states), *cross.joined(["q_proj"]))
    mixed = graph.attend(query, f"cross_keys_{layer}", f"cross_values_{layer}", heads)
    states = graph.add(states, graph.few_times(mixed, *cross.joined(["out_proj"])))
    normed = part.layer_norm(graph, "final_layer_norm", states)
    inner = graph.gelu(graph.few_times(normed, *part.joined(["fc1"])))
    return graph.add(states, graph.few_times(inner, *part.joined(["fc2"])))
