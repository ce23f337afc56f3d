"""What is wrong with the stores and what to do about it: findings, one for each check, and how they are shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from processors.errors import MediaError
from proxy.errors import StartError

CHECK_S = 60.0


class State(StrEnum):
    """How a check ended. A warning is something that works and could be better; SKIPPED: an earlier one makes it pointless."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row. *detail* says what is wrong and what to do; of what is right it says what was seen, if anything."""

    store: str
    check: str
    state: State
    detail: str = ""


class Trouble(Exception):
    """What a check found: a sentence for the operator. One with *works* is a warning."""

    def __init__(self, sentence: str, *, works: bool = False) -> None:
        super().__init__(sentence)
        self.works = works


Look = Callable[[], Awaitable[str]]
"""A check: gives what it saw, or raises Trouble, or one of our failures."""


@dataclass(frozen=True, slots=True)
class Check:
    """One look. What comes behind one that is *vital* is skipped when it fails."""

    name: str
    look: Look
    vital: bool = False


async def examined(store: str, checks: Sequence[Check]) -> AsyncIterator[Finding]:
    """The findings of *checks*, one after the other, each within a minute."""
    hopeless = False
    for check in checks:
        if hopeless:
            yield Finding(store, check.name, State.SKIPPED)
            continue
        finding = await _looked(store, check)
        hopeless = check.vital and finding.state is State.BROKEN
        yield finding


async def _looked(store: str, check: Check) -> Finding:
    try:
        async with asyncio.timeout(CHECK_S):
            return Finding(store, check.name, State.OK, await check.look())
    except Trouble as trouble:
        return Finding(store, check.name, State.WARNING if trouble.works else State.BROKEN, str(trouble))
    except MediaError as failure:
        return Finding(store, check.name, State.BROKEN, failure.detail)
    except StartError as failure:
        cause = failure.__cause__
        return Finding(store, check.name, State.BROKEN, cause.detail if isinstance(cause, MediaError) else str(failure))
    except TimeoutError:
        return Finding(store, check.name, State.BROKEN, f"it took longer than {CHECK_S:g} seconds")
    except OSError as error:
        return Finding(store, check.name, State.BROKEN, error.strerror or repr(error))


def lines(findings: Sequence[Finding]) -> list[tuple[State, str]]:
    """Each finding as a line of a table, the same for the same findings."""
    stores = max((len(one.store) for one in findings), default=0)
    checks = max((len(one.check) for one in findings), default=0)
    return [(one.state, f"{one.store:{stores}}  {one.check:{checks}}  {one.state:7}  {one.detail}".rstrip()) for one in findings]


def verdict(findings: Sequence[Finding]) -> str:
    """The last line: how many things are broken, and how many could be better."""
    broken = sum(one.state is State.BROKEN for one in findings)
    warned = sum(one.state is State.WARNING for one in findings)
    return "; ".join((_counted(broken, "broken"), _counted(warned, "to look at"))) + "."


def is_broken(findings: Sequence[Finding]) -> bool:
    """Whether something must be mended."""
    return any(one.state is State.BROKEN for one in findings)


def _counted(number: int, what: str) -> str:
    return f"{number or 'nothing'} {what}"
