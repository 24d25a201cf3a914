"""The inference service over a real worker process with the fake engine."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from fakes import FACTORY, WAIT_SECONDS, reached, release, running_inference, worker_pid

from wyoming_piwhisper.domain.errors import InferenceError, ModelFormatError, OverloadedError
from wyoming_piwhisper.domain.settings import AsrSettings
from wyoming_piwhisper.domain.transcription import RecognitionOptions, Speculation, Transcription
from wyoming_piwhisper.service.inference import InferenceService
from wyoming_piwhisper.service.messages import Asked, Message
from wyoming_piwhisper.service.worker_process import WorkerProcess

LOUD = np.full(1600, 0.5, np.float32)

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("importable_fakes")]


async def recognise(service: InferenceService, chunks: int = 1, language: str | None = None) -> Transcription:
    utterance = await service.open(RecognitionOptions(language))
    for _ in range(chunks):
        utterance.feed(LOUD)
    return await asyncio.wait_for(utterance.finish(), WAIT_SECONDS)


async def test_samples_arrive_whole_and_in_order(tmp_path: Path) -> None:
    async with running_inference(tmp_path) as service:
        result = await recognise(service, chunks=3, language="de")
    assert (result.text, result.language) == ("4800 samples up to 0.50", "de")
    assert result.stage_seconds == {"decode": 0.001}


async def test_what_became_of_work_ahead_of_time_is_counted(tmp_path: Path) -> None:
    async with running_inference(tmp_path) as service:
        for _ in range(3):
            await recognise(service)
        assert service.speculation == Speculation(kept=3, verified=0, dropped=6)


async def test_utterances_that_come_while_the_model_loads_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold-load")
    async with running_inference(tmp_path) as service:
        waiting = asyncio.create_task(recognise(service))
        assert not service.ready
        await release(tmp_path / "hold-load")
        assert (await waiting).text
        assert service.ready


async def test_many_utterances_are_open_at_once(tmp_path: Path) -> None:
    async with running_inference(tmp_path) as service:
        utterances = [await service.open(RecognitionOptions()) for _ in range(10)]
        for rounds in range(10):
            for utterance in utterances[rounds:]:
                utterance.feed(LOUD)
        results = await asyncio.gather(*(utterance.finish() for utterance in utterances))
    assert [result.text.split()[0] for result in results] == [str(1600 * (n + 1)) for n in range(10)]


@pytest.mark.parametrize("mishap", ["crash-once", "hang-once"])
async def test_what_a_worker_takes_with_it_is_tried_once_more(tmp_path: Path, mishap: str) -> None:
    (tmp_path / mishap).touch()
    async with running_inference(tmp_path, AsrSettings(timeout_seconds=0.5)) as service:
        assert (await recognise(service, chunks=2)).text == "3200 samples up to 0.50"


async def test_an_utterance_still_being_spoken_survives_a_crash(tmp_path: Path) -> None:
    async with running_inference(tmp_path) as service:
        await service.wait_ready()
        utterance = await service.open(RecognitionOptions())
        utterance.feed(LOUD)
        os.kill(worker_pid(tmp_path), signal.SIGKILL)
        utterance.feed(LOUD)
        result = await asyncio.wait_for(utterance.finish(), WAIT_SECONDS)
    assert result.text == "3200 samples up to 0.50"


async def test_an_utterance_that_kills_every_worker_fails_and_the_service_goes_on(tmp_path: Path) -> None:
    (tmp_path / "crash").touch()
    async with running_inference(tmp_path) as service:
        with pytest.raises(InferenceError, match="second try"):
            await recognise(service)
        (tmp_path / "crash").unlink()
        assert (await recognise(service)).text


@pytest.mark.parametrize(("file", "reason"), [("fail", "the model gave up"), ("raise", "RuntimeError: a bug in the")])
async def test_an_exception_of_the_engine_fails_its_utterance_only(tmp_path: Path, file: str, reason: str) -> None:
    (tmp_path / file).touch()
    async with running_inference(tmp_path) as service:
        with pytest.raises(InferenceError, match=reason):
            await recognise(service)
        before = worker_pid(tmp_path)
        (tmp_path / file).unlink()
        assert (await recognise(service)).text
        assert worker_pid(tmp_path) == before


async def test_an_exception_while_samples_are_fed_is_told_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "raise-on-feed").touch()
    async with running_inference(tmp_path) as service:
        with pytest.raises(InferenceError, match="no memory for these samples"):
            await recognise(service, chunks=3)


async def test_a_hung_worker_is_replaced_although_clients_give_up_sooner(tmp_path: Path) -> None:
    async with running_inference(tmp_path, AsrSettings(timeout_seconds=0.5)) as service:
        await service.wait_ready()
        hung = worker_pid(tmp_path)
        (tmp_path / "hang-once").touch()
        async with asyncio.timeout(WAIT_SECONDS):
            while worker_pid(tmp_path) == hung:
                utterance = await service.open(RecognitionOptions())
                utterance.feed(LOUD)
                utterance.complete()
                await asyncio.sleep(0.2)
                utterance.abandon()
        assert (await recognise(service)).text


async def test_the_worker_is_not_flooded_with_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Message] = []
    send = WorkerProcess.send

    def noting(process: WorkerProcess, message: Message) -> None:
        sent.append(message)
        send(process, message)

    monkeypatch.setattr(WorkerProcess, "send", noting)
    async with running_inference(tmp_path) as service:

        async def talk() -> None:
            for _ in range(100):
                await recognise(service)

        await asyncio.gather(*(talk() for _ in range(4)))
    asked = sum(isinstance(message, Asked) for message in sent)

    assert 1 <= asked <= 2 * 400


async def test_more_than_may_wait_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_inference(tmp_path, AsrSettings(max_waiting=1)) as service:
        utterances = [await service.open(RecognitionOptions()) for _ in range(2)]
        at_work, waiting = (asyncio.create_task(utterance.finish()) for utterance in utterances)
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await service.open(RecognitionOptions())
        await release(tmp_path / "hold")
        await asyncio.wait_for(asyncio.gather(at_work, waiting), WAIT_SECONDS)
        assert (await recognise(service)).text


async def test_abandoned_utterances_are_not_worked_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_inference(tmp_path) as service:
        utterances = [await service.open(RecognitionOptions()) for _ in range(3)]
        for number, utterance in enumerate(utterances, start=1):
            utterance.feed(np.tile(LOUD, number))
        first, second, third = (asyncio.create_task(utterance.finish()) for utterance in utterances)
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await release(tmp_path / "hold")
        assert (await first).text
        assert (await third).text
    assert (tmp_path / "finished").read_text().split() == ["1600", "4800"]


async def test_a_model_that_cannot_be_loaded_ends_the_service_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    async with running_inference(tmp_path) as service:
        early = await service.open(RecognitionOptions())
        with pytest.raises(ModelFormatError, match=r"config\.json: damaged"):
            await asyncio.wait_for(service.wait_failed(), WAIT_SECONDS)
        with pytest.raises(ModelFormatError):
            await early.finish()
        with pytest.raises(ModelFormatError):
            await service.open(RecognitionOptions())


async def test_a_worker_that_dies_each_time_it_loads_ends_the_service(tmp_path: Path) -> None:
    (tmp_path / "crash-load").touch()
    async with running_inference(tmp_path) as service:
        with pytest.raises(InferenceError, match="each time it loads"):
            await asyncio.wait_for(service.wait_failed(), WAIT_SECONDS)


async def test_closing_ends_the_worker_and_fails_what_is_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    async with running_inference(tmp_path) as service:
        waiting = asyncio.create_task(recognise(service))
        await reached(tmp_path / "hold")
        utterance = await service.open(RecognitionOptions())
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(worker_pid(tmp_path), 0)
    with pytest.raises(InferenceError):
        await utterance.finish()


async def test_the_worker_gets_its_threads_from_the_settings(tmp_path: Path) -> None:
    async with running_inference(tmp_path, AsrSettings(threads=3)) as service:
        await asyncio.wait_for(service.wait_ready(), WAIT_SECONDS)
    assert '"threads": "3"' in (tmp_path / "loaded").read_text()


def test_the_worker_ends_with_its_parent_even_in_the_middle_of_its_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold-load")
    parent = f"""
        import asyncio, os, signal
        from pathlib import Path
        from wyoming_piwhisper.domain.engine_plan import EnginePlan
        from wyoming_piwhisper.service.inference import InferenceService

        async def main():
            folder = Path({str(tmp_path)!r})
            service = InferenceService(EnginePlan(folder), {FACTORY!r})
            await service.start()
            worker_holds_on = await asyncio.to_thread(open, folder / "hold-load", "wb")
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(parent)], timeout=WAIT_SECONDS, check=False, stderr=-1)
    try:
        worker = os.pidfd_open(worker_pid(tmp_path))
    except ProcessLookupError:
        return
    try:
        assert select.select([worker], [], [], WAIT_SECONDS)[0], "the worker lives on"
    finally:
        os.close(worker)


async def test_modules_in_the_current_folder_do_not_reach_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('taken from the current folder')")
    monkeypatch.chdir(tmp_path)
    async with running_inference(tmp_path) as service:
        assert (await recognise(service)).text == "1600 samples up to 0.50"


async def test_the_log_tells_how_a_worker_died(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_inference(tmp_path) as service:
        await service.wait_ready()
        os.kill(worker_pid(tmp_path), signal.SIGKILL)
        assert (await recognise(service)).text
    assert "status -9" in caplog.text
