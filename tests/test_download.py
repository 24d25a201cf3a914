import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes_tools import COMMIT, FakeHub, model_files, serving_hub

from wyoming_piwhisper.cli import main
from wyoming_piwhisper.domain.errors import DownloadError
from wyoming_piwhisper.edge.hub import Hub, hub_from
from wyoming_piwhisper.edge.model_download import PINNED_REVISIONS, download_model
from wyoming_piwhisper.edge.model_store import RECORD, resolve_model


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    unwanted = {"pytorch_model.bin": b"pickle", "flax_model.msgpack": b"flax", ".gitattributes": b"", "a/b.json": b"{}"}
    card = {"README.md": b"# a card"}
    with serving_hub(files={**model_files(), **card, **unwanted}) as running:
        yield running


def command(*arguments: str) -> int:
    return main(["download", *arguments])


def test_a_model_arrives_whole_and_recorded(hub: FakeHub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    folder = download_model(
        Hub(hub.endpoint), hub.repo, tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    wanted = {*model_files(), "README.md"}
    assert {path.name for path in folder.iterdir()} == {*wanted, RECORD}
    record = json.loads((folder / RECORD).read_text())
    assert record["repo"] == hub.repo
    assert record["revision"] == COMMIT
    for name in wanted:
        content = (folder / name).read_bytes()
        assert content == hub.files[name]
        assert record["files"][name] == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert seen[-1][0] == seen[-1][1] == sum(len(hub.files[name]) for name in wanted)
    assert resolve_model(hub.repo, tmp_path).folder == folder


def test_pickles_are_never_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert not [path for path, _ in hub.requests if path.endswith((".bin", ".msgpack", "/b.json"))]


def test_what_is_there_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    hub.requests.clear()
    download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert [path for path, _ in hub.requests] == [f"/api/models/{hub.repo}/revision/main?blobs=true"]
    hub.requests.clear()
    download_model(Hub(hub.endpoint), hub.repo, tmp_path, revision=COMMIT)
    assert hub.requests == []


def test_a_damaged_model_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    folder = download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    (folder / "model.safetensors").write_bytes(b"short")
    download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_cut_connections_are_taken_up_where_they_ended(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 400_000
    folder = download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert hub.ranges_of("model.safetensors") == [None, "bytes=400000-", "bytes=800000-"]


def test_a_later_run_continues_an_earlier_one(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 400_000
    hub.refuse_files_after = [*hub.files].index("model.safetensors") + 1
    with pytest.raises(DownloadError, match=r"answered 503 for model\.safetensors; what has arrived is kept"):
        download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert not (tmp_path / hub.repo).exists()

    hub.cut_after = hub.refuse_files_after = None
    hub.requests.clear()
    folder = download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert hub.ranges_of("model.safetensors") == ["bytes=400000-"]
    assert hub.ranges_of("config.json") == []
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_server_without_ranges_sends_the_file_anew(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 400_000
    hub.refuse_files_after = [*hub.files].index("model.safetensors") + 1
    with pytest.raises(DownloadError):
        download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    hub.cut_after = hub.refuse_files_after = None
    hub.ignore_range = True
    folder = download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_connection_that_brings_nothing_ends_the_run(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 0
    with pytest.raises(DownloadError, match="out of reach"):
        download_model(Hub(hub.endpoint), hub.repo, tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_wrong_bytes_are_found_and_deleted(hub: FakeHub, tmp_path: Path, name: str) -> None:
    hub.damaged = name
    with pytest.raises(DownloadError, match=f"checksum of {name} is wrong"):
        download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert not (tmp_path / hub.repo).exists()
    assert not list(tmp_path.rglob(name))

    hub.damaged = ""
    assert (download_model(Hub(hub.endpoint), hub.repo, tmp_path) / name).read_bytes() == hub.files[name]


def test_a_model_without_safe_weights_is_refused_before_anything_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(DownloadError, match=r"has no model\.safetensors"):
        download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert len(hub.requests) == 1


def test_known_models_are_pinned(hub: FakeHub, tmp_path: Path) -> None:
    hub.repo = "openai/whisper-tiny.en"
    download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    pin = PINNED_REVISIONS[hub.repo]
    assert hub.requests[0][0] == f"/api/models/openai/whisper-tiny.en/revision/{pin}?blobs=true"
    assert all(len(revision) == 40 for revision in PINNED_REVISIONS.values())


def test_another_revision_takes_the_place_of_the_first(hub: FakeHub, tmp_path: Path) -> None:
    folder = download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | {"revision": "f" * 40}))
    assert download_model(Hub(hub.endpoint), hub.repo, tmp_path, revision="v2/x") == folder
    assert hub.requests[-7][0].endswith("/revision/v2%2Fx?blobs=true")
    assert json.loads((folder / RECORD).read_text())["revision"] == COMMIT
    assert [path.name for path in tmp_path.joinpath(".partial").iterdir()] == []


@pytest.mark.parametrize("name", ["tiny", "../../etc/passwd", "a/b/c", "-a/b"])
def test_what_is_no_hub_id_is_not_asked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(DownloadError, match="not a hub id"):
        download_model(Hub("http://127.0.0.1:9"), name, tmp_path)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"<html>please log in</html>", "does not answer as the hub does"),
        (b"[]", "does not answer as the hub does"),
        (b'{"sha": "main"}', "does not answer as the hub does"),
        (b'{"sha": "../../x", "siblings": []}', "as the commit of main"),
    ],
)
def test_an_answer_that_is_not_the_hubs_is_told(hub: FakeHub, tmp_path: Path, answer: bytes, complaint: str) -> None:
    hub.other_listing = answer
    with pytest.raises(DownloadError, match=complaint):
        download_model(Hub(hub.endpoint), hub.repo, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"Not a directory \(.*file"):
        download_model(Hub(hub.endpoint), hub.repo, tmp_path / "file")


def test_the_address_of_the_hub_must_be_http() -> None:
    with pytest.raises(DownloadError, match="HF_ENDPOINT"):
        hub_from({"HF_ENDPOINT": "file:///etc"})
    assert hub_from({}).endpoint == "https://huggingface.co"
    assert hub_from({"HF_ENDPOINT": "http://mirror/", "HF_TOKEN": "t"}) == Hub("http://mirror", "t")


def test_the_command_puts_a_model_where_it_is_told(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert command(hub.repo, "--models-dir", str(tmp_path)) == 0
    assert capsys.readouterr().out == f"{hub.repo} is in {tmp_path / hub.repo}\n"


def test_the_command_puts_a_model_where_the_server_looks(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("PIWHISPER_ASR_MODELS_DIR", str(tmp_path / "configured"))
    assert command(hub.repo) == 0
    assert (tmp_path / "configured" / hub.repo / RECORD).is_file()


def test_the_command_says_in_one_line_that_a_model_is_unknown(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert command("someone/else", "--models-dir", str(tmp_path)) == 1
    assert capsys.readouterr().err == (
        f"wyoming-piwhisper: someone/else: no public model of that name with revision main at {hub.endpoint}\n"
    )


def test_the_command_says_in_one_line_that_the_hub_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert command("openai/whisper-tiny.en", "--models-dir", str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"wyoming-piwhisper: openai/whisper-tiny.en: {endpoint} is out of reach (")
    assert error.endswith("run again: wyoming-piwhisper download openai/whisper-tiny.en\n")
    assert error.count("\n") == 1
