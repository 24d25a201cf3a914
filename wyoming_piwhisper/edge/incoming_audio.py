"""The audio of one utterance on its way from a connection to the recogniser."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from wyoming_piwhisper.domain.errors import ProtocolError
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.edge.pcm import PcmConverter, PcmFormat
from wyoming_piwhisper.service.inference import InferenceService

if TYPE_CHECKING:
    from wyoming_piwhisper.service.utterance import Utterance

_HAND_OVER_SECONDS: Final = 0.03
"""Chunks are gathered to this length, which the speech gate takes at once: Home Assistant sends 100 a second."""


class IncomingAudio:
    """Gathers chunks, converts them and feeds the recogniser; nothing is asked of it where no chunk came."""

    def __init__(
        self, inference: InferenceService, options: RecognitionOptions, max_seconds: float, *, finds_end: bool
    ) -> None:
        """Begin an utterance of at most `max_seconds` seconds.

        Where `finds_end`, a client may leave the end to us: what comes live is then answered when they are over.
        """
        self._finds_end = finds_end
        self._inference = inference
        self._options = options
        self._max_seconds = max_seconds
        self._utterance: Utterance | None = None
        self._format: PcmFormat | None = None
        self._converter: PcmConverter | None = None
        self._gathered = bytearray()
        self._enough_bytes = 0
        self._bytes = 0
        """Received in the present format; whole numbers, for 6000 additions of 0.01 are not 60."""
        self._earlier_seconds = 0.0
        """Received in formats before it."""
        self._begun = asyncio.Event()
        self._completed_at: float | None = None
        self._is_over = False
        self._is_cut = False

    async def add(self, pcm_format: PcmFormat, pcm: bytes) -> None:
        """Take the bytes of the next chunk, which says its own format; ignored where the answer is there.

        Raises:
            ProtocolError: the utterance gets too long.
            OverloadedError: too many utterances wait already.
        """
        if self._is_over or self._is_cut:
            return
        if pcm_format != self._format:
            self._change_format(pcm_format)
        self._bytes += len(pcm)
        if self._earlier_seconds + self._bytes / pcm_format.bytes_per_second > self._max_seconds:
            self._refuse_more()
            return
        if self._utterance is None and pcm:
            self._utterance = await self._inference.open(self._options)
            self._begun.set()
        self._gathered += pcm
        if len(self._gathered) >= self._enough_bytes:
            self._convert_gathered()

    @property
    def is_over(self) -> bool:
        """Whether it is answered or given up."""
        return self._is_over

    @property
    def is_owed(self) -> bool:
        """Whether no chunk follows and the answer is not there."""
        return self._completed_at is not None and not self._is_over

    @property
    def seconds_since_end(self) -> float | None:
        """Since no chunk followed any more; None while chunks come."""
        return None if self._completed_at is None else time.monotonic() - self._completed_at

    def _refuse_more(self) -> None:
        """Answer what there is, or say that it is too long."""
        if self._utterance is None or not (self._finds_end and self._utterance.is_live):
            raise ProtocolError(f"audio: longer than the limit of {self._max_seconds:g} s per utterance")
        self._is_cut = True
        self._flush()
        self._utterance.complete()

    async def answer(self) -> Transcription | None:
        """Wait for the transcript, which may come before `complete`; None where the utterance is given up.

        Raises:
            InferenceError: the recogniser failed on it.
        """
        try:
            await self._begun.wait()
            if self._is_over:
                return None
            if self._utterance is None:
                return Transcription(text="", language=self._options.language or "", audio_seconds=0.0)
            return await self._utterance.answer()
        finally:
            self.abandon()

    def complete(self) -> None:
        """Hand over what is still held back; no chunk follows."""
        self._completed_at = time.monotonic()
        if not self._is_over and not self._is_cut:
            self._flush()
            if self._utterance is not None:
                self._utterance.complete()
            self._begun.set()

    def abandon(self) -> None:
        """Give the utterance up, unless it is answered; may be called at any time and more than once."""
        self._is_over = True
        if self._utterance is not None:
            self._utterance.abandon()
        self._begun.set()

    def _change_format(self, pcm_format: PcmFormat) -> None:
        self._flush()
        if self._format is not None:
            self._earlier_seconds += self._bytes / self._format.bytes_per_second
        self._bytes = 0
        self._format = pcm_format
        self._converter = PcmConverter(pcm_format)
        self._enough_bytes = int(_HAND_OVER_SECONDS * pcm_format.bytes_per_second)

    def _convert_gathered(self) -> None:
        if self._converter is not None and self._utterance is not None and self._gathered:
            self._utterance.feed(self._converter.convert(bytes(self._gathered)))
        self._gathered.clear()

    def _flush(self) -> None:
        self._convert_gathered()
        if self._converter is not None and self._utterance is not None:
            self._utterance.feed(self._converter.flush())
