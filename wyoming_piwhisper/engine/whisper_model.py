"""The Whisper architecture in torch, with the parameter names of Hugging Face's `WhisperForConditionalGeneration`.

One module serves the checkpoints of the hub, the bundled model and training. Unlike the hub's class it takes an encoder
context of any length up to `max_source_positions`, which is what makes a short command cheap.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from wyoming_piwhisper.engine.whisper_config import LAYER_NORM_EPS, WhisperConfig


class Attention(nn.Module):
    """Multi-head attention; as in Whisper, keys have no bias."""

    def __init__(self, d_model: int, heads: int) -> None:
        """Make projections of width `d_model`, split over `heads`."""
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def split(self, projected: Tensor) -> Tensor:
        """(batch, time, d_model) to (batch, heads, time, d_model / heads)."""
        batch, time, _ = projected.shape
        return projected.view(batch, time, self.heads, -1).transpose(1, 2)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of `source` (batch, time, d_model), each (batch, heads, time, d_model / heads)."""
        return self.split(self.k_proj(source)), self.split(self.v_proj(source))

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, *, causal: bool = False) -> Tensor:
        """Attend from `query` (batch, time, d_model); returns the same shape."""
        queries = self.split(self.q_proj(query))
        # On a CPU the gradient of torch's fused attention takes more time than all of the plain one.
        attention = _plain_attention if self.training else functional.scaled_dot_product_attention
        mixed: Tensor = attention(queries, keys, values, is_causal=causal)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return output


def _plain_attention(queries: Tensor, keys: Tensor, values: Tensor, *, is_causal: bool) -> Tensor:
    """What `scaled_dot_product_attention` computes, in its separate steps."""
    scores = torch.matmul(queries * queries.shape[-1] ** -0.5, keys.transpose(-1, -2))
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return torch.matmul(scores.softmax(-1, dtype=scores.dtype), values)


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: WhisperConfig) -> None:
        """Make one layer of the sizes in `config`."""
        super().__init__()
        self.self_attn = Attention(config.d_model, config.encoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)

    def forward(self, states: Tensor) -> Tensor:
        """(batch, time, d_model) to the same shape."""
        normed = self.self_attn_layer_norm(states)
        states = states + self.self_attn.attend(normed, *self.self_attn.keys_values(normed))
        output: Tensor = states + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(states))))
        return output


class Encoder(nn.Module):
    """Log-Mel frames to encoder states, one state for two frames (20 ms)."""

    def __init__(self, config: WhisperConfig) -> None:
        """Make the two convolutions, the positions and the layers."""
        super().__init__()
        self.conv1 = nn.Conv1d(config.num_mel_bins, config.d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, config.d_model)
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(batch, mel bins, frames) to (batch, ceil(frames / 2), d_model)."""
        states = functional.gelu(self.conv2(functional.gelu(self.conv1(log_mel)))).transpose(1, 2)
        states = states + self.embed_positions.weight[: states.shape[1]]
        for layer in self.layers:
            states = layer(states)
        output: Tensor = self.layer_norm(states)
        return output


class DecoderLayer(nn.Module):
    """Pre-norm causal self-attention, attention to the encoder, feed-forward."""

    def __init__(self, config: WhisperConfig) -> None:
        """Make one layer of the sizes in `config`."""
        super().__init__()
        self.self_attn = Attention(config.d_model, config.decoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)
        self.encoder_attn = Attention(config.d_model, config.decoder_attention_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)
        self.fc1 = nn.Linear(config.d_model, config.decoder_ffn_dim)
        self.fc2 = nn.Linear(config.decoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)

    def forward(self, states: Tensor, cross: tuple[Tensor, Tensor], cache: "LayerCache | None") -> Tensor:
        """Advance `states` (batch, tokens, d_model) given the encoder's keys and values.

        With a cache the tokens follow those already in it: either the first several, or one at a time.
        """
        normed = self.self_attn_layer_norm(states)
        keys, values = self.self_attn.keys_values(normed)
        if cache is not None:
            keys, values = cache.append(keys, values)
        states = states + self.self_attn.attend(normed, keys, values, causal=states.shape[1] > 1)
        normed = self.encoder_attn_layer_norm(states)
        states = states + self.encoder_attn.attend(normed, *cross)
        output: Tensor = states + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(states))))
        return output


class LayerCache:
    """Keys and values of one decoder layer in buffers that are allocated once per utterance."""

    def __init__(self, batch: int, heads: int, length: int, head_width: int, like: Tensor) -> None:
        """Allocate room for `length` tokens with the dtype and device of `like`."""
        self._keys = like.new_empty((batch, heads, length, head_width))
        self._values = torch.empty_like(self._keys)
        self._used = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values and return views of all so far."""
        end = self._used + keys.shape[2]
        self._keys[:, :, self._used : end] = keys
        self._values[:, :, self._used : end] = values
        self._used = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def take(self, sequences: Tensor) -> None:
        """Go on with these sequences: shape (n,), int64, numbers of those of now."""
        self._keys, self._values = self._keys[sequences], self._values[sequences]

    def forget(self, tokens: int) -> None:
        """Drop the keys and values of the last `tokens` tokens."""
        self._used -= tokens


class Decoder(nn.Module):
    """Tokens and encoder states to hidden states."""

    def __init__(self, config: WhisperConfig) -> None:
        """Make embeddings, learned positions and layers."""
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = nn.Embedding(config.max_target_positions, config.d_model)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPS)

    def forward(
        self,
        tokens: Tensor,
        cross: list[tuple[Tensor, Tensor]],
        caches: list[LayerCache] | None = None,
        position: int = 0,
    ) -> Tensor:
        """Token ids (batch, tokens) at `position` onwards to hidden states (batch, tokens, d_model)."""
        positions = self.embed_positions.weight[position : position + tokens.shape[1]]
        states = self.embed_tokens(tokens) + positions
        for index, layer in enumerate(self.layers):
            states = layer(states, cross[index], caches[index] if caches else None)
        output: Tensor = self.layer_norm(states)
        return output


class WhisperBody(nn.Module):
    """Encoder and decoder under the name that checkpoints give them."""

    def __init__(self, config: WhisperConfig) -> None:
        """Make both halves."""
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)


class Whisper(nn.Module):
    """The whole model; its head is the transposed token embedding."""

    def __init__(self, config: WhisperConfig) -> None:
        """Make a model with torch's default initialisation; weights come from a checkpoint or from training."""
        super().__init__()
        self.config = config
        self.model = WhisperBody(config)

    def encode(self, log_mel: Tensor) -> Tensor:
        """Log-Mel (batch, mel bins, frames) to encoder states (batch, ceil(frames / 2), d_model)."""
        states: Tensor = self.model.encoder(log_mel)
        return states

    def cross_keys_values(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the encoder states for each decoder layer."""
        return [layer.encoder_attn.keys_values(states) for layer in self.model.decoder.layers]  # type: ignore[union-attr, operator]

    def new_caches(self, like: Tensor) -> list[LayerCache]:
        """Empty caches for `like.shape[0]` sequences of the longest length that the model knows."""
        heads = self.config.decoder_attention_heads
        width = self.config.d_model // heads
        shape = (like.shape[0], heads, self.config.max_target_positions, width)
        return [LayerCache(*shape, like) for _ in range(self.config.decoder_layers)]

    def decode(
        self,
        tokens: Tensor,
        cross: list[tuple[Tensor, Tensor]],
        caches: list[LayerCache] | None = None,
        position: int = 0,
    ) -> Tensor:
        """Token ids (batch, tokens) to logits (batch, tokens, vocabulary)."""
        states: Tensor = self.model.decoder(tokens, cross, caches, position)
        return functional.linear(states, self.model.decoder.embed_tokens.weight)
