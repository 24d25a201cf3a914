"""Runs a Whisper checkpoint with ONNX Runtime on a CPU, in eight bits."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError, OutOfMemoryError
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.lora_file import LoraFile
from wyoming_piwhisper.engine.merging import AdapterReader, MergedWeights
from wyoming_piwhisper.engine.onnx_graph import FAILURES, Floats, open_session
from wyoming_piwhisper.engine.run_time_adapters import adapter_inputs
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


@dataclass(frozen=True)
class _Shared:
    """What a base and all models made from it have in common."""

    config: WhisperConfig
    weights: WeightFile
    threads: int
    head: InferenceSession
    reader: AdapterReader


@dataclass(frozen=True)
class _Sessions:
    encoder: InferenceSession
    decoder: InferenceSession
    own_bytes: int

    @classmethod
    def open(cls, config: WhisperConfig, weights: Weights, threads: int, *, adaptable: bool = False) -> Self:
        encoder = encoder_graph(config, weights, adaptable=adaptable)
        decoder = decoder_graph(config, weights, adaptable=adaptable)
        own_bytes = encoder.constant_bytes + decoder.constant_bytes
        return cls(open_session(encoder, threads), open_session(decoder, threads), own_bytes)


@dataclass(frozen=True)
class _Adapters:
    """Further inputs of the encoder and of the decoder; only adaptable sessions have any."""

    encoder: Mapping[str, OrtValue] = field(default_factory=dict)
    decoder: Mapping[str, OrtValue] = field(default_factory=dict)


class OnnxWhisper:
    """A `SpeechModel` on the CPU; merged and adapted models share the head and the embeddings of their base."""

    def __init__(self, shared: _Shared, sessions: _Sessions, adapters: _Adapters | None = None) -> None:
        """Run `sessions`; see `load`."""
        self.own_bytes = sessions.own_bytes
        self._shared = shared
        self._sessions = sessions
        self._adapters = adapters or _Adapters()

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
            sessions = _Sessions.open(config, weights, threads)
            head = open_session(head_graph(config, weights), threads)
        except (KeyError, ValueError, *FAILURES) as error:
            raise ModelFormatError(f"{checkpoint.weights}: does not fit config.json: {error}") from error
        return cls(_Shared(config, weights.reopened(), threads, head, AdapterReader()), sessions)

    @property
    def longest_answer(self) -> int:
        """Most tokens that a session can hold."""
        return self._shared.config.max_target_positions

    def encode(self, log_mel: Spectrogram) -> "OnnxDecoderSession":
        """Hear log-Mel of shape (mel bins, frames)."""
        config, weights = self._shared.config, self._shared.weights
        states = -(-log_mel.shape[1] // 2)
        heard = {"log_mel": log_mel[None], "positions": weights.first_rows(ENCODER_POSITIONS, states)}
        feed = {name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for name, value in heard.items()}
        try:
            cross = self._sessions.encoder.run_with_ort_values(cross_names(config), {**feed, **self._adapters.encoder})
        except FAILURES as error:
            raise InferenceError(f"the encoder failed: {error}") from error
        given = {**dict(zip(cross_names(config), cross, strict=True)), **self._adapters.decoder}
        return OnnxDecoderSession(config, weights, self._sessions.decoder, self._shared.head, given)

    def merged(self, adapters: Sequence[tuple[LoraFile, float]]) -> "OnnxWhisper":
        """A new model whose encoder and decoder are built from merged weights; may be called on any thread.

        Raises:
            ProfileError: an adapter cannot be read.
            OutOfMemoryError: there is no room.
        """
        shared = self._shared
        try:
            weights = MergedWeights(shared.weights.reopened(), shared.reader.halves(adapters))
            return OnnxWhisper(shared, _Sessions.open(shared.config, weights, shared.threads))
        except MemoryError as error:
            raise OutOfMemoryError("there is no room for a merged model") from error

    def adaptable(self) -> "AdaptableOnnxWhisper":
        """Open sessions that take adapters as they come; may be called on any thread.

        Raises:
            OutOfMemoryError: there is no room.
        """
        shared = self._shared
        try:
            return AdaptableOnnxWhisper(
                shared, _Sessions.open(shared.config, shared.weights.reopened(), shared.threads, adaptable=True)
            )
        except MemoryError as error:
            raise OutOfMemoryError("there is no room for sessions that take adapters") from error

    def prepare_merge(self, matrices: Collection[str]) -> None:
        """Nothing: most of the time of a merge is the building of the sessions."""

    def release_memory(self) -> None:
        """Nothing: the memory of models that are gone is free."""


class AdaptableOnnxWhisper:
    """The model of a checkpoint in sessions that take adapters at run time: a switch costs no building."""

    def __init__(self, shared: _Shared, sessions: _Sessions) -> None:
        """Run `sessions`; see `OnnxWhisper.adaptable`."""
        self._shared = shared
        self._sessions = sessions

    def adapted(self, adapters: Sequence[tuple[LoraFile, float]]) -> OnnxWhisper:
        """The model with these adapters, each with its weight.

        Raises:
            ProfileError: an adapter cannot be read.
        """
        halves = self._shared.reader.halves(adapters)
        sessions = self._sessions
        inputs = _Adapters(adapter_inputs(sessions.encoder, halves), adapter_inputs(sessions.decoder, halves))
        return OnnxWhisper(self._shared, sessions, inputs)


class OnnxDecoderSession:
    """The decoder of one window: its caches have room for the longest answer and are written in place."""

    def __init__(
        self,
        config: WhisperConfig,
        weights: WeightFile,
        decoder: InferenceSession,
        head: InferenceSession,
        given: Mapping[str, OrtValue],
    ) -> None:
        """Begin with no token; `given` is what the encoder heard, and adapters where the decoder takes them."""
        self._config = config
        self._weights = weights
        self._decoder = decoder
        self._head = head
        self._given = given
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
        return _Pass(self._config, tokens, self._caches, self._given, (self._decoder, self._head))


class _Pass:
    """Memory that is bound to both sessions for a pass of so many tokens, so that nothing is allocated in between."""

    def __init__(
        self,
        config: WhisperConfig,
        tokens: int,
        caches: Mapping[str, Floats],
        given: Mapping[str, OrtValue],
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
        arrays = {"embedded": self.embedded, LAST: self.last, TOTAL: self.total, BY_ANSWER: self._by_answer}
        for name, value in given.items():
            self.body.bind_ortvalue_input(name, value)
        for name, array in (arrays | {past(name): cache for name, cache in caches.items()}).items():
            self.body.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for name, array in ({HIDDEN: self._hidden} | dict(caches)).items():
            self.body.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(array))
        self.head.bind_ortvalue_input(HIDDEN, OrtValue.ortvalue_from_numpy(self._hidden))
        self.head.bind_ortvalue_output(LOGITS, OrtValue.ortvalue_from_numpy(self.logits))
