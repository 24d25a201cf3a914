"""Runs a Whisper checkpoint with ONNX Runtime on a CPU, in eight bits."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Self

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.lora_file import LoraFile
from wyoming_piwhisper.engine.merging import AdapterReader, merged_weights
from wyoming_piwhisper.engine.onnx_graph import FAILURES, Floats, GraphModel, open_session
from wyoming_piwhisper.engine.weight_file import WeightFile
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_graphs import (
    BY_ANSWER,
    EMBEDDING,
    HIDDEN,
    LAST,
    LOGITS,
    TOTAL,
    Weights,
    cache_names,
    cross_names,
    decoder_graph,
    encoder_graph,
    head_graph,
    past,
)

ENCODER_POSITIONS: Final = "model.encoder.embed_positions.weight"
DECODER_POSITIONS: Final = "model.decoder.embed_positions.weight"


class OnnxWhisper:
    """A `SpeechModel` on the CPU; merged models share the head and the embeddings of their base."""

    def __init__(
        self,
        config: WhisperConfig,
        weights: WeightFile,
        threads: int,
        graphs: tuple[GraphModel, GraphModel],
        head: InferenceSession,
    ) -> None:
        """Open sessions for the encoder's and the decoder's graph; see `load`."""
        self.own_bytes = sum(graph.constant_bytes for graph in graphs)
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
    """The decoder of one window: its caches have room for the longest answer and are written in place."""

    def __init__(
        self,
        config: WhisperConfig,
        weights: WeightFile,
        decoder: InferenceSession,
        head: InferenceSession,
        cross: Mapping[str, OrtValue],
    ) -> None:
        """Begin with no token."""
        self._config = config
        self._weights = weights
        self._decoder = decoder
        self._head = head
        self._cross = cross
        self._caches = self._room_for(answers=1)
        self._next = self._pass_of(1)
        self._position = 0

    def advance(self, tokens: list[int]) -> Logits:
        """Append `tokens` and return the logits after each: shape (len(tokens), vocabulary), float32.

        They are overwritten by the next call.
        """
        step = self._next if len(tokens) == 1 else self._pass_of(len(tokens))
        positions = list(range(self._position, self._position + len(tokens)))
        logits = self._run(step, tokens, positions)
        self._position += len(tokens)
        return logits

    def rewind(self, tokens: int) -> None:
        """Forget the last `tokens` tokens."""
        self._position -= tokens

    def _run(self, step: "_Pass", tokens: list[int], positions: list[int]) -> Logits:
        embeddings = self._weights.rows(EMBEDDING, tokens)
        np.add(embeddings, self._weights.rows(DECODER_POSITIONS, positions), out=step.embedded[0])
        step.total[...] = positions[-1] + 1
        step.last[...] = positions[-1]
        try:
            self._decoder.run_with_iobinding(step.body)
            self._head.run_with_iobinding(step.head)
        except FAILURES as error:
            raise InferenceError(f"the decoder failed: {error}") from error
        logits: Logits = step.logits[0]
        return logits

    def _room_for(self, answers: int) -> dict[str, Floats]:
        """Caches for so many answers; memory that is not written takes none."""
        config = self._config
        heads = config.decoder_attention_heads
        shape = (answers, heads, config.max_target_positions, config.d_model // heads)
        return {name: np.zeros(shape, np.float32) for name in cache_names(config)}

    def _pass_of(self, tokens: int) -> "_Pass":
        return _Pass(self._config, tokens, self._caches, self._cross, (self._decoder, self._head))


class _Pass:
    """Memory that is bound to both sessions for a pass of so many tokens, so that nothing is allocated in between."""

    def __init__(
        self,
        config: WhisperConfig,
        tokens: int,
        caches: Mapping[str, Floats],
        cross: Mapping[str, OrtValue],
        sessions: tuple[InferenceSession, InferenceSession],
    ) -> None:
        answers = len(next(iter(caches.values())))
        self.embedded = np.zeros((1, tokens, config.d_model), np.float32)
        self.last = np.zeros(answers, np.int32)
        self.total = np.zeros((), np.int32)
        self.logits = np.zeros((1, tokens, config.vocab_size), np.float32)
        self._hidden = np.zeros_like(self.embedded)
        self._by_answer = np.array([answers, -1, 3 * config.d_model], np.int64)
        self._caches = caches
        self.body, self.head = (session.io_binding() for session in sessions)
        given = {"embedded": self.embedded, LAST: self.last, TOTAL: self.total, BY_ANSWER: self._by_answer}
        for name, value in cross.items():
            self.body.bind_ortvalue_input(name, value)
        for name, array in (given | {past(name): cache for name, cache in caches.items()}).items():
            self.body.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for name, array in ({HIDDEN: self._hidden} | dict(caches)).items():
            self.body.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(array))
        self.head.bind_ortvalue_input(HIDDEN, OrtValue.ortvalue_from_numpy(self._hidden))
        self.head.bind_ortvalue_output(LOGITS, OrtValue.ortvalue_from_numpy(self.logits))
