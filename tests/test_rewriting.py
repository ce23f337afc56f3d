"""media-proxy rewrite-urls: addresses in somebody's database, after their objects were brought here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.mapping import Mapping
from proxy.rewriting import Rewriting
from tests.kit.commands import command
from tests.kit.postgres import PostgresServer

OLD = "https://old.s3.amazonaws.com/"
RULES = (r"^users/(\d+)/ -> u\1/", "skip ^cache/")
TEXTS = {
    1: f"{OLD}users/7/a%20b.jpg?X-Amz-Signature=1#top",
    2: f'<p>See <img src="{OLD}users/8/b.jpg"> and ({OLD}users/8/c.jpg), it\'s 100% ours',
    3: "nothing",
    4: f"{OLD}cache/x.jpg",
    5: "C:\\path' OR 1=1; --",
}
NEW = {
    1: "/api/media/u7/a%20b.jpg#top",
    2: '<p>See <img src="/api/media/u8/b.jpg"> and (/api/media/u8/c.jpg), it\'s 100% ours',
    3: TEXTS[3],
    4: TEXTS[4],
    5: TEXTS[5],
}
Ask = Callable[[str], list[str]]


@pytest.fixture(params=["sqlite", "postgres"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Ask]:
    """The address of a database with a table of posts, and what asks it."""
    made = "CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT NOT NULL, size INTEGER DEFAULT 0)"
    rows = ", ".join(f"({key}, '{text.replace(chr(39), chr(39) * 2)}')" for key, text in TEXTS.items())
    filled = f"INSERT INTO posts (id, body) VALUES {rows}"
    if request.param == "sqlite":
        path = tmp_path / "posts.sqlite"
        with sqlite3.connect(path) as line:
            line.execute(made)
            line.execute(filled)

        def ask(text: str) -> list[str]:
            with sqlite3.connect(path) as line:
                return [str(row[0]) for row in line.execute(text)]

        return f"sqlite:///{path}", ask
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = request.getfixturevalue("postgres_url")
    database = url.rpartition("/")[2]
    for statement in (made, filled):
        server.query(statement, database)
    return url, lambda text: server.query(text, database)


def words(url: str, *more: str) -> list[str]:
    rules = [word for rule in RULES for word in ("--rule", rule)]
    return ["rewrite-urls", "--database", url, "--table", "posts", "--column", "body", "--from", OLD, *rules, *more]


def bodies(ask: Ask) -> dict[int, str]:
    return dict(enumerate(ask("SELECT body FROM posts ORDER BY id"), 1))


def test_addresses_become_ours_and_everything_else_stays(table: tuple[str, Ask]) -> None:
    url, ask = table
    done = command({}, *words(url, "--json", "--batch", "1"))
    told = json.loads(done.stdout)
    assert (done.returncode, told["rows"], told["changed"], told["kept"]) == (1, 3, 2, [f"{OLD}cache/x.jpg"]), done.stderr
    assert bodies(ask) == NEW
    again = json.loads(command({}, *words(url, "--json")).stdout)
    assert (again["rows"], again["changed"]) == (1, 0)


def test_a_dry_run_prints_the_sql_that_does_it(table: tuple[str, Ask]) -> None:
    url, ask = table
    printed = command({}, *words(url, "--dry-run")).stdout
    assert bodies(ask) == TEXTS
    first, *updates, last = printed.splitlines()
    assert (first, len(updates), last) == ("BEGIN;", 2, "COMMIT;")
    for update in updates:
        ask(update.removesuffix(";") + " RETURNING id")
    assert bodies(ask) == NEW


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--table", "nothing"), "no table nothing"),
        (("--column", "nothing"), "no column nothing"),
        (("--column", "size"), "not a column of texts"),
        (("--database", "mysql://x/y"), "PostgreSQL or SQLite"),
        (("--database", "sqlite:////nowhere/x"), "no database file"),
        (("--to", f"{OLD}x/"), "old prefix"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(table: tuple[str, Ask], more: tuple[str, ...], said: str) -> None:
    url, ask = table
    done = command({}, *words(url, *more))
    assert (done.returncode, done.stdout, said in done.stderr) == (2, "", True), done.stderr
    assert bodies(ask) == TEXTS


def test_what_becomes_no_key_stays() -> None:
    rewriting = Rewriting.of([OLD], "/api/media/", Mapping.parse([], "u"))
    assert rewriting.rewritten(f"{OLD}a/../b {OLD}c.jpg") == (f"{OLD}a/../b /api/media/u/c.jpg", [f"{OLD}a/../b"])
