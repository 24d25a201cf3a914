"""The LoRA profiles of a base model as they lie in folders: `<folder>/<base model>/<profile>/`.

The folders are looked at again and again, so that a profile that is added to a running server serves from the next
utterance on. What cannot be used is refused with a reason and harms nothing else.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from wyoming_piwhisper.domain.errors import ProfileError
from wyoming_piwhisper.domain.profiles import ONE_FOR_ALL
from wyoming_piwhisper.engine.lora_file import CONFIG, WEIGHTS, LoraFile, Shapes, read_lora_file, read_shapes
from wyoming_piwhisper.engine.profile_card import CARD, ProfileCard, fingerprint, read_card

_LOGGER = logging.getLogger(__name__)
_FILES: Final = (CARD, CONFIG, WEIGHTS)

_Stamp = tuple[tuple[int, int], ...]
"""Time of change in ns and size of each file."""


@dataclass(frozen=True)
class BaseModel:
    """What profiles have to fit."""

    name: str
    """As in `asr.model`."""
    weights: Path
    """Its safetensors file; read only when there is a profile to compare with."""

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights; raises ProfileError when they cannot be read."""
        return fingerprint(self.weights)

    @cached_property
    def shapes(self) -> Shapes:
        """Of all tensors; raises ProfileError when they cannot be read."""
        return read_shapes(self.weights)

    @property
    def folder_name(self) -> str:
        """The folder of its profiles, such as `home-en` or `openai--whisper-tiny.en`."""
        return self.name.replace("/", "--")


@dataclass(frozen=True, eq=False)
class Profile:
    """A profile that can be merged; the same object as long as its files stay the same."""

    name: str
    folder: Path
    card: ProfileCard
    lora: LoraFile
    stamp: _Stamp
    """Changes when a file does."""

    @cached_property
    def fingerprint(self) -> str:
        """Of the adapter's weights; raises ProfileError when they cannot be read."""
        return fingerprint(self.lora.weights)


@dataclass(frozen=True)
class RefusedProfile:
    """A folder that cannot be used as a profile."""

    name: str
    folder: Path
    reason: str
    stamp: _Stamp


def check_profile(folder: Path, base: BaseModel) -> tuple[ProfileCard, LoraFile]:
    """Read the profile in `folder` and check it against the base model and its own name.

    Raises:
        ProfileError: it is damaged or does not fit; one line that says which and why.
    """
    card = read_card(folder)
    if folder.name != card.name:
        raise ProfileError(f"{CARD} describes {card.name}, which belongs into a folder of that name")
    if card.base_fingerprint != base.fingerprint:
        raise ProfileError(
            f"made for {card.base_model} with fingerprint {card.base_fingerprint}, "
            f"not for {base.name} with {base.fingerprint}: train it again"
        )
    return card, read_lora_file(folder, base.shapes)


class ProfileLibrary:
    """All profiles of one base model in some folders; where two have the same name, the first folder wins."""

    def __init__(self, folders: Sequence[Path], base: BaseModel) -> None:
        """Look into the folders for the first time."""
        self._folders = [folder / base.folder_name for folder in folders]
        self._base = base
        self._read_alone: dict[str, Profile | RefusedProfile] = {}
        """As each folder is by itself."""
        self._found: dict[str, Profile | RefusedProfile] = {}
        """As they are together."""
        self.refresh()

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """Those that can be used, by name."""
        return {name: found for name, found in self._found.items() if isinstance(found, Profile)}

    @property
    def refused(self) -> Mapping[str, RefusedProfile]:
        """Those that cannot, by name."""
        return {name: found for name, found in self._found.items() if isinstance(found, RefusedProfile)}

    def refresh(self) -> None:
        """Take in what was added, changed or removed; costs a look at each file's date where nothing was."""
        read: dict[str, Profile | RefusedProfile] = {}
        for folder in self._candidates():
            if folder.name not in read:
                read[folder.name] = self._look_into(folder)
        self._read_alone = read
        found = {name: _beside(one, read.get(ONE_FOR_ALL)) for name, one in read.items()}
        for name, one in found.items():
            if isinstance(one, RefusedProfile) and self._found.get(name) != one:
                _LOGGER.warning("The profile in %s is not used: %s", one.folder, one.reason)
        self._found = found

    def _candidates(self) -> Iterator[Path]:
        for folder in self._folders:
            try:
                # A name with a dot is one that is still being written.
                yield from sorted(path for path in folder.iterdir() if path.is_dir() and "." not in path.name)
            except OSError:
                continue

    def _look_into(self, folder: Path) -> Profile | RefusedProfile:
        stamp = _stamp(folder)
        before = self._read_alone.get(folder.name)
        if before is not None and (before.folder, before.stamp) == (folder, stamp):
            return before
        try:
            card, lora = check_profile(folder, self._base)
        except ProfileError as error:
            return RefusedProfile(folder.name, folder, str(error), stamp)
        return Profile(folder.name, folder, card, lora, stamp)


def _beside(one: Profile | RefusedProfile, common: Profile | RefusedProfile | None) -> Profile | RefusedProfile:
    """The profile, refused when it was trained over another one-for-all profile than the one that is there."""
    if isinstance(one, RefusedProfile) or not one.card.over:
        return one
    try:
        there = f"one with {common.fingerprint}" if isinstance(common, Profile) else "none that can be used"
    except ProfileError as error:
        there = f"one that cannot be read ({error})"
    if there == f"one with {one.card.over}":
        return one
    reason = f"made to go with the {ONE_FOR_ALL} profile with fingerprint {one.card.over}; there is {there}"
    return RefusedProfile(one.name, one.folder, f"{reason}: train it again", one.stamp)


def _stamp(folder: Path) -> _Stamp:
    stamps: list[tuple[int, int]] = []
    for name in _FILES:
        try:
            status = (folder / name).stat()
        except OSError:
            stamps.append((0, -1))
        else:
            stamps.append((status.st_mtime_ns, status.st_size))
    return tuple(stamps)
