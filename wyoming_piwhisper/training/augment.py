"""Rooms, microphones, noises and other voices, put on Mel power while training.

Working on Mel power instead of samples costs a hundredth; powers of independent sounds add in expectation.
Sources: SpecAugment (Park et al. 2019), vocal tract length perturbation (Jaitly and Hinton 2013).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wyoming_piwhisper.engine.features import DYNAMIC_RANGE

FLOOR: Final = -10.0  # log10 of the power that stands for digital silence
SPEED: Final = (0.88, 1.16)
TRACT: Final = (0.86, 1.16)
LONGEST_LEAD_FRAMES: Final = 25
LONGEST_TAIL_FRAMES: Final = 64
TELEPHONE_BINS: Final = (10, 62)  # about 300 to 3,400 Hz of 80 Mel bins
FRAME_SECONDS: Final = 0.01

Power = npt.NDArray[np.float16]


class Augmenter:
    """Turns stored clips into training input, differently each time."""

    def __init__(self, noises: Sequence[Power], seed: int) -> None:
        """`noises` are log10 powers of recordings without speech, each (frames, mel bins)."""
        self.strength = 1.0
        """0 to 1: how often and how much; a model that begins to hear learns faster from clear speech."""
        self._noises = noises
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, clips: Sequence[Power]) -> Tensor:
        """Log10 powers, each (frames, mel bins), to a batch of log-Mel (clips, mel bins, frames), float32."""
        return self.record(self._warp(clips))

    def record(self, log_power: Tensor) -> Tensor:
        """What a microphone in a room makes of log10 power (clips, mel bins, frames): log-Mel of the same shape.

        It changes nothing that tells one speaker from another.
        """
        power = torch.pow(10.0, log_power)
        power = self._reverberate(power)
        power = self._colour(power)
        power = self._add_noise(power)
        return self._mask(compress(power))

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator) * (high - low) + low

    def _chance(self, probability: float, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator) < probability

    def _warp(self, clips: Sequence[Power]) -> Tensor:
        """Place each clip in silence, faster or slower, with a longer or shorter vocal tract: (clips, bins, frames)."""
        count, bins = len(clips), clips[0].shape[1]
        lengths = torch.tensor([clip.shape[0] for clip in clips], dtype=torch.float32)
        speed, tract = self._uniform(*SPEED, count), self._uniform(*TRACT, count)
        lead = self._uniform(0, LONGEST_LEAD_FRAMES, count)
        tail = self._uniform(0, LONGEST_TAIL_FRAMES, count)
        frames = int((lead + lengths / speed + tail).max())
        longest = int(lengths.max())
        source = torch.zeros(count, 1, longest, bins)
        for index, clip in enumerate(clips):
            source[index, 0, : clip.shape[0]] = torch.from_numpy(clip.astype(np.float32)) - FLOOR
        time = (torch.arange(frames)[None] - lead[:, None]) * speed[:, None]
        time = torch.where(time > lengths[:, None] - 1, torch.full_like(time, 2.0 * longest), time)
        band = _warped_bins(bins, tract)
        grid = torch.empty(count, frames, bins, 2)
        grid[..., 0] = (2 * band / (bins - 1) - 1)[:, None, :]
        grid[..., 1] = (2 * time / max(1, longest - 1) - 1)[:, :, None]
        warped = functional.grid_sample(source, grid, align_corners=True)
        return warped[:, 0].transpose(1, 2) + FLOOR

    def _reverberate(self, power: Tensor) -> Tensor:
        """Add an exponential tail: reverberation time 0.1 to 0.7 s, late energy 3 to 20 dB under the direct sound."""
        rooms = torch.nonzero(self._chance(0.45 * self.strength, power.shape[0]))[:, 0]
        if rooms.numel() == 0:
            return power
        seconds = self._uniform(0.1, 0.7, rooms.numel())
        decay = torch.exp(-13.8 * FRAME_SECONDS / seconds)[:, None]
        level = torch.pow(10.0, -self._uniform(0.3, 2.0, rooms.numel()))[:, None] * (1 - decay)
        direct = power[rooms]
        tail, late = torch.zeros_like(direct[:, :, 0]), []
        for frame in direct.unbind(2):
            tail = decay * tail + frame
            late.append(tail)
        power = power.clone()
        power[rooms] = direct + level[:, :, None] * torch.stack(late, 2)
        return power

    def _colour(self, power: Tensor) -> Tensor:
        """A smooth frequency response; now and then a telephone's band."""
        count, bins, _ = power.shape
        orders = torch.arange(1, 6)[:, None] * torch.pi * torch.arange(bins)[None] / bins
        response = (torch.randn(count, 5, generator=self._generator) * 0.22) @ torch.cos(orders)
        telephone = self._chance(0.1 * self.strength, count)
        response[telephone, : TELEPHONE_BINS[0]] -= 3
        response[telephone, TELEPHONE_BINS[1] :] -= 3
        return power * torch.pow(10.0, response)[:, :, None]

    def _add_noise(self, power: Tensor) -> Tensor:
        """Noise at 12 dB (at full strength 3) to 40 dB, sometimes other voices at 8 to 25 dB, always a faint floor."""
        count, bins, frames = power.shape
        speech = power.mean(dim=(1, 2)).clamp(min=1e-9)
        noise = torch.stack([self._noise(frames) for _ in range(count)])
        noise = noise / noise.mean(dim=(1, 2), keepdim=True).clamp(min=1e-9)
        loudest = 1.2 - 0.9 * self.strength
        ratio = torch.pow(10.0, -self._uniform(loudest, 4.0, count)) * self._chance(0.4 + 0.4 * self.strength, count)
        power = power + noise * (speech * ratio)[:, None, None]
        babble = power.roll(1, 0) / speech.roll(1, 0)[:, None, None]
        ratio = torch.pow(10.0, -self._uniform(0.8, 2.5, count)) * self._chance(0.12 * self.strength, count)
        power = power + babble * (speech * ratio)[:, None, None]
        floor = speech * torch.pow(10.0, -self._uniform(3.5, 7.5, count))
        ripple = self._uniform(0.3, 1.7, count, bins, frames)
        return power + floor[:, None, None] * ripple

    def _noise(self, frames: int) -> Tensor:
        clip = self._noises[int(torch.randint(len(self._noises), (1,), generator=self._generator))]
        start = int(torch.randint(clip.shape[0], (1,), generator=self._generator))
        indexes = (np.arange(frames) + start) % clip.shape[0]
        return torch.pow(10.0, torch.from_numpy(clip[indexes].astype(np.float32))).T

    def _mask(self, log_mel: Tensor) -> Tensor:
        """SpecAugment: up to two bands and two spans hidden."""
        count, bins, frames = log_mel.shape
        hidden = torch.zeros(count, bins, frames, dtype=torch.bool)
        for _ in range(2):
            hidden |= self._spans(count, bins, 9 * self.strength)[:, :, None]
            hidden |= self._spans(count, frames, 14 * self.strength)[:, None, :]
        return torch.where(hidden, log_mel.mean(dim=(1, 2), keepdim=True), log_mel)

    def _spans(self, count: int, length: int, longest: float) -> Tensor:
        start = self._uniform(0, length, count, 1)
        size = self._uniform(0, longest, count, 1)
        positions = torch.arange(length)[None]
        return (positions >= start) & (positions < start + size)


def compress(power: Tensor) -> Tensor:
    """Power (clips, mel bins, frames) to the encoder's input, as `engine.features.compress` does for one clip."""
    logarithm = torch.log10(power.clamp(min=1e-10))
    loudest = logarithm.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(logarithm, loudest - DYNAMIC_RANGE) + 4) / 4


def _warped_bins(bins: int, tract: Tensor) -> Tensor:
    """Where each Mel bin is read when frequencies are scaled by `tract` (clips,): (clips, bins).

    On the Mel scale a factor is a shift above 1 kHz and a scaling below; between them the curve is continuous.
    """
    index = torch.arange(bins, dtype=torch.float32)[None]
    knee = bins / 3  # bin at about 1 kHz
    log_step = bins * 2 / 3 / np.log(8.0)  # bins for a factor of e, 1 to 8 kHz
    shift = torch.log(tract)[:, None] * log_step
    low = index * (1 + shift / knee)
    return torch.where(index < knee, low, index + shift).clamp(0, bins - 1)
