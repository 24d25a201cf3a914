"""The bundled model's tokenizer: byte-level BPE over what people say, with Whisper's special tokens behind it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END: Final = "<|endoftext|>"
START: Final = "<|startoftranscript|>"
NO_SPEECH: Final = "<|nospeech|>"
NO_TIMESTAMPS: Final = "<|notimestamps|>"
SPECIAL_TOKENS: Final = (
    END,
    START,
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    NO_SPEECH,
    NO_TIMESTAMPS,
)
"""In the order in which Whisper's checkpoints have them."""


def train_tokenizer(texts: Iterable[str], words: int) -> Tokenizer:
    """Learn `words` byte-level BPE tokens from `texts` and append the special ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = [chr(code) for code in range(ord("a"), ord("z") + 1)] + ["'", "Ġ"]
    trainer = trainers.BpeTrainer(vocab_size=words, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((f" {text}" for text in texts), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` in `folder`."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def targets(tokenizer: Tokenizer, text: str) -> list[int]:
    """What the decoder has to say after the start token: the text, or that there is none."""
    if not text:
        return [number_of(tokenizer, NO_SPEECH), number_of(tokenizer, END)]
    return [number_of(tokenizer, NO_TIMESTAMPS), *tokenizer.encode(f" {text}").ids, number_of(tokenizer, END)]


def number_of(tokenizer: Tokenizer, token: str) -> int:
    """The number of a special token; raises KeyError when the tokenizer has none."""
    number: int | None = tokenizer.token_to_id(token)
    if number is None:
        raise KeyError(token)
    return number
