"""The whole server as a process of its own, with the fake engine: endpoints, signals, start and end."""

import asyncio
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fakes import WAIT_SECONDS, answer, closed, pcm16, reached, speak, worker_pid, write_model_folder
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import async_read_event, async_write_event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

TESTS = Path(__file__).parent


@asynccontextmanager
async def server_process(uri: str, folder: Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "fake_server.py"),
        uri,
        str(write_model_folder(folder)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def log_line(process: Process, pattern: str) -> re.Match[str]:
    """Wait for the line of the log that matches."""
    assert process.stderr is not None
    seen = []
    async with asyncio.timeout(WAIT_SECONDS):
        while line := (await process.stderr.readline()).decode():
            if found := re.search(pattern, line):
                return found
            seen.append(line)
    raise AssertionError(f"no {pattern!r} in {seen}")


async def end(process: Process, number: signal.Signals) -> tuple[int, str]:
    """Send the signal; the exit status and what else the log says."""
    assert process.stderr is not None
    began = time.monotonic()
    process.send_signal(number)
    rest = (await asyncio.wait_for(process.stderr.read(), WAIT_SECONDS)).decode()
    status = await asyncio.wait_for(process.wait(), WAIT_SECONDS)
    assert time.monotonic() - began < 2
    return status, rest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_the_server_cleanly_with_a_client_and_work_at_hand(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with server_process("tcp://127.0.0.1:0", tmp_path) as process:
        uri = (await log_line(process, r"Listening on (tcp://\S+:\d+);"))[1]
        await log_line(process, "model is loaded")
        os.mkfifo(tmp_path / "hold")
        async with AsyncClient.from_uri(uri) as client:
            await speak(client, pcm16(1600))
            await client.write_event(Ping().event())
            assert Pong.is_type((await answer(client)).type)
            status, rest = await end(process, number)
            assert await closed(client)
        assert (status, "Traceback" in rest) == (0, False)
        with pytest.raises(ProcessLookupError):
            os.kill(worker_pid(tmp_path), 0)


async def test_signals_end_the_server_while_the_model_loads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold-load")
    path = tmp_path / "socket"
    async with server_process(f"unix://{path}", tmp_path) as process:
        await log_line(process, "Listening on unix://")
        async with AsyncClient.from_uri(f"unix://{path}") as client:
            await client.write_event(Describe().event())
            assert Info.is_type((await answer(client)).type)
        status, rest = await end(process, signal.SIGTERM)
        assert (status, "Traceback" in rest) == (0, False)
        assert not path.exists()


async def test_the_log_says_which_model_and_what_to_type_in_home_assistant(tmp_path: Path) -> None:
    async with server_process("tcp://0.0.0.0:0", tmp_path) as process:
        await log_line(process, f"Model {tmp_path.name}: using the model in")
        found = await log_line(process, r"Listening on tcp://0\.0\.0\.0:(\d+); .* host (\S+) and port (\d+)")
        assert found[1] == found[3]
        assert found[2] != "0.0.0.0"  # noqa: S104


async def test_stdio_carries_events_only(tmp_path: Path) -> None:
    async with server_process("stdio://", tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await async_write_event(Describe().event(), process.stdin)
        async with asyncio.timeout(WAIT_SECONDS):
            info = await async_read_event(process.stdout)
            assert info is not None
            assert Info.is_type(info.type)
            for length in (1600, 3200):
                await async_write_event(AudioChunk(16_000, 2, 1, pcm16(length)).event(), process.stdin)
                await async_write_event(AudioStop().event(), process.stdin)
            process.stdin.write_eof()
            for length in (1600, 3200):
                event = await async_read_event(process.stdout)
                assert event is not None
                assert Transcript.from_event(event).text == f"{length} samples up to 0.50"
            assert await process.stdout.read() == b""
            assert await process.wait() == 0


async def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    async with server_process("tcp://127.0.0.1:0", tmp_path) as process:
        await log_line(process, r"ModelFormatError: config\.json: damaged")
        assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == 1


async def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    async with server_process("tcp://127.0.0.1:0", tmp_path) as process:
        uri = (await log_line(process, r"Listening on (tcp://\S+:\d+);"))[1]
        await log_line(process, "model is loaded")
        os.mkfifo(tmp_path / "hold")
        async with AsyncClient.from_uri(uri) as client:
            await speak(client, pcm16(1600))
            await client.write_event(Ping().event())
            assert Pong.is_type((await answer(client)).type)
            os.kill(worker_pid(tmp_path), signal.SIGKILL)
            await log_line(process, "ended with status -9")
            await reached(tmp_path / "hold")
            assert Transcript.from_event(await answer(client)).text == "1600 samples up to 0.50"
