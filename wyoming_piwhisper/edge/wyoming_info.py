"""What the server says of itself when asked to describe itself."""

from typing import Final

from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from wyoming_piwhisper import __version__
from wyoming_piwhisper.domain.transcription import ModelDescription

PROGRAM_NAME: Final = "piwhisper"
"""Home Assistant builds the identity of the service from it: a change makes it a new, unknown service."""


def info_of(model: ModelDescription, *, finds_end: bool) -> Info:
    """Describe the server as one speech-to-text program with the one `model` that it runs.

    One that `finds_end` answers when an utterance seems to be over; Home Assistant (from 2026.10) then does not look.
    """
    return Info(
        asr=[
            AsrProgram(
                name=PROGRAM_NAME,
                description="Whisper for the voices of a home",
                attribution=Attribution(name="wyoming-piwhisper", url=""),
                installed=True,
                version=__version__,
                models=[
                    AsrModel(
                        name=model.name,
                        description=model.description,
                        attribution=Attribution(name=model.attribution_name, url=model.attribution_url),
                        installed=True,
                        version=model.version,
                        languages=list(model.languages),
                    )
                ],
                supports_transcript_streaming=False,
                requires_external_vad=not finds_end,
            )
        ]
    )
