"""What may be loaded where; the layers themselves are contracts of import-linter."""

import subprocess
import sys

import pytest

RUNTIMES = ("torch", "onnxruntime", "transformers", "peft", "tokenizers", "safetensors", "cv2")


@pytest.mark.parametrize(
    "module",
    ["wyoming_piwhisper.app", "wyoming_piwhisper.commands.serve", "wyoming_piwhisper.service.worker"],
)
def test_no_model_runtime_comes_with(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {RUNTIMES} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_domain_touches_neither_loop_nor_network() -> None:
    names = ("settings", "endpoint", "languages", "audio", "transcription", "errors")
    imports = ", ".join(f"wyoming_piwhisper.domain.{name}" for name in names)
    program = f"import numpy, sys; old = set(sys.modules); import {imports}; print(sorted(set(sys.modules) - old))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"asyncio", "socket", "yaml", "wyoming", "subprocess"} & set(result.stdout.split("'"))
