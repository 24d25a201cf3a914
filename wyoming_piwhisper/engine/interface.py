"""The seam between the worker and whatever runs the models; free of any runtime's types."""

from typing import Protocol

from wyoming_piwhisper.domain.audio import Samples
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription


class Utterance(Protocol):
    """One utterance on its way through an engine; used from one thread."""

    def feed(self, samples: Samples) -> None:
        """Take the next samples: shape (n,), float32 in [-1, 1], 16 kHz mono, n >= 0."""

    def think(self) -> bool:
        """Do a small piece of work ahead of time; False when there is none before more samples come.

        To be called when nothing else waits. It changes no answer, only how soon `finish` has it.
        """

    def endpoint(self) -> Transcription | None:
        """The transcript, as soon as it seems that nothing more will be said; the utterance may go on all the same.

        To be called for audio that comes as fast as it is spoken, after `think` has nothing more to do.
        """

    def finish(self) -> Transcription:
        """Return the transcript of all samples fed; called once.

        Raises:
            InferenceError: the model failed on this utterance.
        """


class Engine(Protocol):
    """A loaded recogniser; several utterances may be open, calls come from one thread."""

    def open(self, options: RecognitionOptions) -> Utterance:
        """Begin an utterance. Dropping the object without `finish` abandons it."""
