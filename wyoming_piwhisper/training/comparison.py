"""The same clips heard in several ways: base, one profile for all, profiles by known or by inferred traits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.fairness import Fairness, fairness, group_rates
from wyoming_piwhisper.domain.profiles import AUTO, NONE, ONE_FOR_ALL, ProfileKey, profile_name
from wyoming_piwhisper.domain.scoring import CorpusScore, UtteranceScore, score_corpus, score_utterance
from wyoming_piwhisper.domain.text import normalise_text
from wyoming_piwhisper.domain.traits import TRAITS, Trait
from wyoming_piwhisper.domain.transcription import RecognitionOptions
from wyoming_piwhisper.engine.interface import Engine
from wyoming_piwhisper.training.evaluation import Clip, ClipResult, hear

BASE: Final = "base"
KNOWN: Final = "known"
INFERRED: Final = "inferred"
WAYS: Final = (BASE, ONE_FOR_ALL, KNOWN, INFERRED, *(f"{KNOWN}-{trait}" for trait in TRAITS))
"""`known-age` and so on use one known trait only."""
FEWEST_SPEAKERS: Final = 3
"""Groups with fewer speakers are shown, but do not decide the measures of fairness."""


@dataclass(frozen=True)
class WayReport:
    """Figures of one way of hearing."""

    way: str
    score: CorpusScore
    by_trait: dict[Trait, Fairness]
    added_seconds: float
    """Median over utterances of the wall-clock time above that of the first way."""
    profiles: dict[str, int]
    """How often each profile key answered."""


def ways_of(text: str) -> tuple[str, ...]:
    """Read `base,one-for-all,known,inferred`.

    Raises:
        SettingsError: one is unknown.
    """
    ways = tuple(way.strip() for way in text.split(","))
    for way in ways:
        if way not in WAYS:
            raise SettingsError(f"--compare: {way!r} is none of {', '.join(WAYS)}")
    return ways


def options_of(way: str, clip: Clip, language: str | None) -> RecognitionOptions:
    """How `clip` is to be heard; the known ways go by what is known of its speaker, and by nothing else.

    Where nothing is known they leave it to the profile for all, as the server does.
    """
    if way == BASE:
        return RecognitionOptions(language, NONE)
    if way == ONE_FOR_ALL:
        return RecognitionOptions(language, ONE_FOR_ALL)
    if way == INFERRED:
        return RecognitionOptions(language, AUTO)
    used = TRAITS if way == KNOWN else (way.removeprefix(f"{KNOWN}-"),)
    names = [profile_name(trait, clip.traits[trait]) for trait in TRAITS if trait in used and trait in clip.traits]
    return RecognitionOptions(language, str(ProfileKey.of(names) if names else ONE_FOR_ALL))


def compare(
    engine: Engine, clips: Iterable[Clip], ways: Sequence[str], language: str | None
) -> dict[str, list[ClipResult]]:
    """Hear every clip in every way, one way after the other on each clip, so that load on the machine is shared.

    Raises:
        InferenceError: the model failed on a clip.
    """
    results: dict[str, list[ClipResult]] = {way: [] for way in ways}
    for clip in clips:
        for way in ways:
            results[way].append(hear(engine, clip, options_of(way, clip, language)))
    return results


def report(results: dict[str, list[ClipResult]], *, seed: int = 0) -> list[WayReport]:
    """Sum up each way; noise clips count for nothing here."""
    first = next(iter(results.values()))
    return [_report(way, heard, first, seed) for way, heard in results.items()]


def _report(way: str, heard: Sequence[ClipResult], first: Sequence[ClipResult], seed: int) -> WayReport:
    spoken = [(result, other) for result, other in zip(heard, first, strict=True) if normalise_text(result.reference)]
    scores = [score_utterance(result.reference, result.hypothesis, result.speaker) for result, _ in spoken]
    results = [result for result, _ in spoken]
    added = [result.wall_seconds - other.wall_seconds for result, other in spoken]
    profiles = [result.profile for result in results]
    return WayReport(
        way=way,
        score=score_corpus(scores, seed=seed),
        by_trait={trait: _fairness(trait, results, scores, seed) for trait in TRAITS},
        added_seconds=median(added) if added else math.nan,
        profiles={key: profiles.count(key) for key in sorted(set(profiles))},
    )


def _fairness(trait: Trait, results: Sequence[ClipResult], scores: Sequence[UtteranceScore], seed: int) -> Fairness:
    groups: dict[str, list[UtteranceScore]] = {}
    for result, score in zip(results, scores, strict=True):
        if trait in result.traits:
            groups.setdefault(result.traits[trait], []).append(score)
    return fairness(group_rates(dict(sorted(groups.items())), seed=seed), FEWEST_SPEAKERS)
