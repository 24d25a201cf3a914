"""Starts the real server of wyoming-faster-whisper, so that `wire.py` can lay it beside ours.

Runs in an environment where that server is installed and takes its own options. Two things are set in the call by which
it hears, for random weights would drive both astray: the temperature is 0, so that an unlikely answer is not decoded up
to five times more, and answers have no timestamps, as ours have none. The length of the answer is the checkpoint's
matter (see `random_checkpoint.py`); all else is the server's own.
"""

from functools import partialmethod

import faster_whisper
from wyoming_faster_whisper.__main__ import run

faster_whisper.WhisperModel.transcribe = partialmethod(
    faster_whisper.WhisperModel.transcribe, temperature=0.0, without_timestamps=True
)

if __name__ == "__main__":
    run()
