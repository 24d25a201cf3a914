"""What a client must not do, over real sockets: it gets `error` and is cut off, and the server goes on."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes import (
    answer,
    pcm16,
    release,
    running_server,
    speak,
)
from test_wyoming_reader import MALFORMED
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.ping import Ping, Pong
from wyoming_peer import client_of, port_of, refusal, transcript, works

from wyoming_piwhisper.domain.settings import AsrSettings, ServerSettings
from wyoming_piwhisper.edge.wyoming_server import WyomingServer

LOCAL = "tcp://127.0.0.1:0"

pytestmark = pytest.mark.usefixtures("importable_fakes")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WyomingServer]:
    async with running_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_input_is_refused_and_the_server_goes_on(tmp_path: Path, name: str) -> None:
    settings = ServerSettings(uri=LOCAL, max_data_bytes=1_000, max_payload_bytes=2_000)
    async with running_server(tmp_path, settings) as server:
        client = AsyncTcpClient("127.0.0.1", port_of(server))
        async with client:
            assert client._writer is not None  # noqa: SLF001  (the library writes only what is well-formed)
            client._writer.write(MALFORMED[name])  # noqa: SLF001
            client._writer.write_eof()  # noqa: SLF001
            assert (await refusal(client)).code == "protocol"
        async with client_of(server) as other:
            await other.write_event(Ping("on").event())
            assert Pong.is_type((await answer(other)).type)


@pytest.mark.parametrize(
    "event",
    [
        Event("ping", {"text": {"not": "text"}}),
        Event("audio-chunk", {"width": 2, "channels": 1}, b"\0\0"),
        Event("audio-chunk", {"rate": "16000", "width": 2, "channels": 1}, b"\0\0"),
        Event("audio-chunk", {"rate": 16_000, "width": 1, "channels": 1}, b"\0\0"),
        Event("audio-chunk", {"rate": 16_000, "width": 2, "channels": None}, b"\0\0"),
        Event("audio-start", {"rate": 96_000, "width": 2, "channels": 1}),
        Event("audio-start", {}),
        Event("transcribe", {"language": 5}),
        Event("transcribe", {"language": ["en"]}),
    ],
)
async def test_wrong_fields_are_refused(server: WyomingServer, event: Event) -> None:
    async with client_of(server) as client:
        await client.write_event(event)
        assert (await refusal(client)).code == "protocol"


async def test_the_error_arrives_although_the_client_goes_on_sending(tmp_path: Path) -> None:
    settings = ServerSettings(uri=LOCAL, max_payload_bytes=2_000)
    async with running_server(tmp_path, settings) as server:
        async with client_of(server) as client:
            await client.write_event(AudioChunk(16_000, 2, 1, bytes(500_000)).event())
            assert "payload_length" in (await refusal(client)).text
        assert await works(server)


async def test_an_utterance_has_a_longest_length(tmp_path: Path) -> None:
    async with running_server(tmp_path, ServerSettings(uri=LOCAL, max_utterance_seconds=0.5)) as server:
        async with client_of(server) as client:
            await speak(client, pcm16(8_000))
            assert (await transcript(client)).text
            await speak(client, pcm16(8_160))
            error = await refusal(client)
        assert (error.code, "0.5 s" in error.text) == ("protocol", True)
        assert await works(server)


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, ServerSettings(uri=LOCAL, max_connections=2)) as server,
        client_of(server) as first,
        client_of(server) as second,
    ):
        for client in (first, second):
            await client.write_event(Ping().event())
            await answer(client)
        async with client_of(server) as third:
            assert (await refusal(third)).code == "overloaded"
        await first.write_event(AudioStop().event())
        await transcript(first)
        await first.disconnect()
        await second.write_event(Ping().event())
        await answer(second)
        assert await works(server)


async def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    async with running_server(tmp_path, ServerSettings(uri=LOCAL, idle_timeout_seconds=0.2)) as server:
        async with client_of(server) as client:
            error = await refusal(client)
        assert (error.code, error.text) == ("protocol", "connection: nothing arrived for 0.2 s")


async def test_an_event_that_never_ends_is_idle_too(tmp_path: Path) -> None:
    async with running_server(tmp_path, ServerSettings(uri=LOCAL, idle_timeout_seconds=0.2)) as server:
        client = AsyncTcpClient("127.0.0.1", port_of(server))
        async with client:
            assert client._writer is not None  # noqa: SLF001
            client._writer.write(b'{"type": "audio-chunk", "payload_length": 100}\nabc')  # noqa: SLF001
            assert (await refusal(client)).code == "protocol"


async def test_waiting_for_an_answer_is_not_idle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with (
        running_server(tmp_path, ServerSettings(uri=LOCAL, idle_timeout_seconds=0.2)) as server,
        client_of(server) as client,
        client_of(server) as idle,
    ):
        await speak(client, pcm16(1600))
        await refusal(idle)
        await release(tmp_path / "hold")
        assert (await transcript(client)).text
        assert (await refusal(client)).code == "protocol"


async def test_too_many_waiting_utterances_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with (
        running_server(tmp_path, asr=AsrSettings(max_waiting=1)) as server,
        client_of(server) as first,
        client_of(server) as second,
        client_of(server) as third,
    ):
        for client in (first, second):
            await speak(client, pcm16(1600))
            await client.write_event(Ping().event())
            assert Pong.is_type((await answer(client)).type)
        await speak(third, pcm16(1600))
        assert (await refusal(third)).code == "overloaded"
        await release(tmp_path / "hold")
        assert (await transcript(first)).text
        assert (await transcript(second)).text


async def test_utterances_sent_ahead_count_as_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_server(tmp_path, asr=AsrSettings(max_waiting=1)) as server, client_of(server) as client:
        for _ in range(3):
            await speak(client, pcm16(1600))
        assert (await refusal(client)).code == "overloaded"


async def test_a_connection_is_owed_a_bounded_number_of_answers(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_server(tmp_path) as server, client_of(server) as client:
        await speak(client, pcm16(1600))
        for _ in range(20):
            await client.write_event(AudioStop().event())
        assert (await refusal(client)).code == "overloaded"


async def test_text_that_cannot_be_sent_back_is_refused(server: WyomingServer) -> None:
    async with AsyncTcpClient("127.0.0.1", port_of(server)) as client:
        assert client._writer is not None  # noqa: SLF001  (the library writes only what is well-formed)
        client._writer.write(b'{"type": "ping", "data": {"text": "\\ud800"}}\n')  # noqa: SLF001
        assert (await refusal(client)).code == "protocol"
