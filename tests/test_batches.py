"""Which clips are heard when."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from wyoming_piwhisper.training import batches
from wyoming_piwhisper.training.batches import (
    LONGEST_FRAMES,
    SHARES_FIRST,
    SHARES_LAST,
    SPARE_FRAMES,
    Batches,
    Example,
)
from wyoming_piwhisper.training.clips import ClipStore, ClipWriter

BUDGET = 2000
KINDS = ("command", "spliced", "word", "general", "real_word", "real", "noise")


def store(folder: Path, kinds: Sequence[str] = KINDS, each: int = 6) -> ClipStore:
    generator = np.random.default_rng(0)
    with ClipWriter(folder) as writer:
        for kind in kinds:
            for _ in range(each):
                power = generator.uniform(-8, 0, (int(generator.integers(20, 200)), 80)).astype(np.float16)
                said = "" if kind == "noise" else kind
                writer.add(power, said, said, kind, "made")
    return ClipStore(folder)


def drawn(source: Batches, count: int) -> list[list[Example]]:
    return list(islice(source, count))


def kinds_of(found: list[list[Example]]) -> dict[str, float]:
    """Share of each kind, by the first word."""
    counts = Counter((example.text.split() or ["noise"])[0] for batch in found for example in batch)
    return {kind: count / counts.total() for kind, count in counts.items()}


def test_batches_keep_to_the_budget_and_use_it(tmp_path: Path) -> None:
    found = drawn(Batches([store(tmp_path)], BUDGET, 1), 200)
    sizes = [len(batch) * (max(len(example.power) for example in batch) + SPARE_FRAMES) for batch in found]

    assert max(sizes) <= BUDGET
    assert np.mean(sizes) > 0.7 * BUDGET


def test_a_clip_longer_than_the_budget_comes_alone(tmp_path: Path) -> None:
    found = drawn(Batches([store(tmp_path, ["real"])], 60, 1), 20)

    assert all(len(batch) == 1 for batch in found)


def test_a_seed_decides_the_batches(tmp_path: Path) -> None:
    clips = store(tmp_path)

    def texts(seed: int) -> list[list[tuple[str, int]]]:
        return [[(e.text, len(e.power)) for e in batch] for batch in drawn(Batches([clips], BUDGET, seed), 30)]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


@pytest.mark.parametrize(("maturity", "shares"), [(0.0, SHARES_FIRST), (1.0, SHARES_LAST)])
def test_shares_move_with_maturity(tmp_path: Path, maturity: float, shares: dict[str, float]) -> None:
    source = Batches([store(tmp_path)], BUDGET, 3)
    source.maturity = maturity

    found = kinds_of(drawn(source, 400))

    assert sum(shares.values()) == pytest.approx(1)
    for kind in KINDS:
        assert found.get(kind, 0.0) == pytest.approx(shares.get(kind, 0.0), abs=0.035)


def test_missing_kinds_leave_their_share_to_the_others(tmp_path: Path) -> None:
    found = kinds_of(drawn(Batches([store(tmp_path, ["word", "noise"])], BUDGET, 3), 100))

    assert set(found) == {"word", "noise"}


def test_words_are_strung_together_with_their_texts_and_phonemes(tmp_path: Path) -> None:
    source = Batches([store(tmp_path, ["word", "real_word", "command"])], BUDGET, 1)
    examples = [example for batch in drawn(source, 100) for example in batch]
    strung = [example for example in examples if len(example.text.split()) > 1]
    first_words = [example for example in examples if not example.text.startswith("command")]

    assert len(strung) / len(first_words) == pytest.approx(batches.STRUNG_SHARE, abs=0.1)
    assert all(example.text == example.phonemes for example in examples)
    assert not any(example.text.startswith("command ") for example in strung)
    assert max(len(example.power) for example in examples) <= LONGEST_FRAMES + 4 * batches.GAP_FRAMES[1]
    assert all(example.power.dtype == np.float16 and np.isfinite(example.power).all() for example in examples)


def test_noise_is_cut_out_of_longer_noise(tmp_path: Path) -> None:
    with ClipWriter(tmp_path) as writer:
        writer.add(np.zeros((800, 80), np.float16), "", "", "noise", "made")
    examples = [e for batch in drawn(Batches([ClipStore(tmp_path)], BUDGET, 1), 30) for e in batch]

    assert all(50 <= len(example.power) <= 400 for example in examples)
    assert len({len(example.power) for example in examples}) > 10
    assert {example.text for example in examples} == {""}
