"""Profiles from a manifest: utterances, training, folders that the recogniser can merge."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from accelerate import PartialState

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.profiles import ONE_FOR_ALL, profile_name
from wyoming_piwhisper.domain.traits import TRAITS, Trait
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.merging_torch import merge
from wyoming_piwhisper.engine.profile_card import ProfileCard, fingerprint, write_card
from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary, check_profile
from wyoming_piwhisper.engine.whisper_torch import load_whisper
from wyoming_piwhisper.training.manifest import read_clips
from wyoming_piwhisper.training.prepare import made_noises
from wyoming_piwhisper.training.profile_batches import Material, ProfileRecipe
from wyoming_piwhisper.training.profile_clips import SpokenClip, prepare_spoken
from wyoming_piwhisper.training.profile_training import TrainedProfile, train_profile

_LOGGER = logging.getLogger(__name__)
LEAST_SPEAKERS: Final = 8
LEAST_MINUTES: Final = 5.0
"""A library leaves out groups with fewer speakers or less speech: their profile would be that of these few people."""
FRAMES_PER_MINUTE: Final = 6_000


@dataclass(frozen=True)
class ProfilePlan:
    """What to train from, for which base, and where the result goes."""

    manifest: Path
    work: Path
    output: Path
    """Folder of profiles; each goes to `<output>/<base model>/<profile>`."""
    model_dir: Path
    model_name: str
    processes: int
    recipe: ProfileRecipe
    licence: str = ""


@dataclass(frozen=True)
class Group:
    """The speakers that a profile is for."""

    trait: Trait | None
    """None stands for everybody."""
    value: str

    @property
    def name(self) -> str:
        """The name of its profile."""
        return ONE_FOR_ALL if self.trait is None else profile_name(self.trait, self.value)


EVERYBODY: Final = Group(None, "all")


class ProfileTrainer:
    """Trains profiles for one base model; what they share is read once."""

    def __init__(self, plan: ProfilePlan) -> None:
        """Read the base model and the recordings.

        Raises:
            SettingsError: the manifest cannot be read.
            ProfileError, ModelFormatError: the base model is damaged.
        """
        self._plan = plan
        self._checkpoint = read_checkpoint(plan.model_dir)
        self._base = BaseModel(plan.model_name, self._checkpoint.weights)
        plan.work.mkdir(parents=True, exist_ok=True)
        rows = list(read_clips(plan.manifest))
        # Of several processes that train together, one prepares and the others find it done.
        with PartialState().main_process_first():
            self._clips = prepare_spoken(plan.work / "utterances", rows, plan.processes)
            self._noises = made_noises(plan.work / "noise", plan.recipe.seed)

    @property
    def folder(self) -> Path:
        """The folder into which the profiles go."""
        return self._plan.output / self._base.folder_name

    def has(self, group: Group) -> bool:
        """Whether a profile of the group is there and fits the base model and the profile of everybody."""
        return group.name in ProfileLibrary([self._plan.output], self._base).profiles

    def groups(self) -> list[Group]:
        """Everybody, over whose profile the others are trained, and the groups with enough speakers and speech."""
        groups = [Group(trait, value) for trait in TRAITS for value in self._values(trait)]
        return [EVERYBODY, *(group for group in groups if self._is_enough(self._utterances(group)))]

    def train(self, group: Group, *, only_if_it_helps: bool = False) -> Path | None:
        """Train the profile of a group and put it into its folder; returns the folder in the process that wrote it.

        With `only_if_it_helps` nothing is written where the loss on the group's development utterances did not fall,
        or there are none.

        Everybody's profile gets the ranks of one profile for each trait together. A group's profile is trained over
        that of everybody where there is one, and then holds only what sets the group apart.

        Raises:
            SettingsError: nobody in the training split belongs to the group.
            ProfileError: the profile of everybody is damaged.
        """
        chosen = self._utterances(group)
        if not chosen:
            known = ", ".join(self._values(group.trait)) if group.trait else ""
            raise SettingsError(
                f"manifest: no utterance in {self._plan.manifest} (split train) for {group.name}; values there: {known}"
            )
        recipe = self._plan.recipe if group.trait is not None else _of_total_rank(self._plan.recipe)
        watched = self._clips.of(group.trait, group.value, "dev")
        material = Material(self._clips, chosen, self._noises, watched)
        whisper, over = load_whisper(self._checkpoint), ""
        if group.trait is not None and self.has(EVERYBODY):
            common = self.folder / ONE_FOR_ALL
            _, lora = check_profile(common, self._base)
            whisper.load_state_dict(merge(whisper.state_dict(), [(lora, 1.0)]), strict=False)
            over = fingerprint(lora.weights)
        trained = train_profile(group.name, whisper, self._checkpoint, material, recipe)
        written = None
        if PartialState().is_main_process:
            if only_if_it_helps and not trained.helps:
                _LOGGER.info("%s is left out: no development speech of the group shows that it helps", group.name)
            else:
                written = self._write(group, trained, self._card(group, trained, chosen, recipe, over))
        # The next profile may be trained over this one, in all processes.
        PartialState().wait_for_everyone()
        return written

    def _card(
        self, group: Group, trained: TrainedProfile, chosen: Sequence[SpokenClip], recipe: ProfileRecipe, over: str
    ) -> ProfileCard:
        speakers = len({clip.speaker for clip in chosen})
        minutes = sum(clip.clip.frames for clip in chosen) / FRAMES_PER_MINUTE
        change = f"{trained.loss_before:.3f} to {trained.loss_after:.3f} nats per token" if trained.loss_after else ""
        return ProfileCard(
            trait=group.trait or "all",
            value=group.value,
            base_model=self._base.name,
            base_fingerprint=self._base.fingerprint,
            over=over,
            data=f"{len(chosen)} utterances, {minutes:.0f} minutes, {speakers} speakers, {recipe}",
            created=datetime.now(UTC).date().isoformat(),
            licence=self._plan.licence,
            effect=f"loss on the group's development utterances from {change}" if change else "",
        )

    def _write(self, group: Group, trained: TrainedProfile, card: ProfileCard) -> Path:
        folder = self.folder / group.name
        # A running server passes over names with a dot, so it never sees half a profile.
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        trained.adapted.half().save_pretrained(str(part))
        (part / "README.md").unlink(missing_ok=True)
        write_card(part, card)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        _LOGGER.info("the profile is in %s", folder)
        return folder

    def _values(self, trait: Trait) -> list[str]:
        """The values of a trait that the manifest knows."""
        return sorted({clip.traits[trait] for clip in self._clips.clips if trait in clip.traits})

    def _utterances(self, group: Group) -> list[SpokenClip]:
        return self._clips.of(group.trait, group.value, "train")

    def _is_enough(self, clips: Sequence[SpokenClip]) -> bool:
        frames = sum(clip.clip.frames for clip in clips)
        return len({clip.speaker for clip in clips}) >= LEAST_SPEAKERS and frames >= LEAST_MINUTES * FRAMES_PER_MINUTE


def _of_total_rank(recipe: ProfileRecipe) -> ProfileRecipe:
    ranks = len(TRAITS)
    return replace(recipe, rank=recipe.rank * ranks, alpha=recipe.alpha * ranks)
