"""From a voice to the model that hears it: traits, profiles, merged model."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Protocol

from wyoming_piwhisper.domain.audio import Samples
from wyoming_piwhisper.domain.profiles import BASE, Choice, ProfileKey
from wyoming_piwhisper.domain.traits import TRAITS, Trait, TraitEstimate, speaker_traits
from wyoming_piwhisper.domain.transcription import RecognitionOptions
from wyoming_piwhisper.engine.clock import StageClock
from wyoming_piwhisper.engine.decoding import SpeechModel
from wyoming_piwhisper.engine.merged_models import MergedModels


class TraitClassifier(Protocol):
    """Tells traits from speech."""

    def infer(self, speech: Samples) -> dict[Trait, TraitEstimate]:
        """Tell the traits from the beginning of `speech`: shape (n,), float32 in [-1, 1], 16 kHz."""


@dataclass(frozen=True)
class Voice:
    """A speaker as far as one is known, and the model chosen for them."""

    model: SpeechModel
    profile: str = BASE
    was_cached: bool = True
    awaits: ProfileKey | None = None
    """The profiles whose merged model is not ready and `model` stands in for."""
    traits: dict[Trait, TraitEstimate] = field(default_factory=dict)


class Voices:
    """Chooses the model for each speaker; used from one thread."""

    def __init__(
        self, models: MergedModels, classifier: TraitClassifier | None, inferred: Collection[Trait] = TRAITS
    ) -> None:
        """Choose among `models`; without a classifier, and by other traits than these, only by what is told."""
        self.models = models
        self._classifier = classifier
        self._inferred = inferred

    def prepare(self) -> None:
        """Get ready for a voice that was not heard before; to be called when nobody waits."""
        self.models.prepare()

    def listen(self, speech: Samples, options: RecognitionOptions, clock: StageClock) -> Voice:
        """Choose the model for whoever says `speech`: shape (n,), float32, 16 kHz, only its first 3 s matter."""
        choice = Choice.parse(options.profile)
        with clock.stage("traits"):
            traits = self._traits(speech, choice, options)
        with clock.stage("merge"):
            wanted = self.models.choose(choice, traits)
            found = self.models.fetch(wanted)
        awaits = wanted if found.stands_in else None
        return Voice(found.model, str(found.key), found.was_cached, awaits, traits)

    def renewed(self, voice: Voice) -> Voice:
        """The same voice on its merged model, if that has become ready."""
        found = None if voice.awaits is None else self.models.ready(voice.awaits)
        return voice if found is None else replace(voice, model=found.model, profile=str(found.key), awaits=None)

    def without_profiles(self, voice: Voice) -> Voice:
        """The same voice heard by the base model, after all merged ones were let go."""
        self.models.let_go()
        return replace(voice, model=self.models.base, profile=BASE, awaits=None)

    def _traits(self, speech: Samples, choice: Choice, options: RecognitionOptions) -> dict[Trait, TraitEstimate]:
        told = options.known.estimates()
        asked_to_guess = choice.mode == "auto" and any(trait not in told for trait in self._inferred)
        guessed = self._classifier.infer(speech) if self._classifier is not None and asked_to_guess else {}
        inferred = {trait: estimate for trait, estimate in guessed.items() if trait in self._inferred}
        return speaker_traits(options.known, inferred)
