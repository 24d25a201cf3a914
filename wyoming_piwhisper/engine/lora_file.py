"""A LoRA adapter in PEFT's file format, checked against the base model without any model runtime.

Format: `adapter_config.json` and `adapter_model.safetensors` as `peft.PeftModel.save_pretrained` writes them.
Source of the method: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize, safe_open

from wyoming_piwhisper.domain.errors import ProfileError

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
PREFIX: Final = "base_model.model."
"""What PEFT puts in front of the base model's names."""
_TYPES: Final = ("F32", "F16", "BF16")
_KEY: Final = re.compile(r"(?P<matrix>.+)\.lora_(?P<half>[AB])\.weight")
_REFUSED_OPTIONS: Final = ("use_dora", "use_qalora", "lora_bias", "fan_in_fan_out", "modules_to_save")
"""What makes an adapter more, or other, than a sum of low-rank products."""

Floats = npt.NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
"""Names of a model's tensors to their shapes."""


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A checked adapter: for each matrix `W` of the base, `W + scaling * B A` is meant."""

    weights: Path
    scalings: Mapping[str, float]
    """Names of the base's matrices, such as `model.encoder.layers.0.fc1.weight`, to their scaling."""
    ranks: Mapping[str, int]

    @property
    def rank(self) -> int:
        """The largest LoRA rank."""
        return max(self.ranks.values())

    @staticmethod
    def keys(matrix: str) -> tuple[str, str]:
        """The names of `A` (rank, inputs) and `B` (outputs, rank) in the file for a matrix of the base."""
        stem = PREFIX + matrix.removesuffix(".weight")
        return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"


def read_shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a safetensors file; reads its header only.

    Raises:
        ProfileError: the file is missing or damaged.
    """
    try:
        with safe_open(weights, framework="np") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ProfileError(f"{weights.name} cannot be read: {error}") from error


def read_lora_file(folder: Path, base: Shapes) -> LoraFile:
    """Check the adapter in `folder` against the shapes of the base model's tensors.

    Raises:
        ProfileError: it is damaged, of a kind that cannot be merged, or does not fit; one line that says which.
    """
    config = _read_config(folder)
    shapes = read_shapes(_weights_of(folder))
    ranks = {matrix: _rank(matrix, halves, base) for matrix, halves in _by_matrix(shapes).items()}
    if not ranks:
        raise ProfileError(f"{WEIGHTS} holds no LoRA matrices")
    try:
        scalings = {matrix: _scaling(config, matrix, rank) for matrix, rank in ranks.items()}
    except (TypeError, ValueError, re.error) as error:
        raise ProfileError(f"{CONFIG}: {error}") from error
    read_tensors(folder / WEIGHTS)
    return LoraFile(folder / WEIGHTS, scalings, ranks)


def read_tensors(weights: Path) -> dict[str, Floats]:
    """All tensors of an adapter, float32.

    Raises:
        ProfileError: the file cannot be read, or holds what is no finite number.
    """
    try:
        raw: list[tuple[str, dict[str, Any]]] = deserialize(weights.read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, SafetensorError) as error:
        raise ProfileError(f"{weights.name} cannot be read: {error}") from error
    tensors = {name: _float32(weights, name, tensor) for name, tensor in sorted(raw, key=itemgetter(0))}
    if wrong := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise ProfileError(f"{weights.name}: {wrong[0]} holds values that are no finite numbers")
    return tensors


def _float32(weights: Path, name: str, tensor: dict[str, Any]) -> Floats:
    match tensor["dtype"]:
        case "F32":
            values: Floats = np.frombuffer(tensor["data"], np.float32)
        case "F16":
            values = np.frombuffer(tensor["data"], np.float16).astype(np.float32)
        case "BF16":
            # The upper half of a float32.
            values = (np.frombuffer(tensor["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
        case other:
            raise ProfileError(f"{weights.name}: {name} is of type {other}, not one of {', '.join(_TYPES)}")
    return values.reshape(tensor["shape"])


def _weights_of(folder: Path) -> Path:
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "; adapter_model.bin can run code when it is read: save it again as safetensors" if pickled else ""
        raise ProfileError(f"{WEIGHTS} is missing{hint}")
    return folder / WEIGHTS


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProfileError(f"{CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ProfileError(f"{CONFIG} holds no JSON object")
    if config.get("peft_type") != "LORA":
        raise ProfileError(f"{CONFIG}: peft_type is {config.get('peft_type')!r}; only LORA can be merged")
    for option in _REFUSED_OPTIONS:
        if config.get(option):
            raise ProfileError(f"{CONFIG}: {option} is set; such an adapter is no plain sum and cannot be merged here")
    if config.get("bias", "none") != "none":
        raise ProfileError(f"{CONFIG}: bias is {config['bias']!r}; only adapters without trained biases can be merged")
    return config


def _by_matrix(shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        match = _KEY.fullmatch(key.removeprefix(PREFIX))
        if match is None:
            raise ProfileError(f"{WEIGHTS}: {key} is no LoRA matrix")
        found.setdefault(f"{match['matrix']}.weight", {})[match["half"]] = shape
    return found


def _rank(matrix: str, halves: dict[str, tuple[int, ...]], base: Shapes) -> int:
    """The rank of the product for `matrix`, after a look at all shapes."""
    if matrix not in base:
        raise ProfileError(f"{WEIGHTS}: the base model has no {matrix}")
    if len(base[matrix]) != 2:
        raise ProfileError(f"{WEIGHTS}: {matrix} of the base model is no matrix")
    if set(halves) != {"A", "B"}:
        raise ProfileError(f"{WEIGHTS}: {matrix} has only lora_{next(iter(halves))}")
    a, b = halves["A"], halves["B"]
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or a[0] == 0 or (b[0], a[1]) != base[matrix]:
        raise ProfileError(f"{WEIGHTS}: {matrix} is {base[matrix]} in the base model, but lora_B {b} times lora_A {a}")
    return a[0]


def _scaling(config: dict[str, Any], matrix: str, rank: int) -> float:
    """`lora_alpha` over the rank, or over its root with `use_rslora`, by PEFT's rules for patterns."""
    module = matrix.removesuffix(".weight")
    patterns: dict[str, Any] = config.get("alpha_pattern") or {}
    alpha = next(
        (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)),
        config.get("lora_alpha"),
    )
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ValueError(f"lora_alpha is {alpha!r}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
