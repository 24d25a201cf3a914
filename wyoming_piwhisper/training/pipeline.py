"""The bundled model from nothing: clips, tokenizer, training, spliced commands, more training, checkpoint folder.

Every stage leaves its result in the work folder and is passed over when that is there, so that a run that was cut off
goes on where it stood.
"""

import json
import logging
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from tqdm import tqdm

from wyoming_piwhisper.training.clips import Clip, ClipStore, ClipWriter
from wyoming_piwhisper.training.export import export, export_phoneme_head, read_phoneme_head
from wyoming_piwhisper.training.home_en import CHECKPOINT, train
from wyoming_piwhisper.training.objective import Objective, Targets
from wyoming_piwhisper.training.prepare import (
    DONE,
    draw_held_out,
    draw_sentences,
    recordings,
    split_of,
    write_noise,
    write_recordings,
    write_synthetic,
)
from wyoming_piwhisper.training.processes import pool_of
from wyoming_piwhisper.training.recipe import Place, Recipe
from wyoming_piwhisper.training.sentences import Grammar, Sentence
from wyoming_piwhisper.training.splice import SpokenWord, WordBank, cut_words, write_spliced
from wyoming_piwhisper.training.synthesis import require_programs
from wyoming_piwhisper.training.tokenizer import load_tokenizer, train_tokenizer

_LOGGER = logging.getLogger(__name__)
SYNTHETIC_COMMANDS: Final = 31_000
SYNTHETIC_WORDS: Final = 3_000
SYNTHETIC_GENERAL: Final = 7_500
SPLICED_COMMANDS: Final = 40_000
WORDS_CUT_FROM_SYNTHETIC: Final = 6_000
"""Clips of synthetic speech from which words are cut that nobody was recorded saying."""
CLIPS_PER_CUT: Final = 400
SPLICE_AT: Final = 0.35
"""Progress at which the model hears well enough to cut words."""
SPLICE_AT_AFTER_START: Final = 0.1
"""The same for a model that was trained before; at most its phoneme head is new."""
TOKENS: Final = 800
LEAST_PHONEME_COUNT: Final = 20
WATCHED_CLIPS: Final = {"held": 80, "words": 80, "read": 60}
LONGEST_WATCHED_WORDS: Final = 14


@dataclass(frozen=True)
class Plan:
    """What to train from, where to work and where the result goes."""

    manifest: Path
    """Of recorded speech, with splits `train` and `dev`."""
    work: Path
    output: Path
    processes: int
    recipe: Recipe
    start_from: Path | None = None
    """Model folder of the same sizes to begin with, instead of chance."""


def train_home_en(plan: Plan) -> None:
    """Make the bundled model, or go on making it.

    Raises:
        SettingsError: the manifest cannot be read, or a speech synthesiser is not installed.
    """
    prepare_clips(plan)
    prepare_texts(plan)
    if not (plan.work / "spliced" / DONE).exists():
        train(plan.recipe, _place(plan), until=SPLICE_AT if plan.start_from is None else SPLICE_AT_AFTER_START)
        prepare_spliced(plan)
    train(plan.recipe, _place(plan))
    export_model(plan)


def prepare_clips(plan: Plan) -> None:
    """Synthesise speech and read the recordings; the longest stage before training, 10 to 20 minutes on 4 cores."""
    require_programs()
    work, seed, processes = plan.work, plan.recipe.seed, plan.processes
    train_rows = recordings(plan.manifest, "train")
    _once(work / "real", lambda folder: write_recordings(folder, train_rows, processes))
    _once(work / "dev", lambda folder: write_recordings(folder, recordings(plan.manifest, "dev"), processes))
    _once(work / "noise", lambda folder: write_noise(folder, seed))
    held_out = draw_held_out(Grammar(seed + 2), 300, "dev")
    _once(work / "held", lambda folder: write_synthetic(folder, held_out, seed + 2, "dev", processes))
    read = sorted({row.text for row in train_rows if 2 < len(row.text.split()) <= 16 and split_of(row.text) == "train"})
    drawn = draw_sentences(Grammar(seed), SYNTHETIC_COMMANDS, SYNTHETIC_WORDS, SYNTHETIC_GENERAL)
    sentences = [*drawn, *(Sentence(text, "general") for text in read * 2)]
    random.Random(seed).shuffle(sentences)
    _once(work / "synthetic", lambda folder: write_synthetic(folder, sentences, seed, "train", processes))
    _watch(work, "held", "held", lambda clip: bool(clip.text))
    _watch(work, "words", "dev", lambda clip: clip.kind == "real_word")
    _watch(work, "read", "dev", lambda clip: clip.kind == "real" and len(clip.text.split()) <= LONGEST_WATCHED_WORDS)


def prepare_texts(plan: Plan) -> None:
    """Learn the tokenizer and list the phonemes."""
    run = plan.work / "run"
    run.mkdir(exist_ok=True)
    if (run / "phonemes.json").exists():
        return
    clips = [clip for name in ("synthetic", "real") for clip in ClipStore(plan.work / name).clips if clip.text]
    if plan.start_from is None:
        train_tokenizer([clip.text for clip in clips], TOKENS).save(str(run / "tokenizer.json"))
    else:
        shutil.copyfile(plan.start_from / "tokenizer.json", run / "tokenizer.json")
    head = None if plan.start_from is None else read_phoneme_head(plan.start_from)
    counts = Counter(phoneme for clip in clips for phoneme in clip.phonemes.split())
    common = [phoneme for phoneme, count in counts.most_common() if count >= LEAST_PHONEME_COUNT]
    inventory = common if head is None else head[0]
    (run / "phonemes.json").write_text(json.dumps(inventory), encoding="utf-8")


def prepare_spliced(plan: Plan) -> None:
    """Cut words with the model as it is and put commands together from them."""
    _once(plan.work / "spliced", lambda folder: _splice(plan, folder))


def export_model(plan: Plan) -> None:
    """Write the averaged weights as a checkpoint folder."""
    run = plan.work / "run"
    objective = _averaged(plan)
    export(objective.state_dict(), objective.whisper.config, run / "tokenizer.json", plan.output)
    export_phoneme_head(objective.state_dict(), _inventory(plan), plan.output)
    _LOGGER.info("the model is in %s", plan.output)


def _splice(plan: Plan, folder: Path) -> None:
    commands = [clip for clip in ClipStore(plan.work / "synthetic").clips if clip.kind == "command"]
    recorded, spoken = WordBank(), WordBank()
    for word in _cut(plan, "real", [clip for clip in ClipStore(plan.work / "real").clips if clip.text]):
        recorded.add(word)
    for word in _cut(plan, "synthetic", commands[:WORDS_CUT_FROM_SYNTHETIC]):
        spoken.add(word)
    drawn = draw_sentences(Grammar(plan.recipe.seed + 3), SPLICED_COMMANDS, 0, 0)
    with ClipWriter(folder) as writer:
        written = write_spliced(writer, drawn, recorded, spoken, plan.recipe.seed)
    _LOGGER.info("%d commands spliced from %d recorded and %d synthetic words", written, len(recorded), len(spoken))


def _cut(plan: Plan, name: str, clips: Sequence[Clip]) -> Iterator[SpokenWord]:
    """Cut the words of a store's clips, shared among the processes."""
    chunks = [clips[start : start + CLIPS_PER_CUT] for start in range(0, len(clips), CLIPS_PER_CUT)]
    with pool_of(plan.processes) as pool:
        for words in tqdm(pool.map(partial(_cut_chunk, plan, name), chunks), f"cutting words, {name}", len(chunks)):
            yield from words


def _cut_chunk(plan: Plan, name: str, clips: Sequence[Clip]) -> list[SpokenWord]:
    torch.set_num_threads(1)
    return list(cut_words(_averaged(plan), _targets(plan), ClipStore(plan.work / name), clips))


def _once(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a store unless it was finished before."""
    if not (folder / DONE).exists():
        write(folder)
        (folder / DONE).touch()


def _watch(work: Path, name: str, store_name: str, fits: Callable[[Clip], bool]) -> None:
    """A small store on which progress is measured."""

    def write(folder: Path) -> None:
        store = ClipStore(work / store_name)
        clips = [clip for clip in store.clips if clip.text and fits(clip)]
        random.Random(0).shuffle(clips)
        with ClipWriter(folder) as writer:
            for clip in clips[: WATCHED_CLIPS[name]]:
                writer.add(store.power(clip), clip.text, clip.phonemes, clip.kind, clip.source)

    _once(work / f"watched-{name}", write)


def _place(plan: Plan) -> Place:
    stores = [plan.work / name for name in ("synthetic", "real", "noise", "spliced")]
    return Place(
        folder=plan.work / "run",
        stores=tuple(store for store in stores if (store / DONE).exists()),
        noise_stores=(plan.work / "noise", plan.work / "real"),
        watched={name: plan.work / f"watched-{name}" for name in WATCHED_CLIPS},
        processes=plan.processes,
        start_from=plan.start_from,
    )


def _targets(plan: Plan) -> Targets:
    return Targets(load_tokenizer(plan.work / "run"), _inventory(plan))


def _inventory(plan: Plan) -> Sequence[str]:
    inventory: list[str] = json.loads((plan.work / "run" / "phonemes.json").read_text(encoding="utf-8"))
    return inventory


def _averaged(plan: Plan) -> Objective:
    run = plan.work / "run"
    state = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    recipe = Recipe(**state["recipe"])
    config = recipe.config(load_tokenizer(run).get_vocab_size())
    objective = Objective(config, len(_inventory(plan)), recipe.phoneme_weight)
    objective.load_state_dict(state["average"])
    return objective.eval()
