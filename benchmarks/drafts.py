"""What drafts do to words: each clip heard once at its end, and once with work ahead of time in each of its pauses.

In eight bits a pass over several tokens rounds otherwise than one token at a time, so an answer that was verified may
differ from one that was decoded anew.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.scoring import score_corpus, score_utterance
from wyoming_piwhisper.domain.settings import AsrSettings
from wyoming_piwhisper.domain.text import normalise_text
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Speculation, Transcription
from wyoming_piwhisper.edge.audio_files import read_audio
from wyoming_piwhisper.engine.interface import Engine
from wyoming_piwhisper.engine.loading import load_engine
from wyoming_piwhisper.training.manifest import read_clips

CHUNK = SAMPLE_RATE // 10
MODEL = Path(__file__).parent.parent / "wyoming_piwhisper" / "models" / "home-en"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="JSON lines: path, text_norm, dataset, split")
    parser.add_argument("--split", default="test", help="of the manifest (default: test)")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of the model (default: the bundled one)")
    args = parser.parse_args()
    engine = load_engine(EnginePlan(args.model, asr=AsrSettings(threads=1)))
    spoken = [clip for clip in read_clips(args.manifest) if clip.split == args.split and clip.reference]
    counts, differ, scores = Speculation(), 0, ([], [])
    for clip in tqdm(spoken, unit="clip"):
        samples = read_audio(clip.path)
        found = [hear(engine, samples, ahead=ahead) for ahead in (False, True)]
        counts += found[1].speculation
        differ += found[0].text != found[1].text
        for scored, one in zip(scores, found, strict=True):
            scored.append(score_utterance(normalise_text(clip.reference), normalise_text(one.text), clip.speaker))
    without, with_ = (100 * score_corpus(scored).word_error_rate.value for scored in scores)
    print(f"{args.model.name}, split {args.split}, {len(spoken)} clips; {counts}\n")
    print("| | texts that differ | word error rate |\n|---|---|---|")
    print(f"| heard at the end | | {without:.2f} % |")
    share = f"{differ} of {len(spoken)} ({100 * differ / len(spoken):.2f} %)"
    print(f"| heard ahead, with drafts | {share} | {with_:.2f} % |")


def hear(engine: Engine, samples: Samples, *, ahead: bool) -> Transcription:
    """Hear a clip in chunks of 0.1 s."""
    utterance = engine.open(RecognitionOptions("en", "none"))
    for start in range(0, samples.size, CHUNK):
        utterance.feed(samples[start : start + CHUNK])
        while ahead and utterance.think():
            pass
    return utterance.finish()


if __name__ == "__main__":
    main()
