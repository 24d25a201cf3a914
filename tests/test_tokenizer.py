"""The bundled model's tokenizer."""

from pathlib import Path

import pytest

from wyoming_piwhisper.training.sentences import Grammar
from wyoming_piwhisper.training.tokenizer import (
    END,
    NO_SPEECH,
    NO_TIMESTAMPS,
    SPECIAL_TOKENS,
    load_tokenizer,
    number_of,
    targets,
    train_tokenizer,
)

TEXTS = [Grammar(1).command().text for _ in range(300)]


def test_texts_come_back_unchanged_even_with_words_that_were_never_learned() -> None:
    tokenizer = train_tokenizer(TEXTS, 200)

    for text in [*TEXTS[:50], "xylophone quiz", "o'clock isn't"]:
        assert tokenizer.decode(tokenizer.encode(f" {text}").ids).strip() == text


def test_special_tokens_stand_behind_the_learned_ones_in_whispers_order() -> None:
    tokenizer = train_tokenizer(TEXTS, 120)
    numbers = [number_of(tokenizer, token) for token in SPECIAL_TOKENS]

    assert numbers == list(range(numbers[0], numbers[0] + len(SPECIAL_TOKENS)))
    assert numbers[-1] == tokenizer.get_vocab_size() - 1
    assert numbers[0] <= 120


def test_targets_hold_the_text_between_no_timestamps_and_the_end() -> None:
    tokenizer = train_tokenizer(TEXTS, 120)
    answer = targets(tokenizer, "turn on the light")

    assert answer[0] == number_of(tokenizer, NO_TIMESTAMPS)
    assert answer[-1] == number_of(tokenizer, END)
    assert tokenizer.decode(answer[1:-1]).strip() == "turn on the light"
    assert tokenizer.decode(answer, skip_special_tokens=True).strip() == "turn on the light"


def test_the_answer_to_silence_is_no_speech() -> None:
    tokenizer = train_tokenizer(TEXTS, 120)

    assert targets(tokenizer, "") == [number_of(tokenizer, NO_SPEECH), number_of(tokenizer, END)]


def test_an_unknown_special_token_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        number_of(train_tokenizer(TEXTS, 60), "<|nonsense|>")


def test_learning_is_repeatable_and_survives_the_disk(tmp_path: Path) -> None:
    first, again = train_tokenizer(TEXTS, 150), train_tokenizer(TEXTS, 150)
    first.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)

    assert first.to_str() == again.to_str() == loaded.to_str()
    assert loaded.encode(" dim the lamp").ids == first.encode(" dim the lamp").ids
