"""The Wyoming server over real sockets, with the protocol library's client and a real worker with the fake engine."""

import asyncio
import json
import logging
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from fakes import (
    WAIT_SECONDS,
    answer,
    closed,
    pcm16,
    reached,
    release,
    running_server,
    speak,
    worker_pid,
)
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import Describe, Info, SelectProgram
from wyoming.ping import Ping, Pong
from wyoming_peer import client_of, port_of, refusal, transcript, works

from wyoming_piwhisper import __version__
from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.settings import ServerSettings
from wyoming_piwhisper.edge.wyoming_server import WyomingServer

LOCAL = "tcp://127.0.0.1:0"

pytestmark = pytest.mark.usefixtures("importable_fakes")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WyomingServer]:
    async with running_server(tmp_path) as running:
        yield running


async def test_info_tells_the_truth(server: WyomingServer) -> None:
    async with client_of(server) as client:
        await client.write_event(Describe().event())
        info = Info.from_event(await answer(client))
    (program,) = info.asr
    assert (program.name, program.version, program.installed) == ("piwhisper", __version__, True)
    assert not program.supports_transcript_streaming
    (model,) = program.models
    assert (model.name, model.languages, model.attribution.name) == ("fake", ["en", "de"], "Nobody")
    assert info.satellite is None


async def test_describe_and_ping_are_answered_while_the_model_loads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold-load")
    async with running_server(tmp_path) as server, client_of(server) as client:
        began = time.monotonic()
        await client.write_event(Describe().event())
        (program,) = Info.from_event(await answer(client)).asr
        assert time.monotonic() - began < 0.1
        assert program.requires_external_vad, "nobody finds the end before the model is there"
        await speak(client, pcm16(1600))
        await client.write_event(Ping("still there?").event())
        assert Pong.from_event(await answer(client)).text == "still there?"
        await release(tmp_path / "hold-load")
        assert (await transcript(client)).text


async def test_describe_and_ping_are_answered_while_this_very_connection_transcribes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_server(tmp_path) as server, client_of(server) as client, client_of(server) as other:
        await speak(client, pcm16(1600))
        for each in (client, other):
            await each.write_event(Ping("x").event())
            assert Pong.from_event(await answer(each)).text == "x"
            await each.write_event(Describe().event())
            assert Info.is_type((await answer(each)).type)
        await release(tmp_path / "hold")
        assert (await transcript(client)).text


async def test_ping_without_text(server: WyomingServer) -> None:
    async with client_of(server) as client:
        await client.write_event(Ping().event())
        assert Pong.from_event(await answer(client)).text is None


async def test_home_assistants_order(server: WyomingServer) -> None:
    async with client_of(server) as client:
        await client.write_event(Transcribe(language="de").event())
        await speak(client, pcm16(16_000))
        result = await transcript(client)
    assert (result.text, result.language) == ("16000 samples up to 0.50", "de")


@pytest.mark.parametrize(
    ("asked", "answered"), [(None, "en"), ("de", "de"), ("de-AT", "de"), ("EN", "en"), ("fr", "en"), ("", "en")]
)
async def test_the_language_is_honoured_where_the_model_knows_it(
    server: WyomingServer, asked: str | None, answered: str
) -> None:
    async with client_of(server) as client:
        await client.write_event(Transcribe(language=asked).event())
        await speak(client, pcm16(1600))
        assert (await transcript(client)).language == answered


async def test_transcribe_may_follow_audio_start(server: WyomingServer) -> None:
    async with client_of(server) as client:
        await client.write_event(AudioStart(16_000, 2, 1).event())
        await client.write_event(Transcribe(language="de").event())
        await client.write_event(AudioChunk(16_000, 2, 1, pcm16(1600)).event())
        await client.write_event(AudioStop().event())
        assert (await transcript(client)).language == "de"


async def test_chunks_need_no_audio_start(server: WyomingServer) -> None:
    async with client_of(server) as client:
        await client.write_event(AudioChunk(16_000, 2, 1, pcm16(1600)).event())
        await client.write_event(AudioStop().event())
        assert (await transcript(client)).text == "1600 samples up to 0.50"


@pytest.mark.parametrize(
    "events",
    [
        [AudioStop()],
        [AudioStart(16_000, 2, 1), AudioStop()],
        [AudioStart(16_000, 2, 1), AudioChunk(16_000, 2, 1, b""), AudioStop()],
        [AudioChunk(16_000, 2, 1, bytes(16_000)), AudioStop()],
    ],
)
async def test_nothing_said_is_an_empty_transcript(server: WyomingServer, events: list[AudioStop]) -> None:
    async with client_of(server) as client:
        for event in events:
            await client.write_event(event.event())
        assert (await transcript(client)).text == ""


async def test_a_second_audio_start_begins_anew(server: WyomingServer) -> None:
    async with client_of(server) as client:
        await client.write_event(AudioChunk(16_000, 2, 1, pcm16(8_000)).event())
        await speak(client, pcm16(1600))
        assert (await transcript(client)).text.startswith("1600 ")


async def test_many_utterances_on_one_connection_are_answered_in_order(server: WyomingServer) -> None:
    lengths = [1600, 0, 3200, 800, 4800]
    async with client_of(server) as client:
        for length in lengths:
            await speak(client, pcm16(length))
        texts = [(await transcript(client)).text for _ in lengths]
        await speak(client, pcm16(320))
        texts.append((await transcript(client)).text)
    assert [int(text.split()[0]) if text else 0 for text in texts] == [*lengths, 320]


@pytest.mark.parametrize(("rate", "width", "channels"), [(8_000, 2, 1), (44_100, 3, 2), (48_000, 4, 2)])
async def test_other_formats_are_converted(server: WyomingServer, rate: int, width: int, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(rate) / rate)
    whole = np.repeat((tone * 2.0 ** (8 * width - 1)).astype("<i8"), channels)
    pcm = whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    async with client_of(server) as client:
        for at in range(0, len(pcm), 4095):
            await client.write_event(AudioChunk(rate, width, channels, pcm[at : at + 4095]).event())
        await client.write_event(AudioStop().event())
        assert (await transcript(client)).text in {f"{n} samples up to 0.50" for n in (15_999, 16_000, 16_001)}


async def test_unknown_events_are_ignored(server: WyomingServer) -> None:
    async with client_of(server) as client:
        for event in (SelectProgram("piwhisper").event(), Event("run-satellite"), Event("x", {"a": 1}, b"payload")):
            await client.write_event(event)
        await speak(client, pcm16(320))
        assert (await transcript(client)).text


@pytest.mark.parametrize(("file", "code"), [("fail", "inference"), ("crash", "inference"), ("raise", "inference")])
async def test_a_failure_is_an_error_event_and_a_closed_connection(tmp_path: Path, file: str, code: str) -> None:
    (tmp_path / file).touch()
    async with running_server(tmp_path) as server:
        async with client_of(server) as client:
            await speak(client, pcm16(1600))
            assert (await refusal(client)).code == code
        (tmp_path / file).unlink()
        assert await works(server)


async def test_a_worker_that_dies_once_is_not_noticed(tmp_path: Path) -> None:
    (tmp_path / "crash-once").touch()
    async with running_server(tmp_path) as server:
        assert await works(server)


@pytest.mark.parametrize("abruptly", [True, False])
async def test_a_client_that_leaves_abandons_its_work_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, abruptly: bool
) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_server(tmp_path) as server, client_of(server) as patient:
        await speak(patient, pcm16(1600))
        loop = asyncio.get_running_loop()
        with socket.socket() as leaver:
            leaver.setblocking(False)
            await loop.sock_connect(leaver, ("127.0.0.1", port_of(server)))
            stop = json.dumps({"type": "audio-stop"}).encode() + b"\n"
            chunk = {"type": "audio-chunk", "data": {"rate": 16_000, "width": 2, "channels": 1}}
            pcm = pcm16(3200)
            head = json.dumps({**chunk, "payload_length": len(pcm)}).encode() + b"\n"
            await loop.sock_sendall(leaver, head + pcm + stop + b'{"type": "ping"}\n')
            assert b"pong" in await asyncio.wait_for(loop.sock_recv(leaver, 1000), WAIT_SECONDS)
            if abruptly:
                leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await patient.write_event(Ping().event())
        await answer(patient)
        await release(tmp_path / "hold")
        assert (await transcript(patient)).text
        assert await works(server)
    assert (tmp_path / "finished").read_text().split() == ["1600", "1600"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_answer_is_logged_in_one_line_without_the_words(
    server: WyomingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert await works(server)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Utterance")]
    assert len(lines) == 1
    assert "0.10 s of audio" in lines[0]
    assert "samples up to" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"profile": "accent-indian"}, ""),
        ({"profile": "accent-indian", "profile_was_cached": False}, ", model merged anew"),
        (
            {"profile": "accent-indian", "profile_was_cached": False, "profile_is_awaited": True},
            ", profiles applied at run time",
        ),
        ({"profile_was_cached": False, "profile_is_awaited": True}, ", profiles not ready"),
    ],
)
async def test_the_log_says_how_profiles_took_part_and_not_which(
    server: WyomingServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, fields: dict[str, object], said: str
) -> None:
    (tmp_path / "transcription").write_text(json.dumps(fields))
    caplog.set_level(logging.INFO)
    assert await works(server)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Utterance")]
    assert line.endswith(f"decode 0.001 s{said})")
    assert "indian" not in caplog.text


async def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with running_server(tmp_path, ServerSettings(uri=f"unix://{path}")) as server:
        assert await works(server)
    assert not path.exists()


async def test_closing_ends_open_connections_and_the_worker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_server(tmp_path) as server:
        client = client_of(server)
        await client.connect()
        await speak(client, pcm16(1600))
        await reached(tmp_path / "hold")
        await transcript(client)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert await closed(client)
    await client.disconnect()
    with pytest.raises(ProcessLookupError):
        os.kill(worker_pid(tmp_path), 0)


async def test_a_unix_socket_is_not_taken_from_a_server_that_lives(tmp_path: Path) -> None:
    settings = ServerSettings(uri=f"unix://{tmp_path / 'socket'}")
    async with running_server(tmp_path, settings) as server:
        with pytest.raises(SettingsError, match="another server listens there"):
            async with running_server(tmp_path, settings):
                pass
        assert await works(server)


async def test_a_unix_socket_that_a_crash_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(tmp_path / "socket"))
    async with running_server(tmp_path, ServerSettings(uri=f"unix://{tmp_path / 'socket'}")) as server:
        assert await works(server)
