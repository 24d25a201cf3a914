import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wyoming_piwhisper.domain.scoring import (
    FEWEST_SPEAKERS,
    EditCounts,
    bootstrap_rate,
    count_edits,
    score_corpus,
    score_utterance,
)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", EditCounts(0, 0, 0, 0)),
        ("a b c", "a b c", EditCounts(0, 0, 0, 3)),
        ("a b c", "", EditCounts(0, 0, 3, 3)),
        ("", "a b", EditCounts(0, 2, 0, 0)),
        ("a b c", "a x c", EditCounts(1, 0, 0, 3)),
        ("turn on the light", "turn the lights on", EditCounts(1, 1, 1, 4)),
        # Two substitutions would cost the same, but leave no word right.
        ("a b", "b c", EditCounts(0, 1, 1, 2)),
    ],
)
def test_errors_are_counted_by_kind(reference: str, hypothesis: str, expected: EditCounts) -> None:
    assert count_edits(reference.split(), hypothesis.split()) == expected


def least_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The textbook's edit distance, cell by cell."""
    table = [[row + column for column in range(len(hypothesis) + 1)] for row in range(len(reference) + 1)]
    for row, wanted in enumerate(reference, start=1):
        for column, got in enumerate(hypothesis, start=1):
            table[row][column] = min(
                table[row - 1][column] + 1,
                table[row][column - 1] + 1,
                table[row - 1][column - 1] + (wanted != got),
            )
    return table[-1][-1]


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_counts_agree_with_the_textbook(reference: str, hypothesis: str) -> None:
    counts = count_edits(reference, hypothesis)
    assert counts.errors == least_errors(reference, hypothesis)
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)
    assert counts.substitutions + counts.deletions <= len(reference)
    assert min(counts.substitutions, counts.insertions, counts.deletions) >= 0


def test_texts_are_normalised_before_they_are_compared() -> None:
    score = score_utterance("Set the lamp to 50%.", "set the lamp to fifty percent")
    assert score.is_exact
    assert score.words.reference_length == 6


def test_rates_are_sums_over_sums() -> None:
    score = score_corpus(
        [
            score_utterance("stop", "stop"),
            score_utterance("turn on the kitchen light", "turn on the light"),
            score_utterance("what time is it", "what tame is it"),
        ]
    )
    assert score.utterances == 3
    assert score.words == EditCounts(1, 0, 1, 10)
    assert score.word_error_rate.value == pytest.approx(0.2)
    # Eight deletions for "kitchen " and one substitution.
    assert score.character_error_rate.value == pytest.approx(9 / (4 + 25 + 15))
    assert score.sentence_accuracy.value == pytest.approx(1 / 3)


def test_no_utterances_have_no_rates() -> None:
    score = score_corpus([])
    assert score.utterances == 0
    assert math.isnan(score.word_error_rate.value)
    assert math.isnan(score.word_error_rate.low)


def test_the_interval_is_that_of_a_binomial_share() -> None:
    outcomes = [1.0] * 100 + [0.0] * 300
    rate = bootstrap_rate(outcomes, [1.0] * 400, [None] * 400, seed=3)
    spread = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert rate.value == 0.25
    assert rate.low == pytest.approx(0.25 - spread, abs=0.008)
    assert rate.high == pytest.approx(0.25 + spread, abs=0.008)
    assert rate.unit == "utterances"


def test_a_seed_repeats_an_interval() -> None:
    draw = random.Random(5)
    outcomes = [draw.random() for _ in range(50)]
    first, again, other = (bootstrap_rate(outcomes, [1.0] * 50, [None] * 50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_speakers_are_drawn_whole() -> None:
    """Where a person's utterances fail together, there is less evidence than there are utterances."""
    speakers = [f"speaker {index // 20}" for index in range(20 * FEWEST_SPEAKERS)]
    failures = [float(index // 20 % 2) for index in range(20 * FEWEST_SPEAKERS)]
    ones = [1.0] * len(failures)
    by_speaker = bootstrap_rate(failures, ones, speakers)
    by_utterance = bootstrap_rate(failures, ones, [None] * len(failures))
    assert by_speaker.unit == "speakers"
    assert by_speaker.high - by_speaker.low > 2 * (by_utterance.high - by_utterance.low)


def test_few_speakers_are_not_drawn() -> None:
    speakers = [f"speaker {index % (FEWEST_SPEAKERS - 1)}" for index in range(100)]
    assert bootstrap_rate([1.0] * 100, [1.0] * 100, speakers).unit == "utterances"


def test_unknown_speakers_are_drawn_one_by_one() -> None:
    known = [f"speaker {index}" for index in range(FEWEST_SPEAKERS)]
    failures = [1.0] * FEWEST_SPEAKERS + [0.0] * 90
    rate = bootstrap_rate(failures, [1.0] * len(failures), [*known, *[None] * 90])
    assert rate.unit == "speakers"
    assert rate.low > 0.0


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 numerators, 1 denominators"):
        bootstrap_rate([1, 2], [1], [None])
