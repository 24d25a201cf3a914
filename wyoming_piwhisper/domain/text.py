"""English text as it is scored: the words that were said, however they were written."""

import re
import unicodedata
from typing import Final

_UNITS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES: Final = ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_LONGEST_NUMBER: Final = 9
"""Digits; a longer run is read digit by digit, as people read telephone and card numbers."""
_ORDINALS: Final = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}

_QUOTES: Final = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4\u0060\uff07", "'"))
_MERIDIEM: Final = re.compile(r"\b([ap])\.\s?m\b\.?")
_THOUSANDS: Final = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_MONEY: Final = re.compile(r"([$£€])\s?([0-9]+(?:\.[0-9]+)?)")
_CURRENCIES: Final = {"$": "dollar", "£": "pound", "€": "euro"}
_DEGREES: Final = re.compile(r"°\s?[cf]?\b|°")
_TIME: Final = re.compile(r"(?<![0-9])([0-9]{1,2}):([0-5][0-9])(?![0-9])")
_MINUS: Final = re.compile(r"(?<![^\s(])[-\u2212\u2013](?=\.?[0-9])")
_ORDINAL: Final = re.compile(r"([0-9]{1,9})(?:st|nd|rd|th)\b")
_DECIMAL: Final = re.compile(r"([0-9]*)\.([0-9]+)")
_INTEGER: Final = re.compile(r"[0-9]+")
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_PER_CENT: Final = re.compile(r"\bper cent\b")


def normalise_text(text: str) -> str:
    """Return the words of English `text` in lower case, one space between them, digits spelled out.

    Punctuation goes but for apostrophes inside words, hyphens part words, accents are dropped, and numbers read as
    people say them without an "and": "50%" is "fifty percent", "21.5 °C" "twenty one point five degrees", "7:30"
    "seven thirty", "1st" "first". Applied twice it changes nothing more.
    """
    text = unicodedata.normalize("NFKD", text.translate(_QUOTES)).lower()
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = _MERIDIEM.sub(r"\1m", text)
    text = _spell_numbers(text)
    return _PER_CENT.sub("percent", " ".join(_WORD.findall(text)))


def number_to_words(number: int) -> str:
    """Return `number`, 0 to 999,999,999, as English words without hyphens or "and": 121 is "one hundred twenty one".

    Raises:
        ValueError: the number is outside that range.
    """
    if not 0 <= number < 10**_LONGEST_NUMBER:
        raise ValueError(f"{number} is not within 0 to {10**_LONGEST_NUMBER - 1}")
    if number < 20:
        return _UNITS[number]
    for scale, name in _SCALES:
        if number >= scale:
            return _joined(f"{number_to_words(number // scale)} {name}", number % scale)
    return _joined(_TENS[number // 10], number % 10)


def _joined(head: str, rest: int) -> str:
    return f"{head} {number_to_words(rest)}" if rest else head


def _spell_numbers(text: str) -> str:
    text = _THOUSANDS.sub("", text)
    text = _MONEY.sub(_spell_money, text)
    text = _DEGREES.sub(" degrees ", text)
    text = text.replace("%", " percent ").replace("&", " and ").replace("+", " plus ")
    text = _MINUS.sub(" minus ", text)
    text = _TIME.sub(_spell_time, text)
    text = _ORDINAL.sub(lambda match: f" {_ordinal_words(int(match[1]))} ", text)
    text = _DECIMAL.sub(_spell_decimal, text)
    return _INTEGER.sub(lambda match: f" {_spell_digits(match[0])} ", text)


def _spell_digits(digits: str) -> str:
    """Spell a run of digits: as a number, or digit by digit where it is long or begins with 0."""
    if len(digits) > _LONGEST_NUMBER or (digits[0] == "0" and len(digits) > 1):
        return " ".join(_UNITS[int(digit)] for digit in digits)
    return number_to_words(int(digits))


def _spell_money(match: re.Match[str]) -> str:
    return f" {match[2]} {_CURRENCIES[match[1]]}{'' if match[2] == '1' else 's'} "


def _spell_time(match: re.Match[str]) -> str:
    hours, minutes = number_to_words(int(match[1])), int(match[2])
    if minutes == 0:
        return f" {hours} "
    return f" {hours} {'oh ' if minutes < 10 else ''}{number_to_words(minutes)} "


def _spell_decimal(match: re.Match[str]) -> str:
    whole = f"{_spell_digits(match[1])} " if match[1] else ""
    return f" {whole}point {' '.join(_UNITS[int(digit)] for digit in match[2])} "


def _ordinal_words(number: int) -> str:
    head, _, last = number_to_words(number).rpartition(" ")
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last.endswith("y"):
        last = f"{last[:-1]}ieth"
    else:
        last = f"{last}th"
    return f"{head} {last}".strip()
