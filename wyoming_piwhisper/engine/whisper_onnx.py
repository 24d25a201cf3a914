"""Runs a Whisper checkpoint with ONNX Runtime on a CPU, in eight bits."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError, OutOfMemoryError
from wyoming_piwhisper.engine.checkpoint import Checkpoint
from wyoming_piwhisper.engine.features import Spectrogram
from wyoming_piwhisper.engine.lora_file import LoraFile
from wyoming_piwhisper.engine.merging import AdapterReader, MergedWeights
from wyoming_piwhisper.engine.onnx_decoder import OnnxDecoderSession
from wyoming_piwhisper.engine.onnx_graph import FAILURES, open_session
from wyoming_piwhisper.engine.run_time_adapters import adapter_inputs
from wyoming_piwhisper.engine.weight_file import WeightFile
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_graphs import (
    Weights,
    cross_names,
    decoder_graph,
    encoder_graph,
    head_graph,
)

ENCODER_POSITIONS: Final = "model.encoder.embed_positions.weight"


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
