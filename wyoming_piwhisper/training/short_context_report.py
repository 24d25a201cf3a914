"""How near a model's answers at short context come to what the original says when it hears 30 s."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from wyoming_piwhisper.domain.scoring import Rate, UtteranceScore, score_corpus, score_utterance
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.decoding import DecodedWindow, DecodingTask, SpeechModel
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.greedy_search import GreedyDecoder
from wyoming_piwhisper.engine.length_guard import LOG_PROBABILITY_THRESHOLD
from wyoming_piwhisper.training.profile_clips import SpokenClip, SpokenClips
from wyoming_piwhisper.training.short_context_goals import goes_astray
from wyoming_piwhisper.training.spoken_batches import WINDOW_FRAMES, plain_log_mel


@dataclass(frozen=True)
class Way:
    """A model and how much it is given to hear."""

    name: str
    model: SpeechModel
    pad_seconds: float | None
    """Silence behind each clip; None fills up to 30 s."""


@dataclass(frozen=True)
class WayFigures:
    """One way beside the first one, over the same clips."""

    name: str
    clips: int
    same: Rate
    """Share of the clips with the same words, in [0, 1]."""
    errors: Rate
    """Word error rate with the first way's answers as the reference."""
    transcript_errors: Rate
    """Word error rate on the clips that have words."""
    doubtful: int
    """Clips whose answer `engine.length_guard` would not let pass."""


class Comparison:
    """Clips heard in several ways by the decoder that serves."""

    def __init__(self, checkpoint: Checkpoint, clips: SpokenClips, language: str) -> None:
        """All ways share the tokenizer and the rules of `checkpoint`."""
        self._decoder = GreedyDecoder(checkpoint.tokenizer, checkpoint.rules)
        self._clips = clips
        self._language = language

    def compare(self, ways: Sequence[Way], chosen: Sequence[SpokenClip]) -> list[WayFigures]:
        """Hear all clips in all ways; the first is what the others are compared with."""
        heard: dict[str, list[DecodedWindow]] = {way.name: [] for way in ways}
        for clip in tqdm(chosen, "measuring", unit="clip"):
            for way in ways:
                heard[way.name].append(self._hear(way, clip))
        first = [decoded.text for decoded in heard[ways[0].name]]
        return [_figures(name, decoded, first, chosen) for name, decoded in heard.items()]

    def _hear(self, way: Way, clip: SpokenClip) -> DecodedWindow:
        power = self._clips.power(clip)
        silence = 0 if way.pad_seconds is None else round(way.pad_seconds * FRAMES_PER_SECOND)
        frames = WINDOW_FRAMES if way.pad_seconds is None else len(power) + silence
        session = way.model.encode(plain_log_mel([power], frames)[0].numpy())
        return self._decoder.decode(session, DecodingTask(self._language, _seconds(clip), way.model.longest_answer))


def markdown(figures: Sequence[WayFigures]) -> str:
    """A table, a row for each way; in brackets 95 % intervals."""
    head = ["model and context", "same answer %", "WER against the first %", "WER against transcripts %", "doubtful"]
    lines = [head, ["---"] * len(head), *map(_row, figures)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(
    name: str, heard: Sequence[DecodedWindow], first: Sequence[str], chosen: Sequence[SpokenClip]
) -> WayFigures:
    pairs = list(zip(chosen, heard, first, strict=True))
    beside_first = score_corpus([score_utterance(text, decoded.text, clip.speaker) for clip, decoded, text in pairs])
    beside_transcripts: list[UtteranceScore] = [
        score_utterance(clip.text, decoded.text, clip.speaker) for clip, decoded, _ in pairs if clip.text
    ]
    return WayFigures(
        name=name,
        clips=len(pairs),
        same=beside_first.sentence_accuracy,
        errors=beside_first.word_error_rate,
        transcript_errors=score_corpus(beside_transcripts).word_error_rate,
        doubtful=sum(_is_doubtful(decoded, _seconds(clip)) for clip, decoded, _ in pairs),
    )


def _is_doubtful(decoded: DecodedWindow, seconds: float) -> bool:
    """What the decoder tells of a guarded answer; here answers are not guarded, to be compared whole."""
    return goes_astray(decoded, seconds) or decoded.average_log_probability < LOG_PROBABILITY_THRESHOLD


def _seconds(clip: SpokenClip) -> float:
    return clip.clip.frames / FRAMES_PER_SECOND


def _row(figures: WayFigures) -> list[str]:
    rates = (figures.same, figures.errors, figures.transcript_errors)
    return [figures.name, *map(_percent, rates), f"{figures.doubtful} of {figures.clips}"]


def _percent(rate: Rate) -> str:
    return f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
