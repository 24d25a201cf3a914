"""When a command has ended: after a short silence where it sounds complete, a longer one where it breaks off.

A fixed silence either cuts off slow speakers or keeps everybody waiting. What was said so far is known in a pause, so
its words, how sure the model is of them and of their end, and the pauses before say how long to wait. Where it is
unsure of the words, they say nothing of the end either, and the wait is that of a detector that only hears silence.
"""

from dataclasses import dataclass
from math import exp
from typing import Final

SHORTEST_SECONDS: Final = 0.21
"""The wait behind words that are surely a whole command."""
USUAL_SECONDS: Final = 0.9
"""The wait behind words of which nothing is sure; Home Assistant waits 0.7 s and what its detector needs."""
DANGLING_SECONDS: Final = 0.3
"""Added where the last word calls for another."""
SURENESS: Final = (0.55, 0.72)
"""Up to the first the wait is the usual one, from the second on the shortest. With label smoothing in training, as
`home-en` had it, few answers pass 0.9."""
FEW_WORDS_SURENESS: Final = {1: 0.2, 2: 0.1}
"""Taken off the sureness of so many words: most longer commands begin with what could be a shorter one."""
PAUSE_FACTOR: Final = 1.4
"""Who paused within the sentence may pause so many times longer again."""
LONGEST_SECONDS: Final = 1.6
NO_SPEECH_SECONDS: Final = 8.0
"""Nobody says anything: Home Assistant then takes the empty answer for silence."""
LONGEST_COMMAND_SECONDS: Final = 15.0
"""As Home Assistant's own detector."""

DANGLING: Final = frozenset(
    """
    a about an and at because but by for from if in into is it's its me my of or our over per please set than that the
    their then there to turn under was what when where which who will with your
    """.split()  # noqa: SIM905  (a list would take a line a word)
)
"""Words that rarely end a command."""


@dataclass(frozen=True)
class Pause:
    """A silence behind words, and what is known of them."""

    seconds: float
    """How long it has been silent."""
    longest_before_seconds: float
    """The longest silence between two words so far."""
    text: str
    end_probability: float
    """That nothing follows the text, as the model has it, in [0, 1]."""
    average_log_probability: float
    """Of the tokens of the text, at most 0."""


def silence_to_wait(pause: Pause) -> float:
    """Seconds of silence after which the words of `pause` are taken for the whole command."""
    words = pause.text.lower().split()
    if not words or words[-1].strip(".,!?") in DANGLING:
        wait = USUAL_SECONDS + DANGLING_SECONDS
    else:
        sureness = pause.end_probability * exp(pause.average_log_probability)
        sureness -= FEW_WORDS_SURENESS.get(len(words), 0.0)
        low, high = SURENESS
        share = min(1.0, max(0.0, (sureness - low) / (high - low)))
        wait = USUAL_SECONDS - (USUAL_SECONDS - SHORTEST_SECONDS) * share
    return min(LONGEST_SECONDS, max(wait, PAUSE_FACTOR * pause.longest_before_seconds))


def has_ended(pause: Pause) -> bool:
    """Whether the command is over."""
    return pause.seconds >= silence_to_wait(pause)
