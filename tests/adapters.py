"""LoRA profiles for the tests, written by PEFT itself."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from checkpoints import write_checkpoint
from peft import LoraConfig, get_peft_model
from peft.peft_model import PeftModel
from safetensors.torch import load_file

from wyoming_piwhisper.domain.traits import Trait
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.merged_models import MergedModels
from wyoming_piwhisper.engine.profile_card import ProfileCard, read_card, write_card
from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper

TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def base_of(model_folder: Path, name: str = "tiny") -> BaseModel:
    """The base model in a checkpoint folder."""
    return BaseModel(name, model_folder / "model.safetensors")


def with_adapter(model: Whisper, seed: int, name: str = "default", **options: object) -> PeftModel:
    """The model with an adapter that has an effect: PEFT begins with one that has none."""
    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS} | options)
    adapted = get_peft_model(model, config, adapter_name=name)
    give_effect(adapted)
    return adapted


def give_effect(adapted: PeftModel) -> None:
    """Random values where PEFT begins with zeros."""
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if ".lora_B." in key:
                parameter.normal_(std=0.1)


def write_profile(root: Path, base: BaseModel, model: Whisper, trait: str, value: str, seed: int = 0) -> Path:
    """Write a profile as `profiles/<base model>/<trait>-<value>` below `root`."""
    folder = root / base.folder_name / (f"{trait}-{value}" if trait != "all" else "one-for-all")
    adapted = with_adapter(model, seed)
    adapted.save_pretrained(str(folder))
    adapted.unload()
    write_card(folder, ProfileCard(trait, value, base.name, base.fingerprint))
    return folder


def plain_model(config: dict[str, Any], state: dict[str, torch.Tensor]) -> Whisper:
    """Our model with these weights."""
    model = Whisper(WhisperConfig.from_dict(config))
    model.load_state_dict(state)
    return model.eval()


WEIGHTS: dict[Trait, float] = {"age": 1.0, "gender": 1.0, "accent": 1.0}


@dataclass
class Place:
    """A base model and the folder of its profiles."""

    model: Path
    profiles: Path
    base: BaseModel
    state: dict[str, torch.Tensor]
    config: dict[str, Any]

    def add(self, trait: str, value: str, seed: int, over: str = "") -> Path:
        folder = write_profile(self.profiles, self.base, self.plain(), trait, value, seed)
        write_card(folder, replace(read_card(folder), over=over))
        return folder

    def plain(self) -> Whisper:
        return plain_model(self.config, self.state)

    def models(self, limit_bytes: int = 100_000_000) -> MergedModels:
        model = TorchWhisper.load(read_checkpoint(self.model), torch.device("cpu"))
        return MergedModels(model, ProfileLibrary([self.profiles], self.base), WEIGHTS, limit_bytes)


def make_place(folder: Path) -> Place:
    """A small base model and an empty folder for its profiles."""
    write_checkpoint(folder / "model", ours={"encoder_context": {"pad_seconds": 0.64, "longest_seconds": 12.0}})
    state = {k: v for k, v in load_file(folder / "model" / "model.safetensors").items() if k != "proj_out.weight"}
    config = json.loads((folder / "model" / "config.json").read_text())
    return Place(folder / "model", folder / "profiles", base_of(folder / "model"), state, config)
