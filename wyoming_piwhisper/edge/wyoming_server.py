"""The Wyoming server: it listens, bounds the number of connections and ends them all on its way out."""

import asyncio
import errno
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self

from wyoming_piwhisper.domain.endpoint import Endpoint, StdioEndpoint, TcpEndpoint, UnixEndpoint, endpoint_of
from wyoming_piwhisper.domain.errors import OverloadedError, SettingsError
from wyoming_piwhisper.domain.settings import ServerSettings
from wyoming_piwhisper.edge.recognition import Recognition
from wyoming_piwhisper.edge.wyoming_connection import WyomingConnection
from wyoming_piwhisper.edge.wyoming_reader import MAX_HEADER_BYTES

_LOGGER = logging.getLogger(__name__)


class WyomingServer:
    """Accepts clients on the endpoint of the settings; use it with `async with`."""

    def __init__(self, settings: ServerSettings, recognition: Recognition) -> None:
        """Prepare; entering the context listens."""
        self._settings = settings
        self._recognition = recognition
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._refusals: set[asyncio.Task[None]] = set()
        self._finished = asyncio.Event()
        self._socket_file: tuple[int, int] | None = None
        self.endpoint: Endpoint = endpoint_of(settings.uri)
        """Where it listens; from the moment it does, with the real port."""

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            SettingsError: the endpoint cannot be listened on.
        """
        try:
            await self._listen()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SettingsError(f"server.uri: cannot listen on {self.endpoint}: {reason}") from error
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Stop listening and end all connections."""
        if self._listener is not None:
            self._listener.close()
        tasks = self._connections | self._refusals
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            await self._listener.wait_closed()
        if isinstance(self.endpoint, UnixEndpoint):
            await asyncio.to_thread(_remove, self.endpoint.path, self._socket_file)

    async def wait_finished(self) -> None:
        """Wait until the client on standard input has left; for ever on other endpoints."""
        await self._finished.wait()

    async def _listen(self) -> None:
        match self.endpoint:
            case TcpEndpoint(host=host, port=port):
                self._listener = await asyncio.start_server(self._accept, host, port, limit=MAX_HEADER_BYTES)
                self.endpoint = TcpEndpoint(host, self._listener.sockets[0].getsockname()[1])
            case UnixEndpoint(path=path):
                # To listen takes the path from whoever has it; only a server that is gone may lose it.
                if await _is_served(path):
                    raise OSError(errno.EADDRINUSE, "another server listens there")
                self._listener = await asyncio.start_unix_server(self._accept, path, limit=MAX_HEADER_BYTES)
                self._socket_file = await asyncio.to_thread(_identity, path)
            case StdioEndpoint():
                stream, writer = await _standard_streams()
                connection = WyomingConnection(stream, writer, self._recognition, self._settings, eof_abandons=False)
                self._own(connection).add_done_callback(lambda _task: self._finished.set())

    def _accept(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = WyomingConnection(stream, writer, self._recognition, self._settings)
        if len(self._connections) < self._settings.max_connections:
            self._own(connection)
        elif len(self._refusals) < self._settings.max_connections:
            reason = OverloadedError(f"{self._settings.max_connections} connections are open already; try again")
            _LOGGER.warning("A connection is refused: %s", reason)
            _hold(self._refusals, connection.turn_away(reason), "wyoming refusal")
        else:
            writer.close()

    def _own(self, connection: WyomingConnection) -> asyncio.Task[None]:
        return _hold(self._connections, connection.run(), "wyoming connection")


def _hold(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def _is_served(path: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of the file at `path`, or None where there is none."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _remove(path: str, identity: tuple[int, int] | None) -> None:
    """Remove the socket at `path`, unless it is another server's by now."""
    if _identity(path) == identity:
        Path(path).unlink(missing_ok=True)


async def _standard_streams() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Standard input and output as streams; from now on whatever prints goes to standard error instead."""
    loop = asyncio.get_running_loop()
    # Python's streams are None where the process was started with them closed.
    if any(standard is None for standard in (sys.stdin, sys.stdout, sys.stderr)):
        raise OSError(errno.EBADF, "standard input, output or error is closed")
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    stream = asyncio.StreamReader(limit=MAX_HEADER_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), output
    )
    return stream, asyncio.StreamWriter(transport, protocol, None, loop)
