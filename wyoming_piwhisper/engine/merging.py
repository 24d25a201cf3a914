"""LoRA adapters merged into a model's matrices: new tensors beside the base's, which are never written.

The rule is PEFT's `cat`: `W + sum(w_i * s_i * B_i A_i)`, here as one product of the adapters' halves side by side.
Most of a merge on a CPU is the copy of the base's matrices into new memory, so that is done while there is time.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wyoming_piwhisper.domain.errors import ProfileError
from wyoming_piwhisper.engine.lora_file import LoraFile

ADAPTER_BYTES: Final = 32_000_000
"""Adapters that were read are kept up to this size; reading three costs a third of their merge."""
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
        self._read: OrderedDict[LoraFile, dict[str, Tensor]] = OrderedDict()
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
        halves: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for lora, weight in adapters:
            tensors = self._tensors(lora)
            for matrix, scaling in lora.scalings.items():
                a, b = (tensors[key] for key in LoraFile.keys(matrix))
                halves.setdefault(matrix, []).append((a * (scaling * weight), b))
        copies, self._copies = self._copies, {}
        if not halves.keys() <= copies.keys():
            copies = self._copied(halves)
        for matrix, products in halves.items():
            _add(copies[matrix], products)
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

    def _tensors(self, lora: LoraFile) -> dict[str, Tensor]:
        if lora not in self._read:
            self._read[lora] = _read(lora)
        self._read.move_to_end(lora)
        while len(self._read) > 1 and sum(map(_bytes, self._read.values())) > ADAPTER_BYTES:
            self._read.popitem(last=False)
        return self._read[lora]


def _add(weight: Tensor, products: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Add the products to `weight`, in float32 and rounded once."""
    a = torch.cat([a for a, _ in products]).to(weight.device)
    b = torch.cat([b for _, b in products], 1).to(weight.device)
    if weight.dtype == torch.float32:
        weight.addmm_(b, a)
    else:
        weight.copy_(torch.addmm(weight.float(), b, a))


def _read(lora: LoraFile) -> dict[str, Tensor]:
    try:
        return {key: tensor.float() for key, tensor in load_file(lora.weights).items()}
    except (OSError, SafetensorError) as error:
        raise ProfileError(f"{lora.weights}: cannot be read: {error}") from error


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _aligned(elements: int) -> int:
    return -(-elements // ALIGNMENT) * ALIGNMENT
