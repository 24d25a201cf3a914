"""The client's side of a conversation with the server, for the tests."""

from fakes import answer, closed, pcm16, speak
from wyoming.asr import Transcript
from wyoming.client import AsyncClient
from wyoming.error import Error

from wyoming_piwhisper.domain.endpoint import TcpEndpoint
from wyoming_piwhisper.edge.wyoming_server import WyomingServer


def client_of(server: WyomingServer) -> AsyncClient:
    return AsyncClient.from_uri(str(server.endpoint))


def port_of(server: WyomingServer) -> int:
    assert isinstance(server.endpoint, TcpEndpoint)
    return server.endpoint.port


async def transcript(client: AsyncClient) -> Transcript:
    event = await answer(client)
    assert Transcript.is_type(event.type), event
    return Transcript.from_event(event)


async def refusal(client: AsyncClient) -> Error:
    """The `error` event, after which the server closes."""
    event = await answer(client)
    assert Error.is_type(event.type), event
    assert await closed(client)
    return Error.from_event(event)


async def works(server: WyomingServer) -> bool:
    """Whether the server still hears a new client."""
    async with client_of(server) as client:
        await speak(client, pcm16(1600))
        return (await transcript(client)).text == "1600 samples up to 0.50"
