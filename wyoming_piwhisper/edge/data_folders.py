"""Where models and profiles lie on this device."""

import os
from pathlib import Path
from typing import Final

PROJECT_PROFILES: Final = Path(__file__).parent.parent.parent / "profiles"
"""The profiles that come with a clone of the project."""


def data_folder() -> Path:
    """The user's data: `$XDG_DATA_HOME/wyoming-piwhisper`, below `~/.local/share` when unset."""
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG rules tell programs to ignore a relative path here.
    data_home = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    return data_home / "wyoming-piwhisper"


def models_dir_of(setting: str) -> Path:
    """The folder that `asr.models_dir` means; empty means `models` in the user's data."""
    return Path(setting).expanduser() if setting else data_folder() / "models"


def profile_dirs_of(setting: str) -> tuple[Path, ...]:
    """The folders that `profiles.dir` means, the one that new profiles go to first."""
    if setting:
        return (Path(setting).expanduser(),)
    return (data_folder() / "profiles", PROJECT_PROFILES)
