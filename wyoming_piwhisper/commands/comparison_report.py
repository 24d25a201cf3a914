"""A comparison of ways to hear as a Markdown table, JSON and a picture."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.traits import TRAITS, Trait

if TYPE_CHECKING:
    from wyoming_piwhisper.domain.fairness import GroupRate
    from wyoming_piwhisper.domain.scoring import Rate
    from wyoming_piwhisper.training.comparison import WayReport

PICTURES: Final = (".svg", ".png", ".pdf")


def markdown(reports: Sequence["WayReport"]) -> str:
    """Word error rates in percent with 95 % intervals: a row for all, one for each group, then SPD and DIR."""
    ways = [report.way for report in reports]
    head = ["group", "speakers", "utterances", *ways]
    first = reports[0]
    rows = [
        ["all", "", str(first.score.utterances), *(_percent(report.score.word_error_rate) for report in reports)],
        ["added time, ms", "", "", *(f"{1000 * report.added_seconds:.0f}" for report in reports)],
    ]
    for trait in TRAITS:
        rows += _trait_rows(trait, reports)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(reports: Sequence["WayReport"]) -> list[dict[str, Any]]:
    """The same figures, unrounded."""
    return [asdict(report) for report in reports]


def require_picture(path: Path) -> None:
    """Check that a picture can be drawn and written, before the long work.

    Raises:
        SettingsError: the format is unknown, or matplotlib is not installed.
    """
    if path.suffix not in PICTURES:
        raise SettingsError(f"--plot: {path.name} ends in none of {', '.join(PICTURES)}")
    if find_spec("matplotlib") is None:
        raise SettingsError("--plot needs matplotlib: pip install 'wyoming-piwhisper[train]'")


def draw(reports: Sequence["WayReport"], path: Path) -> None:
    """Bars of word error rate for each group and way, with 95 % intervals."""
    from matplotlib.figure import Figure

    groups = [
        (f"{group.group}\n{group.speakers} speakers", trait, index)
        for trait in TRAITS
        for index, group in enumerate(reports[0].by_trait[trait].groups)
    ]
    figure = Figure(figsize=(max(6.0, 1.1 * (len(groups) + 1)), 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(reports)
    for number, report in enumerate(reports):
        rates = [report.score.word_error_rate]
        rates += [report.by_trait[trait].groups[index].word_error_rate for _, trait, index in groups]
        places = [place + (number - (len(reports) - 1) / 2) * width for place in range(len(rates))]
        heights = [100 * rate.value for rate in rates]
        below = [100 * max(0.0, rate.value - rate.low) for rate in rates]
        above = [100 * max(0.0, rate.high - rate.value) for rate in rates]
        axes.bar(places, heights, width, yerr=[below, above], capsize=2, label=report.way, error_kw={"lw": 0.8})
    axes.set_xticks(range(len(groups) + 1), ["all", *(label for label, _, _ in groups)])
    axes.set_ylabel("word error rate, %")
    axes.legend()
    figure.savefig(path, dpi=150)


def _trait_rows(trait: Trait, reports: Sequence["WayReport"]) -> list[list[str]]:
    fair = [report.by_trait[trait] for report in reports]
    rows = [
        [f"{trait}: {group.group}", str(group.speakers), str(group.utterances), *_rates(index, reports, trait)]
        for index, group in enumerate(fair[0].groups)
    ]
    if not rows:
        return []
    return [
        *rows,
        [f"{trait}: SPD", "", "", *(_number(100 * one.statistical_parity_difference, 1) for one in fair)],
        [f"{trait}: DIR", "", "", *(_number(one.disparate_impact_ratio, 2) for one in fair)],
    ]


def _rates(index: int, reports: Sequence["WayReport"], trait: Trait) -> list[str]:
    groups: list[GroupRate] = [report.by_trait[trait].groups[index] for report in reports]
    return [_percent(group.word_error_rate) for group in groups]


def _percent(rate: "Rate") -> str:
    if math.isnan(rate.value):
        return "-"
    return f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
