"""Whether audio comes as it is spoken or faster, as from a file, in which more may follow a pause."""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 1.0
FASTEST: Final = 1.2
"""Seconds of audio a second in the window; live audio may jitter, and clocks differ."""
LONGEST_LEAD_SECONDS: Final = 5.0
"""Ahead of the clock: of live audio, so much may come at once, what was kept of the time before a wake word."""


class Pace:
    """The arrivals of one utterance's audio, in seconds of one clock."""

    def __init__(self) -> None:
        """Begin with no audio."""
        self._began: float | None = None
        self._seconds = 0.0
        self._recent: deque[tuple[float, float]] = deque()

    def add(self, now: float, seconds: float) -> None:
        """Note that so many seconds of audio came."""
        self._began = now if self._began is None else self._began
        self._seconds += seconds
        self._recent.append((now, seconds))

    def is_live(self, now: float) -> bool:
        """Whether no more came of late than can have been spoken meanwhile."""
        while self._recent and self._recent[0][0] <= now - WINDOW_SECONDS:
            self._recent.popleft()
        elapsed = 0.0 if self._began is None else now - self._began
        window = min(WINDOW_SECONDS, elapsed)
        # The oldest chunk in the window was spoken before it.
        came = sum(seconds for _, seconds in self._recent) - (self._recent[0][1] if self._recent else 0.0)
        return came <= FASTEST * window and self._seconds - elapsed <= LONGEST_LEAD_SECONDS
