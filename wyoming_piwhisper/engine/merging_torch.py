"""The same merge on torch tensors, on whatever device they are.

Most of a merge on a CPU is the copy of the base's matrices into new memory, so that is done while there is time.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from wyoming_piwhisper.engine.lora_file import LoraFile
from wyoming_piwhisper.engine.merging import AdapterReader

ALIGNMENT: Final = 16
"""Elements; 64 bytes of float32, a cache line."""

Matrices = dict[str, Tensor]


def merge(base: Mapping[str, Tensor], adapters: Sequence[tuple[LoraFile, float]]) -> Matrices:
    """The matrices of `base` that the adapters, each with its weight, change; see `Merger`."""
    return Merger(base).merge(adapters)


class Merger:
    """Merges adapters into one base; used from one thread."""

    def __init__(self, base: Mapping[str, Tensor]) -> None:
        """`base` holds the model's tensors by name."""
        self._base = base
        self._reader = AdapterReader()
        self._copies: Matrices = {}

    def prepare(self, matrices: Collection[str]) -> None:
        """Copy these matrices for the next merge; does nothing where that was done, or on CUDA, which copies fast."""
        on_cpu = next(iter(self._base.values())).device.type == "cpu"
        if on_cpu and self._copies.keys() != set(matrices):
            self._copies = self._copied(matrices)

    @torch.inference_mode()
    def merge(self, adapters: Sequence[tuple[LoraFile, float]]) -> dict[str, Tensor]:
        """New matrices: those that the adapters, each with its weight, change, and maybe more, equal to the base's.

        Device and dtype are the base's.

        Raises:
            ProfileError: an adapter cannot be read.
        """
        halves = self._reader.halves(adapters)
        copies, self._copies = self._copies, {}
        if not halves.keys() <= copies.keys():
            copies = self._copied(halves)
        for matrix, (a, b) in halves.items():
            weight = copies[matrix]
            _add(weight, torch.from_numpy(a).to(weight.device), torch.from_numpy(b).to(weight.device))
        return copies

    def _copied(self, matrices: Collection[str]) -> Matrices:
        """Copies of the base's matrices, side by side in one piece of memory."""
        shapes = {matrix: self._base[matrix].shape for matrix in matrices}
        first = next(iter(self._base.values()))
        room = torch.empty(
            sum(_aligned(shape.numel()) for shape in shapes.values()), dtype=first.dtype, device=first.device
        )
        copies: Matrices = {}
        offset = 0
        for matrix, shape in shapes.items():
            copies[matrix] = room[offset : offset + shape.numel()].view(shape).copy_(self._base[matrix])
            offset += _aligned(shape.numel())
        return copies


def _add(weight: Tensor, a: Tensor, b: Tensor) -> None:
    """Add `b @ a` to `weight`, in float32 and rounded once."""
    if weight.dtype == torch.float32:
        weight.addmm_(b, a)
    else:
        weight.copy_(torch.addmm(weight.float(), b, a))


def _aligned(elements: int) -> int:
    return -(-elements // ALIGNMENT) * ALIGNMENT
