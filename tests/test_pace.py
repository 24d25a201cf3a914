"""Live audio told from files by its arrival."""

import random

import pytest

from wyoming_piwhisper.domain.pace import Pace


def arrived(*chunks: tuple[float, float]) -> Pace:
    pace = Pace()
    for now, seconds in chunks:
        pace.add(now, seconds)
    return pace


@pytest.mark.parametrize("burst", [0.0, 0.5, 2.3, 4.0])
def test_speech_is_live_also_with_what_was_kept_from_before(burst: float) -> None:
    pace = arrived((10.0, burst), *((10.03 + 0.03 * number, 0.03) for number in range(60)))

    assert pace.is_live(11.85)


@pytest.mark.parametrize("speed", [1.3, 1.5, 2.0, 10.0])
def test_a_file_is_not(speed: float) -> None:
    chunks = [(10.0 + 0.03 * number / speed, 0.03) for number in range(200)]

    assert not arrived(*chunks).is_live(chunks[-1][0])


def test_a_long_file_at_once_is_not_live_after_a_while_either() -> None:
    assert not arrived((10.0, 9.0)).is_live(13.0)


def test_a_line_that_stalled_is_live_although_the_rest_comes_at_once() -> None:
    chunks = [(10.0 + 0.03 * number, 0.03) for number in range(40)]
    chunks += [(12.2, 0.03)] * 33 + [(12.2 + 0.03 * number, 0.03) for number in range(1, 40)]

    assert arrived(*chunks).is_live(13.4)


@pytest.mark.parametrize("clump", [0.1, 0.25, 0.45, 0.64, 0.75, 0.9, 0.96, 1.0, 2.0])
@pytest.mark.parametrize("piece", [0.01, 0.03, None])
def test_speech_that_comes_in_clumps_is_live(clump: float, piece: float | None) -> None:
    jitter = random.Random(0)
    pace, verdicts = Pace(), []
    for number in range(1, 20):
        now = 10.0 + clump * number + jitter.uniform(0, 0.02)
        pieces = round(clump / piece) if piece else 1
        for index in range(pieces):
            pace.add(now + 0.0001 * index, clump / pieces)
        verdicts.append(pace.is_live(now + 0.003))

    assert all(verdicts[4:])


def test_much_at_once_may_be_a_file_until_the_next_comes() -> None:
    pace = arrived((10.0, 2.0))
    assert not pace.is_live(11.5)

    pace.add(11.6, 0.03)

    assert pace.is_live(11.6)
