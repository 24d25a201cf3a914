"""A model folder in the hub's layout, read without any model runtime: sizes, tokenizer and rules of decoding."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from wyoming_piwhisper.domain.errors import ModelFormatError

WINDOW_SECONDS: Final = 30.0
"""What Whisper was trained to hear at once."""
NO_SPEECH_TOKENS: Final = ("<|nospeech|>", "<|nocaptions|>")
"""Two names of the same token, by the age of the checkpoint."""


@dataclass(frozen=True)
class EncoderContext:
    """How much the encoder is given to hear."""

    pad_seconds: float | None = None
    """Silence behind the speech in training; None for Whisper's own checkpoints, which were trained on 30 s."""
    knows_full: bool = False
    """Whether a model with a short context also hears the full 30 s, as one that was tuned from Whisper's own does."""
    longest_seconds: float = WINDOW_SECONDS
    """Longest speech heard at once; longer speech is cut at a pause."""


@dataclass(frozen=True)
class DecodingRules:
    """What the decoder starts from and may not say."""

    start: int
    end: int
    no_speech: int | None
    languages: dict[str, int]
    """BCP 47 code to token; empty for a model of one language."""
    task: int | None
    no_timestamps: int
    suppressed: tuple[int, ...]
    """Tokens that are never said."""
    suppressed_first: tuple[int, ...]
    """Tokens that an answer does not begin with."""
    no_speech_threshold: float = 0.6
    """Above this no-speech probability an unsure answer is taken for none."""
    log_probability_threshold: float = -1.0
    """Below this mean log probability an answer counts as unsure; with 0 the no-speech probability decides alone."""

    def prompt(self, language: str) -> list[int]:
        """The tokens in front of the text."""
        spoken = [self.languages.get(language, self.languages.get("en")), self.task] if self.languages else []
        return [self.start, *(token for token in spoken if token is not None), self.no_timestamps]


@dataclass(frozen=True)
class Checkpoint:
    """Everything about a model except its weights."""

    folder: Path
    config: dict[str, Any]
    """`config.json`."""
    tokenizer: Tokenizer
    rules: DecodingRules
    context: EncoderContext
    mel_bins: int

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / "model.safetensors"


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the small files of a Whisper checkpoint.

    Raises:
        ModelFormatError: a file is missing or does not describe a Whisper; the message names it.
    """
    config = _read_json(folder / "config.json")
    generation = _read_json(folder / "generation_config.json")
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises bare Exception
        raise ModelFormatError(f"{folder / 'tokenizer.json'}: {error}") from error
    ours = config.get("wyoming_piwhisper", {})
    try:
        rules = _rules(config, generation, tokenizer, ours.get("decoding", {}))
        context = EncoderContext(**ours.get("encoder_context", {}))
        return Checkpoint(folder, config, tokenizer, rules, context, int(config["num_mel_bins"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{folder}: config.json or generation_config.json: {error!r}") from error


def _rules(
    config: dict[str, Any], generation: dict[str, Any], tokenizer: Tokenizer, ours: dict[str, float]
) -> DecodingRules:
    languages = generation.get("lang_to_id") if generation.get("is_multilingual") else None
    no_speech = (tokenizer.token_to_id(token) for token in NO_SPEECH_TOKENS)
    no_timestamps = tokenizer.token_to_id("<|notimestamps|>")
    if no_timestamps is None:
        raise ValueError("tokenizer.json has no token <|notimestamps|>")
    return DecodingRules(
        start=int(config["decoder_start_token_id"]),
        end=int(config["eos_token_id"]),
        no_speech=next((token for token in no_speech if token is not None), None),
        languages={token.strip("<|>"): int(number) for token, number in (languages or {}).items()},
        task=tokenizer.token_to_id("<|transcribe|>"),
        no_timestamps=no_timestamps,
        suppressed=tuple(generation.get("suppress_tokens") or ()),
        suppressed_first=tuple(generation.get("begin_suppress_tokens") or ()),
        **ours,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"{path}: not a mapping")
    return content
