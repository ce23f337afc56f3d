"""What every command does: it reads the configuration, and says in one sentence what is wrong."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from proxy.settings import Settings


def configured(options: dict[str, str]) -> Settings:
    """The settings of the environment, *options* before them; ends the process where they are not usable."""
    from proxy.settings import BadSettings, Settings

    try:
        return Settings.from_env({**os.environ, **options})
    except BadSettings as error:
        fail(f"The configuration is not usable. {error}")


def fail(sentence: str) -> NoReturn:
    """End the process."""
    print(f"media-proxy: {sentence}", file=sys.stderr)
    raise SystemExit(2)
