"""What recognition is asked for and what it returns."""

from dataclasses import dataclass, field
from typing import Final

from wyoming_piwhisper.domain.profiles import AUTO, BASE
from wyoming_piwhisper.domain.traits import KnownTraits, Trait, TraitEstimate

STAGES: Final = ("vad", "traits", "merge", "features", "encode", "decode")
"""The stages of recognition in the order in which an utterance passes them."""


@dataclass(frozen=True)
class RecognitionOptions:
    """What the client asked for with one utterance."""

    language: str | None = None
    """BCP 47 code, or None for the model's own choice."""
    profile: str = AUTO
    """`auto`, `none` or a profile key."""
    known: KnownTraits = field(default_factory=KnownTraits)
    """What was told of the speaker."""


@dataclass(frozen=True)
class Speculation:
    """What became of the times that an utterance was heard ahead of its end."""

    kept: int = 0
    """Nothing followed: it was the answer."""
    verified: int = 0
    """More followed, and its words were the draft of the next time."""
    dropped: int = 0
    """More followed before it was done."""

    def __add__(self, other: "Speculation") -> "Speculation":
        """Both together."""
        return Speculation(self.kept + other.kept, self.verified + other.verified, self.dropped + other.dropped)


@dataclass(frozen=True)
class Transcription:
    """The words of one utterance; empty `text` means that nobody spoke."""

    text: str
    language: str
    audio_seconds: float
    """Length of the audio that was sent."""
    speech_seconds: float = 0.0
    """Length of the part that the voice activity detection let through."""
    no_speech_probability: float = 0.0
    """Whisper's no-speech probability of the loudest claim to speech, in [0, 1]."""
    average_log_probability: float = 0.0
    """Mean natural log probability of the tokens, at most 0; 0 for empty text."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage, keys from `STAGES`."""
    profile: str = BASE
    """Key of the profiles in the model that answered."""
    profile_was_cached: bool = True
    """Whether the speaker's model was at hand; the base model always is."""
    profile_is_awaited: bool = False
    """Whether it was not ready even at the end: its profiles were applied at run time, or the base heard."""
    was_ready: bool = False
    """Whether all speech had been heard ahead of the end."""
    speculation: Speculation = field(default_factory=Speculation)
    traits: dict[Trait, TraitEstimate] = field(default_factory=dict)
    """What the choice of profiles was based on; a trait that is missing was not looked for."""


@dataclass(frozen=True)
class ModelDescription:
    """What a model says of itself; read from its files, without loading weights."""

    name: str
    """As shown to clients, such as `home-en` or `openai/whisper-tiny.en`."""
    description: str
    languages: tuple[str, ...]
    """BCP 47 codes."""
    attribution_name: str
    attribution_url: str
    version: str
