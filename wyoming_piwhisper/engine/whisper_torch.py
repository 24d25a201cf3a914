"""Runs a Whisper checkpoint with torch: the reference, and what serves on CUDA."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.whisper_model import Whisper, WhisperConfig

HEAD: Final = "proj_out.weight"
"""Some checkpoints repeat the token embedding under this name."""


class TorchWhisper:
    """A `SpeechModel` on a torch device: fp32 on a CPU, fp16 on CUDA."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        """Load the weights.

        Raises:
            ModelFormatError: they are damaged or do not fit `config.json`; the message says where.
        """
        self._device = device
        self._dtype = torch.float16 if device.type == "cuda" else torch.float32
        self._model = _load(checkpoint.weights, _config(checkpoint)).to(device, self._dtype).eval()

    @property
    def longest_answer(self) -> int:
        """Most tokens that a session can hold."""
        return self._model.config.max_target_positions

    @torch.inference_mode()
    def encode(self, log_mel: Spectrogram) -> "TorchDecoderSession":
        """Hear log-Mel of shape (mel bins, frames)."""
        try:
            states = self._model.encode(torch.from_numpy(log_mel)[None].to(self._device, self._dtype))
        except RuntimeError as error:
            raise InferenceError(f"the encoder failed: {error}") from error
        return TorchDecoderSession(self._model, states)


class TorchDecoderSession:
    """The decoder of one window, with static caches."""

    def __init__(self, model: Whisper, states: torch.Tensor) -> None:
        """Prepare the cross-attention for encoder states (1, time, width)."""
        self._model = model
        self._device = states.device
        self._position = 0
        with torch.inference_mode():
            self._cross = model.cross_keys_values(states)
            self._caches = model.new_caches(states)

    @torch.inference_mode()
    def advance(self, tokens: list[int]) -> Logits:
        """Append `tokens` and return the logits after each: shape (len(tokens), vocabulary), float32."""
        batch = torch.tensor([tokens], device=self._device)
        logits = self._model.decode(batch, self._cross, self._caches, self._position)
        self._position += len(tokens)
        found: Logits = logits[0].float().cpu().numpy().astype(np.float32, copy=False)
        return found


def choose_device(name: str) -> torch.device:
    """The device that the setting `asr.device` means.

    Raises:
        InferenceError: CUDA was asked for outright and does not work here.
    """
    works = torch.cuda.is_available()
    if name == "cuda" and not works:
        raise InferenceError("asr.device: cuda was asked for, but torch finds no CUDA device; use auto or cpu")
    return torch.device("cuda" if works and name != "cpu" else "cpu")


def _config(checkpoint: Checkpoint) -> WhisperConfig:
    try:
        return WhisperConfig.from_dict(checkpoint.config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{checkpoint.folder / 'config.json'}: {error!r}") from error


def _load(path: Path, config: WhisperConfig) -> Whisper:
    with torch.device("meta"):
        model = Whisper(config)
    try:
        weights = {name: tensor.float() for name, tensor in load_file(path).items() if name != HEAD}
        model.load_state_dict(weights, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelFormatError(
            f"{path}: {str(error).splitlines()[0]} {' '.join(str(error).splitlines()[1:2])}"
        ) from error
    return model
