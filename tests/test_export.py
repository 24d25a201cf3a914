"""A trained model as a checkpoint folder: both our engine and the reference implementation take it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import TEXTS, write_tokenizer
from safetensors.torch import load_file
from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper
from wyoming_piwhisper.training.export import DECODING, ENCODER_CONTEXT, export
from wyoming_piwhisper.training.objective import Objective
from wyoming_piwhisper.training.recipe import Recipe
from wyoming_piwhisper.training.tokenizer import END, NO_SPEECH, SPECIAL_TOKENS, START, number_of

CPU = torch.device("cpu")
FULL_FRAMES = 3000

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def objective(tmp_path_factory: pytest.TempPathFactory) -> Objective:
    torch.manual_seed(0)
    tokenizer = write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    made = Objective(Recipe(d_model=128, encoder_layers=2, decoder_layers=1).config(tokenizer.get_vocab_size()), 9, 0.7)
    with torch.no_grad():
        # Fresh embeddings are so small that all tokens are about as likely.
        made.whisper.model.decoder.embed_tokens.weight.mul_(20)
    return made


@pytest.fixture(scope="module")
def folder(objective: Objective, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("models") / "home" / "en"
    write_tokenizer(source)
    export(objective.state_dict(), objective.whisper.config, source / "tokenizer.json", made)
    return made


def test_the_engine_reads_the_folder_with_the_rules_of_training(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    rules, tokenizer = checkpoint.rules, checkpoint.tokenizer

    assert checkpoint.mel_bins == 80
    assert (checkpoint.context.pad_seconds, checkpoint.context.longest_seconds) == tuple(ENCODER_CONTEXT.values())
    assert (rules.no_speech_threshold, rules.log_probability_threshold) == tuple(DECODING.values())
    assert (rules.start, rules.end) == (number_of(tokenizer, START), number_of(tokenizer, END))
    assert rules.no_speech == number_of(tokenizer, NO_SPEECH)
    assert rules.prompt("en") == [rules.start, rules.no_timestamps]
    assert set(rules.suppressed) == {number_of(tokenizer, token) for token in SPECIAL_TOKENS} - {rules.end}


def test_our_engine_and_the_reference_answer_alike(folder: Path, objective: Objective) -> None:
    checkpoint = read_checkpoint(folder)
    reference = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    log_mel = np.random.default_rng(0).normal(size=(80, FULL_FRAMES)).astype(np.float32)
    tokens = checkpoint.rules.prompt("en") + checkpoint.tokenizer.encode(" turn on the light").ids
    batch = torch.tensor([tokens])
    with torch.no_grad():
        expected = reference(input_features=torch.from_numpy(log_mel)[None], decoder_input_ids=batch).logits[0]
        whisper = objective.whisper
        trained = whisper.decode(batch, whisper.cross_keys_values(whisper.encode(torch.from_numpy(log_mel)[None])))[0]

    found = TorchWhisper.load(checkpoint, CPU).encode(log_mel).advance(tokens)

    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(found, trained.numpy(), atol=0.05)


def test_weights_are_halves_without_the_phoneme_head(folder: Path, objective: Objective) -> None:
    weights = load_file(folder / "model.safetensors")

    assert set(weights) == set(objective.whisper.state_dict())
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_the_tokenizer_and_the_features_load_with_the_reference_library(folder: Path) -> None:
    ours, theirs = read_checkpoint(folder).tokenizer, AutoTokenizer.from_pretrained(folder)
    extractor = WhisperFeatureExtractor.from_pretrained(folder)

    for text in TEXTS:
        numbers = ours.encode(f" {text}").ids
        assert ours.decode(numbers).strip() == text
        assert str(theirs.decode(numbers, skip_special_tokens=True)).strip() == text
    assert (extractor.feature_size, extractor.sampling_rate, extractor.nb_max_frames) == (80, 16_000, FULL_FRAMES)


def test_the_reference_knows_what_is_never_said(folder: Path) -> None:
    reference = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    assert reference.generation_config.decoder_start_token_id == read_checkpoint(folder).rules.start
    assert reference.generation_config.suppress_tokens == list(read_checkpoint(folder).rules.suppressed)


def test_exporting_again_replaces_the_files(folder: Path, objective: Objective, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    export(objective.state_dict(), objective.whisper.config, folder / "tokenizer.json", tmp_path)

    assert json.loads((tmp_path / "config.json").read_text()) == json.loads((folder / "config.json").read_text())
