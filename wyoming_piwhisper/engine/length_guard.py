"""Signs that a model with a short encoder context went astray, so that it should listen again with the full one.

Whisper as published expects 30 s of input and, given less, now and then says the same words over and over. The signs
are an answer that is longer than people speak, one that goes round in a circle, and one that the model itself doubts.
"""

from collections.abc import Sequence
from typing import Final

TOKENS_PER_SECOND: Final = 4
SPARE_TOKENS: Final = 8
"""In read books, the fastest speech at hand, 8 % of the transcripts have more than 3 tokens a second and 8; none has
more than 4 and 8."""
LOG_PROBABILITY_THRESHOLD: Final = -1.0
"""Below this mean log probability Whisper's reference implementation tries again, too."""
ROUNDS: Final = 3
SHORTEST_CIRCLE: Final = 6
"""Tokens; people do say "no, no, no"."""


def longest_plausible(seconds: float) -> int:
    """Most tokens that a person says in `seconds` seconds of speech."""
    return int(TOKENS_PER_SECOND * seconds) + SPARE_TOKENS


def goes_round(tokens: Sequence[int]) -> bool:
    """Whether the last tokens are the same ones three times over."""
    return any(_ends_in_rounds(tokens, period) for period in range(1, len(tokens) // ROUNDS + 1))


def _ends_in_rounds(tokens: Sequence[int], period: int) -> bool:
    length = max(ROUNDS * period, SHORTEST_CIRCLE)
    tail = tokens[-length:]
    return len(tail) == length and tail[period:] == tail[:-period]
