"""What the OpenAPI document allows, and what it forbids, sent by schemathesis: every answer is one that the document describes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.server import RunningServer

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "code_is_named"),
)
ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_request_gets_an_answer_that_is_not_described(server: RunningServer, tmp_path: Path) -> None:
    """As somebody who may do everything: others get no further than 401. What does not end (/api/events) is left out."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api/openapi.json"),
        *("--header", f"Authorization: Bearer {server.token('fuzzer', scope='media:admin')}"),
        *("--max-examples", "8", "--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS)),
        *(
            "--exclude-path",
            "/api/events",
            "--request-timeout",
            "20",
            "--seed",
            "20",
            "--no-color",
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
        ),
    ]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.kit.openapi_hooks", "PYTHONPATH": str(ROOT), "NO_PROXY": "*"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stdout[:9000] + done.stderr[-2000:]
    count = re.search(r"(\d+) generated", done.stdout)
    assert count is not None
    assert int(count[1]) > 400, "most of it was tried"
    assert server.client().get("/api/health/ready").status == 200
