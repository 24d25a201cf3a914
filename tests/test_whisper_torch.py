"""The torch engine against the reference implementation in transformers, on models with made weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint
from safetensors.torch import load_file, save_file

from wyoming_piwhisper.domain.errors import ModelFormatError
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper

CPU = torch.device("cpu")
FULL_FRAMES = 3000


def test_logits_equal_the_reference_token_by_token(tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    log_mel = np.random.default_rng(0).normal(size=(80, FULL_FRAMES)).astype(np.float32)
    tokens = checkpoint.rules.prompt("en") + checkpoint.tokenizer.encode(" turn on the light").ids
    with torch.no_grad():
        expected = reference(
            input_features=torch.from_numpy(log_mel)[None], decoder_input_ids=torch.tensor([tokens])
        ).logits[0]

    session = TorchWhisper.load(checkpoint, CPU).encode(log_mel)
    at_once = session.advance(tokens[:2])
    one_by_one = [session.advance([token]) for token in tokens[2:]]

    np.testing.assert_allclose(np.concatenate([at_once, *one_by_one]), expected.numpy(), atol=1e-4)


def test_a_short_context_equals_the_reference_told_to_expect_it(tmp_path: Path) -> None:
    frames = 400
    reference = write_checkpoint(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    encoder = reference.model.encoder
    encoder.max_source_positions = encoder.config.max_source_positions = frames // 2
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[: frames // 2])
    log_mel = np.random.default_rng(0).normal(size=(80, frames)).astype(np.float32)
    prompt = checkpoint.rules.prompt("en")
    with torch.no_grad():
        expected = reference(
            input_features=torch.from_numpy(log_mel)[None], decoder_input_ids=torch.tensor([prompt])
        ).logits[0]

    found = TorchWhisper.load(checkpoint, CPU).encode(log_mel).advance(prompt)

    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_weights_of_another_size_are_refused_by_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.encoder.conv1.weight"] = weights["model.encoder.conv1.weight"][:, :40].contiguous()
    save_file(weights, tmp_path / "model.safetensors")

    with pytest.raises(ModelFormatError, match=r"model\.safetensors.*conv1"):
        TorchWhisper.load(read_checkpoint(tmp_path), CPU)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])

    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        TorchWhisper.load(read_checkpoint(tmp_path), CPU)
