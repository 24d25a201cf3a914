"""The watts that this machine draws, where it can tell."""

import threading
import time
from pathlib import Path
from typing import Self

import numpy as np

RAPL = Path("/sys/class/powercap/intel-rapl:0")
"""The first processor's package; `energy_uj` counts microjoules, and only root may read it on most systems."""
JETSON = Path("/sys/bus/i2c/drivers")
"""Jetson's INA3221 measures each rail: `in1_input` in millivolts times `curr1_input` in milliamperes, and so on."""
SAMPLE_SECONDS = 0.1


class PowerMeter:
    """Measures inside `with`."""

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self.watts: float | None = None
        """The mean; None where nothing can be read."""
        self._samples: list[float] = []
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self._began = (0.0, 0.0)

    def __enter__(self) -> Self:
        """Begin to measure."""
        self._began = (time.monotonic(), _rapl_joules())
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Work out the mean."""
        self._stopping.set()
        self._sampler.join()
        seconds, joules = np.subtract((time.monotonic(), _rapl_joules()), self._began)
        # The counter starts anew at its end, some times a day.
        if joules > 0:
            self.watts = float(joules / seconds)
        elif self._samples:
            self.watts = float(np.mean(self._samples))

    def _sample(self) -> None:
        while (watts := _jetson_watts()) and not self._stopping.wait(SAMPLE_SECONDS):
            self._samples.append(watts)


def _rapl_joules() -> float:
    """0 where it cannot be read."""
    try:
        return int((RAPL / "energy_uj").read_text()) / 1e6
    except OSError:
        return 0.0


def _jetson_watts() -> float:
    """The largest rail, which is what goes into the module; 0 where there is none."""
    rails = JETSON.glob("ina3221*/*/hwmon/hwmon*/in[1-3]_input")
    return max(map(_rail_watts, rails), default=0.0)


def _rail_watts(volts: Path) -> float:
    amperes = volts.with_name(volts.name.replace("in", "curr", 1))
    try:
        return int(volts.read_text()) * int(amperes.read_text()) / 1e6
    except OSError:
        return 0.0
