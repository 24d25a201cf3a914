"""One connection of a Wyoming client, from its first event to its end.

Reading never waits for an answer: a task beside it answers the utterances in order, so that `ping` and `describe` are
answered at once and a client that leaves is noticed while its answer is still being computed.
"""

import asyncio
import contextlib
import logging
import re
from typing import Final, TypeVar, cast

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong

from wyoming_piwhisper.domain.errors import OverloadedError, PiWhisperError, ProtocolError
from wyoming_piwhisper.domain.profiles import BASE
from wyoming_piwhisper.domain.settings import ServerSettings
from wyoming_piwhisper.domain.transcription import Transcription
from wyoming_piwhisper.edge.incoming_audio import IncomingAudio
from wyoming_piwhisper.edge.pcm import PcmFormat
from wyoming_piwhisper.edge.recognition import Recognition
from wyoming_piwhisper.edge.unanswered import Unanswered
from wyoming_piwhisper.edge.wyoming_info import info_of
from wyoming_piwhisper.edge.wyoming_reader import StreamEndedError, WyomingReader

_LOGGER = logging.getLogger(__name__)

_LINGER_SECONDS: Final = 2.0
"""How long the rest of what a client sends is read and dropped after an error: to close a socket with unread data
resets it, and the reset can overtake the error event."""
_LINGER_READ_BYTES: Final = 65_536
_FLUSH_SECONDS: Final = 1.0
"""How long a client that does not read may hold up the end of its connection."""
_MAX_UNANSWERED: Final = 16
"""Utterances that a client may send ahead of the answers that it reads; Home Assistant sends one."""
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")
"""JSON can spell them, UTF-8 cannot."""

_Contents = TypeVar("_Contents", bound=Eventable)


class WyomingConnection:
    """Reads the events of one client and answers them."""

    def __init__(
        self,
        stream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        recognition: Recognition,
        settings: ServerSettings,
        *,
        eof_abandons: bool = True,
    ) -> None:
        """Serve a client; `eof_abandons` says whether the end of its events means that it left.

        It does on a socket. On standard input it only means that no more utterances follow.
        """
        self._stream = stream
        self._events = WyomingReader(stream, settings.max_data_bytes, settings.max_payload_bytes)
        self._writer = writer
        self._recognition = recognition
        self._settings = settings
        self._eof_abandons = eof_abandons
        self._options = recognition.options(None)
        self._audio: IncomingAudio | None = None
        self._unanswered = Unanswered()
        self._idle = asyncio.timeout(None)

    async def run(self) -> None:
        """Serve the client until it leaves or breaks a rule; closes the connection in every case."""
        try:
            await self._converse()
        except PiWhisperError as error:
            level = logging.DEBUG if isinstance(error, StreamEndedError) else logging.WARNING
            _LOGGER.log(level, "A connection is closed: %s", error)
            await self.refuse(error)
        except OSError as error:
            _LOGGER.debug("A client is gone: %s", error)
        except Exception:
            _LOGGER.exception("A connection is closed by an error of ours")
            await self.refuse(PiWhisperError("internal error"))
        finally:
            self._abandon_current()
            await self._close()

    async def turn_away(self, reason: PiWhisperError) -> None:
        """Serve nothing: send `reason` and close."""
        try:
            await self.refuse(reason)
        finally:
            await self._close()

    async def refuse(self, reason: PiWhisperError) -> None:
        """Send `reason` as an `error` event, then read and drop for a moment so that it arrives."""
        with contextlib.suppress(OSError):  # TimeoutError is one of them
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._send(Error(text=str(reason), code=reason.code).event())
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                while await self._stream.read(_LINGER_READ_BYTES):
                    pass

    async def _converse(self) -> None:
        """Read and answer side by side; the first error of either ends both."""
        try:
            async with self._idle, asyncio.TaskGroup() as tasks:
                answers = tasks.create_task(self._answer_in_order(), name="wyoming answers")
                self._restart_idle_time()
                await self._read_events()
                if self._eof_abandons:
                    answers.cancel()
                else:
                    self._abandon_current()
                    self._unanswered.close()
        except TimeoutError as error:
            seconds = self._settings.idle_timeout_seconds
            raise ProtocolError(f"connection: nothing arrived for {seconds:g} s") from error
        except BaseExceptionGroup as group:
            raise _first_error(group) from group
        finally:
            self._unanswered.abandon_all()

    async def _read_events(self) -> None:
        while (event := await self._events.read()) is not None:
            self._restart_idle_time()
            await self._handle(event)

    async def _handle(self, event: Event) -> None:
        if AudioChunk.is_type(event.type):
            chunk = _contents(AudioChunk, event)
            await self._current_audio().add(PcmFormat(chunk.rate, chunk.width, chunk.channels), chunk.audio)
        elif Ping.is_type(event.type):
            text = _contents(Ping, event).text
            _require_text("ping: text", text)
            await self._send(Pong(text=text).event())
        elif Describe.is_type(event.type):
            finds_end = self._recognition.finds_end and self._recognition.inference.ready
            await self._send(info_of(self._recognition.model, finds_end=finds_end).event())
        elif Transcribe.is_type(event.type):
            language = _contents(Transcribe, event).language
            _require_text("transcribe: language", language)
            self._options = self._recognition.options(language)
            if self._audio is not None and self._audio.is_over:
                self._audio = None  # Answered before its end; not all clients send one then.
        elif AudioStart.is_type(event.type):
            self._begin_audio(_contents(AudioStart, event))
        elif AudioStop.is_type(event.type):
            self._end_audio()

    def _begin_audio(self, start: AudioStart) -> None:
        PcmFormat(start.rate, start.width, start.channels)
        self._abandon_current()

    def _abandon_current(self) -> None:
        if self._audio is not None:
            self._unanswered.abandon(self._audio)
        self._audio = None

    def _current_audio(self) -> IncomingAudio:
        if self._audio is None:
            if len(self._unanswered) > _MAX_UNANSWERED:
                raise OverloadedError(f"{_MAX_UNANSWERED} utterances of this connection wait for their answers already")
            self._audio = IncomingAudio(
                self._recognition.inference,
                self._options,
                self._settings.max_utterance_seconds,
                finds_end=self._recognition.finds_end,
            )
            self._unanswered.add(self._audio)
        return self._audio

    def _end_audio(self) -> None:
        self._current_audio().complete()
        self._audio = None
        self._restart_idle_time()

    async def _answer_in_order(self) -> None:
        async for audio, transcription in self._unanswered.answers():
            self._restart_idle_time()
            _log(transcription, audio.seconds_since_end)
            await self._send(Transcript(text=transcription.text, language=transcription.language or None).event())

    def _restart_idle_time(self) -> None:
        """Count from now, or not at all while it is we who owe something."""
        if not self._idle.expired():
            now = asyncio.get_running_loop().time()
            self._idle.reschedule(None if self._unanswered.owes else now + self._settings.idle_timeout_seconds)

    async def _send(self, event: Event) -> None:
        await async_write_event(event, self._writer)

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._writer.wait_closed()
        except OSError:
            self._writer.transport.abort()


def _contents(kind: type[_Contents], event: Event) -> _Contents:
    """Read `event` as the protocol library's class for its type."""
    try:
        return cast("_Contents", kind.from_event(event))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"{event.type}: a field is missing or wrong: {error}") from error


def _require_text(name: str, value: object) -> None:
    """Refuse what is neither absent nor text that can be sent back."""
    if value is not None and (not isinstance(value, str) or _HALF_CHARACTER.search(value)):
        raise ProtocolError(f"{name} is no text")


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a conversation; where both sides failed, what we have to say comes before a reset."""
    leaves = [error for error in group.exceptions if not isinstance(error, BaseExceptionGroup)]
    expected = [error for error in leaves if isinstance(error, PiWhisperError)]
    return (expected or leaves or list(group.exceptions))[0]


def _log(transcription: Transcription, latency_seconds: float | None) -> None:
    stages = ", ".join(f"{stage} {seconds:.3f} s" for stage, seconds in transcription.stage_seconds.items())
    _LOGGER.info(
        "Utterance: %.2f s of audio, %.2f s of speech, answered %s (%s%s%s)",
        transcription.audio_seconds,
        transcription.speech_seconds,
        "before its end" if latency_seconds is None else f"{latency_seconds:.3f} s after its end",
        stages or "no model needed",
        _way_of_profiles(transcription),
        ", heard ahead of the end" if transcription.was_ready else "",
    )
    _LOGGER.debug("Transcript: %r, profile %s, %s", transcription.text, transcription.profile, transcription.traits)


def _way_of_profiles(transcription: Transcription) -> str:
    """How the speaker's profiles took part where their model was not at hand, without their names."""
    if transcription.profile_was_cached:
        return ""
    if not transcription.profile_is_awaited:
        return ", model merged anew"
    return ", profiles not ready" if transcription.profile == BASE else ", profiles applied at run time"
