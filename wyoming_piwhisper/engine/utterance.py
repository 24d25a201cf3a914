"""An utterance while it is spoken: heard ahead in each pause, answered when it seems to be over or is finished."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples, seconds_of
from wyoming_piwhisper.domain.endpointing import LONGEST_COMMAND_SECONDS, NO_SPEECH_SECONDS, Pause, has_ended
from wyoming_piwhisper.domain.errors import OutOfMemoryError
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Speculation, Transcription
from wyoming_piwhisper.engine.clock import StageClock
from wyoming_piwhisper.engine.decoding import DecodedWindow, Steps, run
from wyoming_piwhisper.engine.features import HOP_SAMPLES, MelStream, Spectrogram
from wyoming_piwhisper.engine.vad import SpeechGate, SpeechRegion
from wyoming_piwhisper.engine.windows import Window

if TYPE_CHECKING:
    from wyoming_piwhisper.engine.recognizer import Recognizer
    from wyoming_piwhisper.engine.voices import Voice

ENOUGH_SPEECH_SAMPLES: Final = 3 * SAMPLE_RATE
"""With so much speech at hand the voice is listened to; the rest of the utterance would not change the choice."""


class RecognizedUtterance:
    """An `Utterance` of a `Recognizer`.

    Whenever the speaker pauses, what was said so far is heard ahead of time. If nothing follows, that is the answer; if
    more follows, its words are the draft for the next time.
    """

    def __init__(
        self, recognizer: "Recognizer", gate: SpeechGate, stream: MelStream, options: RecognitionOptions
    ) -> None:
        """Begin with no sample heard."""
        self._recognizer = recognizer
        self._gate = gate
        self._stream = stream
        self._options = options
        self._language = options.language or "en"
        self._chunks: list[Samples] = []
        self._clock = StageClock()
        self._listened: tuple[int, Voice] | None = None
        self._heard: dict[SpeechRegion, DecodedWindow] = {}
        self._drafts: dict[int, tuple[int, ...]] = {}
        self._ahead: Steps[list[SpeechRegion]] | None = None
        self._ahead_of: list[SpeechRegion] = []
        self._found: list[SpeechRegion] = []
        self._speculation = Speculation()

    def feed(self, samples: Samples) -> None:
        """Take the next samples; as soon as there is enough speech, choose the model while the person still talks."""
        self._chunks.append(samples)
        with self._clock.stage("vad"):
            self._gate.feed(samples)
        with self._clock.stage("features"):
            self._stream.feed(samples)
        if self._listened is None or self._listened[0] < ENOUGH_SPEECH_SAMPLES:
            regions = self._gate.regions()
            if _samples_in(regions) >= ENOUGH_SPEECH_SAMPLES:
                self._listen(regions, self._samples())

    def think(self) -> bool:
        """Hear what was said before a pause, a step at a time."""
        if not self._gate.pause_is_settled:
            return False
        regions = self._gate.regions()
        if regions != self._ahead_of:
            self._speculation = self._outcome(is_kept=False)
            self._ahead, self._ahead_of = self._steps(regions, self._samples()), regions
        if self._ahead is None:
            return False
        try:
            next(self._ahead)
        except StopIteration as end:
            self._ahead, self._found = None, end.value
        return True

    def endpoint(self) -> Transcription | None:
        """The transcript, as soon as it seems that nothing more will be said."""
        regions = self._gate.regions()
        waited = seconds_of(sum(chunk.size for chunk in self._chunks))
        if waited >= (LONGEST_COMMAND_SECONDS if regions else NO_SPEECH_SECONDS):
            return self.finish()
        if self._ahead is not None or regions != self._ahead_of:
            return None
        spoken = [self._heard[window] for window in self._found if self._heard[window].text]
        if not spoken:
            return None
        pause = Pause(
            seconds=self._gate.silence_seconds,
            longest_before_seconds=self._gate.longest_pause_seconds,
            text=spoken[-1].text,
            end_probability=spoken[-1].end_probability,
            average_log_probability=spoken[-1].average_log_probability,
        )
        return self.finish() if has_ended(pause) else None

    def finish(self) -> Transcription:
        """Return the transcript of all samples fed."""
        samples = self._samples()
        regions = self._gate.regions()
        is_same = regions == self._ahead_of
        was_ready = is_same and self._ahead is None and bool(regions)
        self._speculation = self._outcome(is_kept=is_same)
        if is_same:
            found = self._found if self._ahead is None else run(self._ahead)
        else:
            found = run(self._steps(regions, samples))
        heard = [self._heard[window] for window in found]
        spoken = [window for window in heard if window.text]
        transcription = Transcription(
            text=" ".join(window.text for window in spoken),
            language=self._language,
            audio_seconds=seconds_of(samples.size),
            speech_seconds=seconds_of(_samples_in(found)),
            no_speech_probability=min((window.no_speech_probability for window in heard), default=1.0),
            average_log_probability=_average_log_probability(spoken),
            stage_seconds=self._clock.seconds,
            was_ready=was_ready,
            speculation=self._speculation,
        )
        if self._listened is None:
            return transcription
        _, voice = self._listened
        return replace(
            transcription,
            profile=voice.profile,
            profile_was_cached=voice.was_cached,
            profile_is_awaited=voice.awaits is not None,
            traits=voice.traits,
        )

    def _outcome(self, *, is_kept: bool) -> Speculation:
        """What became of the work ahead of time so far, now that the last piece is kept or another one begins."""
        if not self._ahead_of:
            return self._speculation
        if is_kept:
            return replace(self._speculation, kept=self._speculation.kept + 1)
        if self._ahead is None:
            return replace(self._speculation, verified=self._speculation.verified + 1)
        return replace(self._speculation, dropped=self._speculation.dropped + 1)

    def _steps(self, regions: list[SpeechRegion], samples: Samples) -> Steps[list[SpeechRegion]]:
        """Choose the voice and hear each window that was not heard so far; brings all windows."""
        found = self._recognizer.find_windows(regions, samples)
        if not found:
            return found
        voice = self._listen(regions, samples)
        yield
        for window in found:
            if window not in self._heard:
                draft = self._drafts.get(window.start, ())
                power = self._stream.power(window.start // HOP_SAMPLES, window.end // HOP_SAMPLES)
                decoded = yield from self._hear(voice, power, draft)
                self._heard[window] = decoded
                self._drafts[window.start] = decoded.tokens
        return found

    def _listen(self, regions: list[SpeechRegion], samples: Samples) -> "Voice":
        """The voice of the first 3 s of speech; what was found in less is looked at again when there is more."""
        enough = min(ENOUGH_SPEECH_SAMPLES, _samples_in(regions))
        before = self._listened
        if before is not None and before[0] >= enough:
            self._listened = (before[0], self._recognizer.renewed(before[1]))
        else:
            speech = np.concatenate([samples[region.start : region.end] for region in regions])
            self._listened = (enough, self._recognizer.listen(speech, self._options, self._clock))
        voice = self._listened[1]
        if before is not None and before[1].profile != voice.profile:
            self._heard.clear()
        return voice

    def _hear(self, voice: "Voice", power: Spectrogram, draft: Sequence[int]) -> Steps[DecodedWindow]:
        window = Window(power, self._language, draft)
        try:
            return (yield from self._recognizer.hear(voice.model, window, self._clock))
        except OutOfMemoryError:
            voice = self._recognizer.without_profiles(voice)
            self._listened = (ENOUGH_SPEECH_SAMPLES, voice)
        return (yield from self._recognizer.hear(voice.model, replace(window, draft=()), self._clock))

    def _samples(self) -> Samples:
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)


def _samples_in(regions: Sequence[SpeechRegion]) -> int:
    return sum(region.samples for region in regions)


def _average_log_probability(windows: list[DecodedWindow]) -> float:
    tokens = sum(len(window.tokens) for window in windows)
    if not tokens:
        return 0.0
    return sum(window.average_log_probability * len(window.tokens) for window in windows) / tokens
