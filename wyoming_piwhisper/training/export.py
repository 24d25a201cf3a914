"""A trained model as a checkpoint folder in the hub's layout."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from wyoming_piwhisper.engine.features import HOP_SAMPLES, WINDOW_SAMPLES
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.training.tokenizer import END, NO_SPEECH, NO_TIMESTAMPS, SPECIAL_TOKENS, START, number_of

PHONEME_HEAD: Final = "phoneme_head.safetensors"
HEAD_PREFIX: Final = "phoneme_head."
ENCODER_CONTEXT: Final = {"pad_seconds": 0.64, "longest_seconds": 12.0}
"""As in training: short sound with a short silence behind it."""
DECODING: Final = {"no_speech_threshold": 0.5, "log_probability_threshold": 0.0}
"""The no-speech token is trained, so its probability decides alone."""


def export(averaged: dict[str, torch.Tensor], config: WhisperConfig, tokenizer_file: Path, folder: Path) -> None:
    """Write a checkpoint folder.

    Args:
        averaged: state of an `Objective`; the phoneme head is left out.
        config: sizes of the model.
        tokenizer_file: its `tokenizer.json`.
        folder: made if need be; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "whisper."
    weights = {
        name.removeprefix(prefix): tensor.half().contiguous().cpu()
        for name, tensor in averaged.items()
        if name.startswith(prefix)
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library makes it readable for its owner only
    shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    for name, content in _small_files(config, tokenizer).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def export_phoneme_head(averaged: dict[str, torch.Tensor], inventory: Sequence[str], folder: Path) -> None:
    """Write the helper head of an `Objective`, so that training may go on from the checkpoint in `folder`."""
    head = {
        name.removeprefix(HEAD_PREFIX): tensor.half().contiguous().cpu()
        for name, tensor in averaged.items()
        if name.startswith(HEAD_PREFIX)
    }
    save_file(head, folder / PHONEME_HEAD, metadata={"format": "pt", "phonemes": " ".join(inventory)})
    (folder / PHONEME_HEAD).chmod(0o644)


def read_phoneme_head(folder: Path) -> tuple[list[str], dict[str, torch.Tensor]] | None:
    """The inventory of phonemes and the head that `export_phoneme_head` wrote; None where there is none."""
    path = folder / PHONEME_HEAD
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        tensors = {f"{HEAD_PREFIX}{name}": file.get_tensor(name).float() for name in ("weight", "bias")}
        return file.metadata()["phonemes"].split(), tensors


def _small_files(config: WhisperConfig, tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    start, end = number_of(tokenizer, START), number_of(tokenizer, END)
    special = {"decoder_start_token_id": start, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config_json = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        **asdict(config),
        "num_hidden_layers": config.encoder_layers,
        "activation_function": "gelu",
        "scale_embedding": False,
        "dropout": 0.0,
        "torch_dtype": "float16",
        **special,
        "wyoming_piwhisper": {"encoder_context": ENCODER_CONTEXT, "decoding": DECODING},
    }
    generation = {
        **special,
        "is_multilingual": False,
        "max_length": config.max_target_positions,
        "no_timestamps_token_id": number_of(tokenizer, NO_TIMESTAMPS),
        "suppress_tokens": [number_of(tokenizer, token) for token in SPECIAL_TOKENS if token != END],
        "begin_suppress_tokens": [],
    }
    preprocessor = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config.num_mel_bins,
        "hop_length": HOP_SAMPLES,
        "n_fft": WINDOW_SAMPLES,
        "chunk_length": 30,
        "sampling_rate": 16000,
        "padding_value": 0.0,
    }
    words = {
        "tokenizer_class": "WhisperTokenizer",
        "unk_token": END,
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "additional_special_tokens": [START, NO_SPEECH],
    }
    return {
        "config.json": config_json,
        "generation_config.json": generation,
        "preprocessor_config.json": preprocessor,
        "tokenizer_config.json": words,
    }
