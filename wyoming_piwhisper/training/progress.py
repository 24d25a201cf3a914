"""How far training has come, measured on clips that it does not hear."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, distributed

from wyoming_piwhisper.domain.scoring import count_edits
from wyoming_piwhisper.engine.features import compress
from wyoming_piwhisper.training.clips import Clip, ClipStore
from wyoming_piwhisper.training.objective import Objective, Targets

PAD_FRAMES = 64
LONGEST_TOKENS = 64
"""Clips with longer answers are cut off, which only makes figures worse."""


@torch.no_grad()
def measure(objective: Objective, targets: Targets, store: ClipStore, rank: int, ranks: int) -> dict[str, float]:
    """Word error rate of greedy decoding and phoneme error rate of the helper head, in percent.

    Each of `ranks` processes takes its share of the store's clips; all get the common figures.
    """
    counts = torch.zeros(4)
    for clip in [clip for clip in store.clips if clip.text][rank::ranks]:
        counts += _compare(objective, targets, store, clip)
    if ranks > 1:
        distributed.all_reduce(counts)
    words, phonemes = counts[1].clamp(min=1), counts[3].clamp(min=1)
    return {"wer": round(100 * float(counts[0] / words), 1), "per": round(100 * float(counts[2] / phonemes), 1)}


def greedy(objective: Objective, targets: Targets, states: Tensor) -> str:
    """The text that the decoder finds most likely word by word for encoder states (1, time, width)."""
    whisper = objective.whisper
    cross, caches = whisper.cross_keys_values(states), whisper.new_caches(states)
    tokens, token = [], targets.start
    for position in range(LONGEST_TOKENS):
        logits = whisper.decode(torch.tensor([[token]], device=states.device), cross, caches, position)
        token = int(logits[0, -1].argmax())
        if token == targets.end:
            break
        tokens.append(token)
    return targets.text(tokens)


def _compare(objective: Objective, targets: Targets, store: ClipStore, clip: Clip) -> Tensor:
    power = np.pad(np.power(10, store.power(clip).T.astype(np.float32)), ((0, 0), (10, PAD_FRAMES)))
    device = next(objective.parameters()).device
    states = objective.whisper.encode(torch.from_numpy(compress(power))[None].to(device))
    words = count_edits(clip.text.split(), greedy(objective, targets, states).split())
    heard = _collapse(objective.phoneme_log_probabilities(states)[0].argmax(-1).tolist())
    sounds = count_edits(targets.phonemes(clip.phonemes), heard)
    counts = [words.errors, words.reference_length, sounds.errors, sounds.reference_length]
    return torch.tensor(counts, dtype=torch.float32)


def _collapse(path: Sequence[int]) -> list[int]:
    """A CTC path to what it spells: repetitions once, blanks gone."""
    return [number for number, before in zip(path, [0, *path], strict=False) if number not in (0, before)]
