"""The seam between the models of a runtime and the choice among them."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from wyoming_piwhisper.engine.decoding import SpeechModel
from wyoming_piwhisper.engine.lora_file import LoraFile

Adapters = Sequence[tuple[LoraFile, float]]
"""LoRA adapters, each with its weight."""


class AdaptableModel(Protocol):
    """A model that takes adapters as they come; with them it hears slower than a merged one."""

    def adapted(self, adapters: Adapters) -> SpeechModel:
        """The model with these adapters.

        Raises:
            ProfileError: an adapter cannot be read.
        """


class MergeableModel(SpeechModel, Protocol):
    """A base model that can bring forth others."""

    @property
    def own_bytes(self) -> int:
        """Memory of the tensors that this model does not share with its base."""

    @property
    def adaptable(self) -> Callable[[], AdaptableModel] | None:
        """Opens the base in a form that takes adapters at run time; None where a merge is over as soon.

        Where there is one, it and `merged` may be called on another thread than the rest.
        """

    def merged(self, adapters: Adapters) -> "MergeableModel":
        """A new model: the base's tensors, and new ones where adapters change them.

        Raises:
            ProfileError: an adapter cannot be read.
            OutOfMemoryError: there is no room.
        """

    def prepare_merge(self, matrices: Collection[str]) -> None:
        """Have memory ready for a merge that changes these matrices of the base."""

    def release_memory(self) -> None:
        """Give back what the runtime keeps of models that are gone."""
