"""Where a Wyoming server is reached, as the URI in the settings says it."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class TcpEndpoint:
    """A TCP port; `host` may be a bind address such as `0.0.0.0`, port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """The endpoint as a URI."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


@dataclass(frozen=True)
class UnixEndpoint:
    """A Unix domain socket in the file system."""

    path: str

    def __str__(self) -> str:
        """The endpoint as a URI."""
        return f"unix://{self.path}"


@dataclass(frozen=True)
class StdioEndpoint:
    """The standard input and output of the process: one connection, then the end."""

    def __str__(self) -> str:
        """The endpoint as a URI."""
        return "stdio://"


Endpoint = TcpEndpoint | UnixEndpoint | StdioEndpoint


def endpoint_of(uri: str) -> Endpoint:
    """Read `tcp://HOST:PORT`, `unix://PATH` or `stdio://`.

    Raises:
        ValueError: `uri` is none of these; the message quotes it and says what is missing.
    """
    parts = urlsplit(uri)
    match parts.scheme:
        case "tcp":
            return _tcp_endpoint(uri)
        case "unix":
            path = uri.removeprefix("unix://")
            if not uri.startswith("unix://") or not path:
                raise ValueError(f"{uri!r} names no path; write unix:///run/piwhisper.sock")
            return UnixEndpoint(path)
        case "stdio":
            return StdioEndpoint()
        case _:
            raise ValueError(f"{uri!r} does not begin with tcp://, unix:// or stdio://")


def _tcp_endpoint(uri: str) -> TcpEndpoint:
    parts = urlsplit(uri)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{uri!r} has a port that is no number from 0 to 65535") from error
    if not host or port is None:
        raise ValueError(f"{uri!r} needs a host and a port; write tcp://0.0.0.0:10300")
    return TcpEndpoint(host, port)
