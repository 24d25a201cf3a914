"""From a plan to a loaded engine."""

import logging
import os
from pathlib import Path
from typing import Final

import numpy as np

from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.domain.engine_plan import EnginePlan, model_threads
from wyoming_piwhisper.domain.errors import ModelFormatError
from wyoming_piwhisper.engine.backends import choose_backend, load_model
from wyoming_piwhisper.engine.checkpoint import Checkpoint, read_checkpoint
from wyoming_piwhisper.engine.clock import StageClock
from wyoming_piwhisper.engine.decoding import run
from wyoming_piwhisper.engine.features import FRAMES_PER_SECOND
from wyoming_piwhisper.engine.interface import Engine
from wyoming_piwhisper.engine.mergeable_model import MergeableModel
from wyoming_piwhisper.engine.merged_models import MergedModels
from wyoming_piwhisper.engine.profile_library import BaseModel, ProfileLibrary
from wyoming_piwhisper.engine.recognizer import Recognizer
from wyoming_piwhisper.engine.trait_models import TraitModels
from wyoming_piwhisper.engine.voices import Voices
from wyoming_piwhisper.engine.windows import Window

_LOGGER = logging.getLogger(__name__)
WARM_UP_SECONDS: Final = 3.0
TRAITS_FOLDER: Final = Path(__file__).parent.parent / "models" / "traits"
_MEGABYTE: Final = 1_000_000


def load_engine(plan: EnginePlan) -> Engine:
    """Load the model of `plan` and run it once, so that the first command does not wait.

    Raises:
        ModelFormatError: a file of the model is missing or damaged.
        InferenceError: the device that was asked for does not work.
    """
    checkpoint = read_checkpoint(plan.model_dir)
    backend = choose_backend(plan.asr)
    model = load_model(checkpoint, backend, model_threads(plan.asr.threads, os.cpu_count() or 1))
    voices = load_voices(model, checkpoint, plan)
    recognizer = Recognizer(model, checkpoint, plan.vad, voices, context=plan.asr.context, beam=plan.asr.beam)
    silence = np.zeros((checkpoint.mel_bins, int(WARM_UP_SECONDS * FRAMES_PER_SECOND)), np.float32)
    run(recognizer.hear(model, Window(silence, plan.asr.language), StageClock()))
    _LOGGER.info("model in %s ready on %s", plan.model_dir.name, backend)
    return recognizer


def load_voices(model: MergeableModel, checkpoint: Checkpoint, plan: EnginePlan) -> Voices:
    """The classifiers, the profiles of the plan's folders, and the merged models that it wants ready."""
    library = ProfileLibrary(plan.profile_dirs, BaseModel(plan.model_name, checkpoint.weights))
    settings = plan.profiles
    models = MergedModels(model, library, settings.trait_weights, settings.cache_mb * _MEGABYTE, waits=settings.waits)
    _LOGGER.info("%d profiles at hand, %d refused", len(library.profiles), len(library.refused))
    asked = plan.speaker.choice
    usual = models.choose(asked, plan.speaker.known.estimates())
    if not set(asked.key.names) <= set(usual.names):
        _LOGGER.warning("A profile of speaker.profile is not there for this model: see wyoming-piwhisper profiles list")
    models.warm([usual, *settings.prewarm_keys])
    models.prepare()
    return Voices(models, _classifier(), plan.speaker.inferred)


def _classifier() -> TraitModels | None:
    """The bundled classifiers; without them the recogniser goes by what it is told."""
    if not TRAITS_FOLDER.is_dir():
        return None
    try:
        classifier = TraitModels(TRAITS_FOLDER)
    except ModelFormatError as error:
        _LOGGER.warning("Traits are not inferred: %s", error)
        return None
    classifier.infer(np.zeros(int(WARM_UP_SECONDS * SAMPLE_RATE), np.float32))
    return classifier
