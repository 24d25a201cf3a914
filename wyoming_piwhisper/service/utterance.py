"""One utterance from its opening to its transcript, as the server sees it."""

import asyncio
import time
from collections.abc import Iterator
from typing import Protocol

from wyoming_piwhisper.domain.audio import Samples, seconds_of
from wyoming_piwhisper.domain.errors import PiWhisperError
from wyoming_piwhisper.domain.pace import Pace
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.service.messages import Abandoned, Fed, Finished, Message, Opened


class Recogniser(Protocol):
    """What an utterance needs of the service that it was opened on."""

    def post(self, message: Message) -> None:
        """Pass `message` to the worker, if there is one; a later one gets `messages_so_far` instead."""

    def release(self, number: int) -> None:
        """Forget the utterance `number`: it is answered, failed or abandoned."""


class Utterance:
    """Samples go in as they arrive, one transcription comes out.

    The samples are kept until the answer is there, for the worker may die over them.
    """

    def __init__(self, number: int, options: RecognitionOptions, recogniser: Recogniser) -> None:
        """Use `InferenceService.open` instead."""
        self.number = number
        self.losses = 0
        """How many workers died while they had this utterance."""
        self._options = options
        self._pace = Pace()
        self._recogniser = recogniser
        self._samples: list[Samples] = []
        self._is_finished = False
        self._outcome: Transcription | PiWhisperError | None = None
        self._settled = asyncio.Event()

    @property
    def is_owed(self) -> bool:
        """Whether all samples are there and the answer is not."""
        return self._is_finished and self._outcome is None

    @property
    def is_live(self) -> bool:
        """Whether samples come as they are spoken."""
        return self._pace.is_live(time.monotonic())

    def feed(self, samples: Samples) -> None:
        """Pass on the next samples: shape (n,), float32 in [-1, 1], 16 kHz mono."""
        if not self._settled.is_set():
            self._samples.append(samples)
            self._pace.add(time.monotonic(), seconds_of(samples.size))
            self._recogniser.post(Fed(self.number, samples, self.is_live))

    def complete(self) -> None:
        """Say that no samples follow, so that the answer is owed; may be called more than once."""
        if not self._is_finished and not self._settled.is_set():
            self._is_finished = True
            self._recogniser.post(Finished(self.number))

    async def finish(self) -> Transcription:
        """Wait for the transcript of everything fed; a caller that is cancelled abandons the utterance.

        Raises:
            InferenceError: the recogniser failed on it, or died over it twice.
            PiWhisperError: the recogniser has ended for good, for this reason.
        """
        self.complete()
        outcome = await self.answer()
        if outcome is None:
            raise RuntimeError("the utterance was abandoned")
        return outcome

    async def answer(self) -> Transcription | None:
        """Wait for the transcript, which may come before `complete` where the utterance seems to be over.

        None where the utterance was abandoned meanwhile; a caller that is cancelled abandons it.

        Raises:
            InferenceError: the recogniser failed on it, or died over it twice.
            PiWhisperError: the recogniser has ended for good, for this reason.
        """
        try:
            await self._settled.wait()
        finally:
            self.abandon()
        if isinstance(self._outcome, PiWhisperError):
            raise self._outcome
        return self._outcome

    def abandon(self) -> None:
        """Give the utterance up, if it is not answered yet; may be called at any time and more than once."""
        if self._outcome is None and not self._settled.is_set():
            self._recogniser.post(Abandoned(self.number))
            self._close()

    def messages_so_far(self) -> Iterator[Message]:
        """Everything that a new worker has to be told of this utterance; told at once, it is not live."""
        yield Opened(self.number, self._options)
        for samples in self._samples:
            yield Fed(self.number, samples)
        if self._is_finished:
            yield Finished(self.number)

    def settle(self, outcome: Transcription | PiWhisperError) -> None:
        """Hand the transcription, or the reason why there is none, to whoever waits in `finish`."""
        self._outcome = outcome
        self._close()

    def _close(self) -> None:
        self._samples.clear()
        self._settled.set()
        self._recogniser.release(self.number)
