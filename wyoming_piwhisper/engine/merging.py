"""LoRA adapters merged into a model's matrices: new tensors beside the base's, which are never written.

The rule is PEFT's `cat`: `W + sum(w_i * s_i * B_i A_i)`, here as one product of the adapters' halves side by side.
"""

from collections.abc import Mapping, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wyoming_piwhisper.domain.errors import ProfileError
from wyoming_piwhisper.engine.lora_file import LoraFile


@torch.inference_mode()
def merge(base: Mapping[str, Tensor], adapters: Sequence[tuple[LoraFile, float]]) -> dict[str, Tensor]:
    """The matrices of `base` that the adapters, each with its weight, change; device and dtype are the base's.

    Raises:
        ProfileError: an adapter cannot be read.
    """
    halves: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for lora, weight in adapters:
        tensors = _tensors(lora)
        for matrix, scaling in lora.scalings.items():
            a, b = (tensors[key] for key in LoraFile.keys(matrix))
            halves.setdefault(matrix, []).append((a * (scaling * weight), b))
    return {matrix: _changed(base[matrix], products) for matrix, products in halves.items()}


def _changed(weight: Tensor, products: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    a = torch.cat([a for a, _ in products]).to(weight.device)
    b = torch.cat([b for _, b in products], 1).to(weight.device)
    return torch.addmm(weight.float(), b, a).to(weight.dtype)


def _tensors(lora: LoraFile) -> dict[str, Tensor]:
    try:
        return {key: tensor.float() for key, tensor in load_file(lora.weights).items()}
    except (OSError, SafetensorError) as error:
        raise ProfileError(f"{lora.weights}: cannot be read: {error}") from error
