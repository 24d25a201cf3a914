"""Answers before the client stops, over real sockets, with a real worker and the fake engine."""

import asyncio
import json
import logging
import os
import socket
from pathlib import Path

import pytest
from fakes import WAIT_SECONDS, answer, pcm16, release, running_server, speak
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming_peer import client_of, port_of, transcript, works

from wyoming_piwhisper.domain.settings import AsrSettings, ServerSettings, VadSettings

pytestmark = pytest.mark.usefixtures("importable_fakes")

CHUNK_SAMPLES = 480
CHUNK_SECONDS = 0.03
ENDPOINT_SAMPLES = 4800


def ends_early(folder: Path, samples: int = ENDPOINT_SAMPLES) -> None:
    """Let the fake engine take utterances of so many samples for over."""
    (folder / "endpoint").write_text(str(samples))


async def stream(client: AsyncClient, seconds: float) -> None:
    """Audio as it is spoken, and no `audio-stop`: so sends who leaves the end to the server."""
    began = asyncio.get_running_loop().time()
    for number in range(round(seconds / CHUNK_SECONDS)):
        await client.write_event(AudioChunk(16_000, 2, 1, pcm16(CHUNK_SAMPLES)).event())
        await asyncio.sleep(max(0.0, began + (number + 1) * CHUNK_SECONDS - asyncio.get_running_loop().time()))


async def while_streaming(client: AsyncClient) -> Event:
    """The first event that comes while audio goes on and on."""
    speaking = asyncio.create_task(stream(client, WAIT_SECONDS))
    try:
        return await answer(client)
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


async def test_what_seems_to_be_over_is_answered_before_its_end_and_the_rest_is_dropped(tmp_path: Path) -> None:
    ends_early(tmp_path)
    async with running_server(tmp_path) as server, client_of(server) as client:
        assert await works(server)
        for _ in range(2):
            await client.write_event(AudioStart(16_000, 2, 1).event())
            assert Transcript.is_type((await while_streaming(client)).type)
            for _ in range(3):
                await client.write_event(AudioChunk(16_000, 2, 1, pcm16(8000)).event())
            await client.write_event(AudioStop().event())
        await client.write_event(Ping(text="nothing more").event())
        assert Pong.is_type((await answer(client)).type)
    heard = [int(samples) for samples in (tmp_path / "finished").read_text().split()[1:]]
    assert len(heard) == 2
    assert all(ENDPOINT_SAMPLES <= samples < 16_000 for samples in heard)


async def test_audio_that_comes_faster_than_people_speak_is_heard_to_its_end(tmp_path: Path) -> None:
    ends_early(tmp_path)
    async with running_server(tmp_path) as server, client_of(server) as client:
        assert await works(server)
        await client.write_event(AudioChunk(16_000, 2, 1, pcm16(160_000)).event())
        await asyncio.sleep(0.3)
        await client.write_event(AudioChunk(16_000, 2, 1, pcm16(1600)).event())
        await client.write_event(AudioStop().event())
        assert (await transcript(client)).text == "161600 samples up to 0.50"


async def test_the_end_is_left_to_the_client_where_that_is_set(tmp_path: Path) -> None:
    ends_early(tmp_path)
    async with running_server(tmp_path, vad=VadSettings(endpointing=False)) as server, client_of(server) as client:
        await stream(client, 1.2)
        await client.write_event(AudioStop().event())
        assert (await transcript(client)).text.startswith(f"{40 * CHUNK_SAMPLES} ")


@pytest.mark.parametrize("finds_end", [True, False])
async def test_who_looks_for_the_end_is_told(tmp_path: Path, *, finds_end: bool) -> None:
    vad = VadSettings(endpointing=finds_end)
    async with running_server(tmp_path, vad=vad) as server, client_of(server) as client:
        assert await works(server)
        await client.write_event(Describe().event())
        (program,) = Info.from_event(await answer(client)).asr
    assert program.requires_external_vad is not finds_end


async def test_live_audio_is_live_although_the_worker_hears_it_late(tmp_path: Path) -> None:
    ends_early(tmp_path)
    os.mkfifo(tmp_path / "hold-load")
    async with running_server(tmp_path) as server, client_of(server) as client:
        await client.write_event(AudioStart(16_000, 2, 1).event())
        await stream(client, 2.5)
        await release(tmp_path / "hold-load")
        assert Transcript.is_type((await while_streaming(client)).type)


async def test_live_audio_is_live_although_the_worker_was_busy(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, client_of(server) as other, client_of(server) as client:
        assert await works(server)
        os.mkfifo(tmp_path / "hold")
        await speak(other, pcm16(1600))
        ends_early(tmp_path)
        await stream(client, 2.5)
        await release(tmp_path / "hold")
        assert (await transcript(other)).text
        assert Transcript.is_type((await while_streaming(client)).type)


async def test_live_audio_is_live_in_a_new_worker(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, client_of(server) as client:
        assert await works(server)
        await stream(client, 1.2)
        ends_early(tmp_path, 20_000)
        (tmp_path / "crash-once").touch()
        assert Transcript.is_type((await while_streaming(client)).type)
    assert not (tmp_path / "crash-once").exists()


async def test_a_file_over_a_slow_line_is_heard_to_its_end(tmp_path: Path) -> None:
    ends_early(tmp_path)
    async with running_server(tmp_path) as server, client_of(server) as client:
        assert await works(server)
        for _ in range(100):
            await client.write_event(AudioChunk(16_000, 2, 1, pcm16(CHUNK_SAMPLES)).event())
            await asyncio.sleep(CHUNK_SECONDS / 4)
        await client.write_event(AudioStop().event())
        assert (await transcript(client)).text.startswith(f"{100 * CHUNK_SAMPLES} ")


@pytest.mark.parametrize("mishap", ["raise-on-feed", "fail", "raise"])
async def test_a_failure_is_told_at_once(tmp_path: Path, mishap: str) -> None:
    async with running_server(tmp_path) as server, client_of(server) as client:
        assert await works(server)
        ends_early(tmp_path)
        (tmp_path / mishap).touch()
        assert Error.is_type((await while_streaming(client)).type)


async def test_a_worker_that_hangs_while_nothing_is_owed_is_replaced(tmp_path: Path) -> None:
    async with running_server(tmp_path, asr=AsrSettings(timeout_seconds=0.5)) as server, client_of(server) as client:
        assert await works(server)
        ends_early(tmp_path)
        (tmp_path / "hang-once").touch()
        assert Transcript.is_type((await while_streaming(client)).type)
    assert not (tmp_path / "hang-once").exists()


async def test_what_reaches_the_limit_is_answered_where_the_client_may_wait_for_our_end(tmp_path: Path) -> None:
    settings = ServerSettings(uri="tcp://127.0.0.1:0", max_utterance_seconds=1.5)
    async with running_server(tmp_path, settings) as server, client_of(server) as client:
        assert await works(server)
        assert Transcript.is_type((await while_streaming(client)).type)
        await client.write_event(AudioStop().event())
        await speak(client, pcm16(1600))
        assert (await transcript(client)).text.startswith("1600 ")


async def test_who_leaves_within_an_event_after_an_early_answer_leaves_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends_early(tmp_path)
    async with running_server(tmp_path) as server:
        assert await works(server)
        loop = asyncio.get_running_loop()
        with socket.socket() as leaver:
            leaver.setblocking(False)
            await loop.sock_connect(leaver, ("127.0.0.1", port_of(server)))
            pcm = pcm16(ENDPOINT_SAMPLES)
            header = {"type": "audio-chunk", "data": {"rate": 16_000, "width": 2, "channels": 1}}
            event = json.dumps({**header, "payload_length": len(pcm)}).encode() + b"\n" + pcm
            await loop.sock_sendall(leaver, event)
            await asyncio.sleep(0.5)
            await loop.sock_sendall(leaver, event)
            assert b"transcript" in await asyncio.wait_for(loop.sock_recv(leaver, 4000), WAIT_SECONDS)
            await loop.sock_sendall(leaver, event[:500])
        assert await works(server)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_after_an_early_answer_the_next_command_may_begin_with_transcribe(tmp_path: Path) -> None:
    ends_early(tmp_path)
    async with running_server(tmp_path) as server, client_of(server) as client:
        assert await works(server)
        for _ in range(2):
            await client.write_event(Transcribe(language="en").event())
            assert Transcript.is_type((await while_streaming(client)).type)


async def test_beginning_anew_again_and_again_costs_no_answer_that_is_owed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_server(tmp_path) as server, client_of(server) as client:
        await speak(client, pcm16(800))
        for _ in range(20):
            await client.write_event(AudioStart(16_000, 2, 1).event())
            await client.write_event(AudioChunk(16_000, 2, 1, pcm16(1600)).event())
        await client.write_event(AudioStop().event())
        await client.write_event(Ping(text="still there?").event())
        assert Pong.is_type((await answer(client)).type)
        await release(tmp_path / "hold")
        assert (await transcript(client)).text.startswith("800 ")
        assert (await transcript(client)).text.startswith("1600 ")
