"""The training loop's state: what a step changes, and what a checkpoint brings back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wyoming_piwhisper.training.batches import Example
from wyoming_piwhisper.training.clips import ClipStore, ClipWriter
from wyoming_piwhisper.training.export import export, export_phoneme_head
from wyoming_piwhisper.training.home_en import CHECKPOINT, Trainer, train
from wyoming_piwhisper.training.objective import Batch
from wyoming_piwhisper.training.progress import greedy, measure
from wyoming_piwhisper.training.recipe import Place, Recipe
from wyoming_piwhisper.training.tokenizer import train_tokenizer

RECIPE = Recipe(
    d_model=64,
    encoder_layers=1,
    decoder_layers=1,
    utterances=40,
    warmup_steps=4,
    learning_rate=3e-3,
    frames_per_batch=600,
)
SAID = (("lights on", "l t s 0 n"), ("stop", "s t 0 p"))
INVENTORY = ("l", "t", "s", "0", "n", "p")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "run"
    folder.mkdir()
    train_tokenizer([text for text, _ in SAID], 45).save(str(folder / "tokenizer.json"))
    (folder / "phonemes.json").write_text(json.dumps(INVENTORY))
    generator = np.random.default_rng(0)
    with ClipWriter(tmp_path / "clips") as writer:
        for text, phonemes in (*SAID, ("", "")):
            kind = "command" if text else "noise"
            writer.add(generator.uniform(-6, 0, (60, 80)).astype(np.float16), text, phonemes, kind, "made")
    clips = tmp_path / "clips"
    return Place(folder, (clips,), (clips,), {"clips": clips}, processes=1)


def batch_for(trainer: Trainer, seed: int = 0) -> Batch:
    log_mel = torch.randn(2, 80, 70, generator=torch.Generator().manual_seed(seed))
    examples = [Example(np.zeros((70, 80), np.float16), text, phonemes) for text, phonemes in SAID]
    return trainer.targets.batch(log_mel, examples).to(trainer.device)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    parts = (trainer.objective, trainer.average)
    return [parameter.detach().clone() for part in parts for parameter in part.parameters()]


def test_a_step_changes_the_weights_and_counts_what_was_heard(place: Place) -> None:
    trainer = Trainer(RECIPE, place, 0, 1)
    before = weights(trainer)

    trainer.advance(batch_for(trainer), 2)

    assert (trainer.step, trainer.heard, trainer.progress) == (1, 2, 2 / 40)
    assert any(not torch.equal(old, new) for old, new in zip(before, weights(trainer), strict=True))


def test_a_seed_decides_the_weights(place: Place) -> None:
    def made(seed: int) -> torch.Tensor:
        return Trainer(replace(RECIPE, seed=seed), place, 0, 1).objective.phoneme_head.weight.detach()

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))


def test_the_learning_rate_rises_and_then_falls_to_the_last(place: Place) -> None:
    trainer = Trainer(RECIPE, place, 0, 1)
    rates = []
    for _ in range(20):
        trainer.advance(batch_for(trainer), 2)
        rates.append(trainer.optimizer.param_groups[0]["lr"])

    highest = rates.index(max(rates))
    assert highest == RECIPE.warmup_steps - 1
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert max(rates) < RECIPE.learning_rate + RECIPE.last_learning_rate
    trainer.advance(batch_for(trainer), 2)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(RECIPE.last_learning_rate)


def test_a_resumed_run_takes_the_same_next_step(place: Place) -> None:
    first = Trainer(RECIPE, place, 0, 1)
    for seed in range(3):
        first.advance(batch_for(first, seed), 2)
    first.seconds = 7.5
    first.save()
    resumed = Trainer(RECIPE, place, 0, 1)

    assert (resumed.step, resumed.heard, resumed.seconds) == (3, 6, 7.5)
    for trainer in (first, resumed):
        torch.manual_seed(9)
        trainer.advance(batch_for(trainer, 5), 2)
    for kept, loaded in zip(weights(first), weights(resumed), strict=True):
        assert torch.equal(kept, loaded)


def test_a_half_written_checkpoint_is_not_taken_up(place: Place) -> None:
    (place.folder / f"{CHECKPOINT}.part").write_bytes(b"cut off")

    assert Trainer(RECIPE, place, 0, 1).step == 0


def test_measuring_counts_errors_against_clips_with_words(place: Place) -> None:
    trainer = Trainer(RECIPE, place, 0, 1)
    store = ClipStore(place.watched["clips"])

    fresh = measure(trainer.average, trainer.targets, store, 0, 1)

    assert set(fresh) == {"wer", "per"}
    assert fresh["wer"] > 0
    assert fresh["per"] > 0
    states = trainer.objective.whisper.encode(torch.zeros(1, 80, 60))
    assert isinstance(greedy(trainer.objective, trainer.targets, states), str)


@pytest.mark.skipif(torch.cuda.is_available(), reason="one process on CUDA is not spawned")
def test_training_stops_where_it_was_told_to(place: Place) -> None:
    train(RECIPE, place, until=0.4)

    (line,) = [json.loads(line) for line in (place.folder / "progress.jsonl").read_text().splitlines()]
    assert 0.4 * RECIPE.utterances <= line["heard"] < RECIPE.utterances
    assert set(line["clips"]) == {"wer", "per"}
    assert Trainer(RECIPE, place, 0, 1).heard == line["heard"]


def test_a_new_run_may_begin_with_the_weights_of_a_model(place: Place, tmp_path: Path) -> None:
    trained = Trainer(RECIPE, place, 0, 1)
    trained.advance(batch_for(trained), 2)
    tokenizer = place.folder / "tokenizer.json"
    export(trained.objective.state_dict(), trained.objective.whisper.config, tokenizer, tmp_path / "model")
    inventory = json.loads((place.folder / "phonemes.json").read_text())
    export_phoneme_head(trained.objective.state_dict(), inventory, tmp_path / "model")

    begun = Trainer(replace(RECIPE, seed=2), replace(place, start_from=tmp_path / "model"), 0, 1)

    for name, weight in trained.objective.state_dict().items():
        torch.testing.assert_close(begun.objective.state_dict()[name], weight, atol=1e-3, rtol=1e-3)
    assert begun.step == 0
    assert trained.maturity == trained.progress < begun.maturity < 1
