"""The grammar of what people say to a home."""

import re
from collections import Counter

import pytest

from wyoming_piwhisper.domain.text import normalise_text
from wyoming_piwhisper.training.sentences import Grammar, Sentence

DRAWS = 12_000
NUMBER_WORDS = frozenset([*normalise_text(" ".join(map(str, range(101)))).split(), "point", "minus"])
WORDS = re.compile(r"[a-z']+(?: [a-z']+)*")


@pytest.fixture(scope="module")
def commands() -> list[str]:
    grammar = Grammar(3)
    return [grammar.command().text for _ in range(DRAWS)]


@pytest.fixture(scope="module")
def plain() -> list[str]:
    grammar = Grammar(4)
    return [grammar.general().text for _ in range(DRAWS // 3)] + [grammar.word().text for _ in range(500)]


def test_a_seed_decides_the_sentences() -> None:
    def drawn(seed: int) -> list[Sentence]:
        grammar = Grammar(seed)
        return [draw() for _ in range(50) for draw in (grammar.command, grammar.word, grammar.general)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert [sentence.kind for sentence in drawn(1)[:3]] == ["command", "word", "general"]


def test_sentences_are_lower_case_words_without_template_syntax(commands: list[str], plain: list[str]) -> None:
    assert [text for text in commands + plain if not WORDS.fullmatch(text)] == []


def test_no_word_but_a_number_is_said_twice_running(commands: list[str], plain: list[str]) -> None:
    doubled = [
        text
        for text in commands + plain
        for word, following in zip(text.split(), text.split()[1:], strict=False)
        if word == following and word not in NUMBER_WORDS
    ]

    assert doubled == []


def test_commands_are_many_and_short(commands: list[str]) -> None:
    assert len(set(commands)) > DRAWS / 2
    assert max(len(text.split()) for text in commands) <= 20
    assert Counter(commands).most_common(1)[0][1] < DRAWS / 50


@pytest.mark.parametrize(
    "wrong",
    [
        r"\bthe \w+'s (room|bedroom|office)\b",
        r"\bin the (here|upstairs|downstairs)\b",
        r"\ba (eight|eleven|eighteen|eighty|hour|an?)\b",
        r"\b(minutes|seconds|hours) timer\b",
        r"^is the .*\b(lights|lamps|spotlights|blinds|curtains|shades|shutters|windows|drapes|sprinklers) \w+$",
        r"^are the .*\b(light|lamp|strip|blind|curtain|shade|shutter|window|gate) \w+$",
        r"\bevery \w*lights\b",
        r"\bwill it (sunny|raining|cold|windy|cloudy|going)\b|\bis it (rain|snow)\b",
        r"(^|by |minus |to )one degrees\b",
        r"\bseconds and \w+",
        r"\bon of the\b",
    ],
)
def test_sentences_are_free_of_slips(commands: list[str], plain: list[str], wrong: str) -> None:
    assert [text for text in commands + plain if re.search(wrong, text)] == []


def test_percentages_lie_between_nought_and_a_hundred(commands: list[str]) -> None:
    spoken = {match[1] for text in commands for match in [re.search(r"((?:\w+ ){1,3})percent", text)] if match}
    numbers = {" ".join(word for word in text.split() if word in NUMBER_WORDS) for text in spoken}

    assert len(numbers) > 80
    assert {number for number in numbers if "hundred" in number} <= {"one hundred"}
    assert not any("minus" in number or "point" in number for number in numbers)


def test_durations_are_plausible(commands: list[str]) -> None:
    durations = [text for text in commands if re.match(r"(set|start) a (new )?timer for ", text)]
    hours = {match[1] for text in durations for match in [re.search(r" for (\w+) hours$", text)] if match}

    assert len(durations) > 20
    assert all(re.search(r"\b(second|minute|hour)s?\b", text) for text in durations)
    assert not any(re.search(r" for one (seconds|minutes|hours)\b", text) for text in durations)
    assert hours <= {normalise_text(str(number)) for number in range(2, 13)}
