"""Whisper's rules of decoding on a model that says what the test tells it to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_tokenizer

from wyoming_piwhisper.domain.errors import InferenceError
from wyoming_piwhisper.engine.checkpoint import DecodingRules
from wyoming_piwhisper.engine.decoding import DecodingTask, Logits
from wyoming_piwhisper.engine.greedy_search import GreedyDecoder
from wyoming_piwhisper.training.tokenizer import END, NO_SPEECH, NO_TIMESTAMPS, START, load_tokenizer, number_of

SURE = 12.0
PROMPT = 2


def english(seconds: float, longest: int = 448, *, draft: Sequence[int] = (), guarded: bool = False) -> DecodingTask:
    return DecodingTask("en", seconds, longest, draft, guarded)


class Script:
    """A decoder session whose likeliest next token follows a script, then the end; `ranked` gives second choices."""

    def __init__(self, vocabulary: int, tokens: list[int], no_speech: int, no_speech_logit: float = -9.0) -> None:
        self._vocabulary = vocabulary
        self._tokens = tokens
        self._no_speech = no_speech
        self._no_speech_logit = no_speech_logit
        self.sure = SURE
        self.heard: list[int] = []
        self.passes = 0

    def advance(self, tokens: list[int]) -> Logits:
        self.passes += 1
        logits = np.zeros((len(tokens), self._vocabulary), np.float32)
        if not self.heard:
            logits[0, self._no_speech] = self._no_speech_logit
        for row, token in zip(logits, tokens, strict=True):
            self.heard.append(token)
            said = len(self.heard) - PROMPT
            if said >= 0:
                row[self._tokens[min(said, len(self._tokens) - 1)]] = self.sure
        return logits

    def rewind(self, tokens: int) -> None:
        self.heard = self.heard[: len(self.heard) - tokens]

    def branch(self, parents: list[int], tokens: list[int]) -> Logits:
        raise AssertionError("not asked for")


@pytest.fixture
def decoder(tmp_path: Path) -> "Subject":
    write_tokenizer(tmp_path)
    return Subject(tmp_path)


class Subject:
    def __init__(self, folder: Path) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.end = number_of(self.tokenizer, END)
        self.no_speech = number_of(self.tokenizer, NO_SPEECH)
        self.size = self.tokenizer.get_vocab_size()

    def rules(self, **changed: object) -> DecodingRules:
        values = {
            "start": number_of(self.tokenizer, START),
            "end": self.end,
            "no_speech": self.no_speech,
            "languages": {},
            "task": None,
            "no_timestamps": number_of(self.tokenizer, NO_TIMESTAMPS),
            "suppressed": (),
            "suppressed_first": (),
        }
        return DecodingRules(**(values | changed))  # type: ignore[arg-type]

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(f" {text}").ids)

    def script(self, tokens: list[int], no_speech_logit: float = -9.0) -> Script:
        return Script(self.size, tokens, self.no_speech, no_speech_logit)


def test_text_up_to_the_end_token_is_the_answer(decoder: Subject) -> None:
    session = decoder.script([*decoder.ids("what time is it"), decoder.end])

    window = GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(session, english(2.0))

    assert window.text == "what time is it"
    assert window.average_log_probability == pytest.approx(0, abs=0.01)
    assert window.no_speech_probability < 0.1


def test_an_end_at_once_is_no_speech(decoder: Subject) -> None:
    window = GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(decoder.script([decoder.end]), english(2.0))

    assert window.text == ""
    assert window.tokens == ()


def test_a_loop_is_cut_by_the_length_of_the_audio_and_by_the_model(decoder: Subject) -> None:
    (word,) = decoder.ids("light")[-1:]
    greedy = GreedyDecoder(decoder.tokenizer, decoder.rules())

    assert len(greedy.decode(decoder.script([word]), english(1.0)).tokens) == 12 + 16
    assert len(greedy.decode(decoder.script([word]), english(30.0, 20)).tokens) == 18


def test_suppressed_tokens_are_not_said(decoder: Subject) -> None:
    first, other = decoder.ids("turn")[0], decoder.ids("open")[0]
    session = decoder.script([first, other, decoder.end])

    window = GreedyDecoder(decoder.tokenizer, decoder.rules(suppressed=(first,))).decode(session, english(2.0))

    assert first not in window.tokens
    assert other in window.tokens


def test_tokens_suppressed_at_the_beginning_may_follow_later(decoder: Subject) -> None:
    word = decoder.ids("turn")[0]
    session = decoder.script([word, word, decoder.end])
    rules = decoder.rules(suppressed_first=(word,))

    window = GreedyDecoder(decoder.tokenizer, rules).decode(session, english(2.0))

    assert window.tokens[0] != word
    assert window.tokens[1] == word


@pytest.mark.parametrize(("threshold", "text"), [(-1.0, "open"), (0.0, "")])
def test_no_speech_probability_needs_an_unsure_answer_unless_it_decides_alone(
    decoder: Subject, threshold: float, text: str
) -> None:
    session = decoder.script([*decoder.ids("open"), decoder.end], no_speech_logit=SURE)
    rules = decoder.rules(log_probability_threshold=threshold)

    window = GreedyDecoder(decoder.tokenizer, rules).decode(session, english(2.0))

    assert window.no_speech_probability > 0.9
    assert window.text == text


def test_the_prompt_of_a_multilingual_model_names_language_and_task(decoder: Subject) -> None:
    rules = decoder.rules(languages={"en": 3, "de": 4}, task=5)

    assert rules.prompt("de") == [rules.start, 4, 5, rules.no_timestamps]
    assert rules.prompt("xx") == [rules.start, 3, 5, rules.no_timestamps]
    assert decoder.rules().prompt("de") == [rules.start, rules.no_timestamps]


@pytest.mark.parametrize(
    ("draft", "passes"),
    [
        ("what time is it", 1),
        ("what time", 3),
        ("what time is it now please", 1),
        ("what is the time", 4),
        ("", 5),
    ],
)
def test_a_draft_saves_passes_and_changes_no_word(decoder: Subject, draft: str, passes: int) -> None:
    ids = decoder.ids("what time is it")
    session = decoder.script([*ids, decoder.end])
    task = english(2.0, draft=decoder.ids(draft))

    window = GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(session, task)

    assert window.tokens == tuple(ids)
    assert window.average_log_probability == pytest.approx(0, abs=0.01)
    assert len(ids) > 4 or session.passes == passes
    assert session.heard[PROMPT : PROMPT + len(ids)] == ids


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        ("turn on the light", False),
        ("turn on the light turn on the light turn on the light turn on the light turn on", True),
    ],
)
def test_a_guarded_answer_that_goes_round_is_doubtful(decoder: Subject, text: str, *, doubtful: bool) -> None:
    session = decoder.script([*decoder.ids(text), decoder.end])

    window = GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(session, english(9.0, guarded=True))

    assert window.is_doubtful is doubtful
    assert len(window.tokens) < len(decoder.ids(text)) if doubtful else window.text == text


def test_a_word_may_be_said_five_times(decoder: Subject) -> None:
    words = decoder.ids("light")[-1:] * 5
    session = decoder.script([*words, decoder.end])

    window = GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(session, english(2.0, guarded=True))

    assert not window.is_doubtful
    assert window.tokens == tuple(words)


def test_a_guarded_answer_without_end_is_left_off_early(decoder: Subject) -> None:
    endless = decoder.script(decoder.ids("what time is it on the other side of the street in the second house") * 3)

    window = GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(endless, english(1.0, guarded=True))

    assert window.is_doubtful
    assert len(window.tokens) == 4 + 8


def test_a_guarded_answer_that_the_model_doubts_is_doubtful(decoder: Subject) -> None:
    session = decoder.script([*decoder.ids("open"), decoder.end])
    session.sure = 1.0

    window = GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(session, english(1.0, guarded=True))

    assert window.is_doubtful
    assert window.average_log_probability < -1


def test_probabilities_that_are_no_numbers_are_an_error_and_no_words(decoder: Subject) -> None:
    session = decoder.script([*decoder.ids("open"), decoder.end])
    session.sure = float("nan")

    with pytest.raises(InferenceError, match="no numbers"):
        GreedyDecoder(decoder.tokenizer, decoder.rules()).decode(session, english(1.0))
