"""Settings from the command line, the environment and a YAML file, checked before anything starts.

Every field of the classes in `domain/settings.py` is an option. `server.max_connections` is read from, in falling
priority: `--server-max-connections`, the file that `PIWHISPER_SERVER_MAX_CONNECTIONS_FILE` names,
`PIWHISPER_SERVER_MAX_CONNECTIONS`, the YAML file, its default.
"""

import argparse
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

import yaml

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.settings import (
    AsrSettings,
    LogSettings,
    ProfileSettings,
    ServerSettings,
    Settings,
    SpeakerSettings,
    VadSettings,
)

PREFIX: Final = "PIWHISPER_"
CONFIG_VARIABLE: Final = "PIWHISPER_CONFIG"

_SECTIONS: Final = {
    "server": ServerSettings,
    "asr": AsrSettings,
    "vad": VadSettings,
    "speaker": SpeakerSettings,
    "profiles": ProfileSettings,
    "log": LogSettings,
}
RECOGNISER_SECTIONS: Final = ("asr", "vad", "speaker", "profiles", "log")
"""What matters to commands that recognise without serving."""
_KIND_NAMES: Final = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_TRUTHS: Final = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


@dataclass(frozen=True)
class Option:
    """One setting under the names that it has in the three places it may come from."""

    section: str
    name: str
    kind: type[int] | type[float] | type[str] | type[bool]
    default: int | float | str
    meaning: str
    short: str = ""
    """A second name of its flag, for what is often given by hand."""

    @property
    def key(self) -> str:
        """Its name in messages and, nested, in the YAML file: `server.max_connections`."""
        return f"{self.section}.{self.name}"

    @property
    def flag(self) -> str:
        """Its name on the command line: `--server-max-connections`."""
        return f"--{self.section}-{self.name}".replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment: `PIWHISPER_SERVER_MAX_CONNECTIONS`."""
        return f"{PREFIX}{self.section}_{self.name}".upper()


@dataclass(frozen=True)
class _Given:
    """A value as someone gave it, and where."""

    value: object
    origin: str
    is_text: bool = True
    """Whether numbers come as text, as they do from everywhere but YAML."""


def options() -> tuple[Option, ...]:
    """All options, in the order of the settings classes."""
    return tuple(
        _option_of(section, entry) for section, settings_class in _SECTIONS.items() for entry in fields(settings_class)
    )


def add_options(parser: argparse.ArgumentParser, sections: Iterable[str] = tuple(_SECTIONS)) -> None:
    """Give `parser` the flag `--config` and one flag per option of `sections`; hand its result to `given_options`."""
    parser.add_argument("--config", metavar="FILE", help=f"YAML file with settings (or {CONFIG_VARIABLE})")
    for section in sections:
        group = parser.add_argument_group(f"{section} settings")
        for option in options():
            if option.section == section:
                shown = "empty" if option.default == "" else str(option.default)
                shown = shown.lower() if option.kind is bool else shown
                flags = [flag for flag in (option.short, option.flag) if flag]
                group.add_argument(
                    *flags, dest=option.key, metavar="VALUE", help=f"{option.meaning} (default: {shown})"
                )


def given_options(arguments: argparse.Namespace) -> dict[str, str]:
    """What the command line gave, by key; the path of the YAML file under `config`."""
    keys = {"config", *(option.key for option in options())}
    return {key: value for key, value in vars(arguments).items() if key in keys and value is not None}


def load_settings(command_line: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Merge all sources into checked settings; `command_line` is what `given_options` returned.

    Raises:
        SettingsError: an unknown key, an unreadable file or a wrong value; one line that names the key and its place.
    """
    _refuse_unknown_variables(environment)
    given: dict[str, _Given] = {}
    config_path = command_line.get("config") or environment.get(CONFIG_VARIABLE)
    if config_path:
        given.update(_given_in_file(Path(config_path)))
    for option in options():
        given.update(_given_in_environment(option, environment))
        if option.key in command_line:
            given[option.key] = _Given(command_line[option.key], option.flag)
    return _build(given)


def settings_as_yaml(settings: Settings) -> str:
    """The settings as the text of a YAML file that `load_settings` would read back to the same."""
    text: str = yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True)
    return text


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`"; did you mean ...?"` where one of `known` is near to `wrong`, else nothing."""
    nearest = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _option_of(section: str, entry: "Field[Any]") -> Option:
    default = cast("int | float | str", entry.default)
    return Option(section, entry.name, type(default), default, entry.metadata["help"], entry.metadata["short"])


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    plain = [CONFIG_VARIABLE, *(option.variable for option in options())]
    known = {*plain, *(f"{variable}_FILE" for variable in plain[1:])}
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(f"{variable}: no such option in the environment{did_you_mean(variable, plain)}")


def _given_in_environment(option: Option, environment: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    if option.variable in environment:
        yield option.key, _Given(environment[option.variable], option.variable)
    file_variable = f"{option.variable}_FILE"
    if file_variable in environment:
        yield option.key, _Given(_text_of(Path(environment[file_variable]), file_variable).strip(), file_variable)


def _given_in_file(path: Path) -> Iterator[tuple[str, _Given]]:
    try:
        content = yaml.safe_load(_text_of(path, "config"))
    except (yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"config: {path} is no valid YAML: {' '.join(str(error).split())}") from error
    known = [option.key for option in options()]
    for section, entries in _mapping(content, str(path)).items():
        if section not in _SECTIONS:
            raise SettingsError(f"{section}: no such section in {path}{did_you_mean(str(section), _SECTIONS)}")
        for name, value in _mapping(entries, f"{section} in {path}").items():
            key = f"{section}.{name}"
            if key not in known:
                raise SettingsError(f"{key}: no such option in {path}{did_you_mean(key, known)}")
            yield key, _Given(value, str(path), is_text=False)


def _mapping(content: object, place: str) -> Mapping[object, object]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{place}: holds {content!r:.40} where keys with values belong")
    return content


def _text_of(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise SettingsError(f"{key}: cannot read {path}: {reason}") from error


def _build(given: Mapping[str, _Given]) -> Settings:
    sections: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for option in options():
        if option.key in given:
            sections[option.section][option.name] = _converted(option, given[option.key])
    try:
        return Settings(**{name: settings(**sections[name]) for name, settings in _SECTIONS.items()})
    except SettingsError as error:
        key = str(error).partition(":")[0]
        place = f" (from {given[key].origin})" if key in given else ""
        raise SettingsError(f"{error}{place}") from error


def _converted(option: Option, given: _Given) -> int | float | str:
    value = given.value
    problem = f"{option.key}: {value!r} is not {_KIND_NAMES[option.kind]} (from {given.origin})"
    try:
        if isinstance(value, str) and given.is_text:
            value = _TRUTHS[value.lower()] if option.kind is bool else option.kind(value)
        elif type(value) is int and option.kind is float:
            value = float(value)
    except (ValueError, KeyError, OverflowError) as error:
        raise SettingsError(problem) from error
    if type(value) is not option.kind or (isinstance(value, float) and not math.isfinite(value)):
        raise SettingsError(problem)
    return value
