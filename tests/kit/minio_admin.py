"""Accounts of a MinIO server with rights of their own, made as its administrators' tool does."""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
from typing import Any
from urllib.parse import urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tests.kit.stores import ObjectStore
from tests.kit.waiting import until


def account(store: ObjectStore, *statements: dict[str, Any]) -> tuple[str, str]:
    """The access key and the secret key of a new account that may do what *statements* of a policy allow."""
    access_key, secret_key = f"user{secrets.token_hex(6)}", secrets.token_hex(20)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]}
    _call(store, "add-canned-policy", {"name": access_key}, json.dumps(policy).encode())
    user = json.dumps({"secretKey": secret_key, "status": "enabled"}).encode()
    _call(store, "add-user", {"accessKey": access_key}, _sealed(store.secret_key, user))
    _call(store, "set-user-or-group-policy", {"policyName": access_key, "userOrGroup": access_key, "isGroup": "false"}, b"")
    return access_key, secret_key


def _call(store: ObjectStore, operation: str, query: dict[str, str], body: bytes) -> None:
    # A server that has just come up takes objects before it takes accounts.
    assert until(lambda: _status(store, operation, query, body) != 503, 30)


def _status(store: ObjectStore, operation: str, query: dict[str, str], body: bytes) -> int:
    path = f"/minio/admin/v3/{operation}?{urlencode(query)}"
    headers = {"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
    request = AWSRequest("PUT", store.endpoint + path, headers=headers, data=body)
    S3SigV4Auth(Credentials(store.access_key, store.secret_key), "s3", store.region).add_auth(request)
    connection = http.client.HTTPConnection(store.host, store.port, timeout=20)
    try:
        connection.request("PUT", path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status in {200, 503}, (operation, answer.status, said)
        return answer.status
    finally:
        connection.close()


def _sealed(password: str, data: bytes) -> bytes:
    # What the server's administrators send it is under its own secret: a key by Argon2id, then one last block of AES-GCM,
    # whose associated data are those of an empty block before it.
    salt, nonce = secrets.token_bytes(32), secrets.token_bytes(8)
    key = Argon2id(salt=salt, length=32, iterations=1, lanes=4, memory_cost=64 * 1024).derive(password.encode())
    cipher = AESGCM(key)
    tag = cipher.encrypt(nonce + bytes(4), b"", None)
    return salt + b"\x00" + nonce + cipher.encrypt(nonce + (1).to_bytes(4, "little"), data, b"\x80" + tag)
