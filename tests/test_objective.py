"""What training minimises, and the tensors that it works on."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from wyoming_piwhisper.training.batches import Example
from wyoming_piwhisper.training.objective import IGNORED, Batch, Objective, Targets
from wyoming_piwhisper.training.recipe import Recipe
from wyoming_piwhisper.training.tokenizer import END, NO_SPEECH, NO_TIMESTAMPS, START, number_of, train_tokenizer

TEXTS = ["turn on the kitchen light", "stop", "what time is it"]
INVENTORY = ["t", "s", "p", "0", "l"]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 50)


@pytest.fixture
def targets(tokenizer: Tokenizer) -> Targets:
    return Targets(tokenizer, INVENTORY)


@pytest.fixture
def objective(tokenizer: Tokenizer) -> Objective:
    recipe = Recipe(d_model=64, encoder_layers=1, decoder_layers=1)
    return Objective(recipe.config(tokenizer.get_vocab_size()), len(INVENTORY), recipe.phoneme_weight)


def batch_of(targets: Targets, *said: tuple[str, str]) -> Batch:
    examples = [Example(np.zeros((10, 80), np.float16), text, phonemes) for text, phonemes in said]
    return targets.batch(torch.randn(len(said), 80, 80), examples)


def test_inputs_are_the_labels_one_step_later_behind_the_start(targets: Targets, tokenizer: Tokenizer) -> None:
    batch = batch_of(targets, ("turn on the kitchen light", "t"), ("stop", "s t 0 p"))

    assert batch.inputs.shape == batch.labels.shape
    assert batch.inputs[:, 0].tolist() == [number_of(tokenizer, START)] * 2
    for inputs, labels in zip(batch.inputs, batch.labels, strict=True):
        said = labels[labels != IGNORED]
        assert said[0] == number_of(tokenizer, NO_TIMESTAMPS)
        assert said[-1] == number_of(tokenizer, END)
        assert inputs[1 : len(said)].tolist() == said[:-1].tolist()
        assert (labels[len(said) :] == IGNORED).all()
        assert (inputs >= 0).all()
    assert [targets.text(labels[labels != IGNORED].tolist()) for labels in batch.labels] == [
        "turn on the kitchen light",
        "stop",
    ]


def test_silence_is_answered_with_no_speech(targets: Targets, tokenizer: Tokenizer) -> None:
    batch = batch_of(targets, ("", ""), ("stop", "s"))

    assert batch.labels[0, :2].tolist() == [number_of(tokenizer, NO_SPEECH), number_of(tokenizer, END)]
    assert batch.phoneme_counts.tolist() == [0, 1]


def test_phonemes_are_numbered_from_one_and_unknown_ones_left_out(targets: Targets) -> None:
    batch = batch_of(targets, ("stop", "s t X p"), ("", ""), ("stop", "l"))

    assert targets.phonemes("t s p 0 l") == [1, 2, 3, 4, 5]
    assert batch.phonemes.tolist() == [2, 1, 3, 5]
    assert batch.phoneme_counts.tolist() == [3, 0, 1]


def test_a_batch_moves_to_a_device_whole(targets: Targets) -> None:
    moved = batch_of(targets, ("stop", "s")).to(torch.device("meta"))

    assert {tensor.device.type for tensor in vars(moved).values()} == {"meta"}


@pytest.mark.parametrize("said", [[("stop", "s t 0 p"), ("", "")], [("", ""), ("", "")], [("stop", "s t " * 40)]])
def test_losses_are_finite_and_reach_every_trained_weight(
    objective: Objective, targets: Targets, said: list[tuple[str, str]]
) -> None:
    loss, spoken, helper = objective(batch_of(targets, *said))
    loss.backward()

    assert torch.isfinite(loss)
    torch.testing.assert_close(loss.detach(), spoken + 0.7 * helper)
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_words_and_phonemes_are_learned_by_heart(objective: Objective, targets: Targets) -> None:
    batch = batch_of(targets, ("stop", "s t 0 p"), ("turn on the kitchen light", "t l t"))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    before = [float(part) for part in objective(batch)[1:]]
    for _ in range(60):
        optimizer.zero_grad()
        loss, spoken, helper = objective(batch)
        loss.backward()
        optimizer.step()

    assert float(spoken) < 0.5 * before[0]
    assert float(helper) < 0.5 * before[1]


def test_phoneme_probabilities_sum_to_one(objective: Objective) -> None:
    states = objective.whisper.encode(torch.randn(2, 80, 31))
    found = objective.phoneme_log_probabilities(states)

    assert found.shape == (2, 16, len(INVENTORY) + 1)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, 16))
