"""Whether profiles bring the same words merged into a model and applied at run time, and how well both hear.

The two round differently: merged weights are rounded to eight bits together with what the profiles add, at run time
only the base's are. How much that is worth shows the reference in torch, which does not round. Clips are heard with the
profiles of what is known of their speakers.
"""

import argparse
from pathlib import Path

from wyoming_piwhisper.domain.profiles import ProfileKey
from wyoming_piwhisper.domain.scoring import score_utterance
from wyoming_piwhisper.domain.settings import VadSettings
from wyoming_piwhisper.domain.traits import TRAITS
from wyoming_piwhisper.edge.audio_files import read_audio
from wyoming_piwhisper.edge.data_folders import profile_dirs_of
from wyoming_piwhisper.edge.model_store import resolve_model
from wyoming_piwhisper.engine.backends import Backend, load_model
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.merged_models import MergedModels
from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary
from wyoming_piwhisper.engine.recognizer import Recognizer
from wyoming_piwhisper.engine.voices import Voices
from wyoming_piwhisper.engine.whisper_onnx import OnnxWhisper
from wyoming_piwhisper.training.comparison import options_of
from wyoming_piwhisper.training.evaluation import Clip, ClipResult, hear, summarise
from wyoming_piwhisper.training.manifest import select_clips

WAYS = ("merged", "run time", "merged, reference", "base")
CACHE_BYTES = 10**9


def main() -> None:
    """Hear all clips in all ways and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="JSON lines: path, text, age, gender, accent…")
    parser.add_argument("--split", default="dev", help="split to use (default: dev)")
    parser.add_argument("--limit", type=int, default=150, help="clips, spread evenly over the manifest (default: 150)")
    parser.add_argument("--model", default="home-en", help="as asr.model (default: home-en)")
    parser.add_argument("--threads", type=int, default=1, help="of the model (default: 1)")
    args = parser.parse_args()
    selection = select_clips(args.manifest, split=args.split, limit=args.limit)
    clips = [
        Clip(clip.name, read_audio(clip.path), clip.reference or "", clip.dataset, clip.speaker, clip.traits)
        for clip in selection.clips
    ]
    recognisers = recognisers_of(args.model, args.threads)
    heard: dict[str, list[ClipResult]] = {way: [] for way in WAYS}
    for clip in clips:
        for way in WAYS:
            options = options_of("base" if way == "base" else "known", clip, "en")
            heard[way].append(hear(recognisers[way], clip, options))
    print(f"{args.model}, split {args.split}, {len(clips)} clips, profiles of known traits, {args.threads} threads\n")
    right = [is_right(merged) for merged in heard["merged"]]
    print("| way | word error rate % | other words than merged | of clips that merged hears right |\n|---|---|---|---|")
    for way in WAYS:
        pairs = zip(heard[way], heard["merged"], strict=True)
        others = [result.hypothesis != merged.hypothesis for result, merged in pairs]
        rate = summarise(heard[way])[-1].score.word_error_rate
        shares = share(sum(others), len(clips)), share(sum(map(min, others, right)), sum(right))
        print(
            f"| {way} | {100 * rate.value:.2f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}] | {' | '.join(shares)} |"
        )
    for merged, other in zip(heard["merged"], heard["run time"], strict=True):
        if merged.hypothesis != other.hypothesis:
            print(f"\n{merged.name}, {merged.profile}\n  merged:   {merged.hypothesis}\n  run time: {other.hypothesis}")


def is_right(result: ClipResult) -> bool:
    """Whether there is no error in a clip."""
    return score_utterance(result.reference, result.hypothesis).is_exact


def share(count: int, clips: int) -> str:
    """A count and its percentage."""
    return f"{count} of {clips} ({100 * count / max(1, clips):.1f} %)"


def recognisers_of(model: str, threads: int) -> dict[str, Recognizer]:
    """A recogniser for each way, all over the same base."""
    resolved = resolve_model(model, Path())
    checkpoint = read_checkpoint(resolved.folder)
    base = OnnxWhisper.load(checkpoint, threads)
    reference = load_model(checkpoint, Backend("torch", "cpu"), threads)
    library = ProfileLibrary(profile_dirs_of(""), BaseModel(resolved.description.name, checkpoint.weights))
    weights = dict.fromkeys(TRAITS, 1.0)
    merged, exact = (MergedModels(model, library, weights, CACHE_BYTES) for model in (base, reference))
    # What cannot be kept is not merged.
    at_run_time = MergedModels(base, library, weights, 0, waits=False)
    at_run_time.prepare()
    any_profile = ProfileKey.of(list(library.profiles)[:1])
    while at_run_time.fetch(any_profile).model is base:
        pass
    return {
        way: Recognizer(models.base, checkpoint, VadSettings(), Voices(models, None))
        for way, models in zip(WAYS, (merged, at_run_time, exact, merged), strict=True)
    }


if __name__ == "__main__":
    main()
