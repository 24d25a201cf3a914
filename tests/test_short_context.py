"""A model that expects 30 s, tuned to do with the seconds that were spoken, in miniature."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from safetensors.torch import load_file, save_file
from speakers import write_speakers

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.edge.model_store import resolve_model
from wyoming_piwhisper.engine.checkpoint import Checkpoint, read_checkpoint
from wyoming_piwhisper.engine.features import log_mel
from wyoming_piwhisper.engine.whisper_onnx import OnnxWhisper
from wyoming_piwhisper.engine.whisper_torch import load_whisper
from wyoming_piwhisper.training.manifest import read_clips
from wyoming_piwhisper.training.prepare import read_recording
from wyoming_piwhisper.training.profile_batches import spoken_tokens
from wyoming_piwhisper.training.profile_clips import SpokenClips, prepare_spoken
from wyoming_piwhisper.training.short_context_goals import Goals
from wyoming_piwhisper.training.spoken_batches import plain_log_mel

FROZEN = ("model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_speakers(tmp_path / "corpus", 8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\nThe original.\n")
    (tmp_path / "model" / "download.json").write_text("{}")
    return tmp_path / "model"


def tune(model: Path, manifest: Path, output: str, *options: str) -> int:
    place = manifest.parent.parent
    arguments = ["--manifest", str(manifest), "--work", str(place / "work"), "--output", str(place / output)]
    learning = ["--learning-rate", "0.003", "--processes", "1"]
    return main(["train-short-context", str(model), *arguments, *learning, *options])


def watched(caplog: pytest.LogCaptureFixture) -> list[tuple[int, float]]:
    """Steps and the errors on the development clips that were logged since the last call."""
    found = re.findall(r"step (\d+): squared error on development clips ([\d.]+)", caplog.text)
    caplog.clear()
    return [(int(step), float(error)) for step, error in found]


def test_a_tuned_model_comes_nearer_to_itself_at_30_s_and_serves(
    model: Path, manifest: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)

    assert tune(model, manifest, "tuned", "--steps", "12") == 0

    (_, before), (last, after) = watched(caplog)
    assert last == 12
    assert after < 0.8 * before
    folder = manifest.parent.parent / "tuned"
    checkpoint = read_checkpoint(folder)
    assert (checkpoint.context.pad_seconds, checkpoint.context.longest_seconds) == (1.28, 12.0)
    samples = read_recording(manifest.parent / "0-0.wav")
    session = OnnxWhisper.load(checkpoint, 1).encode(log_mel(samples, pad_samples=20_480))
    assert session.advance(checkpoint.rules.prompt("en")).shape[1] == checkpoint.config["vocab_size"]
    _check_files(model, folder)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| original", "| tuned"))]
    assert [row.split(" | ")[0] for row in rows] == [
        "| original, 30 s",
        "| original, speech and 1.28 s",
        "| tuned, speech and 1.28 s",
    ]
    assert rows[0].split(" | ")[1:3] == ["100.0 [100.0, 100.0]", "0.0 [0.0, 0.0]"]
    assert all(row in (folder / "README.md").read_text() for row in rows)


def _check_files(model: Path, folder: Path) -> None:
    original, tuned = (load_file(place / "model.safetensors") for place in (model, folder))
    assert original.keys() == tuned.keys()
    assert {tensor.dtype for tensor in tuned.values()} == {torch.float16}
    changed = {name for name, tensor in tuned.items() if not torch.equal(tensor, original[name])}
    assert changed.isdisjoint(FROZEN)
    assert {"model.encoder.conv1.weight", "model.decoder.layer_norm.weight"} <= changed
    names = {file.name for file in folder.iterdir()}
    assert {"tokenizer.json", "generation_config.json", "preprocessor_config.json"} <= names
    assert "download.json" not in names
    assert (folder / "README.original.md").read_text() == (model / "README.md").read_text()
    described = resolve_model(str(folder), folder.parent).description
    assert described.description == "model, tuned to hear the speech and 1.28 s of silence"
    config = json.loads((folder / "config.json").read_text())
    context = {"pad_seconds": 1.28, "knows_full": True, "longest_seconds": 12.0}
    assert config.pop("wyoming_piwhisper") == {"encoder_context": context}
    assert config == json.loads((model / "config.json").read_text())


def test_a_run_goes_on_where_it_stood_and_only_with_its_recipe(
    model: Path, manifest: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    assert tune(model, manifest, "first", "--steps", "3") == 0
    *_, stood = watched(caplog)

    assert tune(model, manifest, "second", "--steps", "5") == 0

    assert "resumed at step 3" in caplog.text
    begun, ended = watched(caplog)
    assert begun == stood
    assert ended[0] == 5
    assert tune(model, manifest, "third", "--steps", "7", "--seed", "9") == 2
    assert "was made with" in capsys.readouterr().err


def test_an_output_that_is_not_empty_is_refused_before_any_work(
    model: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(model, manifest, "model") == 2
    assert "--output" in capsys.readouterr().err
    assert not (manifest.parent.parent / "work").exists()


def test_a_model_at_short_context_is_refused(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "short", ours={"encoder_context": {"pad_seconds": 0.64}})

    assert tune(tmp_path / "short", manifest, "tuned") == 2
    assert "short hears short context already: 0.64 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--manifest", "/nowhere.jsonl"], "cannot read /nowhere.jsonl"),
        (["--pad-seconds", "25"], "--pad-seconds: 25 is not between 0 and 17.36"),
        (["--steps", "0"], "--steps: 0"),
    ],
)
def test_what_cannot_work_is_told(
    model: Path, manifest: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(model, manifest, "tuned", *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["train", "dev"])
def test_a_manifest_without_clips_of_a_split_is_told(
    model: Path, manifest: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [line for line in manifest.read_text().splitlines() if json.loads(line)["split"] != missing]
    manifest.write_text("\n".join(kept))

    assert tune(model, manifest, "tuned") == 2
    assert f"(split {missing})" in capsys.readouterr().err


@pytest.fixture
def clips(manifest: Path, tmp_path: Path) -> SpokenClips:
    return prepare_spoken(tmp_path / "utterances", list(read_clips(manifest)), 1)


def goals(checkpoint: Checkpoint, clips: SpokenClips, *suppressed: int) -> Goals:
    """What a model says that may not say the tokens `suppressed`."""
    strict = replace(checkpoint, rules=replace(checkpoint.rules, suppressed=suppressed))
    return Goals(load_whisper(checkpoint).eval(), strict, clips, "en")


def test_the_goal_is_what_the_original_says_or_the_transcript_where_it_goes_astray(
    model: Path, clips: SpokenClips
) -> None:
    checkpoint = read_checkpoint(model)
    clip, prompt, end = clips.clips[0], checkpoint.rules.prompt("en"), checkpoint.rules.end
    every = range(checkpoint.tokenizer.get_vocab_size())

    speechless = goals(checkpoint, clips, *(token for token in every if token != end)).of(clip)
    endless = goals(checkpoint, clips, end).of(clip)

    assert speechless.tokens.tolist() == prompt
    assert endless.tokens.tolist() == spoken_tokens(checkpoint, clip.text)[:-1]
    assert endless.states.shape == (len(endless.tokens), 64)


def test_the_goal_is_the_state_of_the_original_at_30_s(model: Path, clips: SpokenClips) -> None:
    checkpoint = read_checkpoint(model)
    clip, whisper = clips.clips[0], load_whisper(checkpoint).eval()
    goal = goals(checkpoint, clips, checkpoint.rules.end).of(clip)

    with torch.no_grad():
        cross = whisper.cross_keys_values(whisper.encode(plain_log_mel([clips.power(clip)], 3000)))
        states = whisper.model.decoder(goal.tokens[None], cross)[0]

    torch.testing.assert_close(goal.states.float(), states, atol=2e-2, rtol=1e-2)


def test_a_tuned_model_of_the_hub_keeps_its_way_of_writing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tuned", ours={"encoder_context": {"pad_seconds": 1.28}})
    write_checkpoint(tmp_path / "ours", ours={"encoder_context": {"pad_seconds": 0.64}, "decoding": {}})

    tuned, ours = (read_checkpoint(tmp_path / name) for name in ("tuned", "ours"))

    assert spoken_tokens(ours, "per cent") == spoken_tokens(tuned, "percent") != spoken_tokens(tuned, "per cent")
