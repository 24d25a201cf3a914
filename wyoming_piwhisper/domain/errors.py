"""The errors of the product: one root, a subclass per decision that a caller takes.

Each edge translates them once: the command line into an exit status, the Wyoming server into an `error` event.
"""

from typing import ClassVar


class PiWhisperError(Exception):
    """Root of all errors that the product raises on purpose; `str()` is one line that says what to do."""

    code: ClassVar[str] = "internal"


class SettingsError(PiWhisperError):
    """A setting has an unknown name or a wrong value; the message names the key."""

    code = "settings"


class ModelNotFoundError(PiWhisperError):
    """The model is not on this device; the message holds the command that fetches it."""

    code = "model"


class ModelFormatError(PiWhisperError):
    """The files of a model are damaged, incomplete or of another architecture."""

    code = "model"


class ProfileError(PiWhisperError):
    """A LoRA profile is damaged, of a kind that cannot be merged, or for another base model."""

    code = "profile"


class DownloadError(PiWhisperError):
    """A download could not be finished; what was fetched so far is kept."""

    code = "download"


class AudioFormatError(PiWhisperError):
    """Audio in a rate, width, channel count or container that cannot be read."""

    code = "protocol"


class ProtocolError(PiWhisperError):
    """A peer sent something malformed or passed a bound."""

    code = "protocol"


class OverloadedError(PiWhisperError):
    """More work waits than the settings allow."""

    code = "overloaded"


class InferenceError(PiWhisperError):
    """The worker failed on an utterance, also on the second try."""

    code = "inference"


class OutOfMemoryError(InferenceError):
    """The device has no room for a model or its work; letting go of others may make some."""
