"""When a command has ended: after a short silence where it sounds complete, a longer one where it breaks off.

A fixed silence either cuts off slow speakers or keeps everybody waiting. What was said so far is known in a pause, so
its words, the probability that the model gives to their end, and the pauses before it say how long to wait.
"""

from dataclasses import dataclass
from typing import Final

SHORTEST_SECONDS: Final = 0.24
"""After a complete sentence whose end the model is sure of."""
DOUBT_SECONDS: Final = 0.45
"""Added in proportion to the probability that the sentence goes on."""
DANGLING_SECONDS: Final = 0.8
"""Added where the last word calls for another."""
PAUSE_FACTOR: Final = 1.4
"""Who paused within the sentence may pause so many times longer again."""
LONGEST_SECONDS: Final = 1.5
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


def silence_to_wait(pause: Pause) -> float:
    """Seconds of silence after which the words of `pause` are taken for the whole command."""
    words = pause.text.lower().split()
    wait = SHORTEST_SECONDS + DOUBT_SECONDS * (1 - pause.end_probability)
    if not words or words[-1].strip(".,!?") in DANGLING:
        wait += DANGLING_SECONDS
    return min(LONGEST_SECONDS, max(wait, PAUSE_FACTOR * pause.longest_before_seconds))


def has_ended(pause: Pause) -> bool:
    """Whether the command is over."""
    return pause.seconds >= silence_to_wait(pause)
