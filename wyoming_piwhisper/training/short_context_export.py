"""A model that was tuned to short context as a folder in the hub's layout: the original's, but for weights and card."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from safetensors.torch import load_file, save_file

from wyoming_piwhisper.engine.checkpoint import Checkpoint, EncoderContext
from wyoming_piwhisper.engine.whisper_torch import HEAD

CARD: Final = "README.md"
ORIGINAL_CARD: Final = "README.original.md"
SMALL_FILE_BYTES: Final = 10_000_000
"""The largest small file of Whisper's checkpoints is a tokenizer of 3 MB."""
SMALL_SUFFIXES: Final = {"", ".json", ".txt", ".md"}
NOT_COPIED: Final = {"config.json", "download.json", CARD}
"""What is written anew, and the record of the download, which vouches for the original's files."""


def write_tuned(original: Checkpoint, tuned: Mapping[str, torch.Tensor], context: EncoderContext, folder: Path) -> None:
    """Write a complete model folder, except for its card, into the empty `folder`.

    Weights keep the original's dtype where it is float16, else they are float32; what was not trained stays bit by bit.
    """
    weights = {}
    for name, tensor in load_file(original.weights).items():
        dtype = torch.float16 if tensor.dtype == torch.float16 else torch.float32
        weights[name] = (tensor if name == HEAD else tuned[name]).to("cpu", dtype).contiguous().clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library makes it readable for its owner only
    for file in original.folder.iterdir():
        if _is_small(file) and file.name not in NOT_COPIED:
            shutil.copyfile(file, folder / file.name)
    if (original.folder / CARD).exists():
        shutil.copyfile(original.folder / CARD, folder / ORIGINAL_CARD)
    config = json.dumps(_config(original.config, context), indent=2)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")


def write_card(folder: Path, front: Mapping[str, str], text: str) -> None:
    """Write the model's card: a front matter that the server reads, and the text."""
    matter = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True, width=100)
    (folder / CARD).write_text(f"---\n{matter}---\n\n{text}", encoding="utf-8")


def _config(original: Mapping[str, Any], context: EncoderContext) -> dict[str, Any]:
    ours = original.get("wyoming_piwhisper", {})
    return {**original, "wyoming_piwhisper": {**ours, "encoder_context": asdict(context)}}


def _is_small(file: Path) -> bool:
    return file.is_file() and file.suffix in SMALL_SUFFIXES and file.stat().st_size <= SMALL_FILE_BYTES
