import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes_tools import ScriptedEngine, model_files, write_model

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.commands import transcribe
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.transcription import RecognitionOptions

ENGLISH = RecognitionOptions(language="en")


def clip(folder: Path, name: str, seconds: float = 1.5) -> Path:
    soundfile.write(folder / name, np.zeros(int(44_100 * seconds)), 44_100)
    return folder / name


def test_words_and_timings_are_printed(tmp_path: Path) -> None:
    output = io.StringIO()
    path = clip(tmp_path, "a.flac")
    engine = ScriptedEngine("turn on the light")
    assert transcribe.transcribe_files(engine, [path], ENGLISH, output, as_json=False) == 0
    first, second = output.getvalue().splitlines()
    assert first == f"{path}: turn on the light"
    assert second.startswith("    1.50 s of audio, 1.50 s of speech, took 0.0")
    assert "real-time factor 0.0" in second
    assert engine.options == [ENGLISH]


def test_silence_is_told_from_words(tmp_path: Path) -> None:
    output = io.StringIO()
    transcribe.transcribe_files(ScriptedEngine(""), [clip(tmp_path, "a.wav")], ENGLISH, output, as_json=False)
    assert "(no speech)" in output.getvalue()


def test_json_has_one_object_a_line(tmp_path: Path) -> None:
    output = io.StringIO()
    paths = [clip(tmp_path, "a.wav"), clip(tmp_path, "b.wav", seconds=0)]
    assert transcribe.transcribe_files(ScriptedEngine("five", ""), paths, ENGLISH, output, as_json=True) == 0
    first, second = map(json.loads, output.getvalue().splitlines())
    assert first["file"] == str(paths[0])
    assert first["text"] == "five"
    assert first["audio_seconds"] == 1.5
    assert first["real_time_factor"] == pytest.approx(first["wall_seconds"] / 1.5, abs=1e-4)
    assert first["stage_seconds"] == {"decode": 0.25}
    assert second["text"] == ""
    assert second["real_time_factor"] is None


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bad_file_does_not_stop_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    output = io.StringIO()
    paths = [tmp_path / "nowhere.wav", clip(tmp_path, "broken.wav"), clip(tmp_path, "good.wav")]
    assert transcribe.transcribe_files(ScriptedEngine(None, "stop"), paths, ENGLISH, output, as_json=as_json) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"wyoming-piwhisper: {paths[0]}: no such file",
        f"wyoming-piwhisper: {paths[1]}: the model failed",
    ]
    lines = output.getvalue().splitlines()
    if as_json:
        assert [("error" in json.loads(line)) for line in lines] == [True, True, False]
    else:
        assert lines[0] == f"{paths[2]}: stop"


def test_the_command_loads_the_model_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "kitchen", model_files())
    loading = types.ModuleType("wyoming_piwhisper.engine.loading")
    asked: list[object] = []

    def load_engine(*arguments: object) -> ScriptedEngine:
        asked.extend(arguments)
        return ScriptedEngine("lights off")

    monkeypatch.setattr(loading, "load_engine", load_engine, raising=False)
    monkeypatch.setitem(sys.modules, "wyoming_piwhisper.engine.loading", loading)
    arguments = [str(clip(tmp_path, "a.wav")), "--asr-model", str(folder), "--asr-threads", "3", "--json"]
    assert main(["transcribe", *arguments]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["text"] == "lights off"
    assert captured.err == f"using the model in {folder}, as asked for\n"
    (plan,) = asked
    assert isinstance(plan, EnginePlan)
    assert (plan.model_dir, plan.model_name, plan.asr.threads) == (folder, "kitchen", 3)


def test_a_model_that_is_not_there_is_told_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", "a.wav", "--asr-model", "someone/whisper-nl", "--asr-models-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "wyoming-piwhisper: someone/whisper-nl is not on this device; "
        "fetch it with: wyoming-piwhisper download someone/whisper-nl\n"
    )
