"""Sentences to synthesise: what people say to a home, single words and plain English, drawn from `sentences.yaml`."""

import random
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from wyoming_piwhisper.domain.text import normalise_text

if TYPE_CHECKING:
    from collections.abc import Callable


_OPTIONAL = re.compile(r"\[([^\[\]()]*)\]")
_CHOICE = re.compile(r"\(([^\[\]()]*)\)")
_SLOT = re.compile(r"\{([a-z_]+)(?::(\d+)-(\d+))?\}")

_DOUBLED = re.compile(r"\b([a-z]+)(?: \1)+\b")
"""Where two slots meet, as in "garage garage door"; digits are spelled later and may repeat."""
_NO_ARTICLE = re.compile(r"\bthe (?=[a-z]+'s (?:room|bedroom|office)\b)|\bin the (?=(?:up|down)stairs\b)")
_VOWEL_AHEAD = re.compile(r"\ba (?=(?!one\b)[aeio]|hour\b)")


@dataclass(frozen=True)
class Sentence:
    """One sentence, lower case with numbers spelled, and the kind that it was drawn as."""

    text: str
    kind: str
    """`command`, `word` or `general`."""


class Grammar:
    """Random sentences of the grammar; the same seed gives the same sentences."""

    def __init__(self, seed: int) -> None:
        """Read the grammar that comes with the package."""
        self._random = random.Random(seed)
        source = resources.files(__package__).joinpath("sentences.yaml").read_text(encoding="utf-8")
        rules: dict[str, Any] = yaml.safe_load(source)
        self._slots: dict[str, list[str]] = rules["slots"] | rules["vocabulary"]
        self._groups = [next(iter(group.values())) for group in rules["commands"]]
        self._weights = [next(iter(group)) for group in rules["commands"]]
        self._words: list[str] = rules["words"]
        self._general: list[str] = rules["general"]
        self._numbers: dict[str, Callable[[], str]] = {
            "percent": self._percent,
            "degrees": self._degrees,
            "duration": self._duration,
            "length": self._length,
            "clock": self._clock,
        }

    def command(self) -> Sentence:
        """A sentence that somebody says to a home."""
        group = self._random.choices(self._groups, self._weights)[0]
        return Sentence(self._expand(self._random.choice(group)), "command")

    def word(self) -> Sentence:
        """A word said alone."""
        return Sentence(self._random.choice(self._words), "word")

    def general(self) -> Sentence:
        """A sentence of plain English."""
        return Sentence(self._expand(self._random.choice(self._general)), "general")

    def _expand(self, template: str) -> str:
        """Choose until neither option, choice nor slot is left, then spell numbers."""
        text = template
        while True:
            chosen = _OPTIONAL.sub(self._maybe, text)
            chosen = _CHOICE.sub(self._choice, chosen)
            if chosen == text:
                chosen = _SLOT.sub(self._slot, text)
            if chosen == text:
                return _smooth(text)
            text = chosen

    def _maybe(self, match: re.Match[str]) -> str:
        return self._choice(match) if self._random.random() < 0.4 else ""

    def _choice(self, match: re.Match[str]) -> str:
        return self._random.choice(str(match[1]).split("|"))

    def _slot(self, match: re.Match[str]) -> str:
        name, low, high = match.groups()
        if low is not None:
            return str(self._random.randint(int(low), int(high)))
        made = self._numbers.get(name)
        if made:
            return made()
        return self._random.choice(self._slots[name])

    def _percent(self) -> str:
        value = self._random.choice([self._random.randint(0, 100), 5 * self._random.randint(1, 20)])
        return f"{value} percent"

    def _degrees(self) -> str:
        value = self._random.choice(
            [self._random.randint(15, 28), self._random.randint(60, 80), self._random.randint(-5, 35)]
        )
        sign = "minus " if value < 0 else ""
        half = self._random.choice(["", "", "", " point five"])
        unit = "degree" if abs(value) == 1 and not half else "degrees"
        return f"{sign}{abs(value)}{half} {unit}" + self._random.choice(["", "", "", " celsius", " fahrenheit"])

    def _duration(self) -> str:
        number, unit = self._amount()
        plain = f"{number} {unit}" + ("s" if number != 1 else "")
        rest = {
            "hour": f" and {self._random.randint(2, 59)} minutes",
            "minute": f" and {self._random.randint(2, 59)} seconds",
        }
        return self._random.choice(
            [plain] * 6
            + ["half an hour", "an hour", "a minute", f"{plain}{rest.get(unit, '')}", f"{number} and a half {unit}s"]
        )

    def _length(self) -> str:
        number, unit = self._amount()
        return self._random.choice([f"{number} {unit}"] * 6 + ["half hour", f"{number} and a half {unit}"])

    def _amount(self) -> tuple[int, str]:
        unit = self._random.choice(["second", "minute", "minute", "minute", "hour"])
        if unit == "hour":
            return self._random.randint(1, 12), unit
        usual = self._random.choice([5, 10, 15, 20, 25, 30, 45, 90])
        return self._random.choice([self._random.randint(1, 60), usual]), unit

    def _clock(self) -> str:
        hour, minute = (
            self._random.randint(1, 12),
            self._random.choice([0, 0, 15, 30, 45, self._random.randint(10, 59)]),
        )
        exact = f"{hour} {minute}" if minute else f"{hour}" + self._random.choice(["", " o'clock"])
        spoken = exact + self._random.choice(["", "", " a m", " p m", " in the morning", " in the evening"])
        return self._random.choice(
            [spoken] * 5 + [f"half past {hour}", f"quarter to {hour}", f"quarter past {hour}", "noon", "midnight"]
        )


def _smooth(text: str) -> str:
    """Spell numbers and mend what slots cannot see of each other: articles and doubled words."""
    text = _NO_ARTICLE.sub("", _DOUBLED.sub(r"\1", " ".join(text.split())))
    return _VOWEL_AHEAD.sub("an ", normalise_text(text))
