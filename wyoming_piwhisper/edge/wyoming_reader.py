"""Events from a peer that is not trusted: everything is bounded, and whatever is malformed is one kind of error.

An event is a header (one line of JSON), then `data_length` bytes of JSON that are merged on top of the header's
`data`, then `payload_length` bytes.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from wyoming.event import Event

from wyoming_piwhisper.domain.errors import ProtocolError

MAX_HEADER_BYTES: Final = 65_536
"""Longest header line; give it to the `StreamReader` as its limit, which enforces it."""


class StreamEndedError(ProtocolError):
    """The peer ended the stream within an event; most have just left."""


class WyomingReader:
    """Reads events from a stream whose limit is `MAX_HEADER_BYTES`."""

    def __init__(self, stream: asyncio.StreamReader, max_data_bytes: int, max_payload_bytes: int) -> None:
        """Read from `stream`, which the caller keeps and closes."""
        self._stream = stream
        self._max_data_bytes = max_data_bytes
        self._max_payload_bytes = max_payload_bytes

    async def read(self) -> Event | None:
        """Return the next event, or None where the peer ended the stream between two events.

        Raises:
            ProtocolError: the event is malformed, cut short or passes a bound; the stream is of no use any more.
            ConnectionError: the connection broke.
        """
        line = await self._read_line()
        if line is None:
            return None
        header = _object(line, "header")
        event_type = header.get("type")
        if not isinstance(event_type, str) or not event_type:
            raise ProtocolError("header: type is missing or no text")
        data = header.get("data", {})
        if not isinstance(data, dict):
            raise ProtocolError("header: data is no JSON object")
        data_bytes = await self._read_part(header, "data_length", self._max_data_bytes)
        if data_bytes:
            data.update(_object(data_bytes, "data"))
        payload = await self._read_part(header, "payload_length", self._max_payload_bytes)
        return Event(type=event_type, data=data, payload=payload)

    async def _read_line(self) -> bytes | None:
        try:
            return await self._stream.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise ProtocolError(f"header: longer than {MAX_HEADER_BYTES} bytes") from error
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise StreamEndedError("header: the stream ended within it") from error
            return None

    async def _read_part(self, header: Mapping[str, Any], name: str, limit: int) -> bytes | None:
        length = header.get(name)
        if length is None or (type(length) is int and length == 0):
            return None
        if type(length) is not int or length < 0:
            raise ProtocolError(f"header: {name} is no whole number from 0")
        if length > limit:
            raise ProtocolError(f"header: {name} is above the limit of {limit} bytes")
        try:
            return await self._stream.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise StreamEndedError(f"{name}: the stream ended after {len(error.partial)} of {length} bytes") from error


def _object(text: bytes, part: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{part}: no valid JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"{part}: no JSON object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python reads but JSON does not have."""
    raise ValueError(name)
