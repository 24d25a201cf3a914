"""The product as it ships: `serve` as a process of its own with the bundled model, over TCP and standard input."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus
from fakes import WAIT_SECONDS, answer, speak
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import async_read_event, async_write_event
from wyoming.info import Describe, Info

from wyoming_piwhisper.domain.audio import PCM16_SCALE, SAMPLE_RATE, Samples
from wyoming_piwhisper.domain.scoring import score_corpus, score_utterance
from wyoming_piwhisper.edge.audio_files import read_audio

ROOT = Path(__file__).parent.parent
START_SECONDS = 60
"""For importing torch on a slow machine that does other things."""


@asynccontextmanager
async def serve(uri: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wyoming_piwhisper", "serve", "--server-uri", uri, "--asr-model", "home-en"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@asynccontextmanager
async def client_of_home_en() -> AsyncIterator[AsyncClient]:
    """A client of the real server with the bundled model."""
    async with serve("tcp://127.0.0.1:0") as process:
        assert process.stderr is not None
        log = ""
        async with asyncio.timeout(START_SECONDS):
            while not (found := re.search(r"Listening on (tcp://\S+:\d+);", log)):
                log += (await process.stderr.readline()).decode()
        async with AsyncClient.from_uri(found[1]) as client:
            yield client


async def transcript_of(client: AsyncClient, samples: Samples) -> str:
    await speak(client, bytes((samples * (PCM16_SCALE - 1)).astype("<i2").data))
    async with asyncio.timeout(START_SECONDS):
        event = await client.read_event()
    assert event is not None
    assert Transcript.is_type(event.type), event
    return Transcript.from_event(event).text


async def test_people_are_heard_over_a_real_connection(corpus: Corpus) -> None:
    clips = corpus.clips("speech_commands", "dev")[:40]
    async with client_of_home_en() as client:
        heard = [await transcript_of(client, read_audio(path)) for path, _ in clips]

    score = score_corpus([score_utterance(text, words) for (_, text), words in zip(clips, heard, strict=True)])

    assert score.word_error_rate.value < 0.4, list(zip(heard, clips, strict=True))


async def test_a_command_is_answered_while_the_client_still_listens(corpus: Corpus) -> None:
    path, text = corpus.clips("speech_commands", "dev")[0]
    samples = np.concatenate([read_audio(path), np.zeros(3 * SAMPLE_RATE, np.float32)])
    pcm = bytes((samples * (PCM16_SCALE - 1)).astype("<i2").data)
    async with client_of_home_en() as client:
        await transcript_of(client, samples)  # The model is there from now on.
        answered = asyncio.create_task(client.read_event())
        for start in range(0, len(pcm), 960):
            if answered.done():
                break
            await client.write_event(AudioChunk(SAMPLE_RATE, 2, 1, pcm[start : start + 960]).event())
            await asyncio.sleep(0.03)
        event = await asyncio.wait_for(answered, WAIT_SECONDS)

    assert event is not None
    assert Transcript.from_event(event).text == text
    assert start + 960 < len(pcm)


async def test_silence_noise_and_snippets_are_empty_transcripts() -> None:
    generator = np.random.default_rng(0)
    seconds = 2 * SAMPLE_RATE
    noise = generator.normal(0, 1, seconds).astype(np.float32)
    rumble = np.convolve(noise, np.ones(40, np.float32) / 40, "same")
    hum = np.sin(2 * np.pi * 50 * np.arange(seconds) / SAMPLE_RATE).astype(np.float32)
    sounds = {
        "silence": np.zeros(seconds, np.float32),
        "faint hiss": 0.003 * noise,
        "hiss": 0.05 * noise,
        "rumble": 0.3 * rumble,
        "hum": 0.2 * hum + 0.01 * noise,
        "a tenth of a second": 0.1 * noise[: SAMPLE_RATE // 10],
    }
    async with client_of_home_en() as client:
        heard = {name: await transcript_of(client, np.clip(sound, -1, 1)) for name, sound in sounds.items()}

    assert heard == dict.fromkeys(sounds, "")


async def test_standard_input_and_output_carry_the_same_protocol() -> None:
    async with serve("stdio://") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for event in (
            Describe().event(),
            AudioStart(SAMPLE_RATE, 2, 1).event(),
            AudioChunk(SAMPLE_RATE, 2, 1, bytes(SAMPLE_RATE)).event(),
            AudioStop().event(),
        ):
            await async_write_event(event, process.stdin)
        async with asyncio.timeout(START_SECONDS):
            described = await async_read_event(process.stdout)
            answered = await async_read_event(process.stdout)
        process.stdin.close()
        status = await asyncio.wait_for(process.wait(), WAIT_SECONDS)

    assert described is not None
    assert Info.from_event(described).asr[0].models[0].name == "home-en"
    assert answered is not None
    assert Transcript.from_event(answered).text == ""
    assert status == 0


async def test_the_model_describes_itself_and_its_figures() -> None:
    async with client_of_home_en() as client:
        await client.write_event(Describe().event())
        (program,) = Info.from_event(await answer(client)).asr

    assert program.models[0].languages == ["en"]
    assert (ROOT / "wyoming_piwhisper" / "models" / "home-en" / "README.md").read_text().startswith("---\n")


@pytest.mark.parametrize("name", ["model.safetensors"])
def test_the_bundled_weights_are_small(name: str) -> None:
    assert (ROOT / "wyoming_piwhisper" / "models" / "home-en" / name).stat().st_size < 25_000_000
