"""Runs a Whisper checkpoint with ONNX Runtime on a CPU, in eight bits."""

from collections.abc import Collection, Sequence
from typing import Final, Self

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.lora_file import LoraFile
from wyoming_piwhisper.engine.merging import AdapterReader, merged_weights
from wyoming_piwhisper.engine.onnx_graph import FAILURES, open_session
from wyoming_piwhisper.engine.weight_file import WeightFile
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_graphs import (
    EMBEDDING,
    Weights,
    cache_names,
    cross_names,
    decoder_graph,
    encoder_graph,
    head_graph,
)

COPIES: Final = 2
"""Of the weights in a session's memory: as constants, and packed for the kernels."""
ENCODER_POSITIONS: Final = "model.encoder.embed_positions.weight"
DECODER_POSITIONS: Final = "model.decoder.embed_positions.weight"


class OnnxWhisper:
    """A `SpeechModel` on the CPU; merged models share the head and the embeddings of their base."""

    def __init__(
        self,
        config: WhisperConfig,
        weights: WeightFile,
        threads: int,
        graphs: tuple[bytes, bytes],
        head: InferenceSession,
    ) -> None:
        """Open sessions for the encoder's and the decoder's graph; see `load`."""
        self.own_bytes = COPIES * sum(map(len, graphs))
        self._config = config
        self._weights = weights
        self._threads = threads
        self._encoder, self._decoder = (open_session(graph, threads) for graph in graphs)
        self._head = head
        self._reader = AdapterReader()

    @classmethod
    def load(cls, checkpoint: Checkpoint, threads: int) -> Self:
        """Build the graphs from the checkpoint's weights.

        Raises:
            ModelFormatError: they are damaged or do not fit `config.json`; the message says where.
        """
        try:
            config = WhisperConfig.from_dict(checkpoint.config)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"{checkpoint.folder / 'config.json'}: {error!r}") from error
        weights = WeightFile(checkpoint.weights)
        try:
            graphs = encoder_graph(config, weights), decoder_graph(config, weights)
            head = open_session(head_graph(config, weights), threads)
            # Opened anew, for what was read of the file stays in memory as long as it is open.
            return cls(config, WeightFile(checkpoint.weights), threads, graphs, head)
        except (KeyError, ValueError, *FAILURES) as error:
            raise ModelFormatError(f"{checkpoint.weights}: does not fit config.json: {error}") from error

    @property
    def longest_answer(self) -> int:
        """Most tokens that a session can hold."""
        return self._config.max_target_positions

    def encode(self, log_mel: Spectrogram) -> "OnnxDecoderSession":
        """Hear log-Mel of shape (mel bins, frames)."""
        states = -(-log_mel.shape[1] // 2)
        heard = {"log_mel": log_mel[None], "positions": self._weights.first_rows(ENCODER_POSITIONS, states)}
        feed = {name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for name, value in heard.items()}
        try:
            cross = self._encoder.run_with_ort_values(cross_names(self._config), feed)
        except FAILURES as error:
            raise InferenceError(f"the encoder failed: {error}") from error
        named = dict(zip(cross_names(self._config), cross, strict=True))
        return OnnxDecoderSession(self._config, self._weights, self._decoder, self._head, named)

    def merged(self, adapters: Sequence[tuple[LoraFile, float]]) -> Self:
        """A new model whose encoder and decoder are built from merged weights.

        Raises:
            ProfileError: an adapter cannot be read.
        """
        weights: Weights = merged_weights(self._weights, self._reader.halves(adapters))
        graphs = encoder_graph(self._config, weights), decoder_graph(self._config, weights)
        return type(self)(self._config, self._weights, self._threads, graphs, self._head)

    def prepare_merge(self, matrices: Collection[str]) -> None:
        """Nothing: most of the time of a merge is the building of the sessions."""

    def release_memory(self) -> None:
        """Nothing: the memory of models that are gone is free."""


class OnnxDecoderSession:
    """The decoder of one window."""

    def __init__(
        self,
        config: WhisperConfig,
        weights: WeightFile,
        decoder: InferenceSession,
        head: InferenceSession,
        cross: dict[str, OrtValue],
    ) -> None:
        """Begin with no token."""
        self._weights = weights
        self._decoder = decoder
        self._head = head
        self._caches = cache_names(config)
        heads = config.decoder_attention_heads
        empty = np.zeros((1, heads, 0, config.d_model // heads), np.float32)
        nothing = OrtValue.ortvalue_from_numpy(empty)
        self._feed = cross | {f"past_{name}": nothing for name in self._caches}
        self._position = 0

    def advance(self, tokens: list[int]) -> Logits:
        """Append `tokens` and return the logits after each: shape (len(tokens), vocabulary), float32."""
        positions = list(range(self._position, self._position + len(tokens)))
        embedded = self._weights.rows(EMBEDDING, tokens) + self._weights.rows(DECODER_POSITIONS, positions)
        self._feed["embedded"] = OrtValue.ortvalue_from_numpy(embedded[None])
        try:
            hidden, *caches = self._decoder.run_with_ort_values(None, self._feed)
            (logits,) = self._head.run_with_ort_values(None, {"hidden": hidden})
        except FAILURES as error:
            raise InferenceError(f"the decoder failed: {error}") from error
        self._feed.update({f"past_{name}": cache for name, cache in zip(self._caches, caches, strict=True)})
        self._position += len(tokens)
        found: Logits = logits.numpy()[0]
        return found

    def rewind(self, tokens: int) -> None:
        """Forget the last `tokens` tokens."""
        if tokens:
            self._position -= tokens
            for name in self._caches:
                kept = self._feed[f"past_{name}"].numpy()[:, :, : self._position]
                self._feed[f"past_{name}"] = OrtValue.ortvalue_from_numpy(np.ascontiguousarray(kept))
