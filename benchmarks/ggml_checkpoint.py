"""A checkpoint once more in the file format of whisper.cpp, with matrices in its eight bits (q8_0).

Source: `convert-h5-to-ggml.py` of whisper.cpp for the order of what is in a file, and `block_q8_0` of ggml for blocks.
"""

import json
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors.numpy import load_file
from transformers import WhisperFeatureExtractor

MAGIC = 0x67676D6C
F32, F16, Q8_0 = 0, 1, 8
"""Types of tensors."""
MOSTLY_Q8_0 = 2007
"""Type of file, with version 2 of the quantised formats."""
BLOCK = 32
SIZES = (
    "max_source_positions",
    "d_model",
    "encoder_attention_heads",
    "encoder_layers",
    "max_target_positions",
    "d_model",
    "decoder_attention_heads",
    "decoder_layers",
    "num_mel_bins",
)
NAMES = {
    r"^model\.": "",
    r"\.layers\.": ".blocks.",
    r"encoder_attn_layer_norm": "cross_attn_ln",
    r"self_attn_layer_norm": "attn_ln",
    r"final_layer_norm": "mlp_ln",
    r"encoder_attn\.": "cross_attn.",
    r"self_attn\.": "attn.",
    r"q_proj": "query",
    r"k_proj": "key",
    r"v_proj": "value",
    r"out_proj": "out",
    r"fc1": "mlp.0",
    r"fc2": "mlp.2",
    r"embed_tokens": "token_embedding",
    r"embed_positions\.weight": "positional_embedding",
    r"encoder\.layer_norm": "encoder.ln_post",
    r"decoder\.layer_norm": "decoder.ln",
}
"""Parts of the hub's names to those of whisper.cpp, in this order."""


def write_for_whisper_cpp(folder: Path, text_tokens: int) -> Path:
    """Write the file beside the checkpoint in `folder`, unless it is there; its first tokens are text."""
    path = folder.with_name(f"{folder.name}-q8_0.bin")
    if path.exists():
        return path
    config = json.loads((folder / "config.json").read_text())
    filters = np.asarray(WhisperFeatureExtractor(config["num_mel_bins"]).mel_filters, np.float32).T
    with path.open("wb") as file:
        sizes = (config["vocab_size"], *(config[name] for name in SIZES), MOSTLY_Q8_0)
        file.write(struct.pack("i" * 12, MAGIC, *sizes))
        file.write(struct.pack("ii", *filters.shape) + filters.tobytes())
        # It looks the blank up by its text, in order not to begin with it.
        words = [b" ", *(f" w{number}".encode() for number in range(1, text_tokens))]
        file.write(struct.pack("i", len(words)))
        for word in words:
            file.write(struct.pack("i", len(word)) + word)
        for name, tensor in load_file(folder / "model.safetensors").items():
            if name != "proj_out.weight":
                _write_tensor(file, _renamed(name), tensor)
    return path


def _renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = re.sub(theirs, ours, name)
    return name


def _write_tensor(file: BinaryIO, name: str, tensor: np.ndarray) -> None:
    if re.fullmatch(r"encoder\.conv\d\.bias", name):
        tensor = tensor[:, None]
    if name.endswith(("positional_embedding", "bias")) or tensor.ndim == 1:
        kind, content = F32, tensor.astype(np.float32).tobytes()
    elif tensor.ndim == 3:
        kind, content = F16, tensor.astype(np.float16).tobytes()
    else:
        kind, content = Q8_0, _blocks(tensor)
    file.write(struct.pack("iii", tensor.ndim, len(name), kind))
    file.write(struct.pack("i" * tensor.ndim, *reversed(tensor.shape)) + name.encode() + content)


def _blocks(matrix: np.ndarray) -> bytes:
    """Each 32 values as a scale of sixteen bits and 32 bytes."""
    values = matrix.reshape(-1, BLOCK)
    scales = np.abs(values).max(axis=1, keepdims=True) / 127
    blocks = np.empty(len(values), [("scale", np.float16), ("values", np.int8, BLOCK)])
    blocks["scale"] = scales[:, 0]
    blocks["values"] = np.rint(values / np.where(scales > 0, scales, 1))
    return blocks.tobytes()
