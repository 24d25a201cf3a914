"""Beam search on a model that is a table, and the same on both runtimes."""

from pathlib import Path

import numpy as np
import pytest
from adapters import make_place
from checkpoints import write_tokenizer
from test_decoding import PROMPT, Subject, english

from wyoming_piwhisper.engine.backends import Backend, load_model
from wyoming_piwhisper.engine.beam_search import BeamDecoder
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.greedy_search import GreedyDecoder

BOTH = [Backend("onnx", "cpu"), Backend("torch", "cpu")]


class Table:
    """A decoder session that knows the probabilities of the next token after some beginnings; else all are alike."""

    def __init__(self, vocabulary: int, table: dict[tuple[int, ...], dict[int, float]]) -> None:
        self._vocabulary = vocabulary
        self._table = table
        self._answers: list[tuple[int, ...]] = [()]
        self.passes = 0

    def advance(self, tokens: list[int]) -> Logits:
        assert len(self._answers) == 1
        self.passes += 1
        rows = [self._answers[0] + tuple(tokens[: count + 1]) for count in range(len(tokens))]
        self._answers = rows[-1:]
        return np.stack([self._logits(row) for row in rows])

    def rewind(self, tokens: int) -> None:
        assert tokens == 0

    def branch(self, parents: list[int], tokens: list[int]) -> Logits:
        self.passes += 1
        self._answers = [(*self._answers[parent], token) for parent, token in zip(parents, tokens, strict=True)]
        return np.stack([self._logits(answer) for answer in self._answers])

    def _logits(self, answer: tuple[int, ...]) -> Logits:
        probabilities = np.full(self._vocabulary, 1e-6, np.float32)
        for token, probability in self._table.get(answer[PROMPT:], {}).items():
            probabilities[token] = probability
        logits: Logits = np.log(probabilities / probabilities.sum())
        return logits


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    write_tokenizer(tmp_path)
    return Subject(tmp_path)


def test_a_beam_finds_what_greed_misses(subject: Subject) -> None:
    first, second, third = subject.ids("turn on the light")[:3]
    table = {
        (): {first: 0.6, second: 0.4},
        (first,): {third: 0.4, second: 0.4, subject.end: 0.2},
        (second,): {third: 0.95, first: 0.05},
        (second, third): {subject.end: 0.95, first: 0.05},
    }

    greedy = GreedyDecoder(subject.tokenizer, subject.rules()).decode(Table(subject.size, table), english(1.0))
    session = Table(subject.size, table)
    beam = BeamDecoder(subject.tokenizer, subject.rules(), 3).decode(session, english(1.0))

    assert greedy.tokens[0] == first
    assert beam.tokens == (second, third)
    assert beam.end_probability == pytest.approx(0.95, abs=0.01)
    assert beam.average_log_probability == pytest.approx(np.log([0.4, 0.95, 0.95]).mean(), abs=0.01)


def test_an_endless_answer_is_cut_and_a_guarded_one_doubted(subject: Subject) -> None:
    word = subject.ids("light")[-1]
    table = {(word,) * count: {word: 0.9} for count in range(60)}
    decoder = BeamDecoder(subject.tokenizer, subject.rules(), 2)

    assert len(decoder.decode(Table(subject.size, table), english(1.0)).tokens) == 12 + 16
    guarded = decoder.decode(Table(subject.size, table), english(1.0, guarded=True))
    assert guarded.is_doubtful


def test_an_end_at_once_is_no_speech(subject: Subject) -> None:
    session = Table(subject.size, {(): {subject.end: 0.99}})

    assert BeamDecoder(subject.tokenizer, subject.rules(), 4).decode(session, english(1.0)).text == ""


@pytest.mark.parametrize("backend", BOTH, ids=str)
def test_branches_are_what_each_answer_would_be_alone(tmp_path: Path, backend: Backend) -> None:
    model = load_model(read_checkpoint(make_place(tmp_path).model), backend, 1)
    log_mel = np.random.default_rng(0).normal(0, 0.5, (80, 100)).astype(np.float32)

    def alone(tokens: list[int]) -> Logits:
        session = model.encode(log_mel)
        for token in tokens[:-1]:
            session.advance([token])
        return session.advance(tokens[-1:])

    session = model.encode(log_mel)
    session.advance([1, 2])
    session.branch([0, 0, 0], [3, 4, 5])
    found = session.branch([2, 2, 0], [6, 7, 8]).copy()
    after = session.branch([1, 2, 0], [9, 9, 9])

    for row, answer in zip(found, ([1, 2, 5, 6], [1, 2, 5, 7], [1, 2, 3, 8]), strict=True):
        np.testing.assert_allclose(row[None], alone(answer), atol=2e-3)
    for row, answer in zip(after, ([1, 2, 5, 7, 9], [1, 2, 3, 8, 9], [1, 2, 5, 6, 9]), strict=True):
        np.testing.assert_allclose(row[None], alone(answer), atol=2e-3)
