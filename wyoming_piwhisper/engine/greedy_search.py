"""The likeliest token each time, with a draft of the answer verified in one pass.

Source of the draft: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023.
"""

from collections import deque

import numpy as np

from wyoming_piwhisper.engine.decoding import DecodedWindow, Decoder, DecoderSession, DecodingTask, Logits, Steps
from wyoming_piwhisper.engine.length_guard import goes_round


class GreedyDecoder(Decoder):
    """Takes the likeliest token each time."""

    def steps(self, session: DecoderSession, task: DecodingTask) -> Steps[DecodedWindow]:
        """Decode, a pass of the decoder a step; tokens of the draft that turn out right cost one pass together."""
        prompt = self._rules.prompt(task.language)
        room = self._room(task, prompt)
        ahead = deque(task.draft[:room])
        logits = session.advance([*prompt, *ahead])
        yield
        no_speech = self._no_speech_probability(logits[0])
        after = deque(logits[len(prompt) - 1 :])
        tokens: list[int] = []
        log_probabilities: list[float] = []
        scratch = np.empty_like(logits[0])
        while len(tokens) < room and not (task.guarded and goes_round(tokens)):
            token, log_probability = self._choose(after.popleft(), scratch, first=not tokens)
            log_probabilities.append(log_probability)
            if token == self._rules.end:
                break
            tokens.append(token)
            if ahead and ahead[0] == token:
                ahead.popleft()
                continue
            session.rewind(len(ahead))
            ahead.clear()
            after = deque(session.advance([token]))
            yield
        return self._window(tokens, log_probabilities, no_speech, guarded=task.guarded)

    def _choose(self, logits: Logits, scratch: Logits, *, first: bool) -> tuple[int, float]:
        """The likeliest token that may be said and its log probability; `scratch` is overwritten."""
        self._allow(logits, scratch, first=first)
        token = int(scratch.argmax())
        scratch -= scratch[token]
        return token, -float(np.log(np.exp(scratch, out=scratch).sum()))
