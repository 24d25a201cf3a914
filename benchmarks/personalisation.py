"""What personalisation costs: merging three profiles, switching to them, hearing with them, inferring traits, memory.

The base model has the sizes of whisper-tiny.en and random weights, which makes no difference to speed. Our merge and
PEFT's take turns, so that load on the machine falls on both.
"""

import argparse
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.peft_model import PeftModel
from random_checkpoint import write_random_checkpoint
from safetensors.torch import save_file

from wyoming_piwhisper.domain.profiles import ProfileKey
from wyoming_piwhisper.domain.traits import TRAITS, Trait
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.decoding import DecoderSession, SpeechModel
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.loading import TRAITS_FOLDER
from wyoming_piwhisper.engine.lora_file import read_lora_file
from wyoming_piwhisper.engine.mergeable_model import Adapters
from wyoming_piwhisper.engine.merged_models import MergedModels
from wyoming_piwhisper.engine.merging_torch import merge
from wyoming_piwhisper.engine.profile_card import ProfileCard, write_card
from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary
from wyoming_piwhisper.engine.trait_models import SPEECH_SECONDS, TraitModels
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_model import Whisper
from wyoming_piwhisper.engine.whisper_onnx import OnnxWhisper
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper

TINY_EN = WhisperConfig(51864, 384, 4, 4, 6, 6, 1536, 1536, 80, 1500, 448)
TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
TOKENS = 12
HEARD: Spectrogram = np.random.default_rng(0).normal(0, 0.5, (80, 364)).astype(np.float32)
VALUES: dict[Trait, str] = {"age": "child", "gender": "female", "accent": "indian"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="measurements of each kind (default: 21)")
    parser.add_argument("--rank", type=int, default=8, help="LoRA rank of each profile (default: 8)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), args.rounds, args.rank, args.threads)
    print(f"CPU {platform.machine()}, {os.cpu_count()} cores, {args.threads} threads, rank {args.rank}, seed 0\n")
    print("| what | median | 90th percentile | goal |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def measure(folder: Path, rounds: int, rank: int, threads: int) -> list[tuple[str, str, str, str]]:
    """One row for each figure."""
    whisper = Whisper(TINY_EN).eval()
    save_file(whisper.state_dict(), folder / "model.safetensors")
    base = BaseModel("tiny", folder / "model.safetensors")
    adapted = write_profiles(folder, base, whisper, rank)
    loras = [read_lora_file(folder / "profiles" / "tiny" / f"{trait}-{VALUES[trait]}", base.shapes) for trait in TRAITS]
    plain = Whisper(TINY_EN).eval()
    plain.load_state_dict(torch.load(folder / "plain.pt"))
    model = TorchWhisper(plain, 0)
    models = MergedModels(model, ProfileLibrary([folder / "profiles"], base), dict.fromkeys(TRAITS, 1.0), 10**9)
    key = ProfileKey.of(f"{trait}-{VALUES[trait]}" for trait in TRAITS)
    models.fetch(key)
    onnx = OnnxWhisper.load(read_checkpoint(write_random_checkpoint(folder / "random")), threads)
    classifiers = TraitModels(TRAITS_FOLDER)
    speech = np.random.default_rng(0).normal(0, 0.1, int(SPEECH_SECONDS * 16_000)).astype(np.float32)
    adapters = [(lora, 1.0) for lora in loras]
    merged, adaptable = onnx.merged(adapters), onnx.adaptable()
    at_run_time = adaptable.adapted(adapters)
    works = [
        Work(lambda: model.merged(adapters), models.prepare),
        Work(lambda: model.merged(adapters)),
        Work(lambda: by_peft(adapted)),
        Work(lambda: onnx.merged(adapters)),
    ]
    ours, unprepared, theirs, with_sessions = in_turn(works, rounds)
    (first,) = in_turn([Work(lambda: merge(plain.state_dict(), adapters))], rounds)
    (switch,) = in_turn([Work(lambda: models.fetch(key))], rounds)
    (apply,) = in_turn([Work(lambda: adaptable.adapted(adapters))], rounds)
    by_base, by_merged, by_adapted = in_turn(
        [Work(lambda one=one: hear(one)) for one in (onnx, merged, at_run_time)], rounds
    )
    beside, longest_step, usual_step = beside_a_merge(onnx, adapters, rounds)
    (traits,) = in_turn([Work(lambda: classifiers.infer(speech))], rounds)
    return [
        row("merge of three profiles in torch, memory made ready before, as in the server", ours, "30 ms"),
        row("the same into new memory", unprepared, ""),
        row("the same into new memory, and the files read", first, ""),
        row("the same by PEFT: `cat`, then merged into the weights", theirs, ""),
        ("ratio of the medians", f"{median(theirs) / median(ours):.1f}", "", "4"),
        row("a merged model for ONNX Runtime, quantised, with its sessions", with_sessions, ""),
        row("the same on another thread, while this one decodes", beside, ""),
        row("longest pass of the decoder on this one meanwhile", longest_step, ""),
        row("the longest of as many without a merge", usual_step, ""),
        row("switch to a cached model", switch, "1 ms"),
        row("switch to three profiles at run time", apply, "1 ms"),
        row("3 s of speech, 12 tokens, by the base", by_base, ""),
        row("the same by a merged model", by_merged, ""),
        row("the same with three profiles at run time", by_adapted, ""),
        ("ratio of a merged model to the base", ratio(by_merged, by_base), "", ""),
        ("ratio of profiles at run time to a merged model", ratio(by_adapted, by_merged), "", ""),
        row("three traits from 3 s of speech, features included", traits, "30 ms"),
        ("memory of one merged model, torch", f"{models.cached_bytes / 1e6:.1f} MB", "", ""),
        ("memory of one merged model, ONNX Runtime", f"{merged.own_bytes / 1e6:.1f} MB", "", ""),
    ]


def hear(model: SpeechModel) -> None:
    """Hear as much noise as a command of 3 s is, padded, and say 12 tokens."""
    session = model.encode(HEARD)
    session.advance([1, 2])
    for _ in range(TOKENS - 1):
        session.advance([1])


def beside_a_merge(model: OnnxWhisper, adapters: Adapters, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of merges on another thread, and of the longest pass of the decoder during each and without."""
    session = model.encode(HEARD)
    merges: list[float] = []
    longest: list[float] = []
    usual: list[float] = []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(rounds):
            began = time.perf_counter()
            merge = thread.submit(model.merged, adapters)
            passes = []
            while not merge.done():
                passes.append(pass_of(session))
            merges.append(1000 * (time.perf_counter() - began))
            longest.append(max(passes))
            usual.append(max(pass_of(session) for _ in passes))
    return merges, longest, usual


def pass_of(session: DecoderSession) -> float:
    """Milliseconds of a pass of the decoder for one token."""
    began = time.perf_counter()
    session.advance([1])
    session.rewind(1)
    return 1000 * (time.perf_counter() - began)


def write_profiles(folder: Path, base: BaseModel, whisper: Whisper, rank: int) -> PeftModel:
    """Write three profiles; returns PEFT's model with all of them."""
    torch.save(whisper.state_dict(), folder / "plain.pt")
    warnings.simplefilter("ignore")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS)
    adapted = get_peft_model(whisper, config, adapter_name=TRAITS[0])
    for trait in TRAITS[1:]:
        adapted.add_adapter(trait, config)
    for name, parameter in adapted.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(str(folder / "peft"))
    for trait in TRAITS:
        target = folder / "profiles" / "tiny" / f"{trait}-{VALUES[trait]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "peft" / trait).rename(target)
        write_card(target, ProfileCard(trait, VALUES[trait], base.name, base.fingerprint))
    return adapted


def by_peft(adapted: PeftModel) -> None:
    """Combine and merge, then undo both; undoing is part of using it, for the next speaker needs the base again."""
    adapted.add_weighted_adapter(list(TRAITS), [1.0] * len(TRAITS), "merged", combination_type="cat")
    adapted.base_model.merge_adapter(["merged"])
    adapted.base_model.unmerge_adapter()
    adapted.delete_adapter("merged")


@dataclass(frozen=True)
class Work:
    """What is measured, and what comes before it and is not."""

    do: Callable[[], object]
    before: Callable[[], object] = lambda: None


def in_turn(works: Sequence[Work], rounds: int) -> list[list[float]]:
    """Milliseconds of each work, `rounds` times after one for warming up, one after the other."""
    found: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for times, work in zip(found, works, strict=True):
            work.before()
            began = time.perf_counter()
            work.do()
            if number:
                times.append(1000 * (time.perf_counter() - began))
    return found


def ratio(times: Sequence[float], others: Sequence[float]) -> str:
    """The median ratio of measurements that were taken in turn."""
    return f"{median(time / other for time, other in zip(times, others, strict=True)):.2f}"


def row(name: str, milliseconds: Sequence[float], goal: str) -> tuple[str, str, str, str]:
    """A line of the table."""
    return name, f"{median(milliseconds):.2f} ms", f"{np.percentile(milliseconds, 90):.2f} ms", goal


if __name__ == "__main__":
    main()
