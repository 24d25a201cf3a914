"""The command line: finds the subcommand, imports nothing but its module, and turns errors into exit statuses."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, cast

from wyoming_piwhisper import __version__
from wyoming_piwhisper.domain.errors import ModelNotFoundError, PiWhisperError, SettingsError

if TYPE_CHECKING:
    from wyoming_piwhisper.commands import Subparsers

PROGRAM: Final = "wyoming-piwhisper"

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""

COMMANDS: Final = {
    "serve": "run the Wyoming server",
    "transcribe": "print what is said in audio files",
    "evaluate": "measure word error rate and speed on a manifest",
    "download": "fetch a model from the hub",
    "check-config": "print the settings that would be used",
    "health": "ask a running server to describe itself",
    "speak-held-out": "synthesise commands kept out of training, for evaluate",
    "train-home-en": "train the bundled model again",
    "profiles": "list, show, add, remove and verify LoRA profiles",
    "train-profile": "train the LoRA profile of one group of speakers",
    "train-profiles": "train LoRA profiles for all groups of speakers",
    "train-traits": "train the classifiers of age, gender and accent",
    "train-short-context": "tune a model of the hub to hear only the seconds that were spoken",
}
"""Name of each subcommand and what it does; its module has the same name in `wyoming_piwhisper.commands`."""


class Command(Protocol):
    """What a module in `wyoming_piwhisper.commands` offers."""

    def add_parser(self, subparsers: "Subparsers") -> None:
        """Add the parser of the subcommand."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit status; a `PiWhisperError` is reported by the caller."""


class OneLineParser(argparse.ArgumentParser):
    """Reports wrong usage in one line, without the long list of options."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (that of the process by default); returns the exit status."""
    _write_any_character()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    command = _command(name) if name in COMMANDS else None
    parser = _parser(name, command)
    if command is None:
        parser.parse_args(arguments)
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    try:
        return _flushed(command.run(_parsed(parser, arguments)))
    except (SettingsError, ModelNotFoundError) as error:
        return _report(error, EXIT_USAGE)
    except PiWhisperError as error:
        return _report(error, EXIT_FAILURE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def _flushed(status: int) -> int:
    """Write what is still buffered while a reader that has gone can be reported."""
    if sys.stdout is not None:
        sys.stdout.flush()
    return status


def _write_any_character() -> None:
    """Escape what the terminal's encoding lacks; a file name or a word must not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _command(name: str | None) -> Command:
    module = f"wyoming_piwhisper.commands.{name}".replace("-", "_")
    return cast("Command", importlib.import_module(module))


def _parser(name: str | None, command: Command | None) -> argparse.ArgumentParser:
    """The parser of the one subcommand that is run; the others are only listed."""
    parser: argparse.ArgumentParser = OneLineParser(
        prog=PROGRAM, description="Speech to text for Home Assistant.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers: Subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=OneLineParser)
    for listed, summary in COMMANDS.items():
        if command is not None and listed == name:
            command.add_parser(subparsers)
        else:
            subparsers.add_parser(listed, help=summary)
    return parser


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        from wyoming_piwhisper.edge.settings_file import did_you_mean, options

        wrong = unknown[0].partition("=")[0]
        raise SettingsError(f"{wrong}: no such argument{did_you_mean(wrong, [option.flag for option in options()])}")
    return parsed


def _report(error: PiWhisperError, status: int) -> int:
    print(f"{PROGRAM}: {error}", file=sys.stderr)
    return status
