"""LoRA adapters merged into a model's matrices: new arrays beside the base's, which are never written.

The rule is PEFT's `cat`: `W + sum(w_i * s_i * B_i A_i)`, here as one product of the adapters' halves side by side.
"""

from collections import ChainMap, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from wyoming_piwhisper.engine.lora_file import Floats, LoraFile, read_tensors

ADAPTER_BYTES: Final = 32_000_000
"""Adapters that were read are kept up to this size; reading three costs a third of their merge."""


class AdapterReader:
    """Reads adapters and keeps those that were used last; used from one thread."""

    def __init__(self) -> None:
        """Begin with none."""
        self._read: OrderedDict[LoraFile, dict[str, Floats]] = OrderedDict()

    def halves(self, adapters: Sequence[tuple[LoraFile, float]]) -> dict[str, tuple[Floats, Floats]]:
        """For each matrix that the adapters change, `A` (ranks, inputs) and `B` (outputs, ranks) of their sum.

        Weights and scalings are in `A`.

        Raises:
            ProfileError: an adapter cannot be read.
        """
        found: dict[str, list[tuple[Floats, Floats]]] = {}
        for lora, weight in adapters:
            tensors = self._tensors(lora)
            for matrix, scaling in lora.scalings.items():
                a, b = (tensors[key] for key in LoraFile.keys(matrix))
                found.setdefault(matrix, []).append((a * np.float32(scaling * weight), b))
        return {
            matrix: (np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs], axis=1))
            for matrix, pairs in found.items()
        }

    def _tensors(self, lora: LoraFile) -> dict[str, Floats]:
        if lora not in self._read:
            self._read[lora] = read_tensors(lora.weights)
        self._read.move_to_end(lora)
        while len(self._read) > 1 and sum(map(_bytes, self._read.values())) > ADAPTER_BYTES:
            self._read.popitem(last=False)
        return self._read[lora]


def merged_weights(base: Mapping[str, Floats], halves: Mapping[str, tuple[Floats, Floats]]) -> Mapping[str, Floats]:
    """The tensors of `base`, with new ones where `halves` change them."""
    changed = {matrix: base[matrix] + b @ a for matrix, (a, b) in halves.items()}
    return ChainMap(changed, base)  # type: ignore[arg-type]  # only read


def _bytes(tensors: Mapping[str, Floats]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
