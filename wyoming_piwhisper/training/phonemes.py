"""Text to phonemes with espeak-ng: the targets of the helper loss that teaches the encoder what was said."""

import re
import subprocess
from collections.abc import Sequence
from typing import Final

_STRESS_AND_VARIANTS: Final = re.compile(r"[',:;|#!%=\-]|(?<=.)\d")
BATCH_LINES: Final = 2000


def phonemes(texts: Sequence[str]) -> list[str]:
    """American English phonemes of each text (no punctuation inside), separated by spaces, without stress and length.

    Raises:
        ValueError: espeak-ng answered with another number of lines than it was asked.
    """
    found: list[str] = []
    for start in range(0, len(texts), BATCH_LINES):
        batch = texts[start : start + BATCH_LINES]
        answer = subprocess.run(
            ["espeak-ng", "-q", "-x", "--sep=_", "-v", "en-us", "--stdin"],
            input="".join(f"{text}.\n" for text in batch),
            text=True,
            check=True,
            capture_output=True,
        ).stdout.splitlines()
        if len(answer) != len(batch):
            raise ValueError(f"espeak-ng gave {len(answer)} lines of phonemes for {len(batch)} sentences")
        found.extend(_plain(line) for line in answer)
    return found


def _plain(line: str) -> str:
    symbols = (_STRESS_AND_VARIANTS.sub("", symbol) for symbol in re.split(r"[_ ]+", line.strip()))
    return " ".join(symbol for symbol in symbols if symbol)
