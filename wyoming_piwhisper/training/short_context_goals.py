"""What a Whisper says when it hears 30 s, and its decoder's hidden states meanwhile: the goals of short context."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.decoding import DecodedWindow, DecodingTask
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.greedy_search import GreedyDecoder
from wyoming_piwhisper.engine.length_guard import goes_round, longest_plausible
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.engine.whisper_torch import TorchDecoderSession
from wyoming_piwhisper.training.profile_batches import spoken_tokens
from wyoming_piwhisper.training.profile_clips import SpokenClip, SpokenClips
from wyoming_piwhisper.training.spoken_batches import WINDOW_FRAMES, plain_log_mel

if TYPE_CHECKING:
    from wyoming_piwhisper.training.clips import Clip


@dataclass(frozen=True)
class Goal:
    """What the tuned model's decoder is given for a clip, and what it is to make of it."""

    tokens: Tensor
    """From the start token to the last word: shape (tokens,), int64."""
    states: Tensor
    """The original's hidden states behind the final layer norm: shape (tokens, d_model), float16, on the CPU."""


class Goals:
    """The goals of clips, each found when it is first asked for and then kept.

    The tokens are the original's own greedy answer, not the transcript: these are what a decoder is given when it
    serves, in the model's own spelling and with its own end, while a transcript in another style would teach states
    that it never comes to. Where the original itself goes astray, the transcript takes the place of its answer.
    """

    def __init__(self, original: Whisper, checkpoint: Checkpoint, clips: SpokenClips, language: str) -> None:
        """Hear `clips` with `original`, which was loaded from `checkpoint`."""
        self._original = original
        self._device = next(original.parameters()).device
        self._checkpoint = checkpoint
        self._decoder = GreedyDecoder(checkpoint.tokenizer, checkpoint.rules)
        self._clips = clips
        self._language = language
        self._found: dict[Clip, Goal] = {}

    def of(self, clip: SpokenClip) -> Goal:
        """The goal of a clip."""
        if clip.clip not in self._found:
            self._found[clip.clip] = self._hear(clip)
        return self._found[clip.clip]

    @torch.no_grad()
    def _hear(self, clip: SpokenClip) -> Goal:
        log_mel = plain_log_mel([self._clips.power(clip)], WINDOW_FRAMES)
        encoded = self._original.encode(log_mel.to(self._device))
        tokens = torch.tensor(self._tokens(clip, encoded))
        cross = self._original.cross_keys_values(encoded)
        states: Tensor = self._original.model.decoder(tokens[None].to(self._device), cross)
        return Goal(tokens, states[0].half().cpu())

    def _tokens(self, clip: SpokenClip, encoded: Tensor) -> list[int]:
        session = TorchDecoderSession(self._original, encoded)
        longest = self._original.config.max_target_positions
        seconds = clip.clip.frames / FRAMES_PER_SECOND
        decoded = self._decoder.decode(session, DecodingTask(self._language, seconds, longest))
        if goes_astray(decoded, seconds) and clip.text:
            return spoken_tokens(self._checkpoint, clip.text, self._language)[:-1]
        return [*self._checkpoint.rules.prompt(self._language), *decoded.tokens]


def goes_astray(decoded: DecodedWindow, seconds: float) -> bool:
    """Whether an answer to `seconds` of speech is longer than people speak or goes round in a circle."""
    tokens = decoded.tokens
    if len(tokens) >= longest_plausible(seconds):
        return True
    return any(goes_round(tokens[:count]) for count in range(1, len(tokens) + 1))
