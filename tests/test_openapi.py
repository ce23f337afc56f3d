"""The OpenAPI document is valid, complete, and true: what the service answers is what it describes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

import proxy.errors as _whole_family  # noqa: F401 - its classes are found as subclasses
from processors.errors import MediaError
from processors.grammar import NAMES, SPELLINGS
from proxy.app import create_service, token_maker
from proxy.mounting import ALLOWED_HEADERS, EXPOSED_HEADERS
from proxy.settings import Settings
from tests import pictures
from tests.kit.client import Answer, Client, FilePart, Headers, form, form_type
from tests.kit.server import RunningServer
from tests.kit.tus import BYTES, TUS
from tests.kit.waiting import until

OPENAPI: dict[str, Any] = json.loads((resources.files("proxy") / "openapi.json").read_text(encoding="utf-8"))
OPERATIONS = {
    (method.upper(), path): told
    for path, item in OPENAPI["paths"].items()
    for method, told in item.items()
    if method != "parameters"
}
PROBLEM = "application/problem+json"
EVERYWHERE = {
    *("date", "server", "content-length", "content-type", "transfer-encoding", "connection"),
    *("x-content-type-options", "content-security-policy", "referrer-policy"),
}
"""Headers that the document tells of once, or that are HTTP's own."""


def family(kind: type[MediaError] = MediaError) -> Iterator[type[MediaError]]:
    """The whole family of problems."""
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


CODES: dict[int, set[str]] = {}
for _kind in family():
    CODES.setdefault(_kind.status, set()).add(_kind.slug)


def resolved(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference stands for."""
    while "$ref" in value:
        found: Any = OPENAPI
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/")]
        value = found
    return value


@pytest.fixture
async def routes(tmp_path: Path) -> set[tuple[str, str]]:
    """Every (method, path) that the service answers."""
    settings = Settings(media_data_dir=tmp_path / "media-data", media_render_workers=1)
    async with create_service(settings, token_maker(settings)[0]) as service:
        resources_ = service.runner.app.router.resources()
        found = {(route.method, resource.canonical) for resource in resources_ for route in resource if route.method != "*"}
    return found | {("OPTIONS", path) for _, path in found if path.startswith("/api/uploads")}


# -- it is whole ----------------------------------------------------------------------------------------------------------


def test_it_is_valid_openapi_3_1() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(OPENAPI).iter_errors()] == []


async def test_it_has_every_route_and_method_and_no_other(routes: set[tuple[str, str]]) -> None:
    assert set(OPERATIONS) == routes


def test_every_operation_has_a_name_of_its_own_a_group_and_a_summary() -> None:
    names = [told["operationId"] for told in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    groups = {tag["name"] for tag in OPENAPI["tags"]}
    for place, told in OPERATIONS.items():
        assert len(told["tags"]) == 1, f"{place} stands in one of tags"
        assert set(told["tags"]) <= groups, place
        assert told["summary"], place


def test_every_parameter_in_a_path_is_described_and_no_other() -> None:
    for (method, path), told in OPERATIONS.items():
        given = [*OPENAPI["paths"][path].get("parameters", ()), *told.get("parameters", ())]
        assert {each["name"] for each in given if each["in"] == "path"} == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_everything_that_is_sent_or_told_says_what_it_means() -> None:
    def silent(schema: Mapping[str, Any], place: str) -> Iterator[str]:
        for name, member in schema.get("properties", {}).items():
            if "$ref" not in member and not member.get("description"):
                yield f"{place}.{name}"
            yield from silent(member, f"{place}.{name}")
            yield from silent(member.get("items", {}), f"{place}.{name}[]")

    found = [line for name, schema in OPENAPI["components"]["schemas"].items() for line in silent(schema, name)]
    for (method, path), told in OPERATIONS.items():
        place = f"{method} {path}"
        given = [*OPENAPI["paths"][path].get("parameters", ()), *told.get("parameters", ())]
        found += [f"{place} {each['name']}" for each in map(resolved, given) if not each.get("description")]
        for answer in (told.get("requestBody", {}), *map(resolved, told["responses"].values())):
            found += [line for content in answer.get("content", {}).values() for line in silent(content.get("schema", {}), place)]
    assert found == []


@pytest.mark.parametrize("place", sorted(OPERATIONS), ids=" ".join)
def test_what_goes_wrong_is_told_by_its_codes(place: tuple[str, str]) -> None:
    told = OPERATIONS[place]
    for status, answer in told["responses"].items():
        if int(status) < 400 or (place[1], status) == ("/api/health/ready", "503"):
            continue
        wanted = "NoBody" if place[0] == "HEAD" else f"Problem{status}"
        assert answer == {"$ref": f"#/components/responses/{wanted}"}, f"{place} {status}"
    for status, codes in told.get("x-problems", {}).items():
        assert status in told["responses"], f"{place} {status}"
        assert set(codes) < CODES[int(status)], f"{place} {status}: leave it out where it names all of them"


def test_every_problem_is_in_the_answer_of_its_status() -> None:
    for status, codes in CODES.items():
        answer = OPENAPI["components"]["responses"][f"Problem{status}"]
        told = answer["content"][PROBLEM]["schema"]["allOf"][1]["properties"]
        assert (told["status"]["const"], set(told["code"]["enum"])) == (status, codes)
    schema = OPENAPI["components"]["schemas"]["Problem"]
    assert schema["x-problems"] == {kind.slug: {"status": kind.status, "title": kind.title} for kind in family()}
    assert set(schema["properties"]["code"]["enum"]) == set(schema["x-problems"])


def test_every_problem_belongs_to_some_operation() -> None:
    general = {"method-not-allowed", "too-slow", "internal"}
    told = {
        code
        for operation in OPERATIONS.values()
        for status, answer in operation["responses"].items()
        if "/Problem" in answer.get("$ref", "")
        for code in operation.get("x-problems", {}).get(status, CODES[int(status)])
    }
    assert told | general == set().union(*CODES.values())


def test_every_parameter_of_a_rendition_is_described_with_its_other_names() -> None:
    told = {each["name"]: each for each in OPERATIONS["GET", "/api/media/{key}"]["parameters"] if each["in"] == "query"}
    assert set(told) == NAMES
    words = {word for each in told.values() for word in re.findall(r"\w+", each["description"])}
    assert SPELLINGS - NAMES - words == set()
    assert told == {each["name"]: each for each in OPERATIONS["HEAD", "/api/media/{key}"]["parameters"] if each["in"] == "query"}


def test_every_header_that_pages_may_send_or_read_is_described() -> None:
    parameters = [each for told in OPERATIONS.values() for each in told.get("parameters", ())]
    parameters += [each for item in OPENAPI["paths"].values() for each in item.get("parameters", ())]
    sent = {each["name"].lower() for each in map(resolved, parameters) if each["in"] == "header"}
    # Security and requestBody tell of two; the others come from libraries, and change nothing.
    free = {"authorization", "content-type", "x-requested-with", "x-request-id", "upload-complete", "upload-draft-interop-version"}
    assert {name.lower() for name in ALLOWED_HEADERS} - sent - free == set()
    read = {name.lower() for name in OPENAPI["components"]["headers"]}
    for told in OPERATIONS.values():
        read |= {name.lower() for answer in told["responses"].values() for name in answer.get("headers", {})}
    assert {name.lower() for name in EXPOSED_HEADERS} - read - EVERYWHERE == {"upload-complete", "upload-limit"}


def test_every_setting_that_it_names_is_one() -> None:
    named = set(re.findall(r"\b((?:MEDIA|JWT|MINIO)_[A-Z_]+)\b", json.dumps(OPENAPI)))
    assert len(named) > 2
    assert named <= {name.upper() for name in Settings.model_fields}


# -- it is true -----------------------------------------------------------------------------------------------------------


class Witness(Client):
    """A client that holds every answer against the document: status, headers, type of the body, and JSON against its schema."""

    seen: set[tuple[str, str, int]]

    def __init__(self, url: str, token: str | None, seen: set[tuple[str, str, int]]) -> None:
        super().__init__(url, token)
        self.seen = seen

    def request(self, method: str, path: str, headers: Headers | None = None, body: Any = None) -> Answer:
        """The answer, which is as the document says."""
        answer = super().request(method, path, headers, body)
        check(method, path, answer, self.seen)
        return answer


PATTERNS = sorted(
    ((path, re.compile(re.sub(r"\\{(\w+)\\}", lambda found: "(.+)" if found[1] == "key" else "([^/]+)", re.escape(path)))) for path in OPENAPI["paths"]),  # noqa: E501
    key=lambda each: (each[0].count("{"), -len(each[0])),
)  # fmt: skip
ROOT = Registry().with_resource("urn:api", Resource.from_contents(OPENAPI, default_specification=DRAFT202012))


def check(method: str, path: str, answer: Answer, seen: set[tuple[str, str, int]]) -> None:
    """Hold *answer* against the document."""
    place = next(known for known, pattern in PATTERNS if pattern.fullmatch(path.partition("?")[0]))
    told = OPERATIONS[method, place]
    where = f"{method} {place} {answer.status}"
    assert str(answer.status) in told["responses"], f"{where} is not described: {answer!r}"
    described = resolved(told["responses"][str(answer.status)])
    names = {name.lower() for name in answer.headers} - EVERYWHERE
    known = {name.lower() for name in described.get("headers", {})} | (
        {"tus-resumable"} if place.startswith("/api/uploads") else set()
    )
    assert names <= known, f"{where}: {names - known} is not described"
    content = described.get("content", {})
    if answer.body:
        kind = answer.headers.get_content_type()
        assert {kind, kind.partition("/")[0] + "/*", "*/*"} & content.keys(), f"{where} is of {kind}"
        if kind in {"application/json", PROBLEM} and kind in content:
            schema = content[kind].get("schema", {})
            validator = Draft202012Validator(absolute(schema), registry=ROOT)
            assert [f"{where}: {error.message}" for error in validator.iter_errors(answer.json)] == []
        if answer.code is not None:
            assert answer.code in told.get("x-problems", {}).get(str(answer.status), CODES[answer.status]), where
    else:
        assert method == "HEAD" or answer.status in {204, 304} or not content, f"{where} should have a body"
    seen.add((method, place, answer.status))


def absolute(value: Any) -> Any:
    """*value* with its references into the document."""
    if isinstance(value, dict):
        return {name: f"urn:api{each}" if name == "$ref" else absolute(each) for name, each in value.items()}
    return [absolute(each) for each in value] if isinstance(value, list) else value


def test_what_the_service_answers_is_what_the_document_says(server: RunningServer, owner: str) -> None:
    """A walk through every operation that a client may ask for, and through what is refused most often."""
    seen: set[tuple[str, str, int]] = set()
    client, stranger = Witness(server.url, server.token(owner), seen), Witness(server.url, None, seen)
    admin = Witness(server.url, server.token("boss", scope="media:admin"), seen)
    photo = pictures.jpeg(320, 240)
    record = client.upload(photo, "image/jpeg", "a photo.jpg", {"Idempotency-Key": owner}).json
    url, key = record["url"], record["key"]
    walk_media(client, stranger, url)
    walk_records(client, stranger, key)
    walk_refusals(client, stranger)
    walk_tus(client, photo)
    walk_chunks(client, photo)
    walk_promises(client, stranger, photo)
    walk_store(admin, stranger, photo, owner)
    walk_pages(stranger)
    for method in ("GET", "HEAD"):
        admin.request(method, "/api/usage/owners?limit=3")
    admin.get("/api/usage/owners?limit=none")
    client.get("/api/usage/owners")
    client.delete(url)
    client.delete(url)
    walked = {(method, path) for method, path, status in seen if status < 400}
    elsewhere = {
        *(("POST", "/api/assets/{key}/jobs"), ("GET", "/api/jobs/{id}"), ("HEAD", "/api/jobs/{id}"), ("DELETE", "/api/jobs/{id}")),
        *(("POST", "/api/jobs/{id}/retry"), ("GET", "/api/events"), ("POST", "/api/hooks/minio"), ("HEAD", "/api/hooks/minio")),
    }
    assert set(OPERATIONS) - walked == elsewhere, "what needs FFmpeg, a store that tells, or does not end has tests of its own"
    assert len(seen) > 90


def walk_media(client: Witness, stranger: Witness, url: str) -> None:
    etag = stranger.get(url).headers["ETag"]
    stranger.head(url)
    stranger.head(f"{url}?w=100")
    stranger.get(url, {"Range": "bytes=0-99"})
    stranger.get(url, {"Range": "bytes=999999-"})
    stranger.get(url, {"If-None-Match": etag})
    stranger.head(url, {"If-None-Match": etag})
    stranger.get(url, {"If-Match": '"other"'})
    for query in (
        *("w=100", "w=100&format=auto", "w=auto", "format=json", "format=thumbhash", "format=blurhash", "w=0", "nonsense=1"),
        *("dl=a.jpg", "w=50&fit=cover&h=50&v=1", "sprite=2x2", "s=wrong&w=3", "preset=none"),
    ):
        stranger.get(f"{url}?{query}")
    client.get(f"{url}?w=100&explain=1")
    stranger.get("/api/media/no/such.jpg")
    stranger.delete(url)


def walk_records(client: Witness, stranger: Witness, key: str) -> None:
    place = f"/api/assets/{key}"
    etag = client.get(place).headers["ETag"]
    client.get(f"{place}/similar")
    client.head(f"{place}/similar")
    client.get(f"{place}/similar?distance=12")
    client.get(place, {"If-None-Match": etag})
    client.head(place)
    json_ = {"Content-Type": "application/json"}
    client.request("PATCH", place, json_, b'{"focal": [0.4, 0.2], "metadata": {"album": "Rome"}}')
    client.request("PATCH", place, {**json_, "If-Match": etag}, b'{"focal": null}')
    client.request("PATCH", place, json_, b'{"focal": 3}')
    client.get("/api/assets?limit=1&type=image/*&sort=-size")
    client.get("/api/assets?limit=no")
    client.head("/api/assets")
    stranger.get("/api/assets")
    client.post("/api/assets/query", json.dumps({"keys": [key, f"{key}.gone"], "widths": [100, 200]}).encode(), json_)
    client.post("/api/assets/query", b"[]", json_)
    for method in ("GET", "HEAD"):
        client.request(method, "/api/usage")
        client.request(method, "/api/jobs")
        client.request(method, "/api/profiles?type=video/mp4")
    client.get("/api/jobs/job_none")


def walk_refusals(client: Witness, stranger: Witness) -> None:
    stranger.upload(b"x")
    client.upload(b"MZ no picture at all" * 40)
    client.upload(pictures.jpeg(64, 48)[:-700] + bytes(700), "image/jpeg")
    client.upload(pictures.png(64, 48), "application/pdf")
    client.upload_form(FilePart(pictures.png(64, 48)))
    client.post("/api/upload", form(("name", "no file")), {"Content-Type": form_type()})


def walk_tus(client: Witness, photo: bytes) -> None:
    client.request("OPTIONS", "/api/uploads")
    place = client.post("/api/uploads", headers={**TUS, "Upload-Length": str(len(photo))}).headers["Location"]
    client.request("OPTIONS", place)
    client.request("PATCH", place, {**BYTES, "Upload-Offset": "9"}, photo[:10])
    client.request("PATCH", place, {**BYTES, "Upload-Offset": "0"}, photo[:100])
    client.head(place, TUS)
    client.get(place)
    client.post(place, photo[100:], {**BYTES, "Upload-Offset": "100", "X-HTTP-Method-Override": "PATCH"})
    client.head(place, TUS)
    client.get(place)
    client.post("/api/uploads", headers={**TUS, "Tus-Resumable": "0.2.2", "Upload-Length": "1"})
    other = client.post("/api/uploads", headers={**TUS, "Upload-Defer-Length": "1"}).headers["Location"]
    client.head(other, TUS)
    client.request("DELETE", other, TUS)
    client.head(other, TUS)
    client.get(other)


def walk_chunks(client: Witness, photo: bytes) -> None:
    said = {"Content-Type": "application/json"}
    whole = client.post("/api/upload/chunked", json.dumps({"filename": "a.jpg", "size": len(photo)}).encode(), said).json
    place = f"/api/upload/chunked/{whole['sessionId']}"
    client.post(f"{place}/complete")
    client.request("PUT", f"{place}/0", {"Content-Type": "application/octet-stream"}, photo)
    client.get(place)
    client.head(place)
    assert until(lambda: client.post(f"{place}/complete").status == 200)
    gone = client.post("/api/upload/chunked", b'{"size": 70000}', said).json["sessionId"]
    client.delete(f"/api/upload/chunked/{gone}")
    client.get(f"/api/upload/chunked/{gone}")
    client.post("/api/upload/chunked", b'{"size": 0}', said)


def walk_promises(client: Witness, stranger: Witness, photo: bytes) -> None:
    said = {"Content-Type": "application/json"}
    wanted = json.dumps({"contentType": "image/jpeg", "size": len(photo)}).encode()
    offer = client.post("/api/upload/presigned", wanted, said).json
    confirm = json.dumps({"key": offer["key"]}).encode()
    client.post("/api/upload/confirm", confirm, said)
    stranger.request("PUT", offer["uploadUrl"] + "x", offer["headers"], photo)
    stranger.request("PUT", offer["uploadUrl"], offer["headers"], photo)
    stranger.request("PUT", offer["uploadUrl"], offer["headers"], photo)
    client.post("/api/upload/confirm", confirm, said)
    by_form = client.post("/api/upload/presigned", b'{"contentType": "image/jpeg", "mode": "post"}', said).json
    parts = [*by_form["fields"].items(), FilePart(photo, content_type="image/jpeg")]
    stranger.post(by_form["uploadUrl"], form(*parts), {"Content-Type": form_type()})
    other = client.post("/api/upload/presigned", wanted, said).json
    client.delete(f"/api/upload/presigned/{other['key']}")
    client.post("/api/upload/presigned", b'{"contentType": "text/html"}', said)
    token = client.post("/api/upload/tokens", wanted, said).json
    client.delete(f"/api/upload/tokens/{token['key']}")
    client.delete(f"/api/upload/tokens/{token['key']}/other")


def walk_store(admin: Witness, stranger: Witness, photo: bytes, owner: str) -> None:
    place = f"/api/store/{owner}/stored.jpg"
    etag = admin.request("PUT", place, {"Content-Type": "image/jpeg"}, photo).headers["ETag"]
    admin.get(place)
    admin.head(place)
    admin.get(place, {"Range": "bytes=1-5"})
    admin.get(place, {"If-None-Match": etag})
    admin.get(f"/api/store?prefix={owner}/")
    admin.head("/api/store")
    admin.delete(place)
    admin.get(place)
    stranger.get(place)
    admin.get(place, {"Media-Proxy-Hop": "1, x y z"})


def walk_pages(stranger: Witness) -> None:
    for path in ("/", "/docs", "/api/openapi.json", "/console/docs.js", "/api/health", "/api/health/live", "/api/health/ready"):
        etag = stranger.get(path).headers["ETag"]
        stranger.head(path)
        if etag:
            stranger.get(path, {"If-None-Match": etag})
    stranger.get("/console/none.js")
    stranger.get("/metrics")
