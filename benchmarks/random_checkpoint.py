"""A checkpoint of the sizes of whisper-tiny.en with random weights, for benchmarks of speed where no other is at hand.

Its end token never wins, so that every engine says as many tokens as it is told to; or else wins after so many tokens,
whatever is heard, so that servers which cannot be told say as much as each other.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import WhisperConfig, WhisperForConditionalGeneration

VOCABULARY = 51_864
END, START, TRANSCRIBE, NO_TIMESTAMPS = 50_256, 50_257, 50_358, 50_362
SPECIAL = {
    "<|endoftext|>": END,
    "<|startoftranscript|>": START,
    "<|en|>": 50_258,
    "<|translate|>": 50_357,
    "<|transcribe|>": TRANSCRIBE,
    "<|startoflm|>": 50_359,
    "<|startofprev|>": 50_360,
    "<|nospeech|>": 50_361,
    "<|notimestamps|>": NO_TIMESTAMPS,
}
PROMPT_TOKENS = 2
"""Start, and no timestamps."""
POINTING = 10.0
"""Length of what is added to positions; the rest of a state has a length of about 1."""
ENCODER_CONTEXT = {"pad_seconds": 0.64, "longest_seconds": 30.0}


def write_random_checkpoint(folder: Path, answer_tokens: int | None = None) -> Path:
    """Write it into `folder`, unless it is there; about 150 MB. It ends an answer after `answer_tokens`, or never."""
    if (folder / "model.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder)
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        decoder_start_token_id=START,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        # Logits of all special tokens are zero, and among so many others one is always larger.
        model.model.decoder.embed_tokens.weight[END:] = 0
        if answer_tokens is not None:
            _end_after(model, answer_tokens)
    model.save_pretrained(folder)
    generation = {
        "is_multilingual": False,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "alignment_heads": [[3, 0]],
    }
    generation |= {"decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": END, "bos_token_id": END}
    (folder / "generation_config.json").write_text(json.dumps(generation | {"max_length": 448}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80}))
    path = folder / "config.json"
    ours = {"wyoming_piwhisper": {"encoder_context": ENCODER_CONTEXT}}
    path.write_text(json.dumps(json.loads(path.read_text()) | ours))
    return folder


def write_for_faster_whisper(folder: Path) -> Path:
    """The checkpoint in `folder` once more in int8 as CTranslate2 reads it, in a folder beside, unless it is there."""
    from ctranslate2.converters import TransformersConverter

    converted = folder.with_name(f"{folder.name}-int8")
    if not (converted / "model.bin").exists():
        files = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(folder), copy_files=files).convert(str(converted), quantization="int8", force=True)
    return converted


def _end_after(model: WhisperForConditionalGeneration, tokens: int) -> None:
    """Let the end token win in all positions after `tokens` tokens of the answer, which point to it."""
    direction = torch.randn(model.config.d_model)
    direction -= direction.mean()
    direction /= direction.norm()
    decoder = model.model.decoder
    decoder.embed_tokens.weight[END] = direction * decoder.embed_tokens.weight[0].norm()
    decoder.embed_positions.weight[PROMPT_TOKENS - 1 + tokens :] += POINTING * direction


def _write_tokenizer(folder: Path) -> None:
    """One word a token; nobody reads them."""
    numbers = {number: name for name, number in SPECIAL.items()}
    vocabulary = {numbers.get(number, f"w{number}"): number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="w0"))  # noqa: S106  (no password)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "w0", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
