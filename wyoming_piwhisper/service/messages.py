"""What the server and the inference worker say to each other, and how it lies on their socket.

A frame is two lengths (unsigned 32-bit, network order), a JSON object, and raw float32 samples in the byte order of
the machine, which both ends share.
"""

import json
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from wyoming_piwhisper.domain.audio import Samples
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.settings import AsrSettings, ProfileSettings, SpeakerSettings, VadSettings
from wyoming_piwhisper.domain.traits import KnownTraits, TraitEstimate
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Speculation, Transcription

PREFIX_BYTES: Final = 8
_PREFIX: Final = struct.Struct("!II")


@dataclass(frozen=True)
class Load:
    """Server to worker, first and once: load this engine."""

    kind: ClassVar[str] = "load"
    engine_factory: str
    """`package.module:function`."""
    plan: EnginePlan
    log_level: int


@dataclass(frozen=True)
class Loaded:
    """Worker to server: the engine is ready."""

    kind: ClassVar[str] = "loaded"


@dataclass(frozen=True)
class LoadFailed:
    """Worker to server: the engine cannot be loaded; the worker ends."""

    kind: ClassVar[str] = "load-failed"
    error: str
    """Class name of the error in `domain/errors.py`."""
    reason: str


@dataclass(frozen=True)
class Opened:
    """Server to worker: an utterance begins."""

    kind: ClassVar[str] = "opened"
    utterance: int
    options: RecognitionOptions


@dataclass(frozen=True, eq=False)
class Fed:
    """Server to worker: the next samples of an utterance."""

    kind: ClassVar[str] = "fed"
    utterance: int
    samples: Samples = field(repr=False)
    is_live: bool = False
    """Whether audio comes as it is spoken."""


@dataclass(frozen=True)
class Finished:
    """Server to worker: the utterance is complete, an answer is owed."""

    kind: ClassVar[str] = "finished"
    utterance: int


@dataclass(frozen=True)
class Abandoned:
    """Server to worker: nobody wants the answer any more."""

    kind: ClassVar[str] = "abandoned"
    utterance: int


@dataclass(frozen=True)
class Asked:
    """Server to worker: say that you are there, as soon as everything before this is done."""

    kind: ClassVar[str] = "asked"


@dataclass(frozen=True)
class Present:
    """Worker to server: the answer to `Asked`."""

    kind: ClassVar[str] = "present"


@dataclass(frozen=True)
class Answered:
    """Worker to server: the transcript of an utterance, which may come before `Finished` where it seems to be over."""

    kind: ClassVar[str] = "answered"
    utterance: int
    transcription: Transcription


@dataclass(frozen=True)
class Failed:
    """Worker to server: the engine raised on an utterance, finished or not; the worker goes on."""

    kind: ClassVar[str] = "failed"
    utterance: int
    reason: str


Message = Load | Loaded | LoadFailed | Opened | Fed | Finished | Abandoned | Asked | Present | Answered | Failed

_NO_SAMPLES: Final = np.zeros(0, np.float32)
_PLAIN: Final[dict[str, type[Message]]] = {
    message.kind: message for message in (Loaded, LoadFailed, Finished, Abandoned, Asked, Present, Failed)
}


def encode(message: Message) -> bytes:
    """The frame of `message`."""
    samples = _NO_SAMPLES
    match message:
        case Fed():
            fields: dict[str, Any] = {"utterance": message.utterance, "is_live": message.is_live}
            samples = np.ascontiguousarray(message.samples, np.float32)
        case _:
            fields = asdict(message)
    text = json.dumps({"kind": message.kind, **fields}, default=str).encode()
    return _PREFIX.pack(len(text), samples.nbytes) + text + samples.tobytes()


def lengths(prefix: bytes) -> tuple[int, int]:
    """Bytes of JSON and of samples that follow the `PREFIX_BYTES` bytes of `prefix`."""
    text_bytes, sample_bytes = _PREFIX.unpack(prefix)
    return text_bytes, sample_bytes


def decode(text: bytes, samples: bytes) -> Message:
    """The message of a frame; the other end is our own process, so what it sends is not doubted."""
    fields = json.loads(text)
    kind = fields.pop("kind")
    if kind == Fed.kind:
        return Fed(fields["utterance"], np.frombuffer(samples, np.float32), fields["is_live"])
    if kind == Load.kind:
        return Load(fields["engine_factory"], _plan(fields["plan"]), fields["log_level"])
    if kind == Opened.kind:
        return Opened(fields["utterance"], _options(fields["options"]))
    if kind == Answered.kind:
        return Answered(fields["utterance"], _transcription(fields["transcription"]))
    return _PLAIN[kind](**fields)


def _plan(fields: dict[str, Any]) -> EnginePlan:
    return EnginePlan(
        model_dir=Path(fields["model_dir"]),
        model_name=fields["model_name"],
        profile_dirs=tuple(map(Path, fields["profile_dirs"])),
        asr=AsrSettings(**fields["asr"]),
        vad=VadSettings(**fields["vad"]),
        profiles=ProfileSettings(**fields["profiles"]),
        speaker=SpeakerSettings(**fields["speaker"]),
    )


def _options(fields: dict[str, Any]) -> RecognitionOptions:
    return RecognitionOptions(**fields | {"known": KnownTraits(**fields["known"])})


def _transcription(fields: dict[str, Any]) -> Transcription:
    traits = {trait: TraitEstimate(**estimate) for trait, estimate in fields["traits"].items()}
    return Transcription(**fields | {"traits": traits, "speculation": Speculation(**fields["speculation"])})
