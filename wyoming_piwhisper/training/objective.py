"""What training minimises: the decoder's cross-entropy plus a helper loss that makes the encoder spell phonemes.

Source of the joint objective: Kim, Hori and Watanabe, "Joint CTC-attention based end-to-end speech recognition", 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.training.batches import Example
from wyoming_piwhisper.training.tokenizer import END, START, number_of, targets

IGNORED: Final = -100
LABEL_SMOOTHING: Final = 0.1
WRONG_TOKEN_SHARE: Final = 0.08
"""Share of the decoder's input that is replaced, so that it listens rather than guesses on."""


@dataclass(frozen=True)
class Batch:
    """One step's input."""

    log_mel: Tensor
    """(clips, mel bins, frames), float32."""
    inputs: Tensor
    """Tokens that the decoder is given: (clips, tokens), int64."""
    labels: Tensor
    """Tokens that it has to answer, `IGNORED` behind the end: (clips, tokens), int64."""
    phonemes: Tensor
    """All clips' phonemes one after the other, int64, 0 is the blank and never occurs."""
    phoneme_counts: Tensor
    """(clips,), int64."""

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        tensors = (self.log_mel, self.inputs, self.labels, self.phonemes, self.phoneme_counts)
        return Batch(*(tensor.to(device) for tensor in tensors))


class Targets:
    """Texts and phonemes to tensors."""

    def __init__(self, tokenizer: Tokenizer, inventory: Sequence[str]) -> None:
        """`inventory` lists the phonemes; the first gets number 1."""
        self._tokenizer = tokenizer
        self.start: int = number_of(tokenizer, START)
        self.end: int = number_of(tokenizer, END)
        self._numbers = {phoneme: number for number, phoneme in enumerate(inventory, 1)}

    def batch(self, log_mel: Tensor, examples: Sequence[Example]) -> Batch:
        """Put a batch together."""
        answers = [torch.tensor(targets(self._tokenizer, example.text)) for example in examples]
        labels = nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=IGNORED)
        start = torch.full((len(examples), 1), self.start)
        inputs = torch.cat([start, labels[:, :-1].clamp(min=0)], 1)
        spoken = [self.phonemes(example.phonemes) for example in examples]
        flat = torch.tensor([number for numbers in spoken for number in numbers], dtype=torch.int64)
        return Batch(log_mel, inputs, labels, flat, torch.tensor([len(numbers) for numbers in spoken]))

    def phonemes(self, phonemes: str) -> list[int]:
        """Numbers of phonemes separated by spaces; those outside the inventory are left out."""
        return [self._numbers[phoneme] for phoneme in phonemes.split() if phoneme in self._numbers]

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens back to text, special ones left out."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


class Objective(nn.Module):
    """A Whisper with a phoneme head on its encoder."""

    def __init__(self, config: WhisperConfig, phonemes: int, phoneme_weight: float) -> None:
        """Make the model with fresh weights."""
        super().__init__()
        self.whisper = Whisper(config)
        self.phoneme_head = nn.Linear(config.d_model, phonemes + 1)
        self._phoneme_weight = phoneme_weight
        _initialise(self.whisper)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Total loss, the decoder's cross-entropy a token and the helper loss a phoneme."""
        states = self.whisper.encode(batch.log_mel)
        logits = self.whisper.decode(self._spoil(batch.inputs), self.whisper.cross_keys_values(states)).float()
        spoken = functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, label_smoothing=LABEL_SMOOTHING
        )
        helper = self._phoneme_loss(states, batch)
        return spoken + self._phoneme_weight * helper, spoken.detach(), helper.detach()

    def phoneme_log_probabilities(self, states: Tensor) -> Tensor:
        """Encoder states (clips, time, width) to (clips, time, phonemes + 1)."""
        log_probabilities: Tensor = self.phoneme_head(states).float().log_softmax(-1)
        return log_probabilities

    def _phoneme_loss(self, states: Tensor, batch: Batch) -> Tensor:
        log_probabilities = self.phoneme_log_probabilities(states).transpose(0, 1)
        lengths = torch.full((states.shape[0],), states.shape[1], dtype=torch.int64)
        total = functional.ctc_loss(
            log_probabilities, batch.phonemes, lengths, batch.phoneme_counts, reduction="sum", zero_infinity=True
        )
        return total / max(1, int(batch.phoneme_counts.sum()))

    def _spoil(self, inputs: Tensor) -> Tensor:
        wrong = torch.rand(inputs.shape, device=inputs.device) < WRONG_TOKEN_SHARE
        wrong[:, :2] = False
        return torch.where(wrong, torch.randint_like(inputs, self.whisper.config.vocab_size), inputs)


def _initialise(whisper: Whisper) -> None:
    """Whisper's sinusoids, scaled down so that they do not drown the sound, and small embeddings for the tied head."""
    encoder, decoder = whisper.model.encoder, whisper.model.decoder
    length, width = encoder.embed_positions.weight.shape
    steps = torch.exp(-torch.arange(width // 2) * (torch.log(torch.tensor(10_000.0)) / (width // 2 - 1)))
    angles = torch.arange(length)[:, None] * steps[None]
    encoder.embed_positions.weight.data = 0.1 * torch.cat([angles.sin(), angles.cos()], 1)
    nn.init.normal_(decoder.embed_tokens.weight, std=0.02)
    nn.init.normal_(decoder.embed_positions.weight, std=0.02)
