"""All settings: one frozen dataclass per component, built once and passed down by component.

The defaults here are the defaults of `config.example.yaml`; `edge/settings_file.py` reads the file, the environment
and the command line into these classes. The text beside each default is its help on the command line.
"""

from dataclasses import dataclass, field
from typing import Final, TypeVar

from wyoming_piwhisper.domain.endpoint import endpoint_of
from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.profiles import Choice, ProfileKey
from wyoming_piwhisper.domain.traits import TRAITS, KnownTraits, Trait, told

DEVICES: Final = ("auto", "cpu", "cuda")
ENGINES: Final = ("auto", "onnx", "torch")
CONTEXTS: Final = ("short", "full")
NOT_READY: Final = ("best_available", "wait")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

MAX_THREADS: Final = 256
"""More than the machine in a home has cores; model runtimes crash on far larger numbers."""

MAX_BEAM: Final = 16
"""Wider ones find nothing better and take memory for each answer."""

MAX_START_MS: Final = 300
"""Length of the start window of the speech gate, in ms; to ask for more speech than fits would keep it shut."""

_Value = TypeVar("_Value")


def _option(default: _Value, meaning: str, short: str = "") -> _Value:
    """A field with its help; `short` is a second name of its flag on the command line."""
    return field(default=default, metadata={"help": meaning, "short": short})


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
    engine: str = _option("auto", "auto (onnx on a CPU, torch on CUDA), onnx (8 bit), or torch (the reference, slower)")
    context: str = _option(
        "short", "short (the encoder hears what was said and a little silence) or full (30 s, ten times slower)"
    )
    beam: int = _option(1, "Answers that are searched side by side; 1 is greedy, the fastest, and can use drafts")
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
        if self.engine not in ENGINES:
            raise SettingsError(f"asr.engine: {self.engine!r} is none of {', '.join(ENGINES)}")
        if self.engine == "onnx" and self.device == "cuda":
            raise SettingsError("asr.engine: onnx runs on the CPU only; with asr.device cuda take torch or auto")
        if self.context not in CONTEXTS:
            raise SettingsError(f"asr.context: {self.context!r} is none of {', '.join(CONTEXTS)}")
        if not self.model:
            raise SettingsError("asr.model: empty; give auto, home-en, a folder or a hub id")
        if not 1 <= self.beam <= MAX_BEAM:
            raise SettingsError(f"asr.beam: {self.beam} is not within 1 to {MAX_BEAM}")
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
    pad_ms: int = _option(240, "Audio kept before what the gate let through, so that no first sound is lost")
    tail_ms: int = _option(
        120, "Audio kept after it; in a pause of that length what was said so far is heard ahead of the end"
    )
    endpointing: bool = _option(
        True, "Whether a command that sounds complete is answered before the client stops; off for dictation"
    )

    def __post_init__(self) -> None:
        """Refuse values outside what webrtcvad knows."""
        if not 0 <= self.aggressiveness <= 3:
            raise SettingsError(f"vad.aggressiveness: {self.aggressiveness} is not 0, 1, 2 or 3")
        for name in ("start_ms", "stop_ms", "pad_ms", "tail_ms"):
            if getattr(self, name) < 0:
                raise SettingsError(f"vad.{name}: {getattr(self, name)} is negative")
        if self.start_ms > MAX_START_MS:
            raise SettingsError(f"vad.start_ms: {self.start_ms} is above the start window of {MAX_START_MS} ms")


@dataclass(frozen=True)
class SpeakerSettings:
    """Who speaks, as far as that is known, and whose profiles are used."""

    profile: str = _option(
        "auto", "auto (by the speaker's traits), none, or a key such as accent-indian+gender-female", "--profile"
    )
    age: str = _option("unknown", "unknown (inferred from the voice), years, or a stratum such as child", "--age")
    gender: str = _option("unknown", "unknown (inferred from the voice), female or male", "--gender")
    accent: str = _option("unknown", "unknown (inferred from the voice), or a name such as indian", "--accent")
    infer: str = _option(
        "gender", "Traits inferred from the voice where they are not told: age, gender, accent; empty infers none"
    )

    def __post_init__(self) -> None:
        """Refuse what names no profile and no trait."""
        try:
            _ = self.choice, self.known, self.inferred
        except SettingsError as error:
            raise SettingsError(f"speaker.{error}") from error

    @property
    def choice(self) -> Choice:
        """What `profile` asks for."""
        return Choice.parse(self.profile)

    @property
    def inferred(self) -> tuple[Trait, ...]:
        """The traits that `infer` lists."""
        names = [name.strip() for name in self.infer.split(",") if name.strip()]
        if unknown := [name for name in names if name not in TRAITS]:
            raise SettingsError(f"infer: {unknown[0]!r} is none of {', '.join(TRAITS)}")
        return tuple(trait for trait in TRAITS if trait in names)

    @property
    def known(self) -> KnownTraits:
        """The traits that were told."""
        return KnownTraits(**{trait: told(trait, getattr(self, trait)) for trait in TRAITS})


@dataclass(frozen=True)
class ProfileSettings:
    """The LoRA profiles and the models into which they are merged."""

    dir: str = _option(
        "", "Folder of profiles; empty means those of the project and wyoming-piwhisper/profiles in the user's data"
    )
    cache_mb: int = _option(256, "Memory that merged models may take in all, in MB; the least recently used go first")
    prewarm: str = _option("", "Profile keys, separated by commas, merged at the start like that of speaker.*")
    not_ready: str = _option(
        "best_available",
        "While profiles are not merged: best_available (apply them at run time, or else the base hears), or wait",
    )
    age_weight: float = _option(1.0, "Factor of the profile for the speaker's age")
    gender_weight: float = _option(1.0, "Factor of the profile for the speaker's gender")
    accent_weight: float = _option(1.0, "Factor of the profile for the speaker's accent")

    def __post_init__(self) -> None:
        """Refuse what no cache could hold and no key could mean."""
        if self.cache_mb < 0:
            raise SettingsError(f"profiles.cache_mb: {self.cache_mb} is negative")
        if self.not_ready not in NOT_READY:
            raise SettingsError(f"profiles.not_ready: {self.not_ready!r} is none of {', '.join(NOT_READY)}")
        try:
            _ = self.prewarm_keys
        except SettingsError as error:
            raise SettingsError(f"profiles.prewarm: {error}") from error

    @property
    def prewarm_keys(self) -> tuple[ProfileKey, ...]:
        """The keys that `prewarm` lists."""
        return tuple(ProfileKey.parse(key.strip()) for key in self.prewarm.split(",") if key.strip())

    @property
    def waits(self) -> bool:
        """Whether an utterance waits for the model of its speaker."""
        return self.not_ready == "wait"

    @property
    def trait_weights(self) -> dict[Trait, float]:
        """The factor of each trait's profile."""
        return {"age": self.age_weight, "gender": self.gender_weight, "accent": self.accent_weight}


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
    speaker: SpeakerSettings = field(default_factory=SpeakerSettings)
    profiles: ProfileSettings = field(default_factory=ProfileSettings)
    log: LogSettings = field(default_factory=LogSettings)


def _require_positive(name: str, value: float) -> None:
    if value <= 0:
        raise SettingsError(f"server.{name}: {value} is not positive")
