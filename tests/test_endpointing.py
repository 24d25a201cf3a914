"""How long the end of a command is waited for."""

from dataclasses import replace

import pytest

from wyoming_piwhisper.domain.endpointing import (
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    USUAL_SECONDS,
    Pause,
    has_ended,
    silence_to_wait,
)

SURE = Pause(0.3, 0.0, "turn on the living room lamp", 0.92, -0.1)


def test_a_complete_command_ends_after_a_short_silence() -> None:
    assert silence_to_wait(SURE) == pytest.approx(SHORTEST_SECONDS)
    assert has_ended(SURE)
    assert not has_ended(replace(SURE, seconds=0.15))


@pytest.mark.parametrize(
    "pause",
    [
        replace(SURE, text="turn on the"),
        replace(SURE, end_probability=0.3),
        replace(SURE, average_log_probability=-1.2),
        replace(SURE, text=""),
    ],
)
def test_what_breaks_off_or_is_not_understood_gets_at_least_the_usual_time(pause: Pause) -> None:
    assert silence_to_wait(pause) >= USUAL_SECONDS
    assert not has_ended(pause)


def test_few_words_get_more_time_than_a_sentence() -> None:
    waits = [
        silence_to_wait(replace(SURE, text=text, end_probability=0.8)) for text in ("stop", "stop it", "stop it now")
    ]
    assert waits[0] > waits[1] > waits[2]


def test_who_paused_before_gets_more_time() -> None:
    assert silence_to_wait(replace(SURE, longest_before_seconds=0.6)) > 0.6
    assert silence_to_wait(replace(SURE, longest_before_seconds=9.0)) == LONGEST_SECONDS


def test_punctuation_and_capitals_do_not_matter() -> None:
    assert silence_to_wait(replace(SURE, text="Turn on the.")) == silence_to_wait(replace(SURE, text="turn on the"))
