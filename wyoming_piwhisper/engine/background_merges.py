"""Merged models in the making, on a thread of its own, and what hears until they are ready."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from wyoming_piwhisper.domain.errors import OutOfMemoryError
from wyoming_piwhisper.engine.mergeable_model import AdaptableModel, Adapters, MergeableModel
from wyoming_piwhisper.engine.profile_library import Profile

_LOGGER = logging.getLogger(__name__)

Profiles = tuple[Profile, ...]


class BackgroundMerges:
    """Builds one model after the other; used from the thread that hears."""

    def __init__(self, base: MergeableModel, open_adaptable: Callable[[], AdaptableModel]) -> None:
        """Merge into `base`; the thread begins with the first work and ends with this object."""
        self._base = base
        self._open_adaptable = open_adaptable
        self._thread = ThreadPoolExecutor(1, "merges")
        self._merges: dict[Profiles, Future[MergeableModel]] = {}
        self._opening: Future[AdaptableModel | None] | None = None

    def begin(self) -> None:
        """Make ready to apply profiles at run time; further calls do nothing."""
        if self._opening is None:
            self._opening = self._thread.submit(self._opened)

    @property
    def adaptable(self) -> AdaptableModel | None:
        """What takes profiles at run time, as soon as it is ready."""
        return self._opening.result() if self._opening is not None and self._opening.done() else None

    def ask(self, profiles: Profiles, adapters: Adapters) -> None:
        """Have a model merged, unless it was asked for and not yet taken."""
        if profiles not in self._merges:
            self._merges[profiles] = self._thread.submit(self._base.merged, adapters)

    def finished(self) -> Iterator[tuple[Profiles, Future[MergeableModel]]]:
        """Take what was merged since the last time, or failed to be, in the order in which it was asked for."""
        while self._merges and self._merges[first := next(iter(self._merges))].done():
            yield first, self._merges.pop(first)

    def _opened(self) -> AdaptableModel | None:
        try:
            return self._open_adaptable()
        except OutOfMemoryError as error:
            _LOGGER.warning("Profiles are not applied at run time: %s", error)
        except Exception:
            _LOGGER.exception("Profiles are not applied at run time")
        return None
