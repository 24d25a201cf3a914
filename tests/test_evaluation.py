import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fakes_tools import ScriptedEngine, model_files, write_model

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.domain.errors import InferenceError, SettingsError
from wyoming_piwhisper.domain.transcription import RecognitionOptions
from wyoming_piwhisper.training.evaluation import OVERALL, Clip, ClipResult, recognise, summarise
from wyoming_piwhisper.training.manifest import select_clips

ENGLISH = RecognitionOptions(language="en")


def heard(reference: str, hypothesis: str, dataset: str = "house", wall_seconds: float = 0.5) -> ClipResult:
    return ClipResult("clip", reference, hypothesis, dataset, None, audio_seconds=2.0, wall_seconds=wall_seconds)


def test_clips_are_heard_one_by_one() -> None:
    engine = ScriptedEngine("stop", "")
    clips = [
        Clip("a", np.zeros(16_000, np.float32), "stop", "house", "ann"),
        Clip("b", np.zeros(8_000, np.float32), "", "noise", None),
    ]
    first, second = recognise(engine, clips, ENGLISH)
    assert (first.name, first.hypothesis, first.audio_seconds, first.speaker) == ("a", "stop", 1.0, "ann")
    assert (second.hypothesis, second.audio_seconds, second.dataset) == ("", 0.5, "noise")
    assert 0 <= first.wall_seconds < 1
    assert engine.options == [ENGLISH, ENGLISH]


def test_a_failure_is_not_counted_as_silence() -> None:
    clip = Clip("a", np.zeros(160, np.float32), "stop", "house", None)
    with pytest.raises(InferenceError):
        list(recognise(ScriptedEngine(None), [clip], ENGLISH))


def test_each_data_set_and_all_together_get_a_report() -> None:
    results = [
        heard("Turn on the light.", "turn on the light", "house"),
        heard("turn it off", "turn off", "house", wall_seconds=1.5),
        heard("yes", "yes", "words"),
        heard("", "thank you", "noise"),
        heard("", " ", "noise"),
    ]
    house, noise, words, both = summarise(results)
    assert [report.dataset for report in (house, noise, words, both)] == ["house", "noise", "words", OVERALL]
    assert house.score.word_error_rate.value == pytest.approx(1 / 7)
    assert house.score.sentence_accuracy.value == 0.5
    assert house.real_time_factor.value == pytest.approx(2.0 / 4.0)
    assert math.isnan(house.false_alarm_rate.value)
    assert (noise.score.utterances, noise.noise_clips) == (0, 2)
    assert noise.false_alarm_rate.value == 0.5
    assert both.score.utterances == 3
    assert both.score.word_error_rate.value == pytest.approx(1 / 8)
    assert both.audio_seconds == pytest.approx(10.0)


def test_one_data_set_needs_no_overall_report() -> None:
    assert [report.dataset for report in summarise([heard("a", "a")])] == ["house"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines: list[dict[str, Any]] = [
        {"path": "a.wav", "text": "Set it to 5!", "text_norm": "set it to five", "dataset": "house", "speaker": "ann"},
        {"path": "b.wav", "text": "Stop", "text_norm": None, "dataset": "words", "speaker": None},
        {"path": "c.wav", "text": "", "text_norm": "", "dataset": "noise", "speaker": None},
        {"path": "d.wav", "text": None, "text_norm": None, "dataset": "words", "speaker": "bob"},
        {"path": "e.wav", "text": "no", "text_norm": "no", "dataset": "words", "split": "train"},
    ]
    folder = tmp_path / "recorded"
    folder.mkdir()
    for line in lines:
        soundfile.write(folder / str(line["path"]), np.zeros(16_000), 16_000)
    text = "".join(json.dumps({"split": "test", "seconds": 1.0} | line) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text)
    return folder / "manifest.jsonl"


def test_clips_are_chosen_by_split_and_data_set(manifest: Path) -> None:
    chosen = select_clips(manifest, split="test")
    assert [(clip.name, clip.reference) for clip in chosen.clips] == [
        ("a.wav", "set it to five"),
        ("b.wav", "Stop"),
        ("c.wav", ""),
    ]
    assert chosen.without_transcript == 1
    assert chosen.clips[0].path == manifest.parent / "a.wav"
    assert len(select_clips(manifest).clips) == 4
    assert [clip.name for clip in select_clips(manifest, split="test", datasets=["words"]).clips] == ["b.wav"]


def test_a_limit_spreads_over_the_manifest(manifest: Path) -> None:
    assert [clip.name for clip in select_clips(manifest, limit=2).clips] == ["a.wav", "c.wav"]
    assert len(select_clips(manifest, limit=9).clips) == 4


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"path": 3}', '{"path": "a", "text": 5}'])
def test_a_wrong_line_is_named(manifest: Path, line: str) -> None:
    manifest.write_text(manifest.read_text() + line + "\n")
    with pytest.raises(SettingsError, match=r"manifest\.jsonl, line 6"):
        select_clips(manifest)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.jsonl: No such file"):
        select_clips(tmp_path / "nowhere.jsonl")


def evaluated(monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine, *arguments: str) -> int:
    loading = types.ModuleType("wyoming_piwhisper.engine.loading")
    monkeypatch.setattr(loading, "load_engine", lambda *_: engine, raising=False)
    monkeypatch.setitem(sys.modules, "wyoming_piwhisper.engine.loading", loading)
    return main(["evaluate", *arguments])


def test_the_command_prints_figures_with_their_conditions(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "kitchen", model_files()))
    report = tmp_path / "report.json"
    engine = ScriptedEngine("set it to 9", "stop", "")
    arguments = ("--manifest", str(manifest), "--asr-model", model, "--asr-device", "cpu", "--json", str(report))
    assert evaluated(monkeypatch, engine, *arguments, "--seed", "4") == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{manifest}, split test, all data sets: 3 clips, 1 more without transcript left out"
    assert "model kitchen" in lines[1]
    assert "device cpu" in lines[1]
    assert "seed 4" in lines[1]
    rows = {line.split("  ")[0]: line for line in lines[4:]}
    assert set(rows) == {"house", "noise", "words", "all"}
    assert "25.0 [25.0, 25.0]" in rows["house"]
    assert "20.0 [0.0, 25.0]" in rows["all"]
    assert "0.0 [0.0, 0.0] of 1" in rows["noise"]

    content = json.loads(report.read_text())
    assert content["conditions"]["model"] == "kitchen"
    assert content["conditions"]["seed"] == 4
    overall = content["sets"][-1]
    assert overall["score"]["word_error_rate"]["value"] == pytest.approx(0.2)
    assert overall["false_alarm_rate"]["value"] == 0.0
    assert content["sets"][0]["false_alarm_rate"]["value"] is None
    assert [(entry["reference"], entry["hypothesis"]) for entry in content["utterances"]] == [
        ("set it to five", "set it to 9"),
        ("Stop", "stop"),
        ("", ""),
    ]


def test_a_clip_that_cannot_be_read_ends_the_evaluation(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "kitchen", model_files()))
    (manifest.parent / "b.wav").unlink()
    engine = ScriptedEngine("", "", "")
    assert evaluated(monkeypatch, engine, "--manifest", str(manifest), "--asr-model", model) == 1
    captured = capsys.readouterr()
    assert "b.wav: no such file" in captured.err
    assert captured.out == ""


def test_a_choice_without_clips_is_told(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(monkeypatch, ScriptedEngine(), "--manifest", str(manifest), "--dataset", "none") == 1
    assert "no clip with a transcript" in capsys.readouterr().err


def test_a_report_that_could_not_be_written_is_told_before_the_work(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = manifest.parent / "nowhere" / "report.json"
    assert evaluated(monkeypatch, ScriptedEngine(), "--manifest", str(manifest), "--json", str(report)) == 2
    assert f"--json: no folder {report.parent}" in capsys.readouterr().err
