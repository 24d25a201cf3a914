"""Age, gender and accent of a voice from the first 3 s of its speech, with honest confidence.

A folder holds `traits.json` (labels, temperatures, thresholds) and `model.safetensors` (the network of each trait).
Source of the calibration: Guo et al., "On Calibration of Modern Neural Networks", 2017.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnxruntime import InferenceSession
from safetensors import SafetensorError
from safetensors.numpy import load_file

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples, seconds_of
from wyoming_piwhisper.domain.errors import ModelFormatError
from wyoming_piwhisper.domain.traits import TRAITS, Trait, TraitEstimate
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND, log_mel
from wyoming_piwhisper.engine.onnx_graph import FAILURES, Floats, open_session
from wyoming_piwhisper.engine.trait_graph import trait_graph

SPEECH_SECONDS: Final = 3.0
FRAMES: Final = int(SPEECH_SECONDS * FRAMES_PER_SECOND)  # 300
MEL_BINS: Final = 80
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
            self._nets = {trait: _session(weights, trait) for trait in self._calibrations}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, *FAILURES) as error:
            raise ModelFormatError(f"{folder}: the trait classifiers cannot be read: {error}") from error

    @property
    def labels(self) -> dict[Trait, tuple[str, ...]]:
        """What each trait can turn out to be."""
        return {trait: calibration.labels for trait, calibration in self._calibrations.items()}

    def infer(self, speech: Samples) -> dict[Trait, TraitEstimate]:
        """Tell the traits from the first 3 s of `speech`: shape (n,), float32 in [-1, 1], 16 kHz, no pauses needed."""
        heard = speech[: int(SPEECH_SECONDS * SAMPLE_RATE)]
        seconds = seconds_of(heard.size)
        if seconds < LEAST_SECONDS:
            return {trait: TraitEstimate(None, 0.0) for trait in self._nets}
        spectrogram = log_mel(heard, MEL_BINS)[None, :, :FRAMES]
        return {
            trait: self._calibrations[trait].estimate(net.run(None, {"log_mel": spectrogram})[0][0], seconds)
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


def _session(weights: dict[str, Floats], trait: Trait) -> InferenceSession:
    own = {name.removeprefix(f"{trait}."): tensor for name, tensor in weights.items() if name.startswith(f"{trait}.")}
    return open_session(trait_graph({name: tensor.astype(np.float32) for name, tensor in own.items()}, MEL_BINS), 1)
