"""Models by profile key: the base, and merged ones in a cache that is bounded in bytes."""

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from wyoming_piwhisper.domain.errors import InferenceError, OutOfMemoryError, ProfileError
from wyoming_piwhisper.domain.profiles import ONE_FOR_ALL, Choice, ProfileKey, choose_profiles, weights_of
from wyoming_piwhisper.domain.traits import SpeakerTraits, Trait
from wyoming_piwhisper.engine.decoding import SpeechModel
from wyoming_piwhisper.engine.lora_file import LoraFile
from wyoming_piwhisper.engine.profile_library import Profile, ProfileLibrary

_LOGGER = logging.getLogger(__name__)


class MergeableModel(SpeechModel, Protocol):
    """A base model that can bring forth others."""

    @property
    def own_bytes(self) -> int:
        """Memory of the tensors that this model does not share with its base."""

    def merged(self, adapters: Sequence[tuple[LoraFile, float]]) -> Self:
        """A new model: the base's tensors, and new ones where adapters (with their weights) change them.

        Raises:
            ProfileError: an adapter cannot be read.
            OutOfMemoryError: there is no room.
        """

    def prepare_merge(self, matrices: Collection[str]) -> None:
        """Have memory ready for a merge that changes these matrices of the base."""

    def release_memory(self) -> None:
        """Give back what the runtime keeps of models that are gone."""


@dataclass
class CacheCounts:
    """What became of requests for merged models since the start."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class MergedModels:
    """Brings the model of a key; used from one thread.

    Least recently used models go first when the bound on bytes is passed; the base stays for ever.
    """

    def __init__(
        self, base: MergeableModel, library: ProfileLibrary, trait_weights: Mapping[Trait, float], limit_bytes: int
    ) -> None:
        """Begin with the base alone; `limit_bytes` bounds what merged models add to it."""
        self.base = base
        self.counts = CacheCounts()
        self._library = library
        self._trait_weights = trait_weights
        self._limit_bytes = limit_bytes
        self._cached: OrderedDict[tuple[Profile, ...], MergeableModel] = OrderedDict()
        self._broken: set[Profile] = set()

    @property
    def cached_bytes(self) -> int:
        """Memory of all merged models."""
        return sum(model.own_bytes for model in self._cached.values())

    def cached(self) -> dict[ProfileKey, int]:
        """The merged models that are at hand, least recently used first, with their bytes."""
        return {_key(profiles): model.own_bytes for profiles, model in self._cached.items()}

    def choose(self, choice: Choice, traits: SpeakerTraits) -> ProfileKey:
        """The key for a speaker, from the profiles that lie in the folders now."""
        self._library.refresh()
        usable = self._usable()
        return choose_profiles(choice, traits, usable, [name for name, profile in usable.items() if profile.card.over])

    def fetch(self, key: ProfileKey) -> tuple[SpeechModel, ProfileKey]:
        """The model of `key` and the key that it really has: without profiles that turn out damaged.

        Short of memory, all merged models are let go; if that is not enough, the base answers.
        """
        usable = self._usable()
        profiles = tuple(usable[name] for name in key.names if name in usable)
        if not profiles:
            return self.base, ProfileKey()
        if profiles in self._cached:
            self.counts.hits += 1
            self._cached.move_to_end(profiles)
            return self._cached[profiles], _key(profiles)
        self.counts.misses += 1
        try:
            model = self._merged_with_room(profiles)
        except ProfileError as error:
            self._set_aside(profiles, error)
            return self.fetch(key)
        except OutOfMemoryError as error:
            _LOGGER.warning("No memory for a merged model; the base model answers: %s", error)
            return self.base, ProfileKey()
        self._keep(profiles, model)
        _LOGGER.info(
            "Merged models: %d in %.1f MB; so far %d hits, %d misses, %d evictions",
            *(len(self._cached), self.cached_bytes / 1e6),
            *(self.counts.hits, self.counts.misses, self.counts.evictions),
        )
        _LOGGER.debug("Merged models, MB: %s", {str(key): size / 1e6 for key, size in self.cached().items()})
        return model, _key(profiles)

    def warm(self, keys: Iterable[ProfileKey]) -> None:
        """Merge the models of `keys` ahead of their first use."""
        for key in keys:
            self.fetch(key)

    def prepare(self) -> None:
        """Get ready for the next merge; to be called when nobody waits."""
        self.base.prepare_merge({matrix for profile in self._usable().values() for matrix in profile.lora.scalings})

    def let_go(self) -> None:
        """Drop all merged models."""
        self.counts.evictions += len(self._cached)
        self._cached.clear()
        self.base.release_memory()

    def _usable(self) -> dict[str, Profile]:
        good = {name: profile for name, profile in self._library.profiles.items() if profile not in self._broken}
        return {name: profile for name, profile in good.items() if not profile.card.over or ONE_FOR_ALL in good}

    def _merged_with_room(self, profiles: tuple[Profile, ...]) -> MergeableModel:
        try:
            return self._merged(profiles)
        except OutOfMemoryError:
            self.let_go()
        return self._merged(profiles)

    def _merged(self, profiles: tuple[Profile, ...]) -> MergeableModel:
        weights = weights_of(_key(profiles), self._trait_weights)
        return self.base.merged([(profile.lora, weight) for profile, weight in zip(profiles, weights, strict=True)])

    def _keep(self, profiles: tuple[Profile, ...], model: MergeableModel) -> None:
        self._cached[profiles] = model
        while self.cached_bytes > self._limit_bytes:
            self._cached.popitem(last=False)
            self.counts.evictions += 1

    def _set_aside(self, profiles: tuple[Profile, ...], error: ProfileError) -> None:
        """Find out which profile is damaged and do without it until its files change."""
        for profile in profiles:
            try:
                self.base.merged([(profile.lora, 1.0)])
            except ProfileError as reason:
                _LOGGER.warning("The profile in %s is not used: %s", profile.folder, reason)
                self._broken.add(profile)
                return
        raise InferenceError(f"profiles that can be read alone cannot be merged: {error}") from error


def _key(profiles: tuple[Profile, ...]) -> ProfileKey:
    return ProfileKey(tuple(profile.name for profile in profiles))
