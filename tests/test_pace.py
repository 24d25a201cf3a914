"""Live audio told from files by its arrival."""

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


@pytest.mark.parametrize("speed", [1.5, 2.0, 10.0])
def test_a_file_is_not(speed: float) -> None:
    chunks = [(10.0 + 0.03 * number / speed, 0.03) for number in range(200)]

    assert not arrived(*chunks).is_live(chunks[-1][0])


def test_a_long_file_at_once_is_not_live_after_a_while_either() -> None:
    assert not arrived((10.0, 9.0)).is_live(13.0)


def test_a_line_that_stalled_is_live_again_soon() -> None:
    chunks = [(10.0 + 0.03 * number, 0.03) for number in range(40)]
    chunks += [(12.2, 0.03)] * 33 + [(12.2 + 0.03 * number, 0.03) for number in range(1, 40)]
    pace = arrived(*chunks)

    assert not pace.is_live(12.3)
    assert pace.is_live(13.4)
