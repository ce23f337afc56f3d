"""MinIO on four nodes: what is stored outlives one of them for writing, and two for reading."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.four import SHIPPED, Four, compose, endpoints
from tests.kit.minio_admin import account
from tests.kit.server import RunningServer
from tests.kit.waiting import until

KUBERNETES = list(yaml.safe_load_all((SHIPPED / "kubernetes.yaml").read_text()))
NODES = 4
BUCKETS = ("sav3-media", "sav3-thumbnails", "sav3-temp")


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Four]:
    with Four(tmp_path / "four") as running:
        yield running


@pytest.mark.parametrize("version", ["1.30.0", "1.37.0"])
def test_kubernetes_knows_every_field_of_the_manifests(version: str) -> None:
    for manifest in KUBERNETES:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_all_nodes_are_named_in_the_command_and_are_there() -> None:
    services = compose()["services"]
    nodes = {name: service for name, service in services.items() if name != "minio"}
    assert endpoints(next(iter(nodes.values()))["command"].split()) == [f"http://{name}:9000/data" for name in nodes]
    assert {service["hostname"] for service in nodes.values()} == set(nodes)
    assert {volume for service in nodes.values() for volume in service["volumes"]} == {
        f"data-{n}:/data" for n in range(1, NODES + 1)
    }
    servers = [line.split()[1:] for line in (SHIPPED / "haproxy.cfg").read_text().splitlines() if line.startswith("    server ")]
    assert servers == [[name, f"{name}:9000"] for name in nodes]
    (mounted,) = services["minio"]["volumes"]
    assert (SHIPPED / mounted.partition(":")[0]).is_file()
    stateful = next(one for one in KUBERNETES if one["kind"] == "StatefulSet")
    headless = next(one for one in KUBERNETES if one["kind"] == "Service" and one["spec"].get("clusterIP") == "None")
    place = f"{headless['metadata']['name']}.{stateful['metadata']['namespace']}.svc.cluster.local"
    assert stateful["spec"]["serviceName"] == headless["metadata"]["name"]
    found = endpoints(stateful["spec"]["template"]["spec"]["containers"][0]["args"])
    assert found == [
        f"http://{stateful['metadata']['name']}-{number}.{place}:9000/data" for number in range(stateful["spec"]["replicas"])
    ]


def test_both_files_run_the_same_pinned_image() -> None:
    node = compose()["services"]["minio-1"]["image"].removeprefix("${MINIO_IMAGE:-").removesuffix("}")
    stateful = next(one for one in KUBERNETES if one["kind"] == "StatefulSet")
    assert stateful["spec"]["template"]["spec"]["containers"][0]["image"] == node
    assert ":latest" not in node
    assert ":RELEASE." in node


def whole(client: Client, key: str, data: bytes) -> bool:
    """Whether the object is there, as a whole and in part."""
    part = client.get(media(key), {"Range": "bytes=10-19"})
    return client.get(media(key)).body == data and (part.status, part.body) == (206, data[10:20])


@pytest.mark.stack
@pytest.mark.timeout(400)
def test_one_node_may_die_for_writing_and_two_for_reading(four: Four, tmp_path: Path) -> None:
    for bucket in BUCKETS:
        client = four.client()
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # the library tried a second time, and the first had been heard
            client.create_bucket(Bucket=bucket)
    access_key, secret_key = account(four, *json.loads((SHIPPED / "media-proxy-policy.json").read_text())["Statement"])
    where = {"MINIO_ENDPOINT": four.host, "MINIO_ACCESS_KEY": access_key, "MINIO_SECRET_KEY": secret_key}
    env = {**where, "MEDIA_LOCAL_STORE": "off", "MEDIA_MAX_BYTES_IMAGE": "64M"}
    with RunningServer(tmp_path / "proxy", env) as server:
        examined = subprocess.run(
            [sys.executable, "-m", "proxy", "doctor"],
            env=server.env,
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert examined.returncode == 0, examined.stdout
        assert re.search(r"100-continue +ok", examined.stdout), examined.stdout
        client = server.client("four")
        small, large = pictures.jpeg(640, 480), pictures.png(2600, 2300, compression=0)
        first = client.stored(small)["key"]
        second = client.stored(large)["key"]
        assert len(large) > 16 << 20
        assert whole(client, first, small)
        assert whole(client, second, large)
        assert client.get(f"{media(first)}?w=100").status == 200
        assert client.delete(media(client.stored(pictures.jpeg(20, 20))["key"])).status == 204

        four.cut(0)
        third = stored_at_last(client, large)
        for key, data in ((first, small), (second, large), (third, large)):
            assert until(lambda key=key, data=data: whole(client, key, data), 60), key  # type: ignore[misc]
        assert client.get(f"{media(third)}?w=90").status == 200
        assert client.delete(media(third)).status == 204

        four.cut(1)
        for key, data in ((first, small), (second, large)):
            assert until(lambda key=key, data=data: whole(client, key, data), 60), key  # type: ignore[misc]
        refused = client.upload(small)
        assert (refused.status, refused.code) == (503, "unavailable")
        assert "Retry-After" in refused.headers
        # A removal is written down, and nobody sees what the store still has of it.
        assert client.delete(media(second)).status == 204
        assert client.get(media(second)).status == 404

        four.back(0, 1)
        assert until(lambda: client.upload(small).status == 201, 90)
        assert whole(client, first, small)
        assert until(lambda: second not in names(four, BUCKETS[0]), 90)
        assert first in names(four, BUCKETS[0])


def stored_at_last(client: Client, data: bytes) -> str:
    """The key of *data*, sent again as long as the service says so: its store may still be finding out who is gone."""
    answers: list[Answer] = []

    def taken() -> bool:
        answers.append(client.upload(data))
        return answers[-1].status == 201

    assert until(taken, 60), answers[-1]
    assert all(one.status == 503 and "Retry-After" in one.headers for one in answers[:-1]), answers
    return str(answers[-1].json["key"])


def names(four: Four, bucket: str) -> set[str]:
    """The keys of all objects in *bucket*."""
    return {one["Key"] for one in four.client().list_objects_v2(Bucket=bucket).get("Contents", ())}
