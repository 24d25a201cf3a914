import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes_tools import COMMIT, model_files, write_model

from wyoming_piwhisper.domain.errors import ModelFormatError, ModelNotFoundError
from wyoming_piwhisper.edge import model_store
from wyoming_piwhisper.edge.data_folders import models_dir_of
from wyoming_piwhisper.edge.model_store import RECORD, REQUIRED_FILES, resolve_model


def fetched(models_dir: Path, repo: str) -> Path:
    folder = write_model(models_dir / repo, model_files())
    (folder / RECORD).write_text(json.dumps({"repo": repo, "revision": COMMIT, "files": {}}))
    return folder


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled model whatever this checkout ships."""
    folder = write_model(tmp_path / "package" / "home-en", model_files())
    card = "---\ndescription: Hears a house\nversion: 7\nauthor: The makers\nurl: https://example.org\n---\n# home-en\n"
    (folder / "README.md").write_text(card)
    monkeypatch.setattr(model_store, "BUNDLED_FOLDER", folder)
    return folder


def test_auto_takes_what_was_fetched(tmp_path: Path, bundled: Path) -> None:
    folder = fetched(tmp_path, "openai/whisper-tiny.en")
    model = resolve_model("auto", tmp_path)
    assert model.folder == folder
    assert model.description.name == "openai/whisper-tiny.en"
    assert model.description.version == COMMIT[:12]
    assert model.description.attribution_name == "openai"
    assert "home-en" in model.reason


def test_auto_falls_back_to_the_bundled_model_and_says_why(tmp_path: Path, bundled: Path) -> None:
    model = resolve_model("auto", tmp_path)
    assert model.folder == bundled
    assert model.reason == (
        "using the bundled home-en: openai/whisper-tiny.en is not on this device; "
        "fetch it with: wyoming-piwhisper download openai/whisper-tiny.en"
    )


@pytest.mark.parametrize("lost", ["model.safetensors", RECORD])
def test_auto_passes_over_half_a_model(tmp_path: Path, bundled: Path, lost: str) -> None:
    (fetched(tmp_path, "openai/whisper-tiny.en") / lost).unlink()
    model = resolve_model("auto", tmp_path)
    assert model.folder == bundled
    assert "is damaged" in model.reason


def test_the_bundled_model_describes_itself_in_its_card(tmp_path: Path, bundled: Path) -> None:
    description = resolve_model("home-en", tmp_path).description
    assert description.name == "home-en"
    assert description.description == "Hears a house"
    assert description.version == "7"
    assert description.attribution_name == "The makers"
    assert description.attribution_url == "https://example.org"
    assert description.languages == ("en",)


def test_without_the_bundled_model_the_message_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "BUNDLED_FOLDER", tmp_path / "none")
    with pytest.raises(ModelNotFoundError, match=r"wyoming-piwhisper download openai/whisper-tiny\.en"):
        resolve_model("auto", tmp_path)


def test_a_hub_model_is_found_where_download_puts_it(tmp_path: Path) -> None:
    folder = fetched(tmp_path, "someone/whisper-nl")
    assert resolve_model("someone/whisper-nl", tmp_path).folder == folder


def test_a_missing_hub_model_tells_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="wyoming-piwhisper download someone/whisper-nl"):
        resolve_model("someone/whisper-nl", tmp_path)


@pytest.mark.parametrize("name", ["./nowhere", "tiny", "a/b/c", "../x/y", "-a/b"])
def test_what_is_neither_folder_nor_hub_id_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no such folder, and no hub id"):
        resolve_model(name, tmp_path)


def test_a_local_folder_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "mine" / "kitchen", model_files())
    monkeypatch.chdir(tmp_path)
    model = resolve_model("mine/kitchen", tmp_path / "models")
    assert model.folder.samefile(tmp_path / "mine" / "kitchen")
    assert model.description.name == "kitchen"
    assert resolve_model(str(tmp_path / "mine" / "kitchen"), tmp_path).description == model.description


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "half", model_files())
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=name):
        resolve_model(str(folder), tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "cannot be read"), ("[]", "no JSON object"), ('{"model_type": "bert"}', "'bert', not 'whisper'")],
)
def test_a_configuration_that_is_not_whispers_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    folder = write_model(tmp_path / "odd", model_files() | {"config.json": content.encode()})
    with pytest.raises(ModelFormatError, match=rf"config\.json: .*{complaint}"):
        resolve_model(str(folder), tmp_path)


def test_a_multilingual_model_names_its_languages(tmp_path: Path) -> None:
    files = model_files(is_multilingual=True, lang_to_id={"<|nl|>": 3, "<|de|>": 1, "<|haw|>": 2})
    folder = write_model(tmp_path / "many", files)
    assert resolve_model(str(folder), tmp_path).description.languages == ("de", "haw", "nl")


@pytest.mark.parametrize("card", ["# no front matter", "---\n: : [\n---\n", "---\n- a list\n---\n"])
def test_a_card_without_data_costs_nothing(tmp_path: Path, card: str) -> None:
    folder = write_model(tmp_path / "plain", model_files() | {"README.md": card.encode()})
    assert resolve_model(str(folder), tmp_path).description.description == "Whisper model plain"


def test_models_lie_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_dir_of("") == tmp_path / "wyoming-piwhisper" / "models"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unusable in ("", "relative/folder"):
        monkeypatch.setenv("XDG_DATA_HOME", unusable)
        assert models_dir_of("") == tmp_path / ".local" / "share" / "wyoming-piwhisper" / "models"


def test_resolving_brings_no_model_runtime() -> None:
    code = (
        "import sys; from wyoming_piwhisper.edge import model_store; "
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub', 'urllib.request'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
