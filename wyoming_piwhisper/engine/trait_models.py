"""Age, gender and accent of a voice from the first 3 s of its speech, with honest confidence.

A folder holds `traits.json` (labels, temperatures, thresholds) and `model.safetensors` (a `TraitNet` for each trait).
Source of the calibration: Guo et al., "On Calibration of Modern Neural Networks", 2017.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples, seconds_of
from wyoming_piwhisper.domain.errors import ModelFormatError
from wyoming_piwhisper.domain.traits import TRAITS, Trait, TraitEstimate
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND, log_mel
from wyoming_piwhisper.engine.trait_net import TraitNet

SPEECH_SECONDS: Final = 3.0
FRAMES: Final = int(SPEECH_SECONDS * FRAMES_PER_SECOND)  # 300
LEAST_SECONDS: Final = 0.4
"""Of less speech than this nothing is said."""
DESCRIPTION: Final = "traits.json"
WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True)
class Calibration:
    """How far a trait's network can be trusted."""

    labels: tuple[str, ...]
    seconds: tuple[float, ...]
    """Lengths of speech at which the temperatures were fitted, rising."""
    temperatures: tuple[float, ...]
    """What logits are divided by; between the lengths it is interpolated."""
    threshold: float
    """Under this confidence the trait is unknown."""

    def estimate(self, logits: np.ndarray[Any, np.dtype[np.float32]], speech_seconds: float) -> TraitEstimate:
        """What `logits` (labels,), heard in so much speech, allow to say."""
        temperature = float(np.interp(speech_seconds, self.seconds, self.temperatures))
        scaled = logits.astype(np.float64) / temperature
        probabilities = np.exp(scaled - scaled.max())
        probabilities /= probabilities.sum()
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        return TraitEstimate(self.labels[best] if confidence >= self.threshold else None, confidence)


class TraitModels:
    """The classifiers of all traits; used from one thread, on the CPU whatever the recogniser runs on."""

    def __init__(self, folder: Path) -> None:
        """Load the classifiers in `folder`.

        Raises:
            ModelFormatError: a file is missing or damaged.
        """
        try:
            described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS)
            self._calibrations = {trait: _calibration(described["traits"][trait]) for trait in _traits(described)}
            self._nets = {
                trait: _net(weights, trait, len(calibration.labels))
                for trait, calibration in self._calibrations.items()
            }
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelFormatError(f"{folder}: the trait classifiers cannot be read: {error}") from error

    @property
    def labels(self) -> dict[Trait, tuple[str, ...]]:
        """What each trait can turn out to be."""
        return {trait: calibration.labels for trait, calibration in self._calibrations.items()}

    @torch.inference_mode()
    def infer(self, speech: Samples) -> dict[Trait, TraitEstimate]:
        """Tell the traits from the first 3 s of `speech`: shape (n,), float32 in [-1, 1], 16 kHz, no pauses needed."""
        heard = speech[: int(SPEECH_SECONDS * SAMPLE_RATE)]
        seconds = seconds_of(heard.size)
        if seconds < LEAST_SECONDS:
            return {trait: TraitEstimate(None, 0.0) for trait in self._nets}
        spectrogram = torch.from_numpy(log_mel(heard))[None, :, :FRAMES]
        return {
            trait: self._calibrations[trait].estimate(net(spectrogram)[0].numpy(), seconds)
            for trait, net in self._nets.items()
        }


def _traits(described: dict[str, Any]) -> list[Trait]:
    return [trait for trait in TRAITS if trait in described["traits"]]


def _calibration(values: dict[str, Any]) -> Calibration:
    return Calibration(
        labels=tuple(map(str, values["labels"])),
        seconds=tuple(map(float, values["seconds"])),
        temperatures=tuple(map(float, values["temperatures"])),
        threshold=float(values["threshold"]),
    )


def _net(weights: dict[str, torch.Tensor], trait: Trait, labels: int) -> TraitNet:
    net = TraitNet(labels)
    own = {name.removeprefix(f"{trait}."): tensor for name, tensor in weights.items() if name.startswith(f"{trait}.")}
    net.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in own.items()}
    )
    return net.eval()
