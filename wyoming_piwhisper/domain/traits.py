"""What can be known or guessed of a speaker: age, gender and accent, each with a value or unknown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wyoming_piwhisper.domain.errors import SettingsError

Trait = Literal["age", "gender", "accent"]
TRAITS: Final[tuple[Trait, ...]] = ("age", "gender", "accent")

AGE_STRATA: Final = (
    "child",
    "teens",
    "twenties",
    "thirties",
    "forties",
    "fifties",
    "sixties",
    "seventies",
    "eighties",
)
"""Nine strata. Children up to twelve, whom recognisers serve worst, have one; the last holds all from eighty on."""
GENDERS: Final = ("female", "male")
FIRST_TEEN: Final = 13
OLDEST_YEARS: Final = 150
UNKNOWN: Final = "unknown"


@dataclass(frozen=True)
class TraitEstimate:
    """What is held to be true of one trait of a speaker."""

    value: str | None
    """None means unknown: not told, and not clear from the voice."""
    confidence: float
    """Probability of the likeliest value, in [0, 1]; 1 for what was told."""
    known: bool = False
    """Told by a setting, a request or an enrolled speaker, rather than inferred from the voice."""


SpeakerTraits = Mapping[Trait, TraitEstimate]
"""A trait that is missing is unknown."""


@dataclass(frozen=True)
class KnownTraits:
    """What was told of a speaker; None leaves a trait to be inferred."""

    age: str | None = None
    gender: str | None = None
    accent: str | None = None

    def estimates(self) -> dict[Trait, TraitEstimate]:
        """The traits that were told."""
        told: dict[Trait, str | None] = {"age": self.age, "gender": self.gender, "accent": self.accent}
        return {trait: TraitEstimate(value, 1.0, known=True) for trait, value in told.items() if value is not None}


def speaker_traits(known: KnownTraits, inferred: SpeakerTraits) -> dict[Trait, TraitEstimate]:
    """Both together; what was told beats what the voice suggests."""
    return {**inferred, **known.estimates()}


def age_stratum(age: str) -> str:
    """The stratum of an age in years, such as `34`, or of a stratum's own name.

    Raises:
        ValueError: `age` is neither.
    """
    if age in AGE_STRATA:
        return age
    if not age.isdecimal() or int(age) > OLDEST_YEARS:
        raise ValueError(f"{age!r} is neither an age in years nor one of {', '.join(AGE_STRATA)}")
    years = int(age)
    return AGE_STRATA[min(years // 10, len(AGE_STRATA) - 1)] if years >= FIRST_TEEN else AGE_STRATA[0]


def told(trait: Trait, value: str) -> str | None:
    """A trait's value as somebody typed it: any case, ages also in years, `unknown` for none.

    Raises:
        SettingsError: an age that is none, or a value that could name no profile.
    """
    plain = value.strip().lower()
    if plain in {"", UNKNOWN}:
        return None
    if trait == "age":
        try:
            return age_stratum(plain)
        except ValueError as error:
            raise SettingsError(f"{trait}: {error}") from error
    if trait == "gender" and plain not in GENDERS:
        raise SettingsError(f"{trait}: {value!r} is neither {UNKNOWN} nor {' nor '.join(GENDERS)}")
    if not plain.replace("_", "").isalnum():
        raise SettingsError(f"{trait}: {value!r} is no name made of letters, digits and _")
    return plain
