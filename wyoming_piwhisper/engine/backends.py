"""Which runtime hears: ONNX Runtime on a CPU, torch on CUDA, and torch on a CPU as the reference."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from wyoming_piwhisper.domain.errors import InferenceError
from wyoming_piwhisper.domain.settings import AsrSettings
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.mergeable_model import MergeableModel
from wyoming_piwhisper.engine.whisper_onnx import OnnxWhisper

CUDA_DEVICES: Final = (Path("/dev/nvidiactl"), Path("/dev/nvhost-gpu"), Path("/dev/nvgpu"), Path("/dev/dxg"))
"""One of them is there where CUDA may work: a graphics card, a Jetson (older, newer), Windows' subsystem."""


@dataclass(frozen=True)
class Backend:
    """A runtime and the device that it uses."""

    engine: Literal["onnx", "torch"]
    device: Literal["cpu", "cuda"]

    def __str__(self) -> str:
        """As logs and reports name it."""
        return f"{self.device} ({self.engine})"


def choose_backend(asr: AsrSettings, places: Iterable[Path] = CUDA_DEVICES) -> Backend:
    """The backend that the settings mean; CUDA is looked for at `places` first, for torch takes long to import.

    Raises:
        InferenceError: a runtime or device that was asked for outright is not there.
    """
    if asr.engine == "onnx" or asr.device == "cpu":
        return Backend("torch" if asr.engine == "torch" else "onnx", "cpu")
    may_be_there = asr.device == "cuda" or (_has_torch() and any(place.exists() for place in places))
    if may_be_there and _cuda_works():
        return Backend("torch", "cuda")
    if asr.device == "cuda":
        raise InferenceError("asr.device: cuda was asked for, but torch finds no CUDA device; use auto or cpu")
    return Backend("torch" if asr.engine == "torch" else "onnx", "cpu")


def load_model(checkpoint: Checkpoint, backend: Backend, threads: int) -> MergeableModel:
    """The model of a checkpoint, with so many threads where it runs on the CPU.

    Raises:
        ModelFormatError: the weights are damaged or do not fit `config.json`.
        InferenceError: torch is wanted and not installed.
    """
    if backend.engine == "onnx":
        return OnnxWhisper.load(checkpoint, threads)
    _require_torch()
    import torch

    from wyoming_piwhisper.engine.whisper_torch import TorchWhisper

    torch.set_num_threads(threads)
    return TorchWhisper.load(checkpoint, torch.device(backend.device))


def _cuda_works() -> bool:
    _require_torch()
    import torch

    return torch.cuda.is_available()


def _require_torch() -> None:
    if not _has_torch():
        raise InferenceError("torch is not installed here; pip install 'wyoming-piwhisper[cuda]' brings it")


def _has_torch() -> bool:
    return find_spec("torch") is not None
