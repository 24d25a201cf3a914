"""Which LoRA profiles a speaker gets.

A profile is named by its trait and value, such as `accent-indian`; a profile key joins names with `+` and stands for
the model into which these profiles are merged.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.traits import TRAITS, SpeakerTraits, Trait

ONE_FOR_ALL: Final = "one-for-all"
"""The profile trained on everybody. Those of single traits may be trained over it, so that they hold only what sets
their group apart and can be added up without adding several times what all have in common."""
AUTO: Final = "auto"
NONE: Final = "none"
BASE: Final = "base"
"""How the key without profiles is written."""
_NAME: Final = re.compile(r"(?:(?:age|gender|accent)-[a-z0-9_]+|one-for-all)")


@dataclass(frozen=True)
class ProfileKey:
    """The profiles of a merged model, at most one a trait; none at all is the base model."""

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """The key of these profiles in whatever order; the order of traits makes it unique."""
        return cls(tuple(sorted(set(names), key=_order)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `accent-indian+gender-female`, `one-for-all` or `base`.

        Raises:
            SettingsError: a name has another form, or two name the same trait.
        """
        if text == BASE:
            return cls()
        names = text.split("+")
        for name in names:
            if not is_profile_name(name):
                raise SettingsError(f"profile: {name!r} is not of the form age-…, gender-…, accent-… or {ONE_FOR_ALL}")
        if len({trait_of(name) for name in names}) < len(names):
            raise SettingsError(f"profile: {text!r} names a trait twice")
        return cls.of(names)

    def __str__(self) -> str:
        """As it is written in settings and results."""
        return "+".join(self.names) or BASE


@dataclass(frozen=True)
class Choice:
    """What a client or the settings ask for: `auto`, `none`, or a key outright."""

    mode: Literal["auto", "none", "key"] = AUTO
    key: ProfileKey = field(default_factory=ProfileKey)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a choice.

        Raises:
            SettingsError: it is neither `auto` nor `none` nor a key.
        """
        if text == AUTO:
            return cls(AUTO)
        if text in {NONE, BASE}:
            return cls(NONE)
        return cls("key", ProfileKey.parse(text))


def profile_name(trait: Trait, value: str) -> str:
    """The name of a trait's profile."""
    return f"{trait}-{value}"


def is_profile_name(name: str) -> bool:
    """Whether a profile may be called so."""
    return _NAME.fullmatch(name) is not None


def trait_of(name: str) -> Trait | None:
    """The trait of a profile; None for `one-for-all`."""
    return next((trait for trait in TRAITS if name.startswith(f"{trait}-")), None)


def choose_profiles(
    choice: Choice, traits: SpeakerTraits, available: Collection[str], over_one_for_all: Collection[str] = ()
) -> ProfileKey:
    """The profiles for a speaker: those that are both called for and there, and what they were trained over.

    Where none of those called for is there, or nothing is known of the speaker, the profile for all stands in.
    """
    if choice.mode == "none":
        return ProfileKey()
    if choice.mode == "key":
        wanted = choice.key.names
    else:
        estimates = ((trait, estimate.value) for trait, estimate in traits.items())
        wanted = tuple(profile_name(trait, value) for trait, value in estimates if value is not None)
    found = [name for name in wanted if name in available]
    if ONE_FOR_ALL in available and (not found or any(name in over_one_for_all for name in found)):
        found.append(ONE_FOR_ALL)
    return ProfileKey.of(found)


def weights_of(key: ProfileKey, trait_weights: Mapping[Trait, float]) -> tuple[float, ...]:
    """The factor of each profile's delta, in the order of the key; `one-for-all` has 1."""
    traits = (trait_of(name) for name in key.names)
    return tuple(1.0 if trait is None else trait_weights[trait] for trait in traits)


def _order(name: str) -> tuple[int, str]:
    trait = trait_of(name)
    return (len(TRAITS) if trait is None else TRAITS.index(trait), name)
