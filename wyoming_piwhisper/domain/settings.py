"""All settings: one frozen dataclass per component, built once and passed down by component.

The defaults here are the defaults of `config.example.yaml`; `edge/settings_file.py` reads the file, the environment
and the command line into these classes. The text beside each default is its help on the command line.
"""

from dataclasses import dataclass, field
from typing import Final, TypeVar

from wyoming_piwhisper.domain.endpoint import endpoint_of
from wyoming_piwhisper.domain.errors import SettingsError

DEVICES: Final = ("auto", "cpu", "cuda")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

MAX_THREADS: Final = 256
"""More than any machine here has cores; model runtimes crash on far larger numbers."""

MAX_DEFAULT_THREADS: Final = 2
"""More threads gain little on models of this size, wait for busy cores and slow down everything else."""

MAX_START_MS: Final = 300
"""Length of the start window of the speech gate, in ms; to ask for more speech than fits would keep it shut."""

_Value = TypeVar("_Value")


def _option(default: _Value, meaning: str) -> _Value:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class ServerSettings:
    """The Wyoming port and its bounds."""

    uri: str = _option("tcp://0.0.0.0:10300", "Where to listen: tcp://HOST:PORT, unix://PATH or stdio://")
    max_connections: int = _option(64, "Connections that may be open at once")
    idle_timeout_seconds: float = _option(
        300.0, "A connection on which nothing arrives for so long is closed; Home Assistant opens one per utterance"
    )
    max_payload_bytes: int = _option(1_048_576, "Audio in one event; Home Assistant sends 320 to 4096 bytes")
    max_data_bytes: int = _option(262_144, "JSON in one event")
    max_utterance_seconds: float = _option(60.0, "Audio in one utterance; Home Assistant stops at 15 s")

    def __post_init__(self) -> None:
        """Refuse values that no server could run with."""
        try:
            endpoint_of(self.uri)
        except ValueError as error:
            raise SettingsError(f"server.uri: {error}") from error
        _require_positive("max_connections", self.max_connections)
        _require_positive("idle_timeout_seconds", self.idle_timeout_seconds)
        _require_positive("max_payload_bytes", self.max_payload_bytes)
        _require_positive("max_data_bytes", self.max_data_bytes)
        _require_positive("max_utterance_seconds", self.max_utterance_seconds)


@dataclass(frozen=True)
class AsrSettings:
    """The recogniser."""

    model: str = _option("auto", "auto, home-en, a local folder, or a hub id such as openai/whisper-tiny.en")
    language: str = _option("en", "BCP 47 code used when a client names none")
    device: str = _option("auto", "auto (CUDA where it works, else the CPU), cpu or cuda")
    threads: int = _option(0, "Threads of the model on a CPU; 0 means one less than the cores, at most 2")
    models_dir: str = _option(
        "", "Where downloaded models lie; empty means wyoming-piwhisper/models in the user's data folder"
    )
    max_waiting: int = _option(
        16, "Utterances that may wait for the recogniser before new ones are refused as overloaded"
    )
    timeout_seconds: float = _option(
        60.0, "A worker that owes an answer for so long is taken for hung and started anew"
    )

    def __post_init__(self) -> None:
        """Refuse values that no recogniser could run with."""
        if self.device not in DEVICES:
            raise SettingsError(f"asr.device: {self.device!r} is none of {', '.join(DEVICES)}")
        if not self.model:
            raise SettingsError("asr.model: empty; give auto, home-en, a folder or a hub id")
        if not 0 <= self.threads <= MAX_THREADS:
            raise SettingsError(f"asr.threads: {self.threads} is not within 0 (automatic) to {MAX_THREADS}")
        if self.max_waiting < 1:
            raise SettingsError(f"asr.max_waiting: {self.max_waiting} is below 1")
        if self.timeout_seconds <= 0:
            raise SettingsError(f"asr.timeout_seconds: {self.timeout_seconds} is not positive")


@dataclass(frozen=True)
class VadSettings:
    """The gate in front of the recogniser: webrtcvad on short frames, with hysteresis."""

    aggressiveness: int = _option(2, "webrtcvad mode, 0 (lets most through) to 3 (lets least through)")
    start_ms: int = _option(150, "So much speech within the start window opens the gate")
    stop_ms: int = _option(600, "So much without speech closes the gate")
    pad_ms: int = _option(
        300, "Audio kept before and after what the gate let through, so that no first or last sound is lost"
    )

    def __post_init__(self) -> None:
        """Refuse values outside what webrtcvad knows."""
        if not 0 <= self.aggressiveness <= 3:
            raise SettingsError(f"vad.aggressiveness: {self.aggressiveness} is not 0, 1, 2 or 3")
        for name in ("start_ms", "stop_ms", "pad_ms"):
            if getattr(self, name) < 0:
                raise SettingsError(f"vad.{name}: {getattr(self, name)} is negative")
        if self.start_ms > MAX_START_MS:
            raise SettingsError(f"vad.start_ms: {self.start_ms} is above the start window of {MAX_START_MS} ms")


@dataclass(frozen=True)
class LogSettings:
    """What is written to standard error."""

    level: str = _option("info", "debug, info, warning or error; only debug writes what people said")

    def __post_init__(self) -> None:
        """Refuse unknown levels."""
        if self.level not in LOG_LEVELS:
            raise SettingsError(f"log.level: {self.level!r} is none of {', '.join(LOG_LEVELS)}")


@dataclass(frozen=True)
class Settings:
    """Everything, by component."""

    server: ServerSettings = field(default_factory=ServerSettings)
    asr: AsrSettings = field(default_factory=AsrSettings)
    vad: VadSettings = field(default_factory=VadSettings)
    log: LogSettings = field(default_factory=LogSettings)


def model_threads(setting: int, cores: int) -> int:
    """Threads of the model on a CPU with `cores` cores, where `asr.threads` is `setting`."""
    return setting or max(1, min(MAX_DEFAULT_THREADS, cores - 1))


def _require_positive(name: str, value: float) -> None:
    if value <= 0:
        raise SettingsError(f"server.{name}: {value} is not positive")
