"""The decoder of one window on ONNX Runtime: caches and bound memory that stay where they are from token to token."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from onnxruntime import InferenceSession, OrtValue

from wyoming_piwhisper.domain.errors import InferenceError
from wyoming_piwhisper.engine.decoding import Logits
from wyoming_piwhisper.engine.onnx_graph import FAILURES, Floats
from wyoming_piwhisper.engine.weight_file import WeightFile
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_graphs import BY_ANSWER, EMBEDDING, HIDDEN, LAST, LOGITS, TOTAL, cache_names, past

DECODER_POSITIONS: Final = "model.decoder.embed_positions.weight"


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
        self._next = self._pass_of(1, self._caches)
        self._branches: list[_Pass] = []
        """Two, which take turns: each reads the caches of the other."""
        self._position = 0

    def advance(self, tokens: list[int]) -> Logits:
        """Append `tokens` and return the logits after each: shape (len(tokens), vocabulary), float32.

        They are overwritten by the next call.
        """
        step = self._next if len(tokens) == 1 else self._pass_of(len(tokens), self._caches)
        positions = list(range(self._position, self._position + len(tokens)))
        logits = self._run(step, tokens, positions)
        self._position += len(tokens)
        return logits

    def rewind(self, tokens: int) -> None:
        """Forget the last `tokens` tokens."""
        self._position -= tokens

    def branch(self, parents: list[int], tokens: list[int]) -> Logits:
        """Go on with several answers at once; see `DecoderSession`."""
        if not self._branches or len(self._branches[0].last) != len(tokens):
            self._branches = [self._pass_of(len(tokens), self._room_for(len(tokens))) for _ in range(2)]
        step = self._branches[0]
        for name, cache in step.caches.items():
            cache[:, :, : self._position] = self._caches[name][parents, :, : self._position]
        self._caches = step.caches
        self._branches.reverse()
        logits = self._run(step, tokens, [self._position] * len(tokens))
        self._position += 1
        return logits

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

    def _room_for(self, answers: int) -> Mapping[str, Floats]:
        """Caches for so many answers; memory that is not written takes none."""
        config = self._config
        heads = config.decoder_attention_heads
        shape = (answers, heads, config.max_target_positions, config.d_model // heads)
        return {name: np.zeros(shape, np.float32) for name in cache_names(config)}

    def _pass_of(self, tokens: int, caches: Mapping[str, Floats]) -> "_Pass":
        return _Pass(self._config, tokens, caches, self._given, (self._decoder, self._head))


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
        self.caches = caches
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
