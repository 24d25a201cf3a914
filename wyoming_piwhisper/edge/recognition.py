"""What connections need to know of the recogniser."""

from dataclasses import dataclass, field

from wyoming_piwhisper.domain.languages import choose_language
from wyoming_piwhisper.domain.settings import SpeakerSettings
from wyoming_piwhisper.domain.transcription import ModelDescription, RecognitionOptions
from wyoming_piwhisper.service.inference import InferenceService


@dataclass(frozen=True)
class Recognition:
    """What connections need to know of the recogniser."""

    inference: InferenceService
    model: ModelDescription
    language: str
    """BCP 47 code used when a client names none."""
    finds_end: bool = False
    """Whether utterances are answered as soon as they seem to be over."""
    speaker: SpeakerSettings = field(default_factory=SpeakerSettings)
    """Of utterances whose client says nothing else; the Wyoming protocol has no words for it."""

    def options(self, asked_language: str | None) -> RecognitionOptions:
        """The options of an utterance whose client asked for this language."""
        language = choose_language(asked_language, self.language, self.model.languages)
        return RecognitionOptions(language, self.speaker.profile, self.speaker.known)
