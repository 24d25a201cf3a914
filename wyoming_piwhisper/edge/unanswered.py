"""The utterances of one connection that have no answer yet, in the order in which they get one."""

import asyncio
from collections.abc import AsyncIterator

from wyoming_piwhisper.domain.transcription import Transcription
from wyoming_piwhisper.edge.incoming_audio import IncomingAudio


class Unanswered:
    """A queue that forgets what is given up."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: list[IncomingAudio] = []
        self._changed = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._waiting)

    @property
    def owes(self) -> bool:
        """Whether one of them is complete."""
        return any(audio.is_owed for audio in self._waiting)

    def add(self, audio: IncomingAudio) -> None:
        """Put one behind the others."""
        self._waiting.append(audio)
        self._changed.set()

    def close(self) -> None:
        """Say that no others follow."""
        self._is_closed = True
        self._changed.set()

    def abandon(self, audio: IncomingAudio) -> None:
        """Give one up, unless it is answered."""
        audio.abandon()
        if audio in self._waiting[1:]:  # The first is waited for.
            self._waiting.remove(audio)

    def abandon_all(self) -> None:
        """Give all up."""
        for audio in self._waiting:
            audio.abandon()

    async def answers(self) -> AsyncIterator[tuple[IncomingAudio, Transcription]]:
        """Each one's transcript, as soon as it and all before it are there.

        Raises:
            PiWhisperError: one got none, for this reason.
        """
        while self._waiting or not self._is_closed:
            if not self._waiting:
                self._changed.clear()
                await self._changed.wait()
                continue
            audio = self._waiting[0]
            transcription = await audio.answer()
            self._waiting.remove(audio)
            if transcription is not None:
                yield audio, transcription
