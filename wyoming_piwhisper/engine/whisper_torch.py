"""Runs a Whisper checkpoint with torch: the reference, and what serves on CUDA."""

import copy
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Final, Self, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError, OutOfMemoryError
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.lora_file import LoraFile
from wyoming_piwhisper.engine.merging_torch import Merger
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_model import Whisper

_Module = TypeVar("_Module", bound=nn.Module)

HEAD: Final = "proj_out.weight"
"""Some checkpoints repeat the token embedding under this name."""


class TorchWhisper:
    """A `SpeechModel` on a torch device: fp32 on a CPU, fp16 on CUDA."""

    adaptable: Final = None
    """A merge is over as soon."""

    def __init__(self, model: Whisper, own_bytes: int) -> None:
        """Run `model`, of whose tensors `own_bytes` are shared with no other; see `load`."""
        self.own_bytes = own_bytes
        self._model = model
        first = next(model.parameters())
        self._device, self._dtype = first.device, first.dtype

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: torch.device) -> Self:
        """Load the weights.

        Raises:
            ModelFormatError: they are damaged or do not fit `config.json`; the message says where.
        """
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        model = load_whisper(checkpoint).to(device, dtype).eval()
        return cls(model, _bytes(model.state_dict()))

    @cached_property
    def _merger(self) -> Merger:
        return Merger(self._model.state_dict())

    @property
    def longest_answer(self) -> int:
        """Most tokens that a session can hold."""
        return self._model.config.max_target_positions

    @torch.inference_mode()
    def encode(self, log_mel: Spectrogram) -> "TorchDecoderSession":
        """Hear log-Mel of shape (mel bins, frames)."""
        try:
            states = self._model.encode(torch.from_numpy(log_mel)[None].to(self._device, self._dtype))
            return TorchDecoderSession(self._model, states)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(f"the device has no room for the encoder: {error}") from error
        except RuntimeError as error:
            raise InferenceError(f"the encoder failed: {error}") from error

    def merged(self, adapters: Sequence[tuple[LoraFile, float]]) -> Self:
        """A new model that shares with this one every tensor that the adapters leave alone.

        Raises:
            ProfileError: an adapter cannot be read.
            OutOfMemoryError: the device has no room for the new tensors.
        """
        try:
            changed = self._merger.merge(adapters)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(f"the device has no room for a merged model: {error}") from error
        return type(self)(_sharing_twin(self._model, changed), _bytes(changed))

    def prepare_merge(self, matrices: Collection[str]) -> None:
        """Have memory ready for a merge that changes these matrices."""
        self._merger.prepare(matrices)

    def release_memory(self) -> None:
        """Hand memory of models that are gone back to the device."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


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

    @torch.inference_mode()
    def branch(self, parents: list[int], tokens: list[int]) -> Logits:
        """Go on with several answers at once; see `DecoderSession`."""
        numbers = torch.tensor(parents, device=self._device)
        for cache in self._caches:
            cache.take(numbers)
        cross = [
            (keys.expand(len(tokens), -1, -1, -1), values.expand(len(tokens), -1, -1, -1))
            for keys, values in self._cross
        ]
        batch = torch.tensor(tokens, device=self._device)[:, None]
        logits = self._model.decode(batch, cross, self._caches, self._position)
        self._position += 1
        found: Logits = logits[:, 0].float().cpu().numpy().astype(np.float32, copy=False)
        return found

    def rewind(self, tokens: int) -> None:
        """Forget the last `tokens` tokens."""
        self._position -= tokens
        for cache in self._caches:
            cache.forget(tokens)


def _sharing_twin(module: _Module, changed: Mapping[str, torch.Tensor], path: str = "") -> _Module:
    """The same modules around the same tensors, but for the changed ones; in a tenth of the time of a deep copy."""
    twin = copy.copy(module)
    # A plain copy shares these two mappings with the original; both need their own.
    twin._parameters = {  # noqa: SLF001
        name: nn.Parameter(changed[path + name], requires_grad=False) if path + name in changed else parameter
        for name, parameter in module._parameters.items()  # noqa: SLF001
    }
    twin._modules = {  # noqa: SLF001
        name: None if child is None else _sharing_twin(child, changed, f"{path}{name}.")
        for name, child in module._modules.items()  # noqa: SLF001
    }
    return twin


def _bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _config(checkpoint: Checkpoint) -> WhisperConfig:
    try:
        return WhisperConfig.from_dict(checkpoint.config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{checkpoint.folder / 'config.json'}: {error!r}") from error


def load_whisper(checkpoint: Checkpoint) -> Whisper:
    """The model of a checkpoint in float32 on the CPU.

    Raises:
        ModelFormatError: its weights are damaged or do not fit `config.json`; the message says where.
    """
    path, config = checkpoint.weights, _config(checkpoint)
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
