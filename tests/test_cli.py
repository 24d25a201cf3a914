import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fakes import MODEL, write_model_folder

from wyoming_piwhisper import __version__
from wyoming_piwhisper.cli import COMMANDS, main
from wyoming_piwhisper.edge.wyoming_info import info_of

HEAVY = ("torch", "transformers", "numpy", "yaml", "wyoming", "soundfile", "asyncio")


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIWHISPER_")}
    return subprocess.run(
        [sys.executable, "-m", "wyoming_piwhisper", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**clean, "PYTHONPATH": str(Path(__file__).parent.parent), **environment},
    )


@pytest.fixture
def stub() -> Iterator[tuple[str, list[bytes]]]:
    """A TCP server that answers each connection with the bytes in the list, once; nothing where it is empty."""
    replies: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    if replies:
                        connection.sendall(replies[0])
                    else:
                        connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"tcp://0.0.0.0:{listener.getsockname()[1]}", replies
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def info_bytes() -> bytes:
    """The description of a server, on the wire."""
    info = info_of(MODEL, finds_end=False).event()
    return json.dumps(info.to_dict()).encode() + b"\n"


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_help_answers_at_once(arguments: list[str]) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        assert run(*arguments).returncode == 0
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 0.3


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import contextlib, sys; from wyoming_piwhisper.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.endswith("HEAVY []\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: wyoming-piwhisper {name}")


def test_the_version() -> None:
    assert run("--version").stdout == f"wyoming-piwhisper {__version__}\n"


def test_without_a_command_the_help_is_printed() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (2, "")
    assert "check-config" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sevre"], "sevre"),
        (["serve", "--server-max-conections", "3"], "did you mean --server-max-connections?"),
        (["serve", "--server-max-connections", "many"], "server.max_connections: 'many' is not a whole number"),
        (["serve", "--asr-model", "nobody/nothing"], "wyoming-piwhisper download nobody/nothing"),
        (["check-config", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["health"], "--uri"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_status_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_check_config_prints_the_effective_settings() -> None:
    result = run("check-config", "--asr-threads", "2", PIWHISPER_LOG_LEVEL="debug")
    assert (result.returncode, result.stderr) == (0, "")
    content = yaml.safe_load(result.stdout)
    assert (content["asr"]["threads"], content["log"]["level"]) == (2, "debug")
    assert content["server"]["uri"] == "tcp://0.0.0.0:10300"


def test_health_of_a_server_that_describes_itself(
    stub: tuple[str, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    uri, replies = stub
    replies.append(info_bytes())
    assert main(["health", "--uri", uri]) == 0
    assert capsys.readouterr().out.startswith(f"{uri}: piwhisper with fake, answered in ")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b'{"type": "info", "data": {}}\n', "no speech to text"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "without an answer"),
        (b'{"type": "pong"}\n', "without an answer"),
        (b"[]\n", "no Wyoming server"),
        (b'{"type": "info", "data": {"asr": 5}}\n', "no Wyoming server"),
        (None, "no answer within 0.3 s"),
    ],
)
def test_health_of_a_sick_server(
    stub: tuple[str, list[bytes]], capsys: pytest.CaptureFixture[str], reply: bytes | None, reason: str
) -> None:
    uri, replies = stub
    if reply is not None:
        replies.append(reply)
    assert main(["health", "--uri", uri, "--timeout", "0.3"]) == 1
    written = capsys.readouterr()
    assert (written.out, written.err.count("\n")) == ("", 1)
    assert reason in written.err


@pytest.mark.parametrize(
    "uri", ["tcp://127.0.0.1:1", "unix:///nowhere/at/all", "stdio://", "http://x", "tcp://x:99999"]
)
def test_health_of_no_server(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--uri", uri, "--timeout", "2"]) == 1
    written = capsys.readouterr()
    assert (written.out, written.err.count("\n")) == ("", 1)


def test_a_port_in_use_is_one_line_and_status_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        folder = str(write_model_folder(tmp_path))
        result = run("serve", "--server-uri", uri, "--asr-model", folder, "--log-level", "error")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f"wyoming-piwhisper: server.uri: cannot listen on {uri}: ")


def test_closed_standard_output_is_one_line_and_status_2(tmp_path: Path) -> None:
    serve = [sys.executable, "-m", "wyoming_piwhisper", "serve", "--server-uri", "stdio://", "--log-level", "error"]
    result = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *serve, "--asr-model", str(write_model_folder(tmp_path))],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("wyoming-piwhisper: server.uri: cannot listen on stdio://: standard input")


def test_a_terminal_without_the_characters_gets_them_escaped() -> None:
    result = run("evaluate", "--help", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_reader_that_has_seen_enough_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        result = subprocess.run(
            [sys.executable, "-m", "wyoming_piwhisper", "check-config"],
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, b"")
