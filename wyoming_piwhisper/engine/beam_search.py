"""Several answers side by side, of which the likeliest per token wins.

Source: Radford et al. 2022, section 4.5, and the reference implementation: an answer's rank is its mean log
probability, and the search ends when as many answers as the beam is wide have ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from wyoming_piwhisper.engine.checkpoint import DecodingRules
from wyoming_piwhisper.engine.decoding import (
    DecodedWindow,
    Decoder,
    DecoderSession,
    DecodingTask,
    Logits,
    Steps,
    log_sum_exp,
)
from wyoming_piwhisper.engine.length_guard import goes_round


@dataclass(frozen=True)
class Answer:
    """Tokens so far; one log probability more than tokens where the end was said."""

    tokens: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()

    def extended(self, token: int, log_probability: float, end: int) -> "Answer":
        """The answer with one token more."""
        tokens = self.tokens if token == end else (*self.tokens, token)
        return Answer(tokens, (*self.log_probabilities, log_probability))

    @property
    def has_ended(self) -> bool:
        """Whether the end was said."""
        return len(self.log_probabilities) > len(self.tokens)

    @property
    def total(self) -> float:
        """Log probability of all of it."""
        return sum(self.log_probabilities)

    @property
    def rank(self) -> float:
        """Mean log probability."""
        return self.total / max(1, len(self.log_probabilities))


class BeamDecoder(Decoder):
    """Keeps the `width` likeliest answers; drafts are of no use to it."""

    def __init__(self, tokenizer: Tokenizer, rules: DecodingRules, width: int) -> None:
        """Search with `width` answers, at least 1."""
        super().__init__(tokenizer, rules)
        self._width = width

    def steps(self, session: DecoderSession, task: DecodingTask) -> Steps[DecodedWindow]:
        """Decode, a pass for all answers a step; a draft is of no use."""
        prompt = self._rules.prompt(task.language)
        room = self._room(task, prompt)
        heard = session.advance(list(prompt))
        yield
        no_speech = self._no_speech_probability(heard[0])
        answers, logits = [Answer()], heard[len(prompt) - 1 :]
        ended: list[Answer] = []
        while len(answers[0].tokens) < room and len(ended) < self._width:
            found = self._extensions(answers, logits)
            ended += [answer for _, answer in found[: self._width] if self._is_over(answer, guarded=task.guarded)]
            going_on = [(parent, answer) for parent, answer in found if not self._is_over(answer, guarded=task.guarded)]
            if not going_on:
                break
            parents, answers = map(list, zip(*going_on[: self._width], strict=True))
            if len(answers[0].tokens) < room and len(ended) < self._width:
                logits = session.branch(parents, [answer.tokens[-1] for answer in answers])
                yield
        best = max(ended or answers, key=lambda answer: answer.rank)
        return self._window(best.tokens, best.log_probabilities, no_speech, guarded=task.guarded)

    def _extensions(self, answers: Sequence[Answer], logits: Logits) -> list[tuple[int, Answer]]:
        """The likeliest ways to go on, at most twice the width, each with the number of the answer that it extends."""
        scratch = np.empty_like(logits)
        self._allow(logits, scratch, first=not answers[0].tokens)
        likeliest = np.argpartition(scratch, -self._width - 1, axis=1)[:, -self._width - 1 :]
        scratch -= np.array([log_sum_exp(row) for row in scratch])[:, None]
        found = [
            (parent, answer.extended(int(token), float(scratch[parent, token]), self._rules.end))
            for parent, answer in enumerate(answers)
            for token in likeliest[parent]
        ]
        return sorted(found, key=lambda one: -one[1].total)[: 2 * self._width]

    def _is_over(self, answer: Answer, *, guarded: bool) -> bool:
        return answer.has_ended or (guarded and goes_round(answer.tokens))
