"""Manifests: JSON lines that say where recorded clips lie and what is said in them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.traits import Trait
from wyoming_piwhisper.training.trait_labels import traits_of


@dataclass(frozen=True)
class ManifestClip:
    """One line: an audio file and its transcript."""

    path: Path
    """Of the audio file; `name` resolved against the folder of the manifest."""
    name: str
    """The path as the manifest gives it."""
    reference: str | None
    """`text_norm`, or `text` where that is missing; empty for noise in which nobody speaks, None when unknown."""
    dataset: str
    split: str
    speaker: str | None
    traits: Mapping[Trait, str] = field(default_factory=dict)
    """What is known of the speaker."""
    age_years: int | None = None


@dataclass(frozen=True)
class Selection:
    """The clips of a manifest that were chosen."""

    clips: tuple[ManifestClip, ...]
    """With a `reference` each."""
    without_transcript: int
    """Clips that fit but have no transcript, and were left out for it."""


def select_clips(
    manifest: Path, *, split: str | None = None, datasets: Sequence[str] = (), limit: int | None = None
) -> Selection:
    """Read a manifest and choose by split and data set; `limit` clips spread evenly over what fits.

    None, or an empty sequence, chooses all.

    Raises:
        SettingsError: the manifest cannot be read; the message names the file and line.
    """
    fitting = [
        clip
        for clip in read_clips(manifest)
        if split in {None, clip.split} and (not datasets or clip.dataset in datasets)
    ]
    clips = [clip for clip in fitting if clip.reference is not None]
    without_transcript = len(fitting) - len(clips)
    if limit is not None and limit < len(clips):
        clips = [clips[index * len(clips) // limit] for index in range(limit)]
    return Selection(tuple(clips), without_transcript)


def read_clips(manifest: Path) -> Iterator[ManifestClip]:
    """All clips of a manifest, those without a transcript among them.

    Raises:
        SettingsError: the manifest cannot be read; the message names the file and line.
    """
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"manifest: cannot read {manifest}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _clip(json.loads(line), manifest.parent)
            except (ValueError, KeyError, TypeError) as error:
                raise SettingsError(f"manifest: {manifest}, line {number}: {error!r}") from error


def _clip(entry: dict[str, Any], folder: Path) -> ManifestClip:
    name = entry["path"]
    reference = entry.get("text_norm")
    if reference is None:
        reference = entry.get("text")
    if not isinstance(name, str) or not isinstance(reference, str | None):
        raise TypeError("path or text is not a string")
    return ManifestClip(
        path=folder / name,
        name=name,
        reference=reference,
        dataset=str(entry.get("dataset") or "unnamed"),
        split=str(entry.get("split") or ""),
        speaker=entry.get("speaker"),
        traits=traits_of(entry),
        age_years=entry["age"] if isinstance(entry.get("age"), int) else None,
    )
