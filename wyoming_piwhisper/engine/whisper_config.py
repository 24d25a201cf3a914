"""The sizes of a Whisper checkpoint."""

from dataclasses import dataclass
from typing import Any, Final, Self

LAYER_NORM_EPS: Final = 1e-5


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of a checkpoint, named as in its `config.json`."""

    vocab_size: int
    d_model: int
    encoder_layers: int
    decoder_layers: int
    encoder_attention_heads: int
    decoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    num_mel_bins: int
    max_source_positions: int
    max_target_positions: int

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from the mapping in `config.json`; a missing size raises KeyError with its name."""
        return cls(**{name: int(values[name]) for name in cls.__dataclass_fields__})
