"""The inference worker: a child process that owns the models and answers over a socket.

It is started by `service/inference.py` as `python -m wyoming_piwhisper.service.worker FD`. A thread reads messages,
the main thread runs the engine, so that a server that goes away ends the worker even in the middle of a decode.
"""

import contextlib
import importlib
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.errors import InferenceError, PiWhisperError
from wyoming_piwhisper.engine.interface import Engine, Utterance
from wyoming_piwhisper.service import messages

_LOGGER = logging.getLogger(__name__)

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

EngineFactory = Callable[[EnginePlan], Engine]


@dataclass
class _Open:
    """An utterance and how its audio comes."""

    utterance: Utterance
    is_live: bool = False


class Worker:
    """One engine and the utterances that are open on it."""

    def __init__(self, connection: socket.socket) -> None:
        """Talk over `connection`, which is kept open until the process ends."""
        self._connection = connection
        self._incoming = connection.makefile("rb")
        # Not bounded here: the server bounds connections, seconds of audio and utterances that wait.
        self._inbox: queue.SimpleQueue[messages.Message] = queue.SimpleQueue()
        self._abandoned: set[int] = set()
        self._open: dict[int, _Open] = {}
        self._endpointing = False

    def run(self) -> int:
        """Load the engine that the first message asks for, then answer until the server goes away."""
        load = _read_message(self._incoming)
        if not isinstance(load, messages.Load):
            return 1
        logging.basicConfig(level=load.log_level, format=LOG_FORMAT, stream=sys.stderr)
        threading.Thread(target=self._receive, name="messages from the server", daemon=True).start()
        self._endpointing = load.plan.vad.endpointing
        try:
            engine = _load_engine(load)
        except PiWhisperError as error:
            self._send(messages.LoadFailed(type(error).__name__, str(error)))
            return 1
        except Exception as error:
            _LOGGER.exception("The engine could not be loaded")
            self._send(messages.LoadFailed(InferenceError.__name__, _reason(error)))
            return 1
        self._send(messages.Loaded())
        while True:
            self._handle(engine, self._next_message())

    def _receive(self) -> None:
        while (message := _read_message(self._incoming)) is not None:
            if isinstance(message, messages.Abandoned):
                self._abandoned.add(message.utterance)
            self._inbox.put(message)
        # The main thread may be deep in a model that no signal interrupts.
        os._exit(0)

    def _next_message(self) -> messages.Message:
        """The next message; until it comes, what was said so far is worked on, a small piece each time."""
        while self._inbox.empty() and any(self._think(number) for number in list(self._open)):
            pass
        return self._inbox.get()

    def _think(self, number: int) -> bool:
        """Do a piece of work for an utterance, or answer it where it seems to be over; False when there is nothing."""
        if not self._inbox.empty():
            return False
        opened = self._open[number]
        with self._telling(number):
            if opened.utterance.think():
                return True
            answer = opened.utterance.endpoint() if self._endpointing and opened.is_live else None
            if answer is not None:
                del self._open[number]
                self._send(messages.Answered(number, answer))
        return False

    def _handle(self, engine: Engine, message: messages.Message) -> None:
        match message:
            case messages.Asked():
                self._send(messages.Present())
            case messages.Abandoned(utterance=number):
                self._open.pop(number, None)
                self._abandoned.discard(number)
            case messages.Opened(utterance=number, options=options) if number not in self._abandoned:
                with self._telling(number):
                    self._open[number] = _Open(engine.open(options))
            case messages.Fed(utterance=number, samples=samples, is_live=is_live) if self._is_wanted(number):
                self._open[number].is_live = is_live
                with self._telling(number):
                    self._open[number].utterance.feed(samples)
            case messages.Finished(utterance=number) if self._is_wanted(number):
                with self._telling(number):
                    self._send(messages.Answered(number, self._open.pop(number).utterance.finish()))
            case _:
                pass

    @contextlib.contextmanager
    def _telling(self, number: int) -> Iterator[None]:
        """Give an utterance up when the engine fails on it, and say so at once: its client may wait for our end."""
        try:
            yield
        except ConnectionError:
            raise
        except Exception as error:
            self._open.pop(number, None)
            if not isinstance(error, PiWhisperError):
                _LOGGER.exception("The engine failed on an utterance")
            self._send(messages.Failed(number, str(error) if isinstance(error, PiWhisperError) else _reason(error)))

    def _is_wanted(self, number: int) -> bool:
        """Whether an utterance is neither given up nor answered."""
        return number in self._open and number not in self._abandoned

    def _send(self, message: messages.Message) -> None:
        self._connection.sendall(messages.encode(message))


def main() -> int:
    """Run a worker on the socket whose file descriptor is the only argument."""
    try:
        return Worker(socket.socket(fileno=int(sys.argv[1]))).run()
    except ConnectionError:
        return 0


def _load_engine(load: messages.Load) -> Engine:
    module_name, _, function_name = load.engine_factory.partition(":")
    factory: EngineFactory = getattr(importlib.import_module(module_name), function_name)
    return factory(load.plan)


def _read_message(stream: BinaryIO) -> messages.Message | None:
    """The next message, or None where the server closed the socket."""
    try:
        prefix = stream.read(messages.PREFIX_BYTES)
        if len(prefix) < messages.PREFIX_BYTES:
            return None
        text_bytes, sample_bytes = messages.lengths(prefix)
        body = stream.read(text_bytes + sample_bytes)
    except ConnectionError:
        return None
    if len(body) < text_bytes + sample_bytes:
        return None
    return messages.decode(body[:text_bytes], body[text_bytes:])


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    sys.exit(main())
