"""What decides how a trained model comes out, and where its training reads and writes."""

from dataclasses import dataclass
from pathlib import Path

from wyoming_piwhisper.engine.whisper_config import WhisperConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how the model comes out, besides the clips."""

    d_model: int = 256
    encoder_layers: int = 6
    decoder_layers: int = 2
    frames_per_batch: int = 5_000
    """Mel frames a process and step; 50 s of sound."""
    utterances: int = 500_000
    learning_rate: float = 1.2e-3
    last_learning_rate: float = 2e-5
    warmup_steps: int = 400
    weight_decay: float = 0.02
    phoneme_weight: float = 0.7
    average_decay: float = 0.999
    """Of the running average of the weights, which is what ships."""
    seed: int = 1

    def config(self, vocab_size: int) -> WhisperConfig:
        """The sizes of the model."""
        heads = self.d_model // 64
        return WhisperConfig(
            vocab_size=vocab_size,
            d_model=self.d_model,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * self.d_model,
            decoder_ffn_dim=4 * self.d_model,
            num_mel_bins=80,
            max_source_positions=1500,
            max_target_positions=448,
        )


@dataclass(frozen=True)
class Place:
    """Where training reads and writes."""

    folder: Path
    """Holds `tokenizer.json`, `phonemes.json`, the checkpoint and `progress.jsonl`."""
    stores: tuple[Path, ...]
    noise_stores: tuple[Path, ...]
    watched: dict[str, Path]
    """Stores by name on which progress is measured."""
    processes: int
    start_from: Path | None = None
    """Model folder whose weights a new run begins with, with its phoneme head where there is one."""
