"""The tensors of a checkpoint, read from its safetensors file when they are wanted and not kept."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from wyoming_piwhisper.domain.errors import ModelFormatError
from wyoming_piwhisper.engine.onnx_graph import Floats


class WeightFile(Mapping[str, Floats]):
    """Names to tensors, float32."""

    def __init__(self, path: Path) -> None:
        """Open the file, which stays mapped.

        Raises:
            ModelFormatError: it cannot be read.
        """
        self._path = path
        try:
            file: Any = safe_open(path, framework="np")
            self._names = frozenset(file.keys())
        except (OSError, SafetensorError) as error:
            raise ModelFormatError(f"{path}: {error}") from error
        self._file = file

    def reopened(self) -> "WeightFile":
        """The same file opened anew, for what is read of it stays in memory as long as it is open."""
        return WeightFile(self._path)

    def __getitem__(self, name: str) -> Floats:
        """A copy of a tensor."""
        if name not in self._names:
            raise KeyError(name)
        tensor: Floats = self._file.get_tensor(name).astype(np.float32, copy=False)
        return tensor

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._names)

    def rows(self, name: str, numbers: list[int]) -> Floats:
        """Some rows of a matrix: shape (numbers, columns)."""
        whole = self._file.get_slice(name)
        return np.concatenate([whole[number : number + 1] for number in numbers]).astype(np.float32, copy=False)

    def first_rows(self, name: str, count: int) -> Floats:
        """The first rows of a matrix: shape (count, columns)."""
        rows: Floats = self._file.get_slice(name)[:count].astype(np.float32, copy=False)
        return rows

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, or KeyError."""
        if name not in self._names:
            raise KeyError(name)
        return tuple(self._file.get_slice(name).get_shape())
