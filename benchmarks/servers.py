"""The servers that benchmarks start, with what is measured of each."""

import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PEER_BEAMS = (1, 5)
"""The least, and the peer's own default on x86-64."""
ANSWER_TOKENS = 12
WORK = Path(tempfile.gettempdir()) / "wyoming-piwhisper-benchmark"
"""For checkpoints."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    wait: float
    """Seconds from `audio-stop`."""
    after_speech: float
    """Seconds from the end of the last word."""
    words: int


@dataclass
class Server:
    """A server that is measured."""

    name: str
    command: list[str]
    port: int
    process: psutil.Process | None = None
    answers: list[Answer] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of all its processes, for each clip."""
    resident: str = ""
    """Megabytes of each process in the end."""

    @property
    def waits(self) -> list[float]:
        """Milliseconds from `audio-stop` to the transcript."""
        return [1000 * answer.wait for answer in self.answers]

    @property
    def family(self) -> list[psutil.Process]:
        """Its process and all children."""
        return [] if self.process is None else [self.process, *self.process.children(recursive=True)]

    def used(self) -> float:
        """CPU seconds so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.family)

    def weigh(self) -> None:
        """Note the memory."""
        self.resident = " + ".join(f"{process.memory_info().rss / 1e6:.0f}" for process in self.family)


def random_weights() -> Path:
    """The checkpoint that answers everything with so many tokens, a word each."""
    from random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(WORK / f"random-tiny-{ANSWER_TOKENS}", ANSWER_TOKENS)


def ours(engine: str, model: str, threads: int, profile: str = "auto", *, finds_end: bool = False) -> Server:
    """Our server with one of its engines; the client ends an utterance, or the server where it `finds_end`."""
    port = free_port()
    command = [sys.executable, "-m", "wyoming_piwhisper", "serve", "--server-uri", f"tcp://127.0.0.1:{port}"]
    command += ["--asr-engine", engine, "--asr-model", model, "--asr-threads", str(threads), "--asr-device", "cpu"]
    command += ["--profile", profile, "--vad-endpointing", str(finds_end).lower()]
    return Server(f"wyoming-piwhisper, {engine}{', own end of speech' if finds_end else ''}", command, port)


def peer(python: Path, checkpoint: Path, beam: int, threads: int) -> Server:
    """wyoming-faster-whisper in int8 on the same weights."""
    from random_checkpoint import write_for_faster_whisper

    port, model = free_port(), str(write_for_faster_whisper(checkpoint))
    command = [str(python), str(Path(__file__).with_name("peer_server.py")), "--uri", f"tcp://127.0.0.1:{port}"]
    command += ["--model", model, "--data-dir", model, "--local-files-only", "--stt-library", "faster-whisper"]
    command += ["--language", "en", "--device", "cpu", "--compute-type", "int8"]
    command += ["--beam-size", str(beam), "--cpu-threads", str(threads)]
    return Server(f"wyoming-faster-whisper, int8, beam {beam}", command, port)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
