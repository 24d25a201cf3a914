"""Where words lie in a clip, from posteriors made by hand."""

from itertools import groupby, product

import numpy as np
import numpy.typing as npt
import pytest

from wyoming_piwhisper.training.alignment import BLANK, EDGE_STATES, WordSpan, align_words


def posteriors(path: list[int], phonemes: int = 4, certainty: float = 0.9) -> npt.NDArray[np.float32]:
    """Log probabilities of a model that hears `path`."""
    probabilities = np.full((len(path), phonemes + 1), (1 - certainty) / phonemes, np.float32)
    probabilities[np.arange(len(path)), path] = certainty
    return np.log(probabilities)


def frames_by_brute_force(log_probabilities: npt.NDArray[np.float32], targets: list[int]) -> list[tuple[int, int]]:
    """First and last state of each target on the likeliest of all paths that spell the targets."""
    states, symbols = log_probabilities.shape
    best, best_score = None, -np.inf
    for path in product(range(symbols), repeat=states):
        if [number for number, _ in groupby(path) if number != BLANK] == targets:
            score = float(log_probabilities[np.arange(states), path].sum())
            if score > best_score:
                best, best_score = path, score
    assert best is not None
    spans, state = [], 0
    for number, group in groupby(best):
        count = len(list(group))
        if number != BLANK:
            spans.append((state, state + count - 1))
        state += count
    return spans


def test_words_are_found_where_they_are_said() -> None:
    path = [0] * 10 + [1, 1, 0, 2] + [0] * 20 + [3, 4, 4] + [0] * 10

    first, second = align_words(posteriors(path), [("on", [1, 2]), ("off", [3, 4])])

    assert (first.word, first.first, first.end) == ("on", 10 - EDGE_STATES, 14 + EDGE_STATES)
    assert (second.word, second.first, second.end) == ("off", 34 - EDGE_STATES, 37 + EDGE_STATES)
    assert first.log_probability == pytest.approx(np.log(0.9), abs=1e-5)


def test_neighbouring_words_share_the_silence_between_them() -> None:
    first, second = align_words(posteriors([1, 1, 0, 0, 2, 2]), [("a", [1]), ("b", [2])])

    assert (first.first, first.end, second.first, second.end) == (0, 3, 3, 6)


def test_a_word_that_is_not_there_scores_low() -> None:
    heard, missing = align_words(posteriors([0, 1, 1, 0, 0, 0, 3, 3, 0]), [("a", [1]), ("b", [2])])

    assert heard.log_probability == pytest.approx(np.log(0.9), abs=1e-5)
    assert missing.log_probability < np.log(0.05)


def test_repeated_phonemes_need_a_blank_between() -> None:
    first, second = align_words(posteriors([1, 1, 1, 0, 1, 1, 0, 0]), [("a", [1]), ("a", [1])])

    assert first.end <= second.first
    assert first.first == 0
    assert second.first in {3, 4}
    assert second.log_probability == pytest.approx(np.log(0.9), abs=1e-5)


@pytest.mark.parametrize("words", [[], [("a", [1, 2, 3])], [("a", [1]), ("b", [])], [("a", []), ("b", [1])]])
def test_what_cannot_be_aligned_gives_nothing(words: list[tuple[str, list[int]]]) -> None:
    assert align_words(posteriors([0, 1, 2, 3, 0]), words) == []


@pytest.mark.parametrize("seed", range(12))
def test_the_path_is_the_likeliest_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    states = int(generator.integers(6, 8))
    targets = generator.integers(1, 4, 3).tolist()
    log_probabilities = np.log(generator.dirichlet(np.full(4, 0.7), states)).astype(np.float32)

    spans = align_words(log_probabilities, [(str(number), [number]) for number in targets])
    expected = frames_by_brute_force(log_probabilities, targets)

    scores = [log_probabilities[a : b + 1, t].max() for (a, b), t in zip(expected, targets, strict=True)]
    np.testing.assert_allclose([span.log_probability for span in spans], scores, rtol=1e-5)
    for span, (first, last) in zip(spans, expected, strict=True):
        assert span.first <= first
        assert span.end > last


@pytest.mark.parametrize("seed", range(20))
def test_spans_lie_in_order_inside_the_clip(seed: int) -> None:
    generator = np.random.default_rng(seed)
    states = int(generator.integers(20, 60))
    log_probabilities = np.log(generator.dirichlet(np.ones(6), states)).astype(np.float32)
    words = [(str(n), generator.integers(1, 6, int(generator.integers(1, 4))).tolist()) for n in range(3)]

    spans: list[WordSpan] = align_words(log_probabilities, words)

    edges = [edge for span in spans for edge in (span.first, span.end)]
    assert len(spans) == 3
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= states
    assert all(span.end > span.first and span.log_probability <= 0 for span in spans)
