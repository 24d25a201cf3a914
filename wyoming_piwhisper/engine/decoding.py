"""What all ways of decoding share, over any runtime: what may be said, when to stop, and whether anybody spoke.

Source: Radford et al. 2022, section 4.5 and the reference implementation's rules for `<|nospeech|>` and suppression.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from wyoming_piwhisper.domain.errors import InferenceError
from wyoming_piwhisper.engine.checkpoint import DecodingRules
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.length_guard import LOG_PROBABILITY_THRESHOLD, longest_plausible

TOKENS_PER_SECOND: Final = 12
SPARE_TOKENS: Final = 16
"""An answer of more than 12 tokens a second and 16 is a loop: fast speech has 5 to 8 tokens a second."""

Logits = npt.NDArray[np.float32]
T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that can be left off between two steps; what it brings is its return value."""


class DecoderSession(Protocol):
    """The decoder of one window, with what it has said so far."""

    def advance(self, tokens: list[int]) -> Logits:
        """Append `tokens` and return the logits after each: shape (len(tokens), vocabulary), float32.

        They may be overwritten by the next call.
        """

    def rewind(self, tokens: int) -> None:
        """Forget the last `tokens` tokens."""

    def branch(self, parents: list[int], tokens: list[int]) -> Logits:
        """Go on with several answers at once: the i-th is the answer `parents[i]` so far and then `tokens[i]`.

        Before the first call there is one answer, number 0; after it neither `advance` nor `rewind` may follow. Returns
        the logits of each answer: shape (len(tokens), vocabulary), float32, which the next call may overwrite.
        """


class SpeechModel(Protocol):
    """A loaded encoder and decoder; used from one thread."""

    @property
    def longest_answer(self) -> int:
        """Most tokens that a session can hold."""

    def encode(self, log_mel: Spectrogram) -> DecoderSession:
        """Hear log-Mel of shape (mel bins, frames), at most 3000 frames, and make ready to say what it is."""


@dataclass(frozen=True)
class DecodedWindow:
    """What one window was taken to say; empty `text` when nobody spoke."""

    text: str
    tokens: tuple[int, ...]
    average_log_probability: float
    """Mean natural logarithm over the tokens and the end, at most 0."""
    no_speech_probability: float
    end_probability: float = 0.0
    """Of the end after the last token, in [0, 1]; 0 where the answer was cut."""
    is_doubtful: bool = False
    """Whether the model seems to have gone astray; only told where that was asked for."""


@dataclass(frozen=True)
class DecodingTask:
    """What a decoder is to do with a window."""

    language: str
    seconds: float
    """Length of the window."""
    longest: int
    """Most tokens, prompt included."""
    draft: Sequence[int] = ()
    """The likely tokens."""
    guarded: bool = False
    """Whether the answer ends where `length_guard` sees that the model goes astray."""


class Decoder(ABC):
    """Turns what a model heard into words by Whisper's rules; subclasses search the words."""

    def __init__(self, tokenizer: Tokenizer, rules: DecodingRules) -> None:
        """Prepare the masks of `rules`."""
        self._tokenizer = tokenizer
        self._rules = rules
        self._always = np.array(rules.suppressed, dtype=np.int64)
        self._first = np.array(rules.suppressed_first, dtype=np.int64)

    @abstractmethod
    def steps(self, session: DecoderSession, task: DecodingTask) -> Steps[DecodedWindow]:
        """Decode what `session` heard, a pass of the decoder a step."""

    def decode(self, session: DecoderSession, task: DecodingTask) -> DecodedWindow:
        """Take all steps at once."""
        return run(self.steps(session, task))

    def _room(self, task: DecodingTask, prompt: Sequence[int]) -> int:
        """Most tokens of the answer."""
        plausible = int(TOKENS_PER_SECOND * task.seconds) + SPARE_TOKENS
        return min(task.longest - len(prompt), longest_plausible(task.seconds) if task.guarded else plausible)

    def _allow(self, logits: Logits, scratch: Logits, *, first: bool) -> None:
        """Copy logits (…, vocabulary) to `scratch` without the tokens that may not be said."""
        np.copyto(scratch, logits)
        scratch[..., self._always] = -np.inf
        if first:
            scratch[..., self._first] = -np.inf

    def _no_speech_probability(self, logits: Logits) -> float:
        """Probability of the no-speech token right after the start token."""
        if self._rules.no_speech is None:
            return 0.0
        return float(np.exp(logits[self._rules.no_speech] - log_sum_exp(logits)))

    def _window(
        self, tokens: Sequence[int], log_probabilities: Sequence[float], no_speech: float, *, guarded: bool
    ) -> DecodedWindow:
        """The answer of `tokens`; one more log probability than tokens means that the end was said.

        Raises:
            InferenceError: the model answered with what are no numbers.
        """
        ended = len(log_probabilities) > len(tokens)
        average = float(np.mean(log_probabilities)) if log_probabilities else 0.0
        if not np.isfinite(average):
            raise InferenceError("the model's probabilities are no numbers; are its weights damaged?")
        doubtful = guarded and (not ended or average < LOG_PROBABILITY_THRESHOLD)
        if not tokens or self._nobody_spoke(no_speech, average):
            return DecodedWindow("", (), 0.0, no_speech, is_doubtful=doubtful)
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=True).strip()
        end = float(np.exp(log_probabilities[-1])) if ended else 0.0
        return DecodedWindow(text, tuple(tokens), average, no_speech, end, doubtful)

    def _nobody_spoke(self, no_speech: float, average_log_probability: float) -> bool:
        unsure = (
            average_log_probability < self._rules.log_probability_threshold
            or self._rules.log_probability_threshold >= 0
        )
        return no_speech > self._rules.no_speech_threshold and unsure


def run(steps: Steps[T]) -> T:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def log_sum_exp(logits: Logits) -> float:
    """The logarithm of the sum of the exponentials of logits (vocabulary,)."""
    largest = logits.max()
    return float(largest + np.log(np.exp(logits - largest).sum()))
