"""What a manifest says of speakers, as values of traits."""

import re
from functools import cache
from importlib import resources
from typing import Any

import yaml

from wyoming_piwhisper.domain.traits import AGE_STRATA, TRAITS, Trait, age_stratum

_COLUMNS: dict[Trait, tuple[str, ...]] = {
    "age": ("age", "age_group"),
    "gender": ("gender",),
    "accent": ("accent_group",),
}
"""Columns of the manifest, the finer ones first."""
_ACCENT = re.compile(r"[a-z0-9_]+")


def labels_of(trait: Trait) -> tuple[str, ...]:
    """The values of `trait` that classifiers learn; ages in their order, others by the alphabet."""
    return AGE_STRATA if trait == "age" else tuple(sorted(_rules()[trait]))


def traits_of(entry: dict[str, Any]) -> dict[Trait, str]:
    """The traits that a line of a manifest tells."""
    found = {trait: _value(trait, [entry.get(column) for column in _COLUMNS[trait]]) for trait in TRAITS}
    return {trait: value for trait, value in found.items() if value is not None}


def _value(trait: Trait, told: list[Any]) -> str | None:
    for word in told:
        if trait == "age" and isinstance(word, int):
            return age_stratum(str(word))
        if word in _values_by_word()[trait]:
            return _values_by_word()[trait][word]
        if (
            trait == "accent"
            and isinstance(word, str)
            and _ACCENT.fullmatch(word)
            and word not in _rules()["no_accent"]
        ):
            return word
    return None


@cache
def _values_by_word() -> dict[Trait, dict[str, str]]:
    return {trait: {word: value for value, words in _rules()[trait].items() for word in words} for trait in TRAITS}


@cache
def _rules() -> dict[str, Any]:
    source = resources.files(__package__).joinpath("traits.yaml").read_text(encoding="utf-8")
    rules: dict[str, Any] = yaml.safe_load(source)
    return rules
