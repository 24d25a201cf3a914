"""The inference service: one worker process, supervised, and the utterances that are on their way through it."""

import asyncio
import contextlib
import itertools
import logging
import time
from typing import Final, NoReturn

from wyoming_piwhisper.domain import errors
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.errors import InferenceError, OverloadedError, PiWhisperError
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Speculation
from wyoming_piwhisper.service.messages import (
    Answered,
    Asked,
    Failed,
    Fed,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Present,
)
from wyoming_piwhisper.service.utterance import Utterance
from wyoming_piwhisper.service.watchdog import Watchdog
from wyoming_piwhisper.service.worker_process import WorkerProcess

_LOGGER = logging.getLogger(__name__)

DEFAULT_ENGINE_FACTORY: Final = "wyoming_piwhisper.engine.loading:load_engine"

_LOAD_TIMEOUT_SECONDS: Final = 300.0
"""Far above what the slowest board with the slowest card needs to import a runtime and read a model."""
_MAX_LOSSES: Final = 2
"""Workers that may die over one utterance: it is tried once more, then it is the likely culprit."""
_MAX_DEATHS_WHILE_LOADING: Final = 3
_FIRST_BACK_OFF_SECONDS: Final = 0.1
_MAX_BACK_OFF_DOUBLINGS: Final = 7
"""12.8 s between attempts at most."""


class InferenceService:
    """Recognises utterances in a worker process, and replaces that process when it dies or hangs."""

    def __init__(self, plan: EnginePlan, engine_factory: str = DEFAULT_ENGINE_FACTORY) -> None:
        """Prepare; `start` starts the worker, which calls `package.module:function` with the plan."""
        self._asr = plan.asr
        self._load = Load(engine_factory, plan, logging.getLogger().getEffectiveLevel())
        self._numbers = itertools.count(1)
        self._open: dict[int, Utterance] = {}
        self._worker: WorkerProcess | None = None
        self._ready = asyncio.Event()
        self._supervisor: asyncio.Task[NoReturn] | None = None
        self._watchdog = Watchdog(plan.asr.timeout_seconds, self._ask, self._take_for_hung)
        self._failure: PiWhisperError | None = None
        self._deaths_in_a_row = 0
        self._deaths_while_loading = 0
        self.speculation = Speculation()
        """Of all utterances so far."""

    @property
    def ready(self) -> bool:
        """Whether a worker with a loaded engine is there; utterances are taken before that as well."""
        return self._worker is not None

    async def start(self) -> None:
        """Start the worker and return at once, while it loads."""
        self._supervisor = asyncio.create_task(self._supervise(), name="inference worker supervision")

    async def wait_ready(self) -> None:
        """Wait until an engine is loaded."""
        await self._ready.wait()

    async def wait_failed(self) -> NoReturn:
        """Wait for the day on which the service gives up, and raise the reason.

        Raises:
            PiWhisperError: the engine cannot be loaded.
        """
        if self._supervisor is None:
            raise RuntimeError("the service has not been started")
        await asyncio.shield(self._supervisor)

    async def aclose(self) -> None:
        """Kill the worker and fail whatever is unanswered; may be called more than once."""
        if self._supervisor is not None:
            counts = self.speculation
            _LOGGER.debug("Heard ahead: %d kept, %d verified, %d dropped", counts.kept, counts.verified, counts.dropped)
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError, PiWhisperError):
                await self._supervisor

    async def open(self, options: RecognitionOptions) -> Utterance:
        """Begin an utterance.

        Raises:
            OverloadedError: more utterances wait for their answers than the settings allow.
            PiWhisperError: the service has given up, for this reason.
        """
        if self._failure is not None:
            raise self._failure
        if self._owed() > self._asr.max_waiting:
            raise OverloadedError(f"{self._asr.max_waiting} utterances wait for the recogniser already; try again")
        utterance = Utterance(next(self._numbers), options, self)
        self._open[utterance.number] = utterance
        for message in utterance.messages_so_far():
            self.post(message)
        return utterance

    def post(self, message: Message) -> None:
        """Pass `message` to the worker, if there is one."""
        if self._worker is not None:
            self._worker.send(message)
            if isinstance(message, Finished):
                self._watchdog.ask()
            elif isinstance(message, Fed):
                self._watchdog.ask_now_and_then()

    def release(self, number: int) -> None:
        """Forget an utterance."""
        self._open.pop(number, None)

    async def _supervise(self) -> NoReturn:
        reason: PiWhisperError = InferenceError("the recogniser has ended")
        try:
            while True:
                worker = await self._spawned()
                try:
                    await self._run(worker)
                finally:
                    status = await worker.aclose()
                _LOGGER.warning("The inference worker ended with status %s; a new one is started", status)
                await asyncio.sleep(self._back_off_seconds())
        except PiWhisperError as error:
            reason = error
            raise
        finally:
            self._failure = reason
            self._settle_all(reason)

    async def _spawned(self) -> WorkerProcess:
        try:
            return await WorkerProcess.spawn(self._asr.threads)
        except OSError as error:
            raise InferenceError(f"the inference worker cannot be started: {error}") from error

    async def _run(self, worker: WorkerProcess) -> None:
        """Load the engine in `worker` and deal out its answers until it dies."""
        await self._load_engine(worker)
        if not self.ready:
            return
        try:
            for utterance in list(self._open.values()):
                for message in utterance.messages_so_far():
                    self.post(message)
            while (reply := await worker.receive()) is not None:
                self._deliver(reply)
        finally:
            self._worker = None
            self._ready.clear()
            self._watchdog.answered()
            self._count_losses()

    async def _load_engine(self, worker: WorkerProcess) -> None:
        began = time.monotonic()
        worker.send(self._load)
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT_SECONDS):
                message = await worker.receive()
        except TimeoutError:
            message = None
        match message:
            case Loaded():
                _LOGGER.info("The model is loaded (%.1f s)", time.monotonic() - began)
                self._deaths_while_loading = 0
                self._worker = worker
                self._ready.set()
            case LoadFailed(error=name, reason=reason):
                raise _error_named(name, reason)
            case _:
                self._deaths_in_a_row += 1
                self._deaths_while_loading += 1
                if self._deaths_while_loading >= _MAX_DEATHS_WHILE_LOADING:
                    raise InferenceError("the inference worker dies each time it loads the model; is memory short?")

    def _deliver(self, message: Message) -> None:
        self._deaths_in_a_row = 0
        self._watchdog.heard()
        match message:
            case Answered(utterance=number, transcription=outcome) if number in self._open:
                self.speculation += outcome.speculation
                self._open[number].settle(outcome)
            case Failed(utterance=number, reason=reason) if number in self._open:
                self._open[number].settle(InferenceError(reason))
            case Present():
                self._watchdog.answered()
                if self._owed():
                    self._watchdog.ask()
            case _:
                pass  # It was abandoned while the worker was busy with it.

    def _count_losses(self) -> None:
        self._deaths_in_a_row += 1
        for utterance in list(self._open.values()):
            utterance.losses += 1
            if utterance.losses >= _MAX_LOSSES:
                utterance.settle(InferenceError("the recogniser died over this utterance, also on the second try"))

    def _settle_all(self, reason: PiWhisperError) -> None:
        for utterance in list(self._open.values()):
            utterance.settle(reason)

    def _owed(self) -> int:
        return sum(utterance.is_owed for utterance in self._open.values())

    def _ask(self) -> None:
        if self._worker is not None:
            self._worker.send(Asked())

    def _take_for_hung(self) -> None:
        if self._worker is not None:
            _LOGGER.error("Nothing comes of the inference worker for %.0f s; it is killed", self._asr.timeout_seconds)
            self._worker.kill()

    def _back_off_seconds(self) -> float:
        doublings = min(self._deaths_in_a_row - 1, _MAX_BACK_OFF_DOUBLINGS)
        return _FIRST_BACK_OFF_SECONDS * 2.0**doublings


def _error_named(name: str, reason: str) -> PiWhisperError:
    error_class = getattr(errors, name, InferenceError)
    error: PiWhisperError = error_class(reason)
    return error
