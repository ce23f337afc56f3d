"""Every setting, its default and its meaning: `Settings.from_env(environ)` gives one frozen object or names every fault."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from proxy.spelling import (
    GIB,
    MIB,
    Address,
    Addresses,
    Bytes,
    ClamdAddress,
    Count,
    DatabaseAddress,
    Networks,
    Optimisations,
    Origins,
    ParameterNames,
    PeerAddress,
    Rates,
    RedisAddress,
    Seconds,
    Secret,
    Secrets,
    StoreProfile,
    Texts,
    WebhookSecrets,
    cores,
    listed,
    size,
    webhook_key,
)  # fmt: skip

ALGORITHMS = frozenset({"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512", "EdDSA"})


class ReadAccess(StrEnum):
    """Who may read objects: everybody, their owner with a token, or holders of a signed address (and the owner)."""

    PUBLIC = "public"
    OWNER = "owner"
    SIGNED = "signed"


class TransformAccess(StrEnum):
    """Which renditions everybody may ask for; signed addresses and tokens with ``media:transform`` may ask for any.

    All, those on the ladder (`proxy.ladder`), the presets of the operator, or none.
    """

    OPEN = "open"
    LADDER = "ladder"
    PRESETS = "presets"
    SIGNED = "signed"


class HomeComing(StrEnum):
    """What becomes of an object that was written to a lower store while a higher one was away, when that is back."""

    MOVE = "move"
    COPY = "copy"
    LEAVE = "leave"


class Truncated(StrEnum):
    """What becomes of a picture whose end is missing: it is refused, or what is there is shown."""

    REFUSE = "refuse"
    SHOW = "show"


class ScanPolicy(StrEnum):
    """What becomes of an upload that cannot be scanned: it is refused, or stored where nobody gets it until it has been."""

    REFUSE = "refuse"
    QUARANTINE = "quarantine"


class Sampler(StrEnum):
    """Which requests are traced: OpenTelemetry's samplers. Those based on parents go by the trace that a request belongs to."""

    ALWAYS_ON = "always_on"
    ALWAYS_OFF = "always_off"
    RATIO = "traceidratio"
    PARENT_ON = "parentbased_always_on"
    PARENT_OFF = "parentbased_always_off"
    PARENT_RATIO = "parentbased_traceidratio"


class DeliveryMode(StrEnum):
    """How the bytes of an original go out: through us, from the store by a presigned address, or by nginx in front of us."""

    STREAM = "stream"
    REDIRECT = "redirect"
    ACCEL = "accel"


class BadSettings(ValueError):
    """The environment is not usable; the text names every fault by its setting, and no secret's value."""


class Settings(BaseModel):
    """The whole configuration. A field's environment variable is its name in capitals; sizes take K, M and G."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    media_host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    media_port: int = Field(10020, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    media_workers: int = Field(1, ge=1, le=64, description="processes that answer requests")
    media_data_dir: Path = Field(Path("media-data"), description="folder of objects, records and the made secret")
    media_public_url: Address | None = Field(
        None, description="how clients reach the service, when addresses in answers are to be absolute"
    )

    jwt_secret: Secret | None = Field(None, description="shared secret of HS tokens, 32 bytes or more; made once if no key is set")
    jwt_public_key: str | None = Field(None, description="public key (PEM) of RS, PS, ES or EdDSA tokens, instead of a secret")
    jwt_algorithms: Texts = Field((), description="algorithms accepted, all of one family; HS256 or, with a public key, RS256")
    jwt_audience: str | None = Field(None, description="required aud claim")
    jwt_issuer: str | None = Field(None, description="required iss claim")
    jwt_max_lifetime: Seconds = Field(86_400 * 1.0, description="longest accepted exp - iat, in seconds")

    media_read_access: ReadAccess = Field(ReadAccess.PUBLIC, description="public, owner or signed")
    media_transform_access: TransformAccess = Field(TransformAccess.OPEN, description="open, ladder, presets or signed")
    media_presets: Path | None = Field(None, description="file of presets (TOML)")
    media_watermarks: Path | None = Field(None, description="file of watermarks (TOML)")
    media_ignored_parameters: ParameterNames = Field((), description="further names in queries that are ignored, such as msclkid")
    media_url_secrets: Secrets = Field(
        (), max_length=4, description="secrets of signed addresses, 32 bytes or more each; name them kid:secret to use kid"
    )
    media_eternal_addresses: bool = Field(False, description="whether a signed address may be without an end")
    media_cors_origins: Origins = Field((), description="exact origins whose pages may use the API, such as https://app.example")

    media_operator_networks: Networks = Field(
        (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="networks whose direct callers see /metrics and the parts in /api/health without an admin's token",
    )

    minio_endpoint: str | None = Field(None, description="host of the MinIO server, the first of the stores")
    minio_port: int = Field(9000, ge=1, le=65535, description="its port")
    minio_access_key: str | None = Field(None, description="its access key")
    minio_secret_key: SecretStr | None = Field(None, description="its secret key")
    minio_bucket_name: str = Field("sav3-media", description="its bucket of originals")
    minio_thumbnails_bucket_name: str = Field("sav3-thumbnails", description="its bucket of stored renditions")
    minio_temp_bucket_name: str = Field("sav3-temp", description="its bucket of uploads in progress")
    minio_use_ssl: bool = Field(False, description="whether to speak https with it")
    minio_public_endpoint: Address | None = Field(None, description="how clients reach it, for presigned addresses")
    minio_upload_access_key: str | None = Field(
        None, description="access key that signs addresses for uploads: of an account that may only write to the temp bucket"
    )
    minio_upload_secret_key: SecretStr | None = Field(None, description="its secret key")
    minio_region: str = Field("us-east-1", min_length=1, description="its region")
    minio_profile: StoreProfile = Field("minio", description="what it is: minio, versitygw, garage, r2, aws or generic")
    aws_access_key_id: str | None = Field(None, description="access key of the S3 bucket, the second of the stores")
    aws_secret_access_key: SecretStr | None = Field(None, description="its secret key")
    aws_region: str = Field("us-east-1", min_length=1, description="its region")
    s3_bucket_name: str | None = Field(None, description="the bucket of originals; without it AWS S3 is not used")
    s3_endpoint_url: Address | None = Field(None, description="where the bucket is, if not at AWS")
    s3_profile: StoreProfile = Field("aws", description="what serves it: aws, r2, garage, versitygw, minio or generic")
    media_proxy_url: PeerAddress | None = Field(None, description="another media proxy, the third of the stores")
    media_proxy_token: SecretStr | None = Field(
        None, description="an admin's token for it; without one a token is made with JWT_SECRET, which both must then share"
    )
    media_local_store: bool = Field(True, description="whether the data folder is the last of the stores")
    media_home_coming: HomeComing = Field(
        HomeComing.MOVE, description="move, copy or leave what was written elsewhere while a store was away"
    )
    media_store_deadline: Seconds = Field(3.0, description="seconds that a store has to begin an answer")
    media_delivery: DeliveryMode = Field(DeliveryMode.STREAM, description="stream, redirect or accel")
    media_redirect_lifetime: int = Field(60, ge=1, le=86_400, description="seconds that a presigned address holds")

    database_url: DatabaseAddress | None = Field(
        None,
        description="PostgreSQL for the records, such as postgresql://user:secret@host/db; without it SQLite in the data folder",
    )
    media_database_connections: int = Field(8, ge=2, le=1_000, description="connections of one process to PostgreSQL")
    media_database_deadline: Annotated[float, Field(ge=0.5, le=60)] = Field(
        5.0, description="seconds that PostgreSQL has for one question"
    )
    redis_url: RedisAddress | None = Field(
        None, description="Redis, for what several processes share; redis://, rediss://, redis+sentinel:// or redis+cluster://"
    )
    media_redis_prefix: str = Field(
        "media-proxy",
        pattern=r"[A-Za-z0-9._-]{1,64}",
        description="what names in Redis begin with",
    )

    media_webhook_url: str | None = Field(
        None, pattern=r"https?://[^\s/?#]+[^\s#]*", description="where the back end is told of events, by POST"
    )
    media_webhook_secret: WebhookSecrets = Field(
        (), description="secrets that sign what is told, whsec_ and Base64; several while one takes another's place"
    )
    media_webhook_allow_private: bool = Field(False, description="whether the back end may be in a private network")
    media_webhook_pauses: Annotated[tuple[float, ...], BeforeValidator(listed)] = Field(
        (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800),
        description="seconds before each further attempt to tell the back end",
    )
    media_hook_token: Secrets = Field(
        (), max_length=4, description="tokens by which stores may tell of their buckets, 32 bytes or more each"
    )
    media_events_keep: Annotated[int, Field(ge=60, le=90 * 86_400)] = Field(
        7 * 86_400, description="seconds that an event is kept which everybody was told of"
    )

    media_rate_uploads: Rates = Field((), description="uploads of one owner, such as 600/hour; 20/minute")
    media_rate_upload_bytes: Rates = Field((), description="bytes that one owner uploads, such as 20G/day")
    media_rate_renders: Rates = Field((), description="renditions that are made for one client, such as 300/minute")
    media_rate_failed_logins: Rates = Field((), description="tokens and signatures from one address that do not hold")
    media_rate_headers: bool = Field(True, description="whether answers say how the caller stands with the rates")
    media_trusted_proxies: Networks = Field((), description="networks of the proxies in front, whose X-Forwarded-For counts")

    media_max_bytes_image: Bytes = Field(64 * MIB, description="largest picture")
    media_max_bytes_svg: Annotated[int, BeforeValidator(size), Field(gt=0, le=16 * MIB)] = Field(
        4 * MIB, description="largest drawing (SVG)"
    )
    media_max_bytes_video: Bytes = Field(5 * GIB, description="largest film")
    media_max_bytes_audio: Bytes = Field(GIB, description="largest sound")
    media_max_bytes_document: Bytes = Field(256 * MIB, description="largest document")

    clamav_url: ClamdAddress | None = Field(
        None, description="clamd, which looks at all that comes in: tcp://host:3310 or unix:///run/clamav/clamd.ctl"
    )
    media_scan_policy: ScanPolicy = Field(
        ScanPolicy.REFUSE, description="refuse or quarantine what cannot be scanned: too large, or no scanner answers"
    )
    media_scan_limit: Annotated[int, BeforeValidator(size), Field(ge=1 << 10, le=(2 << 30) - 1)] = Field(
        25 * MIB, description="largest file that clamd is configured to look through"
    )
    media_scan_deadline: Annotated[float, Field(ge=1, le=3_600)] = Field(
        60.0, description="seconds that clamd has for its verdict behind the last byte"
    )
    media_scan_connections: int = Field(64, ge=1, le=1_000, description="files that a process gives to clamd at one time")

    media_upload_address_lifetime: Annotated[int, Field(ge=1, le=7 * 86_400)] = Field(
        86_400, description="longest life of an address that takes an upload, in seconds"
    )
    media_upload_token_lifetime: Annotated[int, Field(ge=1, le=90 * 86_400)] = Field(
        7 * 86_400, description="longest life of a token for one upload, in seconds"
    )
    media_upload_keep: Annotated[int, Field(ge=600, le=90 * 86_400)] = Field(
        86_400, description="seconds that an upload is kept that nobody could confirm"
    )
    media_upload_lifetime: Annotated[int, Field(ge=1, le=90 * 86_400)] = Field(
        7 * 86_400, description="seconds that a resumable upload waits for its next byte"
    )
    media_incoming_bytes: Bytes = Field(
        20 * GIB, description="bytes of all uploads together that wait to be confirmed, and of all that are on their way in pieces"
    )

    media_classifier: Path | None = Field(None, description="file (TOML) of a model that names what is in pictures and films")
    media_classifier_deadline: Seconds = Field(30.0, description="seconds that it has for one picture")
    media_classifier_memory: Annotated[int, BeforeValidator(size), Field(ge=64 * MIB, le=1 << 40)] = Field(
        GIB, description="memory that it may take for that"
    )

    media_optimize: Optimisations = Field((), description="jpeg and png, if they are to be stored in fewer bytes, nothing lost")
    media_optimize_originals: bool = Field(True, description="whether what came is kept beside the smaller one")

    media_quota_bytes: Bytes | None = Field(None, description="bytes that one owner may have, unfinished uploads included")
    media_quota_objects: int | None = Field(None, ge=1, le=1 << 50, description="objects that one owner may have")

    media_max_pixels: Annotated[int, Field(ge=1, le=1 << 32)] = Field(100_000_000, description="pixels of one frame of a picture")
    media_max_pixels_all_frames: Annotated[int, Field(ge=1, le=1 << 32)] = Field(
        200_000_000, description="pixels of all frames of a picture"
    )
    media_max_frames: Count = Field(
        300, description="frames of an animation that stays one; a longer one is shown as its first frame"
    )
    media_truncated: Truncated = Field(
        Truncated.REFUSE, description="refuse or show pictures whose end is missing (JPEG, PNG, GIF)"
    )
    media_decode_budget: Bytes = Field(512 * MIB, description="estimated memory of all pictures that are decoded at one time")
    media_render_deadline: Seconds = Field(10.0, description="seconds after which the worker of a rendition is killed")
    media_render_workers: int = Field(0, ge=0, le=256, description="worker processes for pictures; 0 takes one for each core")
    media_render_queue: int = Field(0, ge=0, le=10_000, description="renditions that may wait; 0 takes 8 for each worker")
    media_render_wait: Seconds = Field(2.0, description="seconds that a rendition may wait before it is refused with 503")
    media_cache_bytes: Annotated[int, BeforeValidator(size), Field(ge=0, le=1 << 40)] = Field(
        64 * MIB, description="renditions kept in the memory of the process"
    )
    media_shared_bytes: Bytes = Field(256 << 10, description="largest rendition that processes share through Redis")
    media_variants_bytes: Annotated[int, BeforeValidator(size), Field(ge=1 << 20, le=1 << 50)] = Field(
        GIB, description="renditions of free sizes kept on the local disk"
    )

    processor_url: Addresses = Field((), max_length=16, description="processors that make pictures, in place of this machine")
    processor_token: Secret | None = Field(None, description="what they and we share, 32 bytes or more")
    processor_local: bool = Field(False, description="whether pictures are made here while no processor answers")
    processor_host: str = Field("127.0.0.1", min_length=1, description="address that `media-proxy processor` listens on")
    processor_port: int = Field(10030, ge=0, le=65535, description="its port; 0 takes a free one")
    processor_spool_bytes: Bytes = Field(4 * GIB, description="sources that lie on its disk at one time")

    media_profiles: Path | None = Field(None, description="file of profiles (TOML) for films and sound; without it there are some")
    media_job_workers: int = Field(
        1, ge=0, le=64, description="jobs that the service works on at one time; 0 leaves all to `media-proxy worker`"
    )
    media_job_threads: int = Field(0, ge=0, le=64, description="threads of one job; 0 takes one for each core")
    media_job_deadline: Annotated[float, Field(gt=0, le=7 * 86_400)] = Field(
        3_600.0, description="seconds after which the program of a job is killed"
    )
    media_job_memory: Annotated[int, BeforeValidator(size), Field(ge=256 * MIB, le=1 << 40)] = Field(
        2 * GIB, description="address space that the program of a job may take"
    )
    media_job_bytes: Bytes = Field(5 * GIB, description="largest file that a job may write")
    media_jobs_open: int = Field(100, ge=1, le=100_000, description="jobs of one owner that wait or run")
    media_jobs_keep: Annotated[int, Field(ge=60, le=90 * 86_400)] = Field(
        7 * 86_400, description="seconds that a job is remembered after its end"
    )

    media_idle_timeout: Seconds = Field(30.0, description="seconds that a client may send or take nothing of a body")
    media_header_timeout: Seconds = Field(10.0, description="seconds in which the head of a request must be complete")
    media_min_rate: int = Field(
        512, ge=0, le=1 << 30, description="bytes a second that an upload must reach on average after the first 30 s"
    )
    media_keepalive: Seconds = Field(75.0, description="seconds that an idle connection is kept")
    media_drain: Seconds = Field(30.0, description="seconds that requests get to finish after SIGTERM")
    otel_exporter_otlp_endpoint: Address | None = Field(
        None, description="OTLP/HTTP collector that gets traces, such as http://127.0.0.1:4318; without it there are none"
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(None, description="headers for it: name=value, name=value")
    otel_service_name: str | None = Field(None, min_length=1, max_length=200, description="what this program is called in traces")
    otel_resource_attributes: str | None = Field(None, description="further attributes of it: name=value, name=value")
    otel_traces_sampler: Sampler = Field(Sampler.PARENT_ON, description="which requests are traced")
    otel_traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = Field(1.0, description="the part of them, where it is a ratio")

    media_log_level: str = Field("info", pattern="(?i)^(debug|info|warning|error)$", description="debug, info, warning or error")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings that *environ* asks for; empty variables count as absent. Raises BadSettings."""
        given = {name: environ[name.upper()] for name in cls.model_fields if environ.get(name.upper(), "").strip()}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise BadSettings("\n".join(_fault(item) for item in error.errors(include_url=False, include_input=False))) from None

    @model_validator(mode="after")
    def _one_family(self) -> Settings:
        if self.jwt_secret is not None and self.jwt_public_key is not None:
            raise ValueError("JWT_SECRET and JWT_PUBLIC_KEY are both set: keep one")
        asymmetric = self.jwt_public_key is not None
        algorithms = self.algorithms
        if unknown := set(algorithms) - ALGORITHMS:
            raise ValueError(f"JWT_ALGORITHMS does not know {sorted(unknown)[0][:16]!r}; it knows {', '.join(sorted(ALGORITHMS))}")
        if len({algorithm[:2] for algorithm in algorithms}) != 1 or algorithms[0].startswith("HS") == asymmetric:
            raise ValueError(
                "JWT_ALGORITHMS must be of one family that fits the key: HS… for a secret, RS…, PS…, ES… or EdDSA for a key pair"
            )
        self._check_stores()
        if self.media_read_access is ReadAccess.SIGNED and not self.media_url_secrets:
            raise ValueError("MEDIA_READ_ACCESS=signed needs MEDIA_URL_SECRETS")
        if self.media_transform_access is TransformAccess.SIGNED and not self.media_url_secrets:
            raise ValueError("MEDIA_TRANSFORM_ACCESS=signed needs MEDIA_URL_SECRETS")
        if self.media_transform_access is TransformAccess.PRESETS and self.media_presets is None:
            raise ValueError("MEDIA_TRANSFORM_ACCESS=presets needs MEDIA_PRESETS")
        if self.media_webhook_url is not None and not self.media_webhook_secret:
            raise ValueError("MEDIA_WEBHOOK_URL needs MEDIA_WEBHOOK_SECRET; `media-proxy events secret` makes one")
        return self

    def _check_stores(self) -> None:
        if self.minio_endpoint is not None and (self.minio_access_key is None or self.minio_secret_key is None):
            raise ValueError("MINIO_ENDPOINT needs MINIO_ACCESS_KEY and MINIO_SECRET_KEY")
        if (self.minio_upload_access_key is None) != (self.minio_upload_secret_key is None):
            raise ValueError("MINIO_UPLOAD_ACCESS_KEY and MINIO_UPLOAD_SECRET_KEY belong together: set both, or neither")
        if self.s3_bucket_name is not None and (self.aws_access_key_id is None or self.aws_secret_access_key is None):
            raise ValueError("S3_BUCKET_NAME needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if self.media_proxy_url is not None and self.media_proxy_token is None and self.jwt_public_key is not None:
            raise ValueError("MEDIA_PROXY_URL needs MEDIA_PROXY_TOKEN where tokens are made by somebody else (JWT_PUBLIC_KEY)")
        if not (self.media_local_store or self.minio_endpoint or self.s3_bucket_name or self.media_proxy_url):
            raise ValueError("MEDIA_LOCAL_STORE=off leaves no store: set MINIO_ENDPOINT, S3_BUCKET_NAME or MEDIA_PROXY_URL")

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The JWT algorithms accepted, never empty."""
        return self.jwt_algorithms or (("RS256",) if self.jwt_public_key is not None else ("HS256",))

    @property
    def webhook_secrets(self) -> tuple[bytes, ...]:
        """The keys that sign what the back end is told."""
        return tuple(map(webhook_key, self.media_webhook_secret))

    @property
    def render_workers(self) -> int:
        """How many worker processes there are."""
        return self.media_render_workers or max(1, cores())

    @property
    def job_threads(self) -> int:
        """How many threads the program of a job has."""
        return self.media_job_threads or max(1, cores())

    @property
    def render_queue(self) -> int:
        """How many renditions may wait for a worker."""
        return self.media_render_queue or 8 * self.render_workers


def _fault(item: Any) -> str:
    text = str(item["msg"]).removeprefix("Value error, ")
    return f"{str(item['loc'][0]).upper()}: {text}" if item["loc"] else text
