import argparse
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from wyoming_piwhisper.domain.errors import SettingsError
from wyoming_piwhisper.domain.settings import Settings
from wyoming_piwhisper.edge.settings_file import add_options, given_options, load_settings, options, settings_as_yaml

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"


def yaml_file(folder: Path, text: str) -> dict[str, str]:
    path = folder / "config.yaml"
    path.write_text(text)
    return {"config": str(path)}


def test_without_sources_every_option_has_its_default() -> None:
    assert load_settings({}, {"HOME": "/root"}) == Settings()


def test_the_example_names_every_option_and_equals_the_defaults() -> None:
    content = yaml.safe_load(EXAMPLE.read_text())
    assert {f"{section}.{name}" for section in content for name in content[section]} == {o.key for o in options()}
    assert content == asdict(Settings())
    assert load_settings({"config": str(EXAMPLE)}, {}) == Settings()


def test_the_example_explains_every_option() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for option in options():
        at = next(n for n, line in enumerate(lines) if line.startswith(f"  {option.name}:"))
        assert option.meaning in lines[at - 1]


def test_the_command_line_wins_over_file_variable_environment_and_yaml(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("4\n")
    given = yaml_file(tmp_path, "server:\n  max_connections: 2\n")
    environment = {"PIWHISPER_SERVER_MAX_CONNECTIONS": "3"}
    assert load_settings(given, {}).server.max_connections == 2
    assert load_settings(given, environment).server.max_connections == 3
    environment["PIWHISPER_SERVER_MAX_CONNECTIONS_FILE"] = str(secret)
    assert load_settings(given, environment).server.max_connections == 4
    assert load_settings(given | {"server.max_connections": "5"}, environment).server.max_connections == 5


def test_the_yaml_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, "asr: {model: home-en}\nserver:\nlog: {level: debug}")["config"]
    settings = load_settings({}, {"PIWHISPER_CONFIG": path})
    assert (settings.asr.model, settings.log.level) == ("home-en", "debug")


def test_every_option_is_a_flag() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    arguments = [part for option in options() for part in (option.flag, str(option.default))]
    given = given_options(parser.parse_args(arguments))
    assert set(given) == {option.key for option in options()}
    assert load_settings(given, {}) == Settings()


def test_printed_settings_are_read_back_to_the_same(tmp_path: Path) -> None:
    settings = load_settings({"asr.threads": "2", "server.idle_timeout_seconds": "1.5"}, {})
    assert load_settings(yaml_file(tmp_path, settings_as_yaml(settings)), {}) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {max_conections: 3}", r"server\.max_conections: no such option .* mean server\.max_connections"),
        ("serv: {uri: x}", "serv: no such section .* did you mean server"),
        ("server: {max_connections: many}", r"server\.max_connections: 'many' is not a whole number"),
        ("server: {max_connections: '3'}", r"server\.max_connections: '3' is not a whole number"),
        ("server: {max_connections: true}", r"server\.max_connections: True"),
        ("server: {max_connections: 1.5}", r"server\.max_connections: 1\.5"),
        ("server: {max_connections: 0}", r"server\.max_connections: 0 is not positive \(from .*config\.yaml\)"),
        ("server: {idle_timeout_seconds: .nan}", r"server\.idle_timeout_seconds"),
        ("server: {idle_timeout_seconds: .inf}", r"server\.idle_timeout_seconds"),
        (f"server: {{idle_timeout_seconds: {'9' * 400}}}", r"server\.idle_timeout_seconds"),
        ("server: {uri: null}", r"server\.uri: None is not a text"),
        ("server: {uri: 'http://localhost'}", r"server\.uri: 'http://localhost' does not begin with"),
        ("server: {uri: 'tcp://localhost'}", r"server\.uri: .* needs a host and a port"),
        ("server: {uri: 'tcp://localhost:99999'}", r"server\.uri: .* port"),
        ("server: {uri: 'unix://'}", r"server\.uri: .* names no path"),
        ("asr: {language: no}", r"asr\.language: False is not a text"),
        ("asr: {device: tpu}", r"asr\.device: 'tpu' is none of"),
        ("asr: {threads: -1}", r"asr\.threads"),
        ("asr: {threads: 257}", r"asr\.threads"),
        ("asr: {max_waiting: 0}", r"asr\.max_waiting"),
        ("asr: {timeout_seconds: 0}", r"asr\.timeout_seconds"),
        ("vad: {aggressiveness: 4}", r"vad\.aggressiveness"),
        ("vad: {pad_ms: -1}", r"vad\.pad_ms"),
        ("vad: {endpointing: 1}", r"vad\.endpointing: 1 is not true or false"),
        ("vad: {endpointing: 'on'}", r"vad\.endpointing: 'on' is not true or false"),
        ("vad: {start_ms: 330}", r"vad\.start_ms: 330 is above the start window of 300 ms"),
        ("profiles: {not_ready: later}", r"profiles\.not_ready: 'later' is none of best_available, wait"),
        ("log: {level: loud}", r"log\.level"),
        ("server: 3", "server in .*: holds 3"),
        ("- server", "config.yaml: holds"),
        ("server: {uri: [", "config: .* is no valid YAML"),
        ("[" * 5000, "config: .* is no valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        load_settings(yaml_file(tmp_path, text), {})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PIWHISPER_ASR_MODLE": "x"}, "PIWHISPER_ASR_MODLE: .* did you mean PIWHISPER_ASR_MODEL"),
        ({"PIWHISPER_ASR_THREADS": "two"}, r"asr\.threads: 'two' .* \(from PIWHISPER_ASR_THREADS\)"),
        ({"PIWHISPER_VAD_ENDPOINTING": "perhaps"}, r"vad\.endpointing: 'perhaps' is not true or false"),
        ({"PIWHISPER_ASR_MODEL": ""}, r"asr\.model: empty.* \(from PIWHISPER_ASR_MODEL\)"),
        ({"PIWHISPER_ASR_MODEL_FILE": "/nowhere/at/all"}, "PIWHISPER_ASR_MODEL_FILE: cannot read /nowhere/at/all"),
        ({"PIWHISPER_CONFIG": "/nowhere/at/all"}, "config: cannot read /nowhere/at/all: No such file"),
    ],
)
def test_a_wrong_environment_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings({}, environment)


def test_a_wrong_value_names_its_flag() -> None:
    with pytest.raises(SettingsError, match=r"vad\.aggressiveness: 9 .* \(from --vad-aggressiveness\)"):
        load_settings({"vad.aggressiveness": "9"}, {})


@pytest.mark.parametrize(("text", "value"), [("off", False), ("False", False), ("true", True), ("yes", True)])
def test_truths_may_be_spelled_in_several_ways(text: str, *, value: bool) -> None:
    assert load_settings({}, {"PIWHISPER_VAD_ENDPOINTING": text}).vad.endpointing is value
