"""`wyoming-piwhisper evaluate`: how well and how fast a model hears the clips of a manifest."""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wyoming_piwhisper.domain.errors import SettingsError

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers
    from wyoming_piwhisper.commands.recogniser import Recogniser
    from wyoming_piwhisper.domain.scoring import Rate
    from wyoming_piwhisper.training.evaluation import Clip, ClipResult, SetReport
    from wyoming_piwhisper.training.manifest import ManifestClip


@dataclass(frozen=True)
class Conditions:
    """What figures mean nothing without."""

    manifest: str
    split: str
    datasets: tuple[str, ...]
    """The data sets asked for; empty means all."""
    clips: int
    without_transcript: int
    """Clips left out because nobody wrote down what is said."""
    model: str
    model_version: str
    device: str
    threads: int
    """As set; 0 leaves it to the engine."""
    seed: int
    """Of the bootstrap."""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the subcommand."""
    from wyoming_piwhisper.edge.settings_file import RECOGNISER_SECTIONS, add_options

    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on recorded clips",
        description="Recognise the clips of a manifest and print word error rate, character error rate, share of "
        "sentences without error and real-time factor, each with a 95 %% bootstrap interval.",
        allow_abbrev=False,
    )
    parser.add_argument("--manifest", metavar="FILE", type=Path, required=True, help="JSON lines: path, text, dataset…")
    parser.add_argument("--split", metavar="NAME", default="test", help="split to use; 'any' for all (default: test)")
    parser.add_argument("--dataset", metavar="NAME", nargs="+", default=[], help="data sets to use (default: all)")
    parser.add_argument("--limit", metavar="N", type=_positive, help="use N clips, spread evenly over the manifest")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--json", metavar="OUT", type=Path, help="also write figures and all texts to this file")
    parser.add_argument(
        "--compare",
        metavar="WAYS",
        help="hear each clip in several ways and compare groups of speakers: base,one-for-all,known,inferred; also "
        "known-age, known-gender, known-accent",
    )
    parser.add_argument("--plot", metavar="OUT", type=Path, help="with --compare: also draw it (.svg, .png, .pdf)")
    add_options(parser, RECOGNISER_SECTIONS)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; 0 when done, 1 when no clip fits.

    Raises:
        PiWhisperError: a setting is wrong, the model is missing, or a clip cannot be read: figures that leave clips
            out would not compare.
    """
    from tqdm import tqdm

    from wyoming_piwhisper.commands.recogniser import load_recogniser
    from wyoming_piwhisper.training.evaluation import recognise, summarise
    from wyoming_piwhisper.training.manifest import select_clips

    _check_outputs(args)
    split = None if args.split == "any" else args.split
    selection = select_clips(args.manifest, split=split, datasets=args.dataset, limit=args.limit)
    if not selection.clips:
        print(f"wyoming-piwhisper: no clip with a transcript in {args.manifest} fits", file=sys.stderr)
        return 1
    recogniser = load_recogniser(args)
    asr, description = recogniser.settings.asr, recogniser.model.description
    conditions = Conditions(
        manifest=str(args.manifest),
        split=args.split,
        datasets=tuple(args.dataset),
        clips=len(selection.clips),
        without_transcript=selection.without_transcript,
        model=description.name,
        model_version=description.version,
        device=recogniser.device,
        threads=asr.threads,
        seed=args.seed,
    )
    clips = tqdm(_load(selection.clips), total=len(selection.clips), unit="clip", disable=None, file=sys.stderr)
    if args.compare is not None:
        return _compare(args, recogniser, conditions, clips)
    results = list(recognise(recogniser.engine, clips, recogniser.options))
    reports = summarise(results, seed=args.seed)
    print(format_report(conditions, reports))
    if args.json is not None:
        _write_json(args.json, report_as_json(conditions, reports, results))
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse what could only fail after the long work."""
    from wyoming_piwhisper.commands.comparison_report import require_picture
    from wyoming_piwhisper.training.comparison import ways_of

    for option in ("json", "plot"):
        path = getattr(args, option)
        if path is not None and not path.parent.is_dir():
            raise SettingsError(f"--{option}: no folder {path.parent}")
    if args.compare is not None:
        ways_of(args.compare)
    if args.plot is not None:
        require_picture(args.plot)
        if args.compare is None:
            raise SettingsError("--plot: draws a comparison; give --compare too")


def _compare(
    args: argparse.Namespace, recogniser: "Recogniser", conditions: Conditions, clips: "Iterable[Clip]"
) -> int:
    from wyoming_piwhisper.commands.comparison_report import as_json, draw, markdown
    from wyoming_piwhisper.training.comparison import compare, report, ways_of

    results = compare(recogniser.engine, clips, ways_of(args.compare), recogniser.options.language)
    reports = report(results, seed=args.seed)
    print(f"{_heading(conditions)}\n\n{markdown(reports)}")
    if args.json is not None:
        heard = {way: [asdict(one) for one in way_results] for way, way_results in results.items()}
        content = {"conditions": asdict(conditions), "ways": _without_nan(as_json(reports)), "utterances": heard}
        _write_json(args.json, content)
    if args.plot is not None:
        draw(reports, args.plot)
    return 0


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def format_report(conditions: Conditions, reports: Sequence["SetReport"]) -> str:
    """A line of conditions and a table with one row per report; rates in percent with their intervals."""
    columns = (
        "data set",
        "clips",
        "words",
        "WER %",
        "CER %",
        "sentences right %",
        "real-time factor",
        "false alarms %",
    )
    rows = [columns, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    table = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([_heading(conditions), "", *table])


def _heading(conditions: Conditions) -> str:
    chosen = ", ".join(conditions.datasets) or "all data sets"
    return (
        f"{conditions.manifest}, split {conditions.split}, {chosen}: {conditions.clips} clips, "
        f"{conditions.without_transcript} more without transcript left out\n"
        f"model {conditions.model} ({conditions.model_version}), device {conditions.device}, "
        f"threads {conditions.threads or 'auto'}, seed {conditions.seed}; in brackets: 95 % bootstrap interval, "
        f"* speakers drawn, else utterances"
    )


def report_as_json(
    conditions: Conditions, reports: Sequence["SetReport"], results: Iterable["ClipResult"]
) -> dict[str, Any]:
    """The same figures, unrounded, with every reference and hypothesis; None where there is no figure."""
    return {
        "conditions": asdict(conditions),
        "sets": [_without_nan(asdict(report)) for report in reports],
        "utterances": [asdict(result) for result in results],
    }


def _row(report: "SetReport") -> tuple[str, ...]:
    score = report.score
    return (
        report.dataset,
        str(score.utterances + report.noise_clips),
        str(score.words.reference_length),
        _shown(score.word_error_rate, 100, 1),
        _shown(score.character_error_rate, 100, 1),
        _shown(score.sentence_accuracy, 100, 1),
        _shown(report.real_time_factor, 1, 3),
        f"{_shown(report.false_alarm_rate, 100, 1)}" + (f" of {report.noise_clips}" if report.noise_clips else ""),
    )


def _shown(rate: "Rate", scale: int, digits: int) -> str:
    if math.isnan(rate.value):
        return "-"
    value, low, high = (f"{scale * number:.{digits}f}" for number in (rate.value, rate.low, rate.high))
    return f"{value} [{low}, {high}]{'*' if rate.unit == 'speakers' else ''}"


def _without_nan(value: Any) -> Any:  # noqa: ANN401 -- any JSON value
    match value:
        case dict():
            return {key: _without_nan(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_without_nan(entry) for entry in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _load(clips: Iterable["ManifestClip"]) -> Iterator["Clip"]:
    from wyoming_piwhisper.edge.audio_files import read_audio
    from wyoming_piwhisper.training.evaluation import Clip

    for clip in clips:
        yield Clip(clip.name, read_audio(clip.path), clip.reference or "", clip.dataset, clip.speaker, clip.traits)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number
