"""The inference worker as the server sees it: a process that is spoken to over a socket and may die at any time."""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from typing import Final, Self

from wyoming_piwhisper.domain.engine_plan import model_threads
from wyoming_piwhisper.service import messages

_MODULE: Final = "wyoming_piwhisper.service.worker"
_STDERR: Final = 2
_GRACE_SECONDS: Final = 0.5
"""A worker whose socket is closed ends by itself. To kill one that has just died would lose its exit status."""


class WorkerProcess:
    """A running worker; whoever spawned it closes it."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `spawn` instead."""
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def spawn(cls, threads: int) -> Self:
        """Start a worker whose numerical libraries use `threads` threads; 0 chooses by the number of cores."""
        ours, theirs = socket.socketpair()
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    # Without it a `queue.py` in the current folder would be taken for the library's.
                    "-P",
                    "-m",
                    _MODULE,
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=DEVNULL,
                    # Libraries print to standard output, which may carry the events of stdio://.
                    stdout=_STDERR,
                    # Ctrl-C is for the server, which ends its worker.
                    start_new_session=True,
                    env=_environment(threads, os.environ),
                )
            undo.push_async_callback(process.wait)
            undo.callback(_kill, process)
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours)
            undo.pop_all()
        return cls(process, reader, writer)

    def send(self, message: messages.Message) -> None:
        """Queue `message`; lost where the worker has died, which `receive` then tells."""
        if not self._writer.is_closing():
            self._writer.write(messages.encode(message))

    async def receive(self) -> messages.Message | None:
        """Return the worker's next message, or None where it has died."""
        try:
            prefix = await self._reader.readexactly(messages.PREFIX_BYTES)
            text_bytes, sample_bytes = messages.lengths(prefix)
            body = await self._reader.readexactly(text_bytes + sample_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return messages.decode(body[:text_bytes], body[text_bytes:])

    def kill(self) -> None:
        """End the process at once; it keeps nothing that would have to be saved."""
        _kill(self._process)

    async def aclose(self) -> int:
        """Close the socket, wait for the end of the process, or kill it; returns its exit status (-9: killed)."""
        self._writer.close()
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            _kill(self._process)
            return await self._process.wait()
        finally:
            _kill(self._process)


def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()


def _environment(threads: int, inherited: Mapping[str, str]) -> dict[str, str]:
    count = str(model_threads(threads, os.cpu_count() or 1))
    # The worker finds modules where the server found them.
    module_path = os.pathsep.join(sys.path)
    return {**inherited, "PYTHONPATH": module_path, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
