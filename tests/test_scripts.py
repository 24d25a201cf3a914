import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = [*sorted((ROOT / "script").iterdir()), ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_can_be_run_and_stop_at_the_first_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    first, *_, strict = (line for line in script.read_text().splitlines() if line.startswith(("#!", "set ")))
    assert (first, strict) == ("#!/usr/bin/env bash", "set -euo pipefail")
    subprocess.run(["/bin/bash", "-n", script], check=True)


def test_setup_names_a_wrong_option_from_any_directory(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "script" / "setup", "--fast"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--fast" in done.stderr


def test_setup_tells_an_old_python(tmp_path: Path) -> None:
    """In a checkout without an environment, with nothing but a Python that is too old on the path."""
    for folder in ("script", "wyoming_piwhisper", "bin"):
        (tmp_path / folder).mkdir()
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt", "script/setup", "wyoming_piwhisper/__init__.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for tool in ("cat", "cut", "dirname", "rm", "sha256sum"):
        (tmp_path / "bin" / tool).symlink_to(
            next(p for p in map(Path, ("/usr/bin", "/bin")) if (p / tool).exists()) / tool
        )
    old = tmp_path / "bin" / "python3"
    old.write_text('#!/bin/bash\n[[ $1 == --version ]] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", tmp_path / "script" / "setup"],
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; python3 is Python 3.9.2" in done.stderr


def test_every_requirement_is_pinned() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    names = {name.lower() for name in re.findall(r"^([\w-]+)", "\n".join(wanted), re.MULTILINE)}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    assert names <= {name.replace("_", "-") for name in pins}
    assert pins["torch"] == "2.13.0"
    assert not [line for line in lines if "://" in line or line.startswith("-")]
