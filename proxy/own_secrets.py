"""The secrets that the service makes for itself, and those that it derives from what it was given."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from proxy.auth import new_secret
from proxy.settings import BadSettings, Settings

JWT_FILE = "jwt-secret"
UPLOADS_FILE = "upload-secret"


def kept(folder: Path, name: str) -> str:
    """The secret in the file *name* of *folder*; it is made, with mode 0600, if it is not there. Raises BadSettings."""
    path = folder / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BadSettings(f"MEDIA_DATA_DIR: {name} in it cannot be read ({error.strerror})") from None
    unfinished = path.with_name(f"{name}.{secrets.token_hex(4)}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(new_secret() + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, path)
        except FileExistsError:
            pass  # another process was first
        finally:
            unfinished.unlink(missing_ok=True)
        return path.read_text().strip()
    except OSError as error:
        raise BadSettings(
            f"MEDIA_DATA_DIR: a secret cannot be written there ({error.strerror}); name a folder that is writable"
        ) from None


def for_uploads(settings: Settings) -> tuple[bytes, ...]:
    """What signs the addresses and tokens of uploads: equal wherever the configuration is.

    Derived from JWT_SECRET; where tokens are made by others, from each of MEDIA_URL_SECRETS; else made once and kept.
    """
    if settings.jwt_secret is not None:
        given = [settings.jwt_secret.get_secret_value()]
    elif settings.jwt_public_key is None:
        given = [kept(settings.media_data_dir, JWT_FILE)]
    elif settings.media_url_secrets:
        given = [secret.get_secret_value().rpartition(":")[2] for secret in settings.media_url_secrets]
    else:
        given = [kept(settings.media_data_dir, UPLOADS_FILE)]
    return tuple(hmac.digest(secret.encode(), b"media-proxy uploads 1", hashlib.sha256) for secret in given)


def derived(secret: bytes, purpose: str) -> bytes:
    """A secret for one *purpose* alone."""
    return hmac.digest(secret, purpose.encode(), hashlib.sha256)
