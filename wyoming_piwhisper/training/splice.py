"""Commands spoken word by word by people who never said them: real words cut from recordings and put together.

Recordings hold few commands and synthetic speech little else, so a model could tell by the sound of a clip which words
to expect. Spliced commands break that: real voices say them.
Source of the idea: Lam et al., "On-the-fly aligned data augmentation for sequence-to-sequence ASR", 2021.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from wyoming_piwhisper.engine.features import compress
from wyoming_piwhisper.training.alignment import align_words
from wyoming_piwhisper.training.clips import Clip, ClipStore, ClipWriter
from wyoming_piwhisper.training.objective import Objective, Targets
from wyoming_piwhisper.training.phonemes import phonemes
from wyoming_piwhisper.training.sentences import Sentence

FRAMES_PER_STATE: Final = 2
PAD_FRAMES: Final = 64
LEAST_LOG_PROBABILITY: Final = -1.8
"""Words whose phonemes the model does not find where the text has them are left out."""
WORD_FRAMES: Final = (8, 110)
RECORDED_SHARE: Final = 0.8
"""Share of words taken from recordings where they have them."""
SPEECH_LEVEL: Final = -1.0
"""log10 of the mean Mel power to which each word is brought, give or take `LEVEL_SPREAD`."""
LEVEL_SPREAD: Final = 0.2


@dataclass(frozen=True)
class SpokenWord:
    """A word cut from a clip."""

    word: str
    phonemes: str
    power: npt.NDArray[np.float16]
    """Log10 Mel power: shape (frames, mel bins)."""


class WordBank:
    """Spoken words by spelling."""

    def __init__(self) -> None:
        """Begin empty."""
        self._words: dict[str, list[SpokenWord]] = {}

    def add(self, spoken: SpokenWord) -> None:
        """Keep one more way of saying a word."""
        self._words.setdefault(spoken.word, []).append(spoken)

    def __contains__(self, word: str) -> bool:
        """Whether somebody says `word`."""
        return word in self._words

    def __len__(self) -> int:
        """Different words."""
        return len(self._words)

    def draw(self, word: str, source: random.Random) -> SpokenWord:
        """One way of saying `word`; raises KeyError when nobody does."""
        return source.choice(self._words[word])


def cut_words(objective: Objective, targets: Targets, store: ClipStore, clips: Sequence[Clip]) -> Iterator[SpokenWord]:
    """Cut the words of `clips` that the model finds."""
    vocabulary = sorted({word for clip in clips for word in clip.text.split()})
    spelled = dict(zip(vocabulary, phonemes(vocabulary), strict=True))
    for clip in clips:
        power = store.power(clip)
        words = [(word, targets.phonemes(spelled[word])) for word in clip.text.split()]
        for span in align_words(_log_probabilities(objective, power), words):
            cut = power[span.first * FRAMES_PER_STATE : span.end * FRAMES_PER_STATE]
            if span.log_probability >= LEAST_LOG_PROBABILITY and WORD_FRAMES[0] <= len(cut) <= WORD_FRAMES[1]:
                yield SpokenWord(span.word, spelled[span.word], np.array(cut))


def write_spliced(
    writer: ClipWriter, sentences: Sequence[Sentence], recorded: WordBank, synthetic: WordBank, seed: int
) -> int:
    """Put together every sentence whose words somebody says; returns how many were written."""
    source, written = random.Random(seed), 0
    for sentence in sentences:
        words = sentence.text.split()
        if not all(word in recorded or word in synthetic for word in words):
            continue
        spoken = [_choose(word, recorded, synthetic, source) for word in words]
        power = np.concatenate([_levelled(word.power, source) for word in spoken])
        writer.add(power, sentence.text, " ".join(word.phonemes for word in spoken), "spliced", "words")
        written += 1
    return written


def _choose(word: str, recorded: WordBank, synthetic: WordBank, source: random.Random) -> SpokenWord:
    from_recordings = word in recorded and (word not in synthetic or source.random() < RECORDED_SHARE)
    return (recorded if from_recordings else synthetic).draw(word, source)


def _levelled(power: npt.NDArray[np.float16], source: random.Random) -> npt.NDArray[np.float16]:
    mean = np.log10(np.power(10, power.astype(np.float32)).mean())
    return (power + np.float32(SPEECH_LEVEL + source.gauss(0, LEVEL_SPREAD) - mean)).astype(np.float16)


@torch.no_grad()
def _log_probabilities(objective: Objective, power: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    linear = np.pad(np.power(10, power.T.astype(np.float32)), ((0, 0), (0, PAD_FRAMES)))
    device = next(objective.parameters()).device
    states = objective.whisper.encode(torch.from_numpy(compress(linear))[None].to(device))
    log_probabilities: npt.NDArray[np.float32] = objective.phoneme_log_probabilities(states)[0].cpu().numpy()
    return log_probabilities[: (power.shape[0] + 1) // FRAMES_PER_STATE]
