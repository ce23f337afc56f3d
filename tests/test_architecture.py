"""The rooms and who may enter which: imports point inwards, and each outside library has one door (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("proxy", "processors")
    for path in sorted((ROOT / package).rglob("*.py"))
}
ROUTES = {name for name in MODULES if name.startswith("proxy.routes.")}
MIGRATIONS = {name for name in MODULES if name.startswith("proxy.migrations.")}
ADAPTERS = MIGRATIONS | {name for name in MODULES if name.startswith("proxy.adapters.")}
"""The migrations are the catalogue's, run by Alembic."""
COMPOSERS = {
    "proxy.app",
    "proxy.backups",
    "proxy.checkup",
    "proxy.cli",
    "proxy.keeper",
    "proxy.lists",
    "proxy.machine",
    "proxy.maintenance",
    "proxy.measuring",
    "proxy.mounting",
    "proxy.moves",
    "proxy.moving",
    "proxy.overview",
    "proxy.processes",
    "proxy.processor",
    "proxy.promising",
    "proxy.resuming",
    "proxy.rewrites",
    "proxy.scanners",
    "proxy.scans",
    "proxy.stores",
    "proxy.ties",
    "proxy.traces",
    "proxy.worker",
    "proxy.working",
}
LISTENING = {*ROUTES, *COMPOSERS, "proxy.hot", "proxy.middleware", "proxy.responses", "proxy.run", "proxy.server"}
"""What speaks HTTP, and so sees aiohttp; no service, port or pure module does."""
REMOTE = {"proxy.adapters.remote", "proxy.adapters.remote_answers", "proxy.adapters.remote_reading", "proxy.adapters.webhook"}
"""What speaks HTTP from the other end."""
PURE = {
    f"processors.{name}"
    for name in ("batch", "colours", "errors", "formats", "grammar", "negotiation", "quantities", "transform", "values")
}
MOST_LINES = 450
DECODERS = {"pyvips", "PIL", "pillow_heif", "av"}
S3 = {name for name in MODULES if name.startswith("proxy.adapters.s3")}
REDIS = {name for name in MODULES if name.startswith("proxy.adapters.redis")}
DOORS = {
    "aiobotocore": S3,
    "aiohttp": LISTENING | REMOTE | S3 | {f"processors.{name}" for name in ("pool_http", "service", "webline")},
    "aiohttp_cors": {"proxy.mounting"},
    "alembic": {"proxy.adapters.schema", *MIGRATIONS},
    "asyncpg": {"proxy.adapters.postgres", "proxy.adapters.postgres_probes"},
    "botocore": S3,
    "gunicorn": {"proxy.processes"},
    "jwt": {"proxy.auth", "proxy.grants"},
    "limits": {"proxy.adapters.redis_tally"},
    "moka_py": {"proxy.cache"},
    "numpy": {"processors.classifiers"},
    "onnxruntime": {"processors.classifiers"},
    "opentelemetry": {"processors.tracing"},
    "orjson": {"proxy.observe"},
    "prometheus_client": {"proxy.observe"},
    "pydantic": {"proxy.settings", "proxy.spelling"},
    "redis": REDIS,
    "rich": {"proxy.meter"},
    "sqlalchemy": {
        "proxy.adapters.catalogue",
        "proxy.adapters.column",
        "proxy.adapters.counting",
        "proxy.adapters.events",
        "proxy.adapters.jobs",
        "proxy.adapters.likeness",
        "proxy.adapters.listing",
        "proxy.adapters.ledger",
        "proxy.adapters.postgres",
        "proxy.adapters.promises",
        "proxy.adapters.quotas",
        "proxy.adapters.records",
        "proxy.adapters.resemblance",
        "proxy.adapters.schema",
        "proxy.adapters.sessions",
        "proxy.adapters.sqlite",
        "proxy.adapters.tables",
        *MIGRATIONS,
    },
    "typer": {"proxy.backups", "proxy.cli", "proxy.lists", "proxy.moves", "proxy.overview", "proxy.rewrites", "proxy.scans"},
    **{decoder: {name for name in MODULES if name.startswith("processors.")} - PURE for decoder in DECODERS},
}
"""Each outside library and the modules that may import it; its failures become ours there."""


def imports(module: str) -> Iterator[str]:
    """Every name that *module* imports, also within functions; ``from a import b`` gives a and a.b."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by dots: write the whole name"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> set[str]:
    """The modules of ours that *module* imports."""
    return {name for name in imports(module) if name in MODULES}


def libraries(module: str) -> set[str]:
    """The packages outside the standard library, and not ours, that *module* imports."""
    return {name.partition(".")[0] for name in imports(module)} - sys.stdlib_module_names - {"proxy", "processors"}


def tree(module: str) -> ast.Module:
    """The syntax of *module*."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def among(prefix: str) -> set[str]:
    """The modules of one package."""
    return {module for module in MODULES if module.startswith(prefix)}


def test_processors_know_nothing_of_the_proxy() -> None:
    assert {(module, name) for module in among("processors") for name in ours(module) if name.startswith("proxy")} == set()


def test_routes_and_adapters_are_seen_by_the_composition_root_alone() -> None:
    for room in (ROUTES, ADAPTERS):
        assert room
        assert {(module, name) for module in MODULES.keys() - room - COMPOSERS for name in ours(module) & room} == set()


def test_an_adapter_sees_ports_and_values_but_no_service() -> None:
    values = {
        *(
            "clamd_address",
            "debts",
            "errors",
            "events",
            "fingerprints",
            "generations",
            "jobs",
            "keys",
            "patience",
            "peer",
            "ports",
            "promises",
            "quotas",
        ),
        *("rates", "redis_address", "selection", "sessions", "streams"),
    }
    inner = {"proxy", *(f"proxy.{name}" for name in values)}
    allowed = inner | among("proxy.adapters") | among("proxy.migrations")
    assert {(module, name) for module in ADAPTERS for name in ours(module) - allowed if name.startswith("proxy")} == set()


def test_services_and_ports_never_see_what_listens() -> None:
    inner = among("proxy.") - LISTENING - {"proxy.__main__"}
    assert {(module, name) for module in inner for name in ours(module) & LISTENING} == set()


def test_each_outside_library_has_its_door() -> None:
    trespassers = {(module, name) for module in MODULES for name in libraries(module) if module not in DOORS.get(name, MODULES)}
    assert trespassers == set()


def test_every_door_leads_to_a_library_that_is_used() -> None:
    used = {library for module in MODULES for library in libraries(module)}
    assert DOORS.keys() - used == set()


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_the_proxy_imports_of_the_processors_stands_on_the_standard_library(module: str) -> None:
    reached, left = {module}, [module]
    while left:
        found = ours(left.pop()) - reached
        reached |= found
        left += found
    assert set().union(*map(libraries, reached)) == set()


def test_the_environment_is_read_by_the_command_alone() -> None:
    readers = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
    }
    assert readers <= {"proxy.settings", "proxy.cli", "proxy.command"}


def test_no_module_makes_a_client_a_lock_or_the_settings_when_it_is_imported() -> None:
    live = {"Lock", "Semaphore", "Event", "Queue", "ClientSession", "create_engine", "create_async_engine", "Pool", "from_env"}
    made = set()
    for module in MODULES.keys() - MIGRATIONS:  # which Alembic runs as scripts
        for node in tree(module).body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if isinstance(value, ast.Call):
                made.add((module, value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")))
    assert {(module, name) for module, name in made if name in live} == set()


def test_a_module_is_small_enough_to_be_read_in_one_go() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > MOST_LINES} == {}
    assert sorted(lengths.values())[len(lengths) * 4 // 5] <= 300


def test_a_module_is_named_for_what_it_holds() -> None:
    vague = {"utils", "helpers", "common", "manager", "base", "impl", "misc"}
    assert {module for module in MODULES if vague & set(module.split("."))} == set()
