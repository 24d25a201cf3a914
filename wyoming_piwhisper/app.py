"""The server from start to end: everything that runs is owned here, by one exit stack."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

from wyoming_piwhisper.domain.endpoint import Endpoint, TcpEndpoint
from wyoming_piwhisper.domain.engine_plan import engine_plan
from wyoming_piwhisper.domain.settings import AsrSettings, Settings
from wyoming_piwhisper.edge.data_folders import models_dir_of, profile_dirs_of
from wyoming_piwhisper.edge.lan_address import lan_address
from wyoming_piwhisper.edge.model_store import ResolvedModel, resolve_model
from wyoming_piwhisper.edge.recognition import Recognition
from wyoming_piwhisper.edge.wyoming_server import WyomingServer
from wyoming_piwhisper.service.inference import DEFAULT_ENGINE_FACTORY, InferenceService

_LOGGER = logging.getLogger(__name__)

_ANY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104  (compared with, not bound to)


async def serve(settings: Settings, engine_factory: str = DEFAULT_ENGINE_FACTORY) -> int:
    """Run the server until SIGTERM, Ctrl-C or the end of standard input; returns the exit status 0.

    The port is open before the model is loaded; utterances that come in the meantime wait.

    Raises:
        ModelNotFoundError: the model is not on this device.
        SettingsError: the endpoint cannot be listened on.
        PiWhisperError: the engine cannot be loaded.
    """
    model = await asyncio.to_thread(_chosen_model, settings.asr)
    _LOGGER.info("Model %s: %s", model.description.name, model.reason)
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(_stop_signals())
        profile_dirs = profile_dirs_of(settings.profiles.dir)
        plan = engine_plan(settings, model.folder, model.description.name, profile_dirs)
        inference = InferenceService(plan, engine_factory)
        stack.push_async_callback(inference.aclose)
        await inference.start()
        recognition = Recognition(
            inference, model.description, settings.asr.language, settings.vad.endpointing, settings.speaker
        )
        server = await stack.enter_async_context(WyomingServer(settings.server, recognition))
        _LOGGER.info("Listening on %s; %s", server.endpoint, _invitation(server.endpoint))
        await _first_of(stop, server, inference)
        _LOGGER.info("The server ends")
    return 0


def _chosen_model(asr: AsrSettings) -> ResolvedModel:
    return resolve_model(asr.model, models_dir_of(asr.models_dir))


async def _first_of(stop: asyncio.Event, server: WyomingServer, inference: InferenceService) -> None:
    """Wait until a signal comes, the only client has left, or the recogniser gives up, which raises."""
    endings = [
        asyncio.create_task(stop.wait(), name="stop signal"),
        asyncio.create_task(server.wait_finished(), name="end of standard input"),
        asyncio.create_task(inference.wait_failed(), name="failure of the recogniser"),
    ]
    try:
        done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        for ending in done:
            ending.result()
    finally:
        for ending in endings:
            ending.cancel()
        await asyncio.gather(*endings, return_exceptions=True)


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and Ctrl-C set."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _invitation(endpoint: Endpoint) -> str:
    """What to type where, for whoever reads the log."""
    if not isinstance(endpoint, TcpEndpoint):
        return "the clients are on this machine"
    host = lan_address() or "this machine's address" if endpoint.host in _ANY_ADDRESS else endpoint.host
    return f"in Home Assistant add the integration Wyoming Protocol with host {host} and port {endpoint.port}"
