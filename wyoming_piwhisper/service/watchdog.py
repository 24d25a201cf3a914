"""Whether a worker still does anything: a question in its inbox, and a time in which something has to come of it."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

QUESTION_SECONDS: Final = 1.0
"""While samples come the worker is asked so often: a client may leave the end of an utterance to it."""
_SECOND_LOOK_SECONDS: Final = 0.5


class Watchdog:
    """Asks one question at a time and gives the worker up where nothing comes for too long."""

    def __init__(self, seconds: float, ask: Callable[[], None], give_up: Callable[[], None]) -> None:
        """`ask` sends a question, to which `answered` is the reaction; `give_up` follows on `seconds` of silence."""
        self._seconds = seconds
        self._ask = ask
        self._give_up = give_up
        self._is_asked = False
        self._asked_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def ask_now_and_then(self) -> None:
        """Ask, unless that was done a moment ago."""
        if time.monotonic() >= self._asked_at + QUESTION_SECONDS:
            self.ask()

    def ask(self) -> None:
        """Ask, unless the answer to the last question is still to come."""
        if not self._is_asked:
            self._is_asked = True
            self._asked_at = time.monotonic()
            self._ask()
            self._start(self._seconds, self._look_again)

    def heard(self) -> None:
        """Something came: the time begins anew."""
        if self._is_asked:
            self._start(self._seconds, self._look_again)

    def answered(self) -> None:
        """The answer came, or there is nobody any more who could give it."""
        self._is_asked = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        """Where it was we who stood still, what the worker said meanwhile is read before it is judged."""
        self._start(_SECOND_LOOK_SECONDS, self._give_up)

    def _start(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)
