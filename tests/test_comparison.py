"""Ways of hearing compared over groups of speakers."""

import json
from pathlib import Path

import numpy as np
import pytest
from adapters import Place, base_of, make_place, write_profile
from speakers import write_speakers

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.commands.comparison_report import markdown
from wyoming_piwhisper.domain.audio import Samples
from wyoming_piwhisper.domain.fairness import fairness, group_rates
from wyoming_piwhisper.domain.scoring import score_utterance
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Transcription
from wyoming_piwhisper.training.comparison import WAYS, compare, options_of, report
from wyoming_piwhisper.training.evaluation import Clip

SILENCE = np.zeros(16_000, np.float32)


def clip(number: int, accent: str | None) -> Clip:
    traits = {"gender": "female"} | ({} if accent is None else {"accent": accent})
    return Clip(f"{number}.wav", SILENCE, "turn on the light", "made", f"s{number}", traits)  # type: ignore[arg-type]


class Listener:
    """Hears everything right with the profile of the speaker, one word wrong otherwise."""

    def __init__(self, options: RecognitionOptions) -> None:
        self._options = options

    def feed(self, samples: Samples) -> None:
        pass

    def think(self) -> bool:
        return False

    def endpoint(self) -> Transcription | None:
        return None

    def finish(self) -> Transcription:
        right = "accent-indian" in self._options.profile
        text = "turn on the light" if right else "turn off the light"
        return Transcription(text, "en", 1.0, profile=self._options.profile)


class Ears:
    def open(self, options: RecognitionOptions) -> Listener:
        return Listener(options)


def test_each_way_asks_for_its_profiles() -> None:
    asked = {way: options_of(way, clip(1, "indian"), "en") for way in WAYS}

    assert {way: options.profile for way, options in asked.items()} == {
        "base": "none",
        "one-for-all": "one-for-all",
        "known": "gender-female+accent-indian",
        "inferred": "auto",
        "known-age": "one-for-all",
        "known-gender": "gender-female",
        "known-accent": "accent-indian",
    }
    assert all(options.known.estimates() == {} for options in asked.values())


def test_groups_are_measured_beside_each_other() -> None:
    clips = [clip(number, "indian" if number % 2 else "american") for number in range(8)] + [clip(9, None)]

    base, known = report(compare(Ears(), clips, ["base", "known"], "en"))

    assert base.score.word_error_rate.value == pytest.approx(0.25)
    assert known.score.word_error_rate.value == pytest.approx(5 / 36)
    accents = known.by_trait["accent"]
    assert [(group.group, group.speakers, group.word_error_rate.value) for group in accents.groups] == [
        ("american", 4, 0.25),
        ("indian", 4, 0.0),
    ]
    assert accents.statistical_parity_difference == 0.25
    assert accents.disparate_impact_ratio == float("inf")
    assert known.by_trait["age"].groups == ()
    assert known.profiles == {"gender-female": 1, "gender-female+accent-american": 4, "gender-female+accent-indian": 4}
    table = markdown([base, known])
    assert "| accent: indian | 4 | 4 | 25.0 [25.0, 25.0] | 0.0 [0.0, 0.0] |" in table
    assert "| accent: SPD |  |  | 0.0 | 25.0 |" in table


def test_small_groups_are_shown_and_do_not_decide() -> None:
    scores = {
        "many": [score_utterance("one two", "one two", f"s{number}") for number in range(5)],
        "some": [score_utterance("one two", "one", f"t{number}") for number in range(4)],
        "one": [score_utterance("one two", "", "u")],
    }

    result = fairness(group_rates(scores), fewest_speakers=3)

    assert [group.word_error_rate.value for group in result.groups] == [0.0, 0.5, 1.0]
    assert result.statistical_parity_difference == 0.5


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = make_place(tmp_path)
    write_profile(made.profiles, base_of(made.model, "model"), made.plain(), "accent", "indian")
    return made


def test_the_command_prints_writes_and_draws(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_speakers(tmp_path / "corpus", 12)
    arguments = ["--manifest", str(manifest), "--split", "train", "--limit", "6", "--compare", "base,known"]
    arguments += ["--asr-model", str(place.model), "--profiles-dir", str(place.profiles)]
    arguments += ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.svg")]

    assert main(["evaluate", *arguments]) == 0

    assert "| group | speakers | utterances | base | known |" in capsys.readouterr().out
    content = json.loads((tmp_path / "out.json").read_text())
    assert [way["way"] for way in content["ways"]] == ["base", "known"]
    assert {heard["profile"] for heard in content["utterances"]["known"]} == {"base", "accent-indian"}
    assert "<svg" in (tmp_path / "out.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--compare", "base,guess"], "--compare: 'guess' is none of base, one-for-all"),
        (["--compare", "base", "--plot", "out.bmp"], "--plot: out.bmp ends in none of"),
        (["--plot", "out.svg"], "give --compare too"),
        (["--compare", "base", "--plot", "nowhere/out.svg"], "--plot: no folder nowhere"),
    ],
)
def test_wrong_options_are_told_before_the_work(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--manifest", "nowhere.jsonl", *arguments]) == 2
    assert complaint in capsys.readouterr().err
