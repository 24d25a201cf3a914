"""From settings to a loaded engine."""

import logging
import os
from pathlib import Path
from typing import Final

import numpy as np
import torch

from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.domain.settings import AsrSettings, VadSettings, model_threads
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.interface import Engine
from wyoming_piwhisper.engine.recognizer import Recognizer, StageClock
from wyoming_piwhisper.engine.whisper_torch import TorchWhisper, choose_device

_LOGGER = logging.getLogger(__name__)
WARM_UP_SECONDS: Final = 3.0


def load_engine(model_dir: Path, asr: AsrSettings, vad: VadSettings) -> Engine:
    """Load the model in `model_dir` and run it once, so that the first command does not wait.

    Raises:
        ModelFormatError: a file of the model is missing or damaged.
        InferenceError: the device that was asked for does not work.
    """
    checkpoint = read_checkpoint(model_dir)
    torch.set_num_threads(model_threads(asr.threads, os.cpu_count() or 1))
    device = choose_device(asr.device)
    recognizer = Recognizer(TorchWhisper(checkpoint, device), checkpoint, vad)
    recognizer.hear(np.zeros(int(WARM_UP_SECONDS * SAMPLE_RATE), np.float32), asr.language, StageClock())
    _LOGGER.info("model in %s ready on %s", model_dir.name, device)
    return recognizer
