"""`profile.yaml`: what a LoRA profile is for, what it was trained on, and for which base model it was made."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from wyoming_piwhisper.domain.errors import ProfileError
from wyoming_piwhisper.domain.profiles import ONE_FOR_ALL, is_profile_name

CARD: Final = "profile.yaml"
_DIGEST_CHARACTERS: Final = 16
_REQUIRED: Final = ("trait", "value", "base_model", "base_fingerprint")


@dataclass(frozen=True)
class ProfileCard:
    """The contents of `profile.yaml`."""

    trait: str
    """`age`, `gender`, `accent`, or `all` for the profile trained on everybody."""
    value: str
    base_model: str
    """As in `asr.model`, such as `home-en` or `openai/whisper-tiny.en`."""
    base_fingerprint: str
    """`fingerprint` of the base model's weights."""
    over: str = ""
    """`fingerprint` of the one-for-all profile that is merged before this one, as it was in training; empty where this
    one was trained over the base model alone."""
    data: str = ""
    created: str = ""
    """ISO date."""
    licence: str = ""
    effect: str = ""
    """What was measured, with data set, split, seed and device."""

    @property
    def name(self) -> str:
        """The profile's name, such as `accent-indian`.

        Raises:
            ProfileError: trait and value make no name.
        """
        name = ONE_FOR_ALL if self.trait == "all" else f"{self.trait}-{self.value}"
        if not is_profile_name(name):
            raise ProfileError(f"{CARD}: trait {self.trait!r} with value {self.value!r} makes no profile")
        return name


def fingerprint(weights: Path) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a safetensors file.

    Raises:
        ProfileError: the file cannot be read.
    """
    try:
        with weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST_CHARACTERS]
    except OSError as error:
        raise ProfileError(f"{weights.name} cannot be read: {error}") from error


def read_card(folder: Path) -> ProfileCard:
    """Read the card of the profile in `folder`.

    Raises:
        ProfileError: it is missing, damaged or incomplete.
    """
    try:
        content = yaml.safe_load((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ProfileError(f"{CARD} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{CARD} holds no mapping")
    if missing := [name for name in _REQUIRED if not content.get(name)]:
        raise ProfileError(f"{CARD} lacks {', '.join(missing)}")
    known: dict[str, Any] = {name: content[name] for name in ProfileCard.__dataclass_fields__ if content.get(name)}
    return ProfileCard(**{name: str(value) for name, value in known.items()})


def write_card(folder: Path, card: ProfileCard) -> None:
    """Write the card of the profile in `folder`."""
    lines = {name: getattr(card, name) for name in ProfileCard.__dataclass_fields__}
    text = yaml.safe_dump(lines, sort_keys=False, allow_unicode=True, width=100)
    (folder / CARD).write_text(text, encoding="utf-8")
