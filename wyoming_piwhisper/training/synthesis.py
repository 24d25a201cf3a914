"""Synthetic speech from the free voices that Debian packages: espeak-ng, flite and festival.

A voice here is an engine's voice at a speaking rate, a pitch and a vocal tract length, so that a dozen voices become
many speakers. Each split has its own, to see what carries over to a voice that was never heard.
"""

import random
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import soundfile
import soxr

from wyoming_piwhisper.domain.audio import SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.errors import SettingsError

Split = Literal["train", "dev", "test"]
"""Training hears the first, its progress is watched on the second, the third is for the model card."""
FLITE_VOICES: Final = {"slt": 170, "rms": 100, "awb": 125, "kal16": 105}
"""Voice to its natural pitch in Hz."""
FESTIVAL_VOICES: Final = ("cmu_us_slt_arctic_hts", "kal_diphone")
TEST_FESTIVAL_VOICES: Final = ("ked_diphone",)
ESPEAK_DIALECTS: Final = (
    "en-us",
    "en-us",
    "en-us",
    "en-gb",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-029",
    "en-us-nyc",
)

TEST_ESPEAK_DIALECTS: Final = ("en-gb-x-gbcwmd",)
ESPEAK_VARIANTS: Final = (
    *("f1", "f2", "f3", "f4", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "Alex", "Alicia", "Andrea", "Andy", "Annie"),
    *("Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "adam", "anika"),
    *("announcer", "antonio", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "grandma", "grandpa"),
    *("gustave", "iven", "john", "marcelo", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob"),
    *("robert", "sandro", "shelby", "steph", "travis", "victor", "zac"),
)
DEV_ESPEAK_VARIANTS: Final = ("steph2", "iven2", "Nguyen", "Gene2", "AnxiousAndy", "RicishayMax2")
TEST_ESPEAK_VARIANTS: Final = ("f5", "m8", "linda", "max", "Mike", "edward2")
VARIANTS: Final = {"train": ESPEAK_VARIANTS, "dev": DEV_ESPEAK_VARIANTS, "test": TEST_ESPEAK_VARIANTS}
ENGINE_WEIGHTS: Final = {"train": (48, 16, 36), "dev": (0, 0, 1), "test": (0, 4, 6)}
"""Of flite, festival and espeak-ng."""
PROGRAMS: Final = ("espeak-ng", "flite", "festival")
PACKAGES: Final = "espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"
"""Debian's packages of the programs and their voices."""
SYNTHESIS_TIMEOUT_SECONDS: Final = 600


@dataclass(frozen=True)
class Voice:
    """One way of speaking."""

    engine: str
    """`espeak-ng`, `flite` or `festival`."""
    name: str
    rate: float
    """Speaking rate, 1 is the engine's own."""
    pitch: float
    """Pitch, 1 is the voice's own; festival keeps its own."""
    tract: float
    """Vocal tract and pitch together, by resampling; above 1 is a smaller speaker."""

    @property
    def label(self) -> str:
        """Engine and voice, such as `flite:slt`."""
        return f"{self.engine}:{self.name}"


def require_programs() -> None:
    """Check that the synthesisers are installed.

    Raises:
        SettingsError: one is not; the message holds the command that installs all of them with their voices.
    """
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise SettingsError(f"speech synthesis needs {', '.join(missing)}: apt-get install {PACKAGES}")


def random_voice(source: random.Random, split: Split) -> Voice:
    """Draw one of a split's voices; the development split has only engines and dialects that training hears too."""
    engine = source.choices(("flite", "festival", "espeak-ng"), ENGINE_WEIGHTS[split])[0]
    if engine == "flite":
        name = source.choice(list(FLITE_VOICES))
    elif engine == "festival":
        name = source.choice(TEST_FESTIVAL_VOICES if split == "test" else FESTIVAL_VOICES)
    else:
        dialect = source.choice(TEST_ESPEAK_DIALECTS if split == "test" else ESPEAK_DIALECTS)
        variant = source.choice(VARIANTS[split])
        name = f"{dialect}+{variant}"
    return Voice(
        engine,
        name,
        source.uniform(0.85, 1.2),
        source.uniform(0.8, 1.3),
        source.choice([1.0, source.uniform(0.85, 1.22)]),
    )


def synthesise(jobs: Sequence[tuple[str, Voice]]) -> list[Samples]:
    """Speak each text in its voice: 16 kHz mono float32, peak 0.5, silence at both ends cut to about 50 ms.

    Raises:
        subprocess.CalledProcessError: a synthesiser refused its input.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.wav" for index in range(len(jobs))]
        script = [
            line
            for (text, voice), file in zip(jobs, files, strict=True)
            if voice.engine == "festival"
            for line in _festival_lines(text, voice, file)
        ]
        if script:
            _run(["festival", "--pipe"], "\n".join(script))
        for (text, voice), file in zip(jobs, files, strict=True):
            if voice.engine == "flite":
                _run(_flite_command(text, voice, file))
            elif voice.engine == "espeak-ng":
                _run(_espeak_command(text, voice, file))
        return [_load(file, voice.tract) for file, (_, voice) in zip(files, jobs, strict=True)]


def _flite_command(text: str, voice: Voice, file: Path) -> list[str]:
    pitch = FLITE_VOICES[voice.name] * voice.pitch
    stretch = f"duration_stretch={1 / voice.rate:.3f}"
    return [
        "flite",
        "-voice",
        voice.name,
        "--setf",
        stretch,
        "--setf",
        f"int_f0_target_mean={pitch:.0f}",
        "-t",
        text,
        "-o",
        str(file),
    ]


def _espeak_command(text: str, voice: Voice, file: Path) -> list[str]:
    speed, pitch = f"{165 * voice.rate:.0f}", f"{min(99, 45 * voice.pitch):.0f}"
    return ["espeak-ng", "-v", voice.name, "-s", speed, "-p", pitch, "-w", str(file), text]


def _festival_lines(text: str, voice: Voice, file: Path) -> list[str]:
    return [
        f"(voice_{voice.name})",
        f"(Parameter.set 'Duration_Stretch {1 / voice.rate:.3f})",
        f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{file}" \'riff)',
    ]


def _run(command: list[str], script: str | None = None) -> None:
    subprocess.run(command, input=script, text=True, check=True, capture_output=True, timeout=SYNTHESIS_TIMEOUT_SECONDS)


def _load(file: Path, tract: float) -> Samples:
    samples, rate = soundfile.read(file, dtype="float32")
    samples = soxr.resample(samples, rate * tract, SAMPLE_RATE).astype(np.float32)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-6))
    margin = SAMPLE_RATE // 20
    if loud.size:
        samples = samples[max(0, loud[0] - margin) : loud[-1] + margin]
    normalised: Samples = samples * np.float32(0.5 / np.abs(samples).max(initial=1e-6))
    return normalised
