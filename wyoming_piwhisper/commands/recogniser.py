"""The recogniser of the commands that work without a server: the same model and settings, in this process."""

import argparse
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wyoming_piwhisper.domain.engine_plan import engine_plan
from wyoming_piwhisper.domain.languages import choose_language
from wyoming_piwhisper.domain.settings import Settings
from wyoming_piwhisper.domain.transcription import RecognitionOptions

if TYPE_CHECKING:
    from wyoming_piwhisper.edge.model_store import ResolvedModel
    from wyoming_piwhisper.engine.interface import Engine


@dataclass(frozen=True)
class Recogniser:
    """A loaded engine and what it was made from."""

    engine: "Engine"
    model: "ResolvedModel"
    settings: Settings
    device: str
    """What the model runs on, such as `cpu (onnx)`."""

    @property
    def options(self) -> RecognitionOptions:
        """The options of an utterance whose language the settings name."""
        languages = self.model.description.languages
        speaker = self.settings.speaker
        language = choose_language(None, self.settings.asr.language, languages)
        return RecognitionOptions(language, speaker.profile, speaker.known)


def load_recogniser(args: argparse.Namespace) -> Recogniser:
    """Load the model that the options, the environment and the configuration file ask for.

    It always waits for merged models, so that the words do not depend on what else the machine does.

    Raises:
        PiWhisperError: a setting is wrong, or the model is missing or damaged.
    """
    from wyoming_piwhisper.edge.data_folders import models_dir_of, profile_dirs_of
    from wyoming_piwhisper.edge.model_store import resolve_model
    from wyoming_piwhisper.edge.settings_file import given_options, load_settings

    given = load_settings(given_options(args), os.environ)
    settings = replace(given, profiles=replace(given.profiles, not_ready="wait"))
    model = resolve_model(settings.asr.model, models_dir_of(settings.asr.models_dir))

    # Brings the model runtime: last, so that a wrong setting is told at once.
    from wyoming_piwhisper.engine.backends import choose_backend
    from wyoming_piwhisper.engine.loading import load_engine

    profile_dirs = profile_dirs_of(settings.profiles.dir)
    engine = load_engine(engine_plan(settings, model.folder, model.description.name, profile_dirs))
    return Recogniser(engine, model, settings, str(choose_backend(settings.asr)))
