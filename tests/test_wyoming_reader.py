import asyncio
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wyoming.event import Event

from wyoming_piwhisper.domain.errors import ProtocolError
from wyoming_piwhisper.edge.wyoming_reader import MAX_HEADER_BYTES, WyomingReader

MAX_DATA_BYTES = 1_000
MAX_PAYLOAD_BYTES = 2_000


def events(*chunks: bytes) -> list[Event]:
    """What a reader makes of `chunks` followed by the end of the stream."""

    async def read_all() -> list[Event]:
        stream = asyncio.StreamReader(limit=MAX_HEADER_BYTES)
        for chunk in chunks:
            stream.feed_data(chunk)
        stream.feed_eof()
        reader = WyomingReader(stream, MAX_DATA_BYTES, MAX_PAYLOAD_BYTES)
        found = []
        while (event := await reader.read()) is not None:
            found.append(event)
        return found

    return asyncio.run(read_all())


def header(**fields: object) -> bytes:
    return json.dumps({"type": "ping", **fields}).encode() + b"\n"


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def malformed() -> Iterator[tuple[str, bytes]]:
    yield "no JSON", b"hello\n"
    yield "empty line", b"\n"
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield "bad UTF-8", b'{"type": "\xff\xfe"}\n'
    yield "header too long", b'{"type": "' + b"x" * MAX_HEADER_BYTES + b'"}\n'
    yield "header without end", b"x" * (MAX_HEADER_BYTES + 100)
    yield "last line without newline", b'{"type": "ping"}'
    yield "array", b"[1]\n"
    yield "number", b"42\n"
    yield "null", b"null\n"
    yield "no type", b'{"data": {}}\n'
    yield "type is a number", header(type=5)
    yield "type is null", header(type=None)
    yield "type is a list", header(type=["ping"])
    yield "type is empty", header(type="")
    yield "data is null", header(data=None)
    yield "data is null with more data", header(data=None, data_length=2) + b"{}"
    yield "data is a list", header(data=[1])
    yield "data is a list with more data", header(data=[1], data_length=2) + b"{}"
    yield "more data is no JSON", header(data_length=3) + b"abc"
    yield "more data is a list", header(data_length=2) + b"[]"
    yield "more data is bad UTF-8", header(data_length=2) + b"\xff\xff"
    yield "more data with NaN", header(data_length=10) + b'{"a": NaN}'
    yield "NaN in the header", b'{"type": "ping", "data": {"a": NaN}}\n'
    yield "infinite length", b'{"type": "ping", "payload_length": Infinity}\n'
    yield "deep nesting", b'{"type": "ping", "data": {"a": ' + nested(20_000) + b"}}\n"
    for name in ("data_length", "payload_length"):
        wrong: list[object] = [-1, True, False, 1.0, 1e12, "2", [2], {}]
        for length in wrong:
            yield f"{name} {length!r}", header(**{name: length}) + b"{}"
        yield f"{name} of many digits", b'{"type": "ping", "' + name.encode() + b'": ' + b"9" * 5_000 + b"}\n"
    yield "data above the limit", header(data_length=MAX_DATA_BYTES + 1)
    yield "payload above the limit", header(payload_length=MAX_PAYLOAD_BYTES + 1)
    yield "huge payload", header(payload_length=10**12)
    yield "data cut short", header(data_length=10) + b"{}"
    yield "payload cut short", header(payload_length=10) + b"12345"


MALFORMED = dict(malformed())


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_input_is_one_kind_of_error(name: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        events(MALFORMED[name])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_deeply_nested_data_is_refused() -> None:
    data = b'{"a":' + nested(400) + b"}"
    found = events(header(data_length=len(data)) + data)
    assert len(found) == 1
    deep = b'{"a":' + nested(30_000) + b"}"

    async def read() -> None:
        stream = asyncio.StreamReader(limit=MAX_HEADER_BYTES)
        stream.feed_data(header(data_length=len(deep)) + deep)
        await WyomingReader(stream, 100_000, 0).read()

    with pytest.raises(ProtocolError):
        asyncio.run(read())


def test_data_out_of_line_wins_over_the_header() -> None:
    (event,) = events(header(data={"a": 1, "b": 1}, data_length=8, payload_length=3) + b'{"b": 2}' + b"pcm")
    assert (event.type, event.data, event.payload) == ("ping", {"a": 1, "b": 2}, b"pcm")


@pytest.mark.parametrize("length", [0, None])
def test_lengths_of_nothing_mean_nothing(length: int | None) -> None:
    (event,) = events(header(data_length=length, payload_length=length, version="1.10.2", other=[1]))
    assert (event.data, event.payload) == ({}, None)


def test_the_limits_themselves_are_allowed() -> None:
    data = json.dumps({"a": "x" * (MAX_DATA_BYTES - 9)}).encode()
    assert len(data) == MAX_DATA_BYTES
    found = events(header(data_length=len(data), payload_length=MAX_PAYLOAD_BYTES) + data + b"p" * MAX_PAYLOAD_BYTES)
    assert len(found[0].payload or b"") == MAX_PAYLOAD_BYTES


def test_events_may_arrive_byte_by_byte() -> None:
    one = header(data_length=8, payload_length=3) + b'{"b": 2}' + b"pcm"
    assert [event.payload for event in events(*(bytes([byte]) for byte in one * 3))] == [b"pcm"] * 3


def test_the_end_between_events_is_no_error() -> None:
    assert events() == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"\n", b"{}", b'"type"', header(), header(data_length=2), header(payload_length=3)]),
            st.dictionaries(
                st.sampled_from(["type", "data", "data_length", "payload_length"]),
                st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just({}), st.just([])),
            ).map(lambda fields: json.dumps(fields).encode() + b"\n"),
        ),
        max_size=6,
    )
)
def test_no_input_raises_anything_else(chunks: list[bytes]) -> None:
    try:
        for event in events(*chunks):
            assert isinstance(event.type, str)
            assert isinstance(event.data, dict)
    except ProtocolError:
        pass
