"""Whisper's decoding over any runtime: what may be said, when to stop, and whether anybody spoke.

Source: Radford et al. 2022, section 4.5 and the reference implementation's rules for `<|nospeech|>` and suppression.
"""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from wyoming_piwhisper.engine.checkpoint import DecodingRules
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.length_guard import LOG_PROBABILITY_THRESHOLD, goes_round, longest_plausible

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


class GreedyDecoder:
    """Takes the likeliest token each time."""

    def __init__(self, tokenizer: Tokenizer, rules: DecodingRules) -> None:
        """Prepare the masks of `rules`."""
        self._tokenizer = tokenizer
        self._rules = rules
        self._always = np.array(rules.suppressed, dtype=np.int64)
        self._first = np.array(rules.suppressed_first, dtype=np.int64)

    def decode(self, session: DecoderSession, language: str, seconds: float, longest: int) -> DecodedWindow:
        """Decode a window of `seconds` seconds into at most `longest` tokens, prompt included."""
        return run(self.steps(session, language, seconds, longest))

    def steps(
        self,
        session: DecoderSession,
        language: str,
        seconds: float,
        longest: int,
        draft: Sequence[int] = (),
        *,
        guarded: bool = False,
    ) -> Steps[DecodedWindow]:
        """Decode, a pass of the decoder a step; tokens of the `draft` that turn out right cost one pass together.

        A `guarded` answer ends where `length_guard` sees that the model goes astray.

        Source of the draft: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023.
        """
        prompt = self._rules.prompt(language)
        plausible = longest_plausible(seconds) if guarded else int(TOKENS_PER_SECOND * seconds) + SPARE_TOKENS
        room = min(longest - len(prompt), plausible)
        ahead = deque(draft[:room])
        logits = session.advance([*prompt, *ahead])
        yield
        no_speech = self._no_speech_probability(logits[0])
        after = deque(logits[len(prompt) - 1 :])
        tokens: list[int] = []
        log_probabilities: list[float] = []
        scratch = np.empty_like(logits[0])
        ended = False
        while len(tokens) < room and not (guarded and goes_round(tokens)):
            token, log_probability = self._choose(after.popleft(), scratch, first=not tokens)
            log_probabilities.append(log_probability)
            if token == self._rules.end:
                ended = True
                break
            tokens.append(token)
            if ahead and ahead[0] == token:
                ahead.popleft()
                continue
            session.rewind(len(ahead))
            ahead.clear()
            after = deque(session.advance([token]))
            yield
        average = float(np.mean(log_probabilities)) if log_probabilities else 0.0
        doubtful = guarded and (not ended or average < LOG_PROBABILITY_THRESHOLD)
        if not tokens or self._nobody_spoke(no_speech, average):
            return DecodedWindow("", (), 0.0, no_speech, is_doubtful=doubtful)
        text = self._tokenizer.decode(tokens, skip_special_tokens=True).strip()
        end = float(np.exp(log_probabilities[-1])) if ended else 0.0
        return DecodedWindow(text, tuple(tokens), average, no_speech, end, doubtful)

    def _no_speech_probability(self, logits: Logits) -> float:
        """Probability of the no-speech token right after the start token."""
        if self._rules.no_speech is None:
            return 0.0
        return float(np.exp(logits[self._rules.no_speech] - _log_sum_exp(logits)))

    def _choose(self, logits: Logits, scratch: Logits, *, first: bool) -> tuple[int, float]:
        """The likeliest token that may be said and its log probability; `scratch` is overwritten."""
        np.copyto(scratch, logits)
        scratch[self._always] = -np.inf
        if first:
            scratch[self._first] = -np.inf
        token = int(scratch.argmax())
        scratch -= scratch[token]
        return token, -float(np.log(np.exp(scratch, out=scratch).sum()))

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


def _log_sum_exp(logits: Logits) -> float:
    largest = logits.max()
    return float(largest + np.log(np.exp(logits - largest).sum()))
