"""The Helm chart: what it renders is what Kubernetes takes, and what the program is."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import kubernetes_validate
import pytest

from proxy.settings import Settings
from tests import pictures
from tests.kit import films
from tests.kit.chart import CHART, EXAMPLES, Manifest, RunningPod, environment, helm, named, rendered, templates
from tests.kit.client import media
from tests.kit.redis import RedisServer
from tests.kit.server import SECRET
from tests.kit.stores import ObjectStore
from tests.kit.waiting import until

OLDEST, NEWEST = "1.30.0", "1.37.0"
CRDS = {"ServiceMonitor", "HTTPRoute"}
"""kinds that are no part of Kubernetes"""
CHARTS_OWN = {
    *(
        "MEDIA_HOST",
        "MEDIA_PORT",
        "MEDIA_DATA_DIR",
        "MEDIA_WORKERS",
        "MEDIA_RENDER_WORKERS",
        "MEDIA_JOB_WORKERS",
        "MEDIA_JOB_THREADS",
    ),
    *(
        "PROCESSOR_URL",
        "PROCESSOR_LOCAL",
        "PROCESSOR_HOST",
        "PROCESSOR_PORT",
        "MEDIA_PRESETS",
        "MEDIA_PROFILES",
        "MEDIA_WATERMARKS",
    ),
}
"""settings that the chart knows by itself"""
PROCESSOR_TOKEN = "what proxies and processors share in tests"
ABSENT_SECRET = {
    "JWT_SECRET": SECRET, "PROCESSOR_TOKEN": PROCESSOR_TOKEN, "DATABASE_URL": "postgresql://media:secret@postgres/media",
    "REDIS_URL": "redis://:secret@redis", "MINIO_ACCESS_KEY": "media", "MINIO_SECRET_KEY": "secret", "AWS_ACCESS_KEY_ID": "media",
    "AWS_SECRET_ACCESS_KEY": "secret",
}  # fmt: skip
"""a Secret that operators make themselves"""

SEVERAL = next(example for example in EXAMPLES if example.stem == "several")
FULL = next(example for example in EXAMPLES if example.stem == "full")
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Every container with the name of what makes its pod, and its pod."""
    for name, pod in templates(manifests):
        for container in pod["containers"]:
            yield name, pod, container


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether what has *labels* is selected."""
    return selector.items() <= labels.items()


def pod_labels(manifests: list[Manifest]) -> list[dict[str, str]]:
    """The labels of every pod there is to be."""
    makers = [one for one in manifests if one["kind"] in {"Deployment", "StatefulSet"}]
    return [one["spec"]["template"]["metadata"]["labels"] for one in makers] + [
        one["metadata"]["labels"] for one in manifests if one["kind"] == "Pod"
    ]


@every_example
def test_helm_has_nothing_to_say_against_the_chart(example: Path) -> None:
    ended = helm("lint", "--strict", CHART, "--values", example)
    assert ended.returncode == 0, ended.stdout
    assert "WARNING" not in ended.stdout


@every_example
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field_that_is_rendered(example: Path, version: str) -> None:
    for manifest in rendered(example):
        if manifest["kind"] not in CRDS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_chart_is_of_this_version_and_for_the_oldest_kubernetes_that_is_tried() -> None:
    text = (CHART / "Chart.yaml").read_text()
    version = json.loads((CHART.parents[2] / "proxy" / "openapi.json").read_text())["info"]["version"]
    assert f'appVersion: "{version}"' in text
    assert f'kubeVersion: ">={OLDEST}-0"' in text


def test_the_chart_knows_the_name_of_every_setting() -> None:
    """What is missing belongs into values.schema.json, sorted: into settings, unless it is a secret, and into secrets."""
    known = json.loads((CHART / "values.schema.json").read_text())["properties"]
    fields = {name.upper(): str(field.annotation) for name, field in Settings.model_fields.items()}
    secret = {name for name, kind in fields.items() if "SecretStr" in kind}
    assert known["settings"]["propertyNames"]["enum"] == sorted(fields.keys() - secret - CHARTS_OWN)
    assert known["secrets"]["propertyNames"]["enum"] == sorted(fields.keys() - CHARTS_OWN)


@every_example
def test_every_container_finds_settings_that_are_usable(example: Path) -> None:
    manifests = rendered(example)
    for name, _, container in containers(manifests):
        environ = environment(manifests, container, ABSENT_SECRET)
        assert environ.keys() <= {field.upper() for field in Settings.model_fields}, name
        Settings.from_env(environ)


@every_example
def test_a_processor_has_one_secret_and_nobody_to_call(example: Path) -> None:
    manifests = rendered(example)
    for name, pod, container in containers(manifests):
        if container["name"] == "processor":
            assert pod["automountServiceAccountToken"] is False
            environ = environment(manifests, container, ABSENT_SECRET)
            assert environ["PROCESSOR_TOKEN"] in {PROCESSOR_TOKEN, "to be replaced by another openssl rand -base64 48"}
            given = environ.keys()
            assert given & {
                name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
            } == {"PROCESSOR_TOKEN"}
            assert [key for key in given if key.startswith(("MINIO", "AWS", "S3", "JWT", "DATABASE", "REDIS"))] == []
            assert named(manifests, "NetworkPolicy", name)["spec"]["egress"] == []


@every_example
def test_pods_keep_to_the_restricted_standard(example: Path) -> None:
    """Of Kubernetes' Pod Security Standards. A worker whose jobs have cages of their own cannot: that is said in its values."""
    for name, pod, container in containers(rendered(example)):
        whole, own = pod["securityContext"], container["securityContext"]
        assert (whole["runAsNonRoot"], own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (True, False, True), name
        assert own["capabilities"] == {"drop": ["ALL"]}
        opened = example.stem == "transient" and container["name"] == "worker"
        assert whole["seccompProfile"]["type"] == ("Unconfined" if opened else "RuntimeDefault")
        assert pod.get("hostUsers", True) is not opened
        assert own.get("procMount") == ("Unmasked" if opened else None)
        places = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert places <= {"/tmp", "/var/lib/media-proxy"}
        assert "memory" in container["resources"]["limits"]


@every_example
def test_everything_that_is_named_is_there(example: Path) -> None:
    manifests = rendered(example)
    there = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    provided = {"media-proxy-secrets", "media-proxy-watermarks", "own-ca"}
    labels = pod_labels(manifests)
    for name, pod, container in containers(manifests):
        assert ("ServiceAccount", pod["serviceAccountName"]) in there
        sources = [source[kind]["name"] for source in container["envFrom"] for kind in source]
        sources += [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
        assert {source for source in sources if not {("ConfigMap", source), ("Secret", source)} & there} <= provided, name
        volumes = {volume["name"] for volume in pod["volumes"]} | {"data"}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        ports = {port["name"] for port in container.get("ports", ())}
        probes = [
            container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe") if probe in container
        ]
        assert {asked["port"] for asked in probes} <= ports
    for one in manifests:
        spec = one.get("spec", {})
        if one["kind"] == "Service":
            assert any(matches(spec["selector"], each) for each in labels)
            assert not any(matches(spec["selector"], each) for each in labels if each["app.kubernetes.io/component"] == "doctor")
        if one["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            assert (target["kind"], target["name"]) in there
            assert "replicas" not in named(manifests, target["kind"], target["name"])["spec"]
        if one["kind"] == "PodDisruptionBudget":
            assert sum(matches(spec["selector"]["matchLabels"], each) for each in labels) == 1
        if one["kind"] == "NetworkPolicy":
            assert sum(matches(spec["podSelector"]["matchLabels"], each) for each in labels) == 1
        if one["kind"] == "StatefulSet":
            assert ("Service", spec["serviceName"]) in there
        if one["kind"] == "HTTPRoute":
            (reference,) = spec["rules"][0]["backendRefs"]
            service = named(manifests, "Service", reference["name"])
            assert reference["port"] in {port["port"] for port in service["spec"]["ports"]}
        if one["kind"] == "Ingress":
            backend = spec["rules"][0]["http"]["paths"][0]["backend"]["service"]
            service = named(manifests, "Service", backend["name"])
            assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
        if one["kind"] == "ServiceMonitor":
            found = [
                each
                for each in manifests
                if each["kind"] == "Service" and each["metadata"]["labels"].items() >= spec["selector"]["matchLabels"].items()
            ]
            assert len(found) == 1, one["metadata"]["name"]
            assert {end["port"] for end in spec["endpoints"]} <= {port["name"] for port in found[0]["spec"]["ports"]}


@every_example
def test_a_pod_may_take_ten_seconds_more_than_its_drain(example: Path) -> None:
    manifests = rendered(example)
    for name, pod, container in containers(manifests):
        if container["name"] in {"proxy", "processor"}:
            drain = Settings.from_env(environment(manifests, container, ABSENT_SECRET)).media_drain
            assert pod["terminationGracePeriodSeconds"] >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain + 10, name


@every_example
def test_proxies_find_processors_by_a_name_of_all_their_addresses(example: Path) -> None:
    manifests = rendered(example)
    for _, _, container in containers(manifests):
        if (address := environment(manifests, container, ABSENT_SECRET).get("PROCESSOR_URL")) is not None:
            host, _, port = address.removeprefix("http://").partition(":")
            service = named(manifests, "Service", host)["spec"]
            assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
            assert str(service["ports"][0]["port"]) == port


def test_who_measures_may_reach_every_pod_that_has_metrics() -> None:
    manifests = rendered(FULL)
    policies = [one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"]
    assert len(policies) == 3
    monitors = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert all(monitors in policy["ingress"][0]["from"] for policy in policies)
    unnamed = rendered(FULL, "networkPolicy.metricsFrom=null")
    policies = [one["spec"] for one in unnamed if one["kind"] == "NetworkPolicy"]
    assert all({"namespaceSelector": {}} in policy["ingress"][0]["from"] for policy in policies)


def test_files_come_into_the_pods_as_they_are_written() -> None:
    manifests = rendered(FULL)
    files = named(manifests, "ConfigMap", "try-media-proxy-files")["data"]
    assert tomllib.loads(files["presets.toml"])["hero"] == {"query": "w=1280&format=auto", "warm": True}
    assert tomllib.loads(files["profiles.toml"]) == {"small": {"container": "mp4", "height": 360}}
    settings = named(manifests, "ConfigMap", "try-media-proxy")["data"]
    mounts = {mount["mountPath"] for _, _, container in containers(manifests) for mount in container["volumeMounts"]}
    assert {str(Path(settings[name]).parent) for name in ("MEDIA_PRESETS", "MEDIA_PROFILES", "MEDIA_WATERMARKS")} <= mounts


def test_numbers_come_into_the_pods_as_they_are_written() -> None:
    """Helm reads them as floating point: 5 GiB would be 5.36870912e+09."""
    manifests = rendered(SEVERAL, "settings.MEDIA_MAX_BYTES_VIDEO=5368709120", "settings.MEDIA_RENDER_WAIT=2.5")
    data = named(manifests, "ConfigMap", "try-media-proxy")["data"]
    assert (data["MEDIA_MAX_BYTES_VIDEO"], data["MEDIA_RENDER_WAIT"]) == ("5368709120", "2.5")
    assert named(manifests, "ConfigMap", "try-media-proxy-processors")["data"]["MEDIA_MAX_BYTES_VIDEO"] == "5368709120"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("secrets.JWT_SECRET=", "secrets.JWT_SECRET"),
        ("secrets.PROCESSOR_TOKEN=", "secrets.PROCESSOR_TOKEN"),
        ("secrets.DATABASE_URL=", "secrets.DATABASE_URL"),
        ("settings.MEDIA_LOCAL_STORE=on", "settings.MEDIA_LOCAL_STORE"),
        ("existingSecret=mine", "keep one"),
        ("settings.MEDIA_DRIAN=5", "MEDIA_DRIAN"),
        ("settings.DATABASE_URL=postgresql://x", "DATABASE_URL"),
        ("settings.MEDIA_PORT=80", "MEDIA_PORT"),
        ("serviceMonitor.enabled=true", "serviceMonitor.networks"),
        ("ingress.enabled=true", "ingress.host"),
        ("gateway.enabled=true", "gateway.parentRefs"),
        ("proxy.replicsa=3", "replicsa"),
        ("processor.workers=0", "workers"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_installed(override: str, said: str) -> None:
    ended = helm("template", "try", CHART, "--values", SEVERAL, "--set", override)
    assert ended.returncode != 0
    assert said in ended.stderr


def test_the_chart_s_page_names_every_value() -> None:
    page = (CHART / "README.md").read_text()
    top = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert [name for name in top if f"`{name}" not in page and name != "global"] == []


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_pods_work_together_as_plain_processes(
    tmp_path: Path, minio: ObjectStore, postgres_url: str, redis: RedisServer
) -> None:
    """Their commands, environments, probes, users and read-only roots as rendered, with addresses of this machine in them.

    Two proxies and a worker start at one time on a database without tables.
    """
    films.provided()
    manifests = rendered(SEVERAL)
    here: dict[str, str | None] = {**minio.settings(), "DATABASE_URL": postgres_url, "REDIS_URL": redis.url, "JWT_SECRET": SECRET}
    pods = {container["name"]: pod for _, pod, container in containers(manifests)}

    def running(name: str, number: int, **env: str | None) -> RunningPod:
        pod = pods[name]
        given = environment(manifests, pod["containers"][0], {})
        return RunningPod(tmp_path / f"{name}{number}", pod, given, {**env, "PROCESSOR_TOKEN": PROCESSOR_TOKEN})

    with ExitStack() as stack:
        processor = running("processor", 0)
        stack.callback(processor.kill)
        processor.start()
        proxies = [running("proxy", number, **here, PROCESSOR_URL=processor.url) for number in range(2)]
        worker = running("worker", 0, **here, PROCESSOR_URL=processor.url)
        for each in (*proxies, worker):
            stack.callback(each.kill)
            each.launch()
        for each in (*proxies, worker):
            each.started()
        for each in (processor, *proxies, worker):
            assert until(lambda each=each: each.probed("readinessProbe").status == 200)  # type: ignore[misc]
            assert each.probed("livenessProbe").status == 200
        first, second = (each.client("kube") for each in proxies)
        photo = first.stored(pictures.jpeg(640, 480))
        assert until(lambda: proxies[1].metric("media_processors_up") == 1)
        assert second.get(f"{media(photo['key'])}?w=100").status == 200
        assert processor_work(processor) > 0
        film = second.stored(pictures.mp4(64, 48))
        ordered = first.post(f"/api/assets/{film['key']}/jobs", b'{"profile": "360p"}', {"Content-Type": "application/json"})
        assert ordered.status == 202, ordered
        assert until(lambda: second.get(ordered.headers["Location"]).json["state"] == "done", 60)
        for each in (*proxies, processor, worker):
            each.terminate()
        for each in (*proxies, processor, worker):
            assert each.wait() == 0, each.output.text[-1000:]


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_one_pod_alone_keeps_everything_on_its_volume(tmp_path: Path) -> None:
    """Records, objects and an upload on its way, also when the pod is killed and another one takes its volume."""
    manifests = rendered(next(example for example in EXAMPLES if example.stem == "one"))
    ((_, pod, container),) = [found for found in containers(manifests) if found[2]["name"] == "proxy"]
    given = environment(manifests, container, {})
    first = RunningPod(tmp_path / "pod", pod, given, {"JWT_SECRET": SECRET})
    with ExitStack() as stack:
        stack.callback(first.kill)
        client = first.start().client("kube")
        photo = pictures.jpeg(320, 240)
        stored = client.stored(photo)
        assert client.get(f"{media(stored['key'])}?w=50").status == 200
        versions = {"Tus-Resumable": "1.0.0"}
        begun = client.post("/api/uploads", b"", {**versions, "Upload-Length": str(len(photo))})
        at = begun.headers["Location"]
        more = {**versions, "Content-Type": "application/offset+octet-stream"}
        assert client.request("PATCH", at, {**more, "Upload-Offset": "0"}, photo[:1000]).status == 204
        first.kill()
        client = first.start().client("kube")
        assert client.get(media(stored["key"])).body == photo
        assert client.head(at, versions).headers["Upload-Offset"] == "1000"
        ended = client.request("PATCH", at, {**more, "Upload-Offset": "1000"}, photo[1000:])
        assert client.get(media(ended.headers["X-Media-Key"])).body == photo


def processor_work(processor: RunningPod) -> float:
    """How many jobs it has done."""
    page = processor.client().get("/metrics", {"Authorization": f"Bearer {PROCESSOR_TOKEN}"}).text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith("media_processor_seconds_count"))
