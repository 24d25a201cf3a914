"""LoRA adapters merged into a model's matrices: new arrays beside the base's, which are never written.

The rule is PEFT's `cat`: `W + sum(w_i * s_i * B_i A_i)`, here as one product of the adapters' halves side by side.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from wyoming_piwhisper.engine.lora_file import Floats, LoraFile, read_tensors

ADAPTER_BYTES: Final = 32_000_000
"""Adapters that were read are kept up to this size; reading three costs a third of their merge."""


Halves = Mapping[str, tuple[Floats, Floats]]
"""Names of the base's matrices to `A` (ranks, inputs) and `B` (outputs, ranks) of their adapters' sum, float32."""


class AdapterReader:
    """Reads adapters and keeps those that were used last; may be used from several threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._read: OrderedDict[LoraFile, dict[str, tuple[Floats, Floats]]] = OrderedDict()
        self._reading = threading.Lock()

    def halves(self, adapters: Sequence[tuple[LoraFile, float]]) -> Halves:
        """The sum of the adapters, each with its weight; weights and scalings are in `A`, and `B.T` is contiguous.

        Raises:
            ProfileError: an adapter cannot be read.
        """
        found: dict[str, list[tuple[Floats, Floats]]] = {}
        for lora, weight in adapters:
            for matrix, (a, b) in self._pairs(lora).items():
                found.setdefault(matrix, []).append((a if weight == 1 else a * np.float32(weight), b))
        # One piece of memory: the system takes three times as long to give so many small ones.
        room = np.empty(sum(a.size + b.size for pairs in found.values() for a, b in pairs), np.float32)
        halves: dict[str, tuple[Floats, Floats]] = {}
        for matrix, pairs in found.items():
            whole_a, room = _stacked([a for a, _ in pairs], room)
            whole_b, room = _stacked([b for _, b in pairs], room)
            halves[matrix] = whole_a, whole_b.T
        return halves

    def _pairs(self, lora: LoraFile) -> dict[str, tuple[Floats, Floats]]:
        """`A` (rank, inputs), scaled, and the transpose of `B`, (rank, outputs), by matrix."""
        with self._reading:
            if lora not in self._read:
                self._read[lora] = _read_pairs(lora)
            self._read.move_to_end(lora)
            while len(self._read) > 1 and sum(map(_bytes, self._read.values())) > ADAPTER_BYTES:
                self._read.popitem(last=False)
            return self._read[lora]


class MergedWeights(Mapping[str, Floats]):
    """The tensors of a base, with `halves` added to each when it is asked for."""

    def __init__(self, base: Mapping[str, Floats], halves: Halves) -> None:
        """Merge `halves`, as `AdapterReader` brings them, into tensors of `base`."""
        self._base = base
        self._halves = halves

    def __getitem__(self, name: str) -> Floats:
        """A new tensor where it is changed."""
        if name not in self._halves:
            return self._base[name]
        a, b = self._halves[name]
        merged: Floats = b @ a
        merged += self._base[name]
        return merged

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._base)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._base)


def _read_pairs(lora: LoraFile) -> dict[str, tuple[Floats, Floats]]:
    tensors = read_tensors(lora.weights)
    pairs: dict[str, tuple[Floats, Floats]] = {}
    for matrix, scaling in lora.scalings.items():
        a, b = (tensors[key] for key in LoraFile.keys(matrix))
        pairs[matrix] = a * np.float32(scaling), np.ascontiguousarray(b.T)
    return pairs


def _stacked(parts: Sequence[Floats], room: Floats) -> tuple[Floats, Floats]:
    """Matrices (rows, columns) on top of one another at the beginning of `room`, and what is left of it."""
    size = sum(part.size for part in parts)
    return np.concatenate(parts, out=room[:size].reshape(-1, parts[0].shape[1])), room[size:]


def _bytes(pairs: Mapping[str, tuple[Floats, Floats]]) -> int:
    return sum(half.nbytes for pair in pairs.values() for half in pair)
