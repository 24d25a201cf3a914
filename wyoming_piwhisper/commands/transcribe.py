"""`wyoming-piwhisper transcribe`: audio files to text, with timings."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from wyoming_piwhisper.domain.errors import AudioFormatError, InferenceError
from wyoming_piwhisper.domain.profiles import BASE

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers
    from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
    from wyoming_piwhisper.engine.interface import Engine


@dataclass(frozen=True)
class TimedTranscription:
    """What was heard, and how long hearing it took."""

    heard: "Transcription"
    wall_seconds: float

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work for a second of audio; None for an empty file."""
        return self.wall_seconds / self.heard.audio_seconds if self.heard.audio_seconds > 0 else None


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    from wyoming_piwhisper.edge.settings_file import RECOGNISER_SECTIONS, add_options

    parser = subparsers.add_parser(
        "transcribe",
        help="print the words in audio files",
        description="Print the words in audio files (wav, flac, ogg), with timings, without a server.",
        allow_abbrev=False,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="an audio file")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead")
    add_options(parser, RECOGNISER_SECTIONS)


def run(args: argparse.Namespace) -> int:
    """Transcribe `args.files`; 0 when all could be read, else 1.

    Raises:
        PiWhisperError: a setting is wrong, or the model is missing or damaged.
    """
    from wyoming_piwhisper.commands.recogniser import load_recogniser

    recogniser = load_recogniser(args)
    print(recogniser.model.reason, file=sys.stderr)
    return transcribe_files(recogniser.engine, args.files, recogniser.options, sys.stdout, as_json=args.json)


def transcribe_files(
    engine: "Engine", files: Sequence[Path], options: "RecognitionOptions", output: TextIO, *, as_json: bool
) -> int:
    """Write what is said in each file to `output`, and which could not be read to standard error.

    Returns:
        0 when every file could be transcribed, else 1; a bad file does not stop the rest.
    """
    failed = False
    for path in files:
        try:
            result = transcribe_file(engine, path, options)
        except (AudioFormatError, InferenceError) as error:
            failed = True
            message = str(error) if str(path) in str(error) else f"{path}: {error}"
            print(f"wyoming-piwhisper: {message}", file=sys.stderr)
            if as_json:
                print(json.dumps({"file": str(path), "error": message}), file=output, flush=True)
            continue
        print(_json_line(path, result) if as_json else _text_lines(path, result), file=output, flush=True)
    return int(failed)


def transcribe_file(engine: "Engine", path: Path, options: "RecognitionOptions") -> TimedTranscription:
    """Recognise one file whole.

    Raises:
        AudioFormatError: the file cannot be read.
        InferenceError: the model failed on it.
    """
    from wyoming_piwhisper.edge.audio_files import read_audio

    samples = read_audio(path)
    began = time.perf_counter()
    utterance = engine.open(options)
    utterance.feed(samples)
    heard = utterance.finish()
    return TimedTranscription(heard, time.perf_counter() - began)


def _json_line(path: Path, result: TimedTranscription) -> str:
    heard = result.heard
    factor = result.real_time_factor
    record = {
        "file": str(path),
        "text": heard.text,
        "language": heard.language,
        "audio_seconds": round(heard.audio_seconds, 3),
        "speech_seconds": round(heard.speech_seconds, 3),
        "wall_seconds": round(result.wall_seconds, 4),
        "real_time_factor": None if factor is None else round(factor, 4),
        "no_speech_probability": round(heard.no_speech_probability, 4),
        "average_log_probability": round(heard.average_log_probability, 4),
        "profile": heard.profile,
        "traits": {trait: asdict(estimate) for trait, estimate in heard.traits.items()},
        "stage_seconds": {stage: round(seconds, 4) for stage, seconds in heard.stage_seconds.items()},
    }
    return json.dumps(record, ensure_ascii=False)


def _text_lines(path: Path, result: TimedTranscription) -> str:
    heard = result.heard
    timings = [
        f"{heard.audio_seconds:.2f} s of audio",
        f"{heard.speech_seconds:.2f} s of speech",
        f"took {result.wall_seconds:.2f} s",
    ]
    if result.real_time_factor is not None:
        timings.append(f"real-time factor {result.real_time_factor:.3f}")
    if heard.profile != BASE:
        timings.append(f"profile {heard.profile}")
    return f"{path}: {heard.text or '(no speech)'}\n    {', '.join(timings)}"
