"""Models by profile key: the base, and merged ones in a cache that is bounded in bytes.

Where a merge takes long, models are merged in the background; until one is ready, its profiles are applied at run time.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wyoming_piwhisper.domain.errors import InferenceError, OutOfMemoryError, ProfileError
from wyoming_piwhisper.domain.profiles import ONE_FOR_ALL, Choice, ProfileKey, choose_profiles, weights_of
from wyoming_piwhisper.domain.traits import SpeakerTraits, Trait
from wyoming_piwhisper.engine.background_merges import BackgroundMerges, Profiles
from wyoming_piwhisper.engine.decoding import SpeechModel
from wyoming_piwhisper.engine.lora_file import read_tensors
from wyoming_piwhisper.engine.mergeable_model import Adapters, MergeableModel
from wyoming_piwhisper.engine.profile_library import Profile, ProfileLibrary

_LOGGER = logging.getLogger(__name__)


@dataclass
class CacheCounts:
    """What became of requests for merged models since the start."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


@dataclass(frozen=True)
class Found:
    """A model for a speaker."""

    model: SpeechModel
    key: ProfileKey
    """The profiles that it really has."""
    was_cached: bool = True
    """Whether the model of the profiles that were asked for was at hand."""
    stands_in: bool = False
    """Whether it hears in place of a merged model that is not ready."""


class MergedModels:
    """Brings the model of a key; used from one thread.

    Least recently used models go first when the bound on bytes is passed; the base stays for ever.
    """

    def __init__(
        self,
        base: MergeableModel,
        library: ProfileLibrary,
        trait_weights: Mapping[Trait, float],
        limit_bytes: int,
        *,
        waits: bool = True,
    ) -> None:
        """Begin with the base alone; `limit_bytes` bounds what merged models add to it.

        Whoever does not wait for a merge is heard by what stands in for it, where the base has such a form.
        """
        self.base = base
        self.counts = CacheCounts()
        self._library = library
        self._trait_weights = trait_weights
        self._limit_bytes = limit_bytes
        self._cached: OrderedDict[Profiles, MergeableModel] = OrderedDict()
        self._unusable: set[Profile] = set()
        self._unmergeable: set[Profiles] = set()
        opens = None if waits else base.adaptable
        self._background = None if opens is None else BackgroundMerges(base, opens)

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

    def fetch(self, key: ProfileKey) -> Found:
        """The model of `key`, or what stands in for it; without profiles that turn out damaged.

        Short of memory, all merged models are let go; if that is not enough, the base answers.
        """
        return self._fetch(key, self._background)

    def ready(self, key: ProfileKey) -> Found | None:
        """The merged model of `key` if it has become ready."""
        self._take_finished()
        profiles = self._profiles_of(key)
        return Found(self._cached[profiles], _key(profiles), was_cached=False) if profiles in self._cached else None

    def warm(self, keys: Iterable[ProfileKey]) -> None:
        """Merge the models of `keys` ahead of their first use."""
        for key in keys:
            self._fetch(key, None)

    def prepare(self) -> None:
        """Get ready for the next merge; to be called when nobody waits."""
        self._take_finished()
        usable = self._usable().values()
        self.base.prepare_merge({matrix for profile in usable for matrix in profile.lora.scalings})
        if self._background is not None and usable:
            self._background.begin()

    def let_go(self) -> None:
        """Drop all merged models."""
        self.counts.evictions += len(self._cached)
        self._cached.clear()
        self.base.release_memory()

    def _usable(self) -> dict[str, Profile]:
        good = {name: profile for name, profile in self._library.profiles.items() if profile not in self._unusable}
        return {name: profile for name, profile in good.items() if not profile.card.over or ONE_FOR_ALL in good}

    def _profiles_of(self, key: ProfileKey) -> Profiles:
        usable = self._usable()
        return tuple(usable[name] for name in key.names if name in usable)

    def _fetch(self, key: ProfileKey, background: BackgroundMerges | None) -> Found:
        self._take_finished()
        profiles = self._profiles_of(key)
        if not profiles:
            return Found(self.base, ProfileKey())
        if profiles in self._cached:
            self.counts.hits += 1
            self._cached.move_to_end(profiles)
            return Found(self._cached[profiles], _key(profiles))
        self.counts.misses += 1
        try:
            return self._merged_now(profiles) if background is None else self._stand_in(profiles, background)
        except ProfileError as error:
            if not self._set_aside(profiles):
                raise InferenceError(f"profiles that can be read alone cannot be merged: {error}") from error
            return self._fetch(key, background)
        except OutOfMemoryError as error:
            _LOGGER.warning("No memory for a merged model; the base model answers: %s", error)
            return Found(self.base, ProfileKey(), was_cached=False)

    def _stand_in(self, profiles: Profiles, background: BackgroundMerges) -> Found:
        """Have the model merged in the background, if it can be kept; meanwhile the best there is."""
        adapters = self._adapters(profiles)
        if profiles not in self._unmergeable and self.base.own_bytes <= self._limit_bytes:
            background.ask(profiles, adapters)
        if background.adaptable is None:
            return Found(self.base, ProfileKey(), was_cached=False, stands_in=True)
        return Found(background.adaptable.adapted(adapters), _key(profiles), was_cached=False, stands_in=True)

    def _take_finished(self) -> None:
        """Keep what was merged in the background; what failed is asked for again only where that may help."""
        for profiles, merge in () if self._background is None else self._background.finished():
            try:
                self._keep(profiles, merge.result())
            except ProfileError:
                self._set_aside(profiles)
            except OutOfMemoryError as error:
                _LOGGER.warning("No memory for a merged model; the others are let go: %s", error)
                self.let_go()
            except Exception:
                _LOGGER.exception("Profiles cannot be merged")
                self._unmergeable.add(profiles)

    def _merged_now(self, profiles: Profiles) -> Found:
        adapters = self._adapters(profiles)
        try:
            model = self.base.merged(adapters)
        except OutOfMemoryError:
            self.let_go()
            model = self.base.merged(adapters)
        self._keep(profiles, model)
        return Found(model, _key(profiles), was_cached=False)

    def _adapters(self, profiles: Profiles) -> Adapters:
        weights = weights_of(_key(profiles), self._trait_weights)
        return [(profile.lora, weight) for profile, weight in zip(profiles, weights, strict=True)]

    def _keep(self, profiles: Profiles, model: MergeableModel) -> None:
        self._cached[profiles] = model
        while self.cached_bytes > self._limit_bytes:
            self._cached.popitem(last=False)
            self.counts.evictions += 1
        _LOGGER.info(
            "Merged models: %d in %.1f MB; so far %d hits, %d misses, %d evictions",
            *(len(self._cached), self.cached_bytes / 1e6),
            *(self.counts.hits, self.counts.misses, self.counts.evictions),
        )
        _LOGGER.debug("Merged models, MB: %s", {str(key): size / 1e6 for key, size in self.cached().items()})

    def _set_aside(self, profiles: Profiles) -> bool:
        """Find out which profile is damaged and do without it until its files change; False where none is."""
        for profile in profiles:
            try:
                read_tensors(profile.lora.weights)
            except ProfileError as reason:
                _LOGGER.warning("The profile in %s is not used: %s", profile.folder, reason)
                self._unusable.add(profile)
                return True
        return False


def _key(profiles: Profiles) -> ProfileKey:
    return ProfileKey(tuple(profile.name for profile in profiles))
