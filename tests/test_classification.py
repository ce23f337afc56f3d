"""What a model names in pictures and films, found out after the upload: MEDIA_CLASSIFIER, off by default."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from processors import models
from processors.examiner import Examiner
from processors.models import BadModel
from tests import pictures
from tests.kit.client import Client, media
from tests.kit.models import recipe
from tests.kit.server import RunningServer
from tests.kit.sse import Stream
from tests.kit.waiting import until

pytest.importorskip("onnxruntime")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One that names colours, and withholds what is nearly all green."""
    folder = tmp_path_factory.mktemp("classifying")
    env = {"MEDIA_CLASSIFIER": str(recipe(folder, 'quarantine = ["green >= 0.9"]\n'))}
    with RunningServer(folder, env) as running:
        yield running


@pytest.fixture
def client(server: RunningServer, owner: str) -> Client:
    return server.client(owner)


def flat(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(out, "PNG")
    return out.getvalue()


def classified(client: Client, data: bytes, content_type: str = "image/jpeg") -> str:
    """The key of *data*, once it was classified."""
    key = str(client.stored(data, content_type)["key"])
    assert until(lambda: done(client, key), PATIENCE_S), client.get(f"/api/jobs?key={key}").json
    return key


def done(client: Client, key: str) -> bool:
    return [job["state"] for job in client.get(f"/api/jobs?key={key}").json["jobs"] if job["profile"] == "classify"] == ["done"]


def test_labels_are_in_the_record_and_told(server: RunningServer, client: Client, owner: str) -> None:
    with Stream(server, owner) as stream:
        key = classified(client, flat((255, 51, 0)), "image/png")
        assert until(lambda: any(type == "asset.processed" for _, type, _ in stream.events))
        told = next(said for _, type, said in stream.events if type == "asset.processed")["data"]
    assert client.get(f"/api/assets/{key}").json["labels"] == told["labels"] == {"red": 1.0, "green": 0.2}
    assert (told["profile"], told["results"]) == ("classify", [])


def test_films_are_classified_by_their_still(client: Client) -> None:
    key = classified(client, pictures.dawn("mp4"), "video/mp4")
    assert client.get(f"/api/assets/{key}").json["labels"]


def test_what_the_rule_names_is_withheld(server: RunningServer, client: Client) -> None:
    key = str(client.stored(flat((0, 255, 0)), "image/png")["key"])
    assert until(lambda: client.get(f"/api/assets/{key}").status == 404, PATIENCE_S)
    assert until(lambda: server.client().get(media(key)).status == 404, PATIENCE_S)
    admin = server.client("root", scope="media:admin media:read")
    assert admin.get(f"/api/assets/{key}").json["state"] == "quarantined"


def test_a_classifier_that_is_killed_loses_nothing(server: RunningServer, client: Client) -> None:
    classified(client, flat((255, 0, 0)), "image/png")

    def examining() -> list[psutil.Process]:
        return [child for child in server.children() if "processors.classifiers" in " ".join(child.cmdline())]

    for process in examining():
        process.kill()
    key = classified(client, flat((0, 0, 255)), "image/png")
    assert client.get(media(key)).status == 200
    assert len(examining()) == 1


def test_what_was_there_before_is_classified_when_that_is_ordered(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    server = serve()
    client = server.client("me")
    key = client.stored(flat((255, 0, 0)), "image/png")["key"]
    assert "labels" not in client.get(f"/api/assets/{key}").json
    assert client.get("/api/jobs").json["jobs"] == []
    assert "There is no model: set MEDIA_CLASSIFIER" in command(server, "classify").stderr
    server.stop()
    server.env["MEDIA_CLASSIFIER"] = str(recipe(tmp_path))
    server.start()
    client = server.client("me")
    for ordered in ("1 ordered", "0 ordered"):
        said = command(server, "classify")
        assert (said.returncode, said.stderr.strip()) == (0, ordered)
        assert until(lambda: done(client, key), PATIENCE_S)
    assert client.get(f"/api/assets/{key}").json["labels"] == {"red": 1.0}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('model = "none.onnx"\nlabels = ["red"]\n', "none.onnx cannot be read"),
        ('model = "colours.onnx"\nlabels = "none.txt"\n', "none.txt cannot be read"),
        ('model = "colours.onnx"\n', "It has no labels"),
        ('model = "colours.onnx"\nlabels = ["a", "b", "c"]\nscale = "odd"\n', "scale is one of unit"),
        ('model = "colours.onnx"\nlabels = ["a", "b", "c"]\nquarantine = ["d >= 0.5"]\n', "d is none of the labels"),
        ('model = "colours.onnx"\nlabels = ["a", "b", "c"]\nquarantine = ["a > 2"]\n', "quarantine is a list of rules"),
        ('model = "colours.onnx"\nlabels = []\nsize = 3\n', "size is not known here"),
        ("nonsense", "It is no TOML"),
    ],
)
def test_a_file_that_is_not_usable_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = recipe(tmp_path)
    path.write_text(text)
    with pytest.raises(BadModel, match=reason):
        models.read(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('model = "colours.onnx"\nlabels = ["red"]\n', "3 scores, and there are 1 labels"),
        ('model = "classifier.toml"\nlabels = ["red"]\n', "The model cannot be used"),
    ],
)
async def test_a_model_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = recipe(tmp_path)
    path.write_text(text)
    with pytest.raises(BadModel, match=reason):
        async with Examiner(models.read(path), 10.0, 1 << 30):
            pass


def test_a_model_that_is_not_usable_stops_the_start(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "classifier.toml").write_text('model = "none.onnx"\nlabels = ["red"]\n')
    with pytest.raises(AssertionError, match=r"(?s)exit status 2.*MEDIA_CLASSIFIER: .*none.onnx cannot be read"):
        serve(MEDIA_CLASSIFIER=str(tmp_path / "classifier.toml"))


def command(server: RunningServer, *words: str) -> subprocess.CompletedProcess[str]:
    """What `media-proxy jobs` says beside *server*."""
    program = [sys.executable, "-m", "proxy", "jobs", *words]
    return subprocess.run(program, env=server.env, cwd=server.folder, capture_output=True, text=True, timeout=60, check=False)
