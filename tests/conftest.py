"""What several test files need: recorded speech, where there is some, and quiet surroundings."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "corpus"


@dataclass(frozen=True)
class Corpus:
    """A folder of recorded speech with a `manifest.jsonl`; read, never copied."""

    folder: Path

    def clips(self, dataset: str, split: str) -> list[tuple[Path, str]]:
        """Files of a data set and what is said in them, in the order of the manifest."""
        lines = (self.folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        chosen = [row for row in rows if (row["dataset"], row["split"]) == (dataset, split)]
        return [(self.folder / row["path"], row["text_norm"]) for row in chosen]


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Recorded speech from the folder that SPEECH_CORPUS names, or from `shared/corpus` beside the project."""
    folder = Path(os.environ.get("SPEECH_CORPUS", BESIDE_THE_PROJECT))
    if not (folder / "manifest.jsonl").exists():
        pytest.skip("no recorded speech: set SPEECH_CORPUS to a folder with a manifest.jsonl")
    return Corpus(folder)


@pytest.fixture
def importable_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes find the fake engine."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Small models train fastest on one thread; the same seed of torch for each test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
