"""Which models lie on this device, and which of them a name means; never touches the network."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from wyoming_piwhisper.domain.errors import ModelFormatError, ModelNotFoundError
from wyoming_piwhisper.domain.transcription import ModelDescription

AUTO: Final = "auto"
BUNDLED: Final = "home-en"
PREFERRED: Final = "openai/whisper-tiny.en"
"""What `auto` takes where it has been fetched: it hears general English, the bundled model mostly commands."""
REQUIRED_FILES: Final = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "model.safetensors",
)
RECORD: Final = "download.json"
"""Written by the download beside the files of a model: `repo`, `revision` and `files` with their sizes and digests."""

BUNDLED_FOLDER: Final = Path(__file__).parent.parent / "models" / BUNDLED
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FRONT_MATTER: Final = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_ENGLISH_ONLY: Final = ("en",)
"""Home Assistant picks the nearest advertised code for a pipeline, so `en` serves en-GB and en-US alike; listing the
regions too would offer the same thing several times over."""


@dataclass(frozen=True)
class ResolvedModel:
    """A model whose files all lie on this device."""

    folder: Path
    description: ModelDescription
    reason: str
    """One line that says which model it is and why."""


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form `owner/name`."""
    return _HUB_ID.fullmatch(name) is not None


def model_folder(repo: str, models_dir: Path) -> Path:
    """The folder of the downloaded hub model `repo` (`owner/name`), whether or not it is there."""
    owner, name = repo.split("/")
    return models_dir / owner / name


def download_command(repo: str) -> str:
    """The command that fetches `repo`."""
    return f"wyoming-piwhisper download {repo}"


def missing_files(folder: Path) -> list[str]:
    """The names of `REQUIRED_FILES` that `folder` lacks."""
    return [name for name in REQUIRED_FILES if not (folder / name).is_file()]


def resolve_model(name: str, models_dir: Path) -> ResolvedModel:
    """Find the model that `name` means: `auto`, `home-en`, a local folder, or a hub id `owner/name`.

    A local folder wins over a hub id of the same spelling. Reads the small files of the model, not its weights.

    Raises:
        ModelNotFoundError: it is not on this device; the message holds the command that fetches it.
        ModelFormatError: it is there but a file is missing or cannot be understood; the message names the file.
    """
    if name == AUTO:
        return _resolve_auto(models_dir)
    if name == BUNDLED:
        return _resolved(_bundled_folder(), BUNDLED, f"using {BUNDLED}, as asked for")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _resolved(folder, folder.resolve().name, f"using the model in {folder}, as asked for")
    if not is_hub_id(name):
        raise ModelNotFoundError(
            f"{name}: no such folder, and no hub id; a hub model is fetched with, for example: "
            f"{download_command(PREFERRED)}"
        )
    folder = model_folder(name, models_dir)
    if not folder.is_dir():
        raise ModelNotFoundError(f"{name} is not on this device; fetch it with: {download_command(name)}")
    return _resolved(folder, name, f"using {name}, as asked for")


def _resolve_auto(models_dir: Path) -> ResolvedModel:
    folder = model_folder(PREFERRED, models_dir)
    if (folder / RECORD).is_file() and not missing_files(folder):
        return _resolved(
            folder, PREFERRED, f"using {PREFERRED}, fetched before; the bundled one is --asr-model {BUNDLED}"
        )
    state = "is damaged" if folder.is_dir() else "is not on this device"
    reason = f"using the bundled {BUNDLED}: {PREFERRED} {state}; fetch it with: {download_command(PREFERRED)}"
    return _resolved(_bundled_folder(), BUNDLED, reason)


def _bundled_folder() -> Path:
    if not BUNDLED_FOLDER.is_dir():
        raise ModelNotFoundError(
            f"{BUNDLED} is missing from this installation; another model is fetched with: {download_command(PREFERRED)}"
        )
    return BUNDLED_FOLDER


def _resolved(folder: Path, name: str, reason: str) -> ResolvedModel:
    missing = missing_files(folder)
    if missing:
        raise ModelFormatError(f"{name}: {', '.join(missing)} missing in {folder}")
    return ResolvedModel(folder, _describe(folder, name), reason)


def _describe(folder: Path, name: str) -> ModelDescription:
    architecture = _read_json(folder / "config.json").get("model_type")
    if architecture != "whisper":
        raise ModelFormatError(f"{folder / 'config.json'}: model_type is {architecture!r}, not 'whisper'")
    record = _read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    repo, revision = record.get("repo"), str(record.get("revision", ""))
    card = _front_matter(folder / "README.md")
    return ModelDescription(
        name=name,
        description=str(card.get("description") or f"Whisper model {name}"),
        languages=_languages(_read_json(folder / "generation_config.json")),
        attribution_name=str(card.get("author") or (repo.split("/")[0] if repo else "unknown")),
        attribution_url=str(card.get("url") or (f"https://huggingface.co/{repo}" if repo else "")),
        version=str(card.get("version") or revision[:12] or "unknown"),
    )


def _languages(generation: dict[str, Any]) -> tuple[str, ...]:
    """The languages of a multilingual model, from tokens such as `<|de|>`."""
    tokens = generation.get("lang_to_id")
    if not generation.get("is_multilingual") or not isinstance(tokens, dict) or not tokens:
        return _ENGLISH_ONLY
    return tuple(sorted(token.strip("<|>") for token in tokens))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"{path}: holds no JSON object")
    return content


def _front_matter(card: Path) -> dict[str, Any]:
    """The mapping between the two `---` lines that may begin a model card; empty where there is none.

    A card is text for people: one that cannot be read costs the description, not the model.
    """
    try:
        found = _FRONT_MATTER.match(card.read_text(encoding="utf-8"))
        content = yaml.safe_load(found[1]) if found else None
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
