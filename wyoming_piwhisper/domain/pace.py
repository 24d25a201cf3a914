"""Whether audio comes as it is spoken or faster, as from a file, in which more may follow a pause."""

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 1.0
FASTEST: Final = 1.15
"""Seconds of audio a second in the window; clocks differ."""
JITTER_SECONDS: Final = 0.05
CLUMP_SECONDS: Final = 0.05
"""What arrives within so short a time was gathered before it came; networks and satellites do that."""
LONGEST_LEAD_SECONDS: Final = 5.0
"""Ahead of the clock: of live audio, so much may come at once, what was kept of the time before a wake word."""
LONGEST_FIRST_CLUMP_SECONDS: Final = 1.0
"""With more at once and nothing since, one cannot know."""
LEAST_SECONDS: Final = 0.3
"""Of time, before which no pace can be told, and no command ends."""


class Pace:
    """The arrivals of one utterance's audio, in seconds of one clock."""

    def __init__(self) -> None:
        """Begin with no audio."""
        self._began: float | None = None
        self._seconds = 0.0
        self._clumps = 0
        self._recent: deque[tuple[float, float]] = deque()
        """When each clump of the window began to come, and how much it brought."""

    def add(self, now: float, seconds: float) -> None:
        """Note that so many seconds of audio came."""
        self._began = now if self._began is None else self._began
        self._seconds += seconds
        if self._recent and now - self._recent[-1][0] < CLUMP_SECONDS:
            began, before = self._recent.pop()
            self._recent.append((began, before + seconds))
        else:
            self._clumps += 1
            self._recent.append((now, seconds))

    def is_live(self, now: float) -> bool:
        """Whether no more came of late than can have been spoken meanwhile."""
        while self._recent and self._recent[0][0] < now - WINDOW_SECONDS:
            self._recent.popleft()
        elapsed = 0.0 if self._began is None else now - self._began
        # The oldest clump in the window was spoken before it.
        came = sum(seconds for _, seconds in self._recent) - (self._recent[0][1] if self._recent else 0.0)
        return elapsed >= LEAST_SECONDS and (
            came <= FASTEST * min(WINDOW_SECONDS, elapsed) + JITTER_SECONDS
            and self._seconds - elapsed <= LONGEST_LEAD_SECONDS
            and (self._clumps > 1 or self._seconds <= LONGEST_FIRST_CLUMP_SECONDS)
        )
