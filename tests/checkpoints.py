"""Small Whisper checkpoints for the tests of the engine, written as the hub lays them out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from wyoming_piwhisper.training.tokenizer import END, START, number_of, train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXTS = ("turn on the kitchen light", "set the brightness to fifty percent", "what time is it", "open the garage door")


def write_tokenizer(folder: Path) -> "Tokenizer":
    """Write and return the tokenizer of all checkpoints here."""
    tokenizer = train_tokenizer(TEXTS, 64)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def write_checkpoint(
    folder: Path, *, ours: dict[str, Any] | None = None, seed: int = 0
) -> WhisperForConditionalGeneration:
    """Write a two-layer Whisper with made weights and return the reference implementation of it."""
    folder.mkdir(exist_ok=True)
    tokenizer = write_tokenizer(folder)
    start, end = number_of(tokenizer, START), number_of(tokenizer, END)
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    torch.manual_seed(seed)
    reference = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        # The initial weights are so small that all tokens are about as likely; larger ones make distinct answers.
        for parameter in reference.parameters():
            if parameter.requires_grad and parameter.ndim > 1:
                parameter.mul_(4)
    reference.save_pretrained(folder)
    generation = {"is_multilingual": False, "suppress_tokens": [], "begin_suppress_tokens": []}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "preprocessor_config.json").write_text("{}")
    if ours is not None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"wyoming_piwhisper": ours}))
    return reference
