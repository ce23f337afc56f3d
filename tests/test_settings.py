"""The configuration: every fault in one message, by name, and no secret's value."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.settings import BadSettings, ReadAccess, Settings

STRONG = "k7Jv2Qp9Xw4Zr8Tn1Lb6Yc3Md5Fg0Hs-"


def test_without_any_setting_there_is_a_default_for_each() -> None:
    settings = Settings.from_env({})
    assert (settings.media_host, settings.media_port, settings.media_data_dir) == ("127.0.0.1", 10020, Path("media-data"))
    assert settings.media_read_access is ReadAccess.PUBLIC
    assert settings.algorithms == ("HS256",)
    assert settings.render_workers >= 1


def test_an_empty_variable_is_as_none() -> None:
    assert Settings.from_env({"MEDIA_PORT": "", "JWT_SECRET": " "}) == Settings.from_env({})


@pytest.mark.parametrize(("text", "size"), [("1048576", 1 << 20), ("64M", 64 << 20), ("5G", 5 << 30), ("12 KiB", 12 << 10)])
def test_sizes_may_be_written_short(text: str, size: int) -> None:
    assert Settings.from_env({"MEDIA_MAX_BYTES_IMAGE": text}).media_max_bytes_image == size


def test_every_fault_is_named_at_once() -> None:
    environ = {"MEDIA_PORT": "99999", "MEDIA_MAX_BYTES_VIDEO": "many", "MEDIA_READ_ACCESS": "all", "JWT_SECRET": "hunter2"}
    with pytest.raises(BadSettings) as refused:
        Settings.from_env(environ)
    for name in environ:
        assert name in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", "short"),
        ("JWT_SECRET", "secret" * 2),
        ("JWT_SECRET", "a" * 64),
        ("JWT_SECRET", "your-256-bit-secret"),
        ("MEDIA_URL_SECRETS", "tiny"),
        ("JWT_ALGORITHMS", "none"),
        ("JWT_ALGORITHMS", "HS256,RS256"),
        ("JWT_ALGORITHMS", "RS256"),
        ("MEDIA_TRANSFORM_ACCESS", "signed"),
        ("MEDIA_READ_ACCESS", "signed"),
        ("MEDIA_DECODE_BUDGET", "0"),
        ("MEDIA_LOG_LEVEL", "loud"),
        ("MEDIA_MAX_PIXELS", "1e9"),
    ],
)
def test_a_bad_setting_is_named_and_a_secret_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=name) as refused:
        Settings.from_env({"JWT_SECRET": STRONG, name: value})
    if "SECRET" in name:
        assert value not in str(refused.value).replace("JWT_SECRET", "").replace("MEDIA_URL_SECRETS", "")
    assert STRONG not in str(refused.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"JWT_SECRET": "x" * 64},
        {"JWT_SECRET": "short"},
        {"JWT_ALGORITHMS": "none"},
        {"JWT_ALGORITHMS": "RS256"},
        {"JWT_PUBLIC_KEY": "-----BEGIN", "JWT_ALGORITHMS": "HS256"},
        {"JWT_PUBLIC_KEY": "-----BEGIN", "JWT_ALGORITHMS": "RS256,ES256"},
        {"JWT_PUBLIC_KEY": "-----BEGIN", "JWT_SECRET": STRONG},
        {"MEDIA_READ_ACCESS": "signed"},
        {"MEDIA_TRANSFORM_ACCESS": "signed"},
        {"MEDIA_URL_SECRETS": "a:short"},
        {"MEDIA_CORS_ORIGINS": "*"},
        {"MEDIA_CORS_ORIGINS": "https://app.example/path"},
        {"MEDIA_PUBLIC_URL": "media.example"},
        {"MEDIA_MAX_PIXELS": "0"},
        {"MEDIA_LOG_LEVEL": "loud"},
        {"MINIO_ENDPOINT": "minio"},
        {"MINIO_ENDPOINT": "minio", "MINIO_ACCESS_KEY": "media"},
        {"S3_BUCKET_NAME": "media"},
        {"S3_PROFILE": "unheard-of"},
        {"S3_ENDPOINT_URL": "s3.example"},
        {"MEDIA_PROXY_URL": "https://me:secret@media.example"},
        {"MEDIA_PROXY_URL": "https://media.example", "JWT_PUBLIC_KEY": "-----BEGIN"},
        {"MEDIA_LOCAL_STORE": "off"},
        {"MEDIA_DELIVERY": "carrier-pigeon"},
    ],
)
def test_a_setting_that_would_weaken_or_break_the_service_stops_the_start(environ: dict[str, str]) -> None:
    with pytest.raises(BadSettings):
        Settings.from_env(environ)


def test_keys_of_aws_alone_are_somebody_elses() -> None:
    settings = Settings.from_env({"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"})
    assert settings.s3_bucket_name is None


def test_secrets_do_not_show() -> None:
    settings = Settings.from_env({"JWT_SECRET": STRONG, "MEDIA_URL_SECRETS": f"a:{STRONG}"})
    assert STRONG not in repr(settings)
    assert STRONG not in str(settings.model_dump())
