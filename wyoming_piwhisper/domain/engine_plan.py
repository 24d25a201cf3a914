"""What an engine is loaded from, and with how many threads."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wyoming_piwhisper.domain.settings import AsrSettings, ProfileSettings, Settings, SpeakerSettings, VadSettings

MAX_DEFAULT_THREADS: Final = 2
"""More threads gain little on models of this size, wait for busy cores and slow down everything else."""


@dataclass(frozen=True)
class EnginePlan:
    """Everything that an engine is loaded from."""

    model_dir: Path
    model_name: str = ""
    """As profiles name their base model."""
    profile_dirs: tuple[Path, ...] = ()
    asr: AsrSettings = field(default_factory=AsrSettings)
    vad: VadSettings = field(default_factory=VadSettings)
    profiles: ProfileSettings = field(default_factory=ProfileSettings)
    speaker: SpeakerSettings = field(default_factory=SpeakerSettings)
    """Who usually speaks."""


def engine_plan(settings: Settings, model_dir: Path, model_name: str, profile_dirs: tuple[Path, ...]) -> EnginePlan:
    """The plan of the engine that the settings ask for."""
    return EnginePlan(
        model_dir, model_name, profile_dirs, settings.asr, settings.vad, settings.profiles, settings.speaker
    )


def model_threads(setting: int, cores: int) -> int:
    """Threads of the model on a CPU with `cores` cores, where `asr.threads` is `setting`."""
    return setting or max(1, min(MAX_DEFAULT_THREADS, cores - 1))
