"""The CPU runtime in eight bits, measured against the torch reference."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import Place, make_place
from checkpoints import write_checkpoint
from conftest import Corpus

from wyoming_piwhisper.domain.audio import SAMPLE_RATE
from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError
from wyoming_piwhisper.domain.settings import AsrSettings
from wyoming_piwhisper.edge.audio_files import read_audio
from wyoming_piwhisper.engine.backends import Backend, choose_backend, load_model
from wyoming_piwhisper.engine.checkpoint import read_checkpoint
from wyoming_piwhisper.engine.decoding import DecodingTask, SpeechModel
from wyoming_piwhisper.engine.features import Spectrogram, log_mel
from wyoming_piwhisper.engine.greedy_search import GreedyDecoder
from wyoming_piwhisper.engine.lora_file import read_lora_file
from wyoming_piwhisper.engine.whisper_onnx import OnnxWhisper

REFERENCE = Backend("torch", "cpu")
HOME_EN = Path(__file__).parent.parent / "wyoming_piwhisper" / "models" / "home-en"
TOKENS = [1, 2, 3, 4, 5, 6]


def heard(frames: int) -> Spectrogram:
    return np.random.default_rng(frames).normal(0, 0.5, (80, frames)).astype(np.float32)


def logits(model: SpeechModel, frames: int, *calls: list[int]) -> np.ndarray:
    session = model.encode(heard(frames))
    return np.concatenate([session.advance(tokens).copy() for tokens in calls])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.mark.parametrize("frames", [64, 121, 364])
def test_logits_are_those_of_the_reference_but_for_rounding(place: Place, frames: int) -> None:
    checkpoint = read_checkpoint(place.model)

    ours = logits(load_model(checkpoint, Backend("onnx", "cpu"), 1), frames, TOKENS[:2], *([t] for t in TOKENS[2:]))
    theirs = logits(load_model(checkpoint, REFERENCE, 1), frames, TOKENS[:2], *([t] for t in TOKENS[2:]))

    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 0.15 * theirs.std()


def test_the_bundled_model_says_the_same_token_after_token_but_for_near_ties(corpus: Corpus) -> None:
    checkpoint = read_checkpoint(HOME_EN)
    ours, theirs = (load_model(checkpoint, backend, 1) for backend in (Backend("onnx", "cpu"), REFERENCE))
    decoder = GreedyDecoder(checkpoint.tokenizer, checkpoint.rules)
    same, count = 0, 0
    for path, _ in [*corpus.clips("speech_commands", "dev")[:20], *corpus.clips("speechocean762", "dev")[:10]]:
        heard = log_mel(read_audio(path), checkpoint.mel_bins, int(0.64 * SAMPLE_RATE))
        prompt = checkpoint.rules.prompt("en")
        said = decoder.decode(theirs.encode(heard), DecodingTask("en", 9.0, 448)).tokens
        following = [model.encode(heard).advance([*prompt, *said])[1:].argmax(axis=1) for model in (ours, theirs)]
        same += int((following[0] == following[1]).sum())
        count += len(said) + 1

    assert count > 100
    assert same >= 0.95 * count


def test_many_tokens_at_once_are_the_same_as_one_by_one(place: Place) -> None:
    model = OnnxWhisper.load(read_checkpoint(place.model), 1)

    together = logits(model, 100, TOKENS[:2], TOKENS[2:])
    apart = logits(model, 100, TOKENS[:2], *([token] for token in TOKENS[2:]))

    np.testing.assert_allclose(together, apart, atol=1e-3)


def test_a_merged_model_is_the_merged_model_of_the_reference(place: Place) -> None:
    folders = [place.add("accent", "indian", 1), place.add("gender", "male", 2)]
    adapters = [(read_lora_file(folder, place.base.shapes), 0.7) for folder in folders]
    checkpoint = read_checkpoint(place.model)
    base = OnnxWhisper.load(checkpoint, 1)
    before = logits(base, 100, TOKENS)

    ours = logits(base.merged(adapters), 100, TOKENS)
    theirs = logits(load_model(checkpoint, REFERENCE, 1).merged(adapters), 100, TOKENS)

    assert np.abs(ours - theirs).max() < 0.15 * theirs.std()
    assert np.abs(ours - before).max() > 0.15 * theirs.std()
    np.testing.assert_array_equal(logits(base, 100, TOKENS), before)


def test_adapters_given_at_run_time_are_those_of_the_merged_model(place: Place) -> None:
    folders = [place.add("accent", "indian", 1), place.add("gender", "male", 2)]
    adapters = [(read_lora_file(folder, place.base.shapes), 0.7) for folder in folders]
    base = OnnxWhisper.load(read_checkpoint(place.model), 1)
    before = logits(base, 100, TOKENS)
    adaptable = base.adaptable()

    both = logits(adaptable.adapted(adapters), 100, TOKENS[:2], TOKENS[2:])
    one = logits(adaptable.adapted(adapters[:1]), 100, TOKENS)

    assert np.abs(both - logits(base.merged(adapters), 100, TOKENS)).max() < 0.15 * before.std()
    assert np.abs(one - logits(base.merged(adapters[:1]), 100, TOKENS)).max() < 0.15 * before.std()
    assert np.abs(both - before).max() > 0.15 * before.std()
    np.testing.assert_array_equal(logits(base, 100, TOKENS), before)


def test_matrices_without_an_adapter_stay_as_they_are(place: Place) -> None:
    folder = place.add("accent", "indian", 1)
    whole = read_lora_file(folder, place.base.shapes)
    matrix = "model.decoder.layers.1.encoder_attn.v_proj.weight"
    part = replace(whole, scalings={matrix: whole.scalings[matrix]})
    base = OnnxWhisper.load(read_checkpoint(place.model), 1)
    adaptable = base.adaptable()

    ours = logits(adaptable.adapted([(part, 1.0)]), 100, TOKENS)

    assert np.abs(ours - logits(base.merged([(part, 1.0)]), 100, TOKENS)).max() < 0.15 * ours.std()
    np.testing.assert_allclose(logits(adaptable.adapted([]), 100, TOKENS), logits(base, 100, TOKENS), atol=1e-4)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])

    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        OnnxWhisper.load(read_checkpoint(tmp_path), 1)


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"decoder_layers": 2', '"decoder_layers": 3'))

    with pytest.raises(ModelFormatError, match=r"does not fit config\.json"):
        OnnxWhisper.load(read_checkpoint(tmp_path), 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_asked_for_where_there_is_none_is_an_error_that_says_so() -> None:
    with pytest.raises(InferenceError, match=r"asr\.device: cuda"):
        choose_backend(AsrSettings(device="cuda"))


def test_a_cpu_is_served_by_onnx_and_the_reference_on_demand(tmp_path: Path) -> None:
    assert str(choose_backend(AsrSettings(), places=())) == "cpu (onnx)"
    assert choose_backend(AsrSettings(device="cpu")) == Backend("onnx", "cpu")
    assert choose_backend(AsrSettings(engine="torch", device="cpu")) == REFERENCE
    where_a_card_is = choose_backend(AsrSettings(), places=[tmp_path])
    assert where_a_card_is == (Backend("torch", "cuda") if torch.cuda.is_available() else Backend("onnx", "cpu"))


def test_a_cpu_serves_where_torch_is_not_installed(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # what an import of a missing module comes to
import numpy as np
from wyoming_piwhisper.domain.engine_plan import EnginePlan
from wyoming_piwhisper.domain.transcription import RecognitionOptions
from wyoming_piwhisper.engine.loading import load_engine
utterance = load_engine(EnginePlan(Path(sys.argv[1]))).open(RecognitionOptions("en"))
utterance.feed(np.zeros(16000, np.float32))
print(repr(utterance.finish().text))
"""
    write_checkpoint(tmp_path)

    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("''\n", 0), done.stderr
