"""`wyoming-piwhisper health`: one describe -> info round trip with a running server."""

import argparse
import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

from wyoming_piwhisper.domain.errors import ProtocolError

if TYPE_CHECKING:
    from wyoming.info import Info

    from wyoming_piwhisper.commands import Subparsers

_TIMEOUT_SECONDS: Final = 5.0
"""As long as Home Assistant waits for the description of a service."""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "health",
        help="ask a running server to describe itself",
        description="Ask a running server to describe itself. Status 0 where it does, 1 with the reason where not.",
    )
    parser.add_argument("--uri", required=True, help="tcp://HOST:PORT or unix://PATH; 0.0.0.0 means this machine")
    parser.add_argument("--timeout", type=float, default=_TIMEOUT_SECONDS, metavar="S", help="seconds (default: 5)")


def run(args: argparse.Namespace) -> int:
    """Print one line about the server, or one line on standard error about why there is none."""
    try:
        info, seconds = asyncio.run(_describe(_reachable(args.uri), args.timeout))
    except TimeoutError:
        return _unhealthy(args.uri, f"no answer within {args.timeout:g} s")
    except (OSError, ValueError, ProtocolError) as error:
        return _unhealthy(args.uri, getattr(error, "strerror", None) or str(error))
    if info is None:
        return _unhealthy(args.uri, "the connection was closed without an answer")
    models = [f"{program.name} with {model.name}" for program in info.asr for model in program.models]
    if not models:
        return _unhealthy(args.uri, "it offers no speech to text")
    print(f"{args.uri}: {', '.join(models)}, answered in {1000 * seconds:.0f} ms")
    return 0


def _reachable(uri: str) -> str:
    from wyoming_piwhisper.domain.endpoint import StdioEndpoint, TcpEndpoint, endpoint_of

    endpoint = endpoint_of(uri)
    if isinstance(endpoint, StdioEndpoint):
        raise ProtocolError("a server on stdio:// talks to the process that started it alone")
    if isinstance(endpoint, TcpEndpoint) and endpoint.host in {"0.0.0.0", "::"}:  # noqa: S104  (not bound to)
        loopback = "127.0.0.1" if endpoint.host == "0.0.0.0" else "::1"  # noqa: S104
        return str(TcpEndpoint(loopback, endpoint.port))
    return str(endpoint)


async def _describe(uri: str, timeout_seconds: float) -> "tuple[Info | None, float]":
    """What the server says of itself, and the seconds from connecting to its answer."""
    from wyoming.client import AsyncClient
    from wyoming.info import Describe, Info

    began = time.monotonic()
    async with asyncio.timeout(timeout_seconds), AsyncClient.from_uri(uri) as client:
        await client.write_event(Describe().event())
        try:
            while (event := await client.read_event()) is not None:
                if Info.is_type(event.type):
                    return Info.from_event(event), time.monotonic() - began
        except (KeyError, TypeError, ValueError, AttributeError, EOFError, RecursionError) as error:
            raise ProtocolError("what answers there is no Wyoming server") from error
    return None, time.monotonic() - began


def _unhealthy(uri: str, reason: str) -> int:
    print(f"{uri}: {reason}", file=sys.stderr)
    return 1
