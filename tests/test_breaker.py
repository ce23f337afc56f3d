"""When a store is asked, and when it is left alone, by a clock moved by hand."""

from __future__ import annotations

from proxy.adapters.breaker import FAILURES, LAST_PROBE_S, Breaker, Position


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def broken(clock: Clock) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(clock=clock)
    for _ in range(FAILURES):
        breaker.failed(clock.now)
    return breaker


def test_it_opens_after_consecutive_failures_only() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed(clock.now)
        breaker.succeeded()
    assert breaker.closed
    for _ in range(FAILURES):
        assert breaker.closed
        breaker.failed(clock.now)
    assert breaker.position is Position.OPEN


def test_silence_opens_it_at_once() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    began = breaker.now()
    clock.now += 2.5
    breaker.failed(began, silent=True)
    assert not breaker.closed


def test_a_failure_after_a_long_silence_is_one() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    began = breaker.now()
    clock.now += 2
    breaker.failed(began)
    assert not breaker.closed


def test_one_silent_answer_among_others_does_not_open_it() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    began = breaker.now()
    clock.now += 1
    breaker.succeeded()
    clock.now += 1.5
    breaker.failed(began, silent=True)
    assert breaker.closed


def test_what_was_under_way_neither_closes_it_nor_puts_the_probe_off() -> None:
    clock = Clock()
    breaker = broken(clock)
    due = breaker.probe_in_s
    breaker.succeeded()
    breaker.failed(clock.now - 5)
    assert not breaker.closed
    assert breaker.probe_in_s == due


def test_a_probe_that_goes_well_closes_it() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += breaker.probe_in_s
    assert breaker.probe_in_s == 0
    breaker.probing()
    assert breaker.position is Position.HALF_OPEN
    assert not breaker.closed
    breaker.probed(well=True)
    assert breaker.position is Position.CLOSED


def test_pauses_between_probes_grow_to_their_limit_so_that_a_store_is_back_within_ten_seconds() -> None:
    clock = Clock()
    breaker = broken(clock)
    pauses = []
    for _ in range(8):
        pauses.append(breaker.probe_in_s)
        clock.now += breaker.probe_in_s
        breaker.probing()
        breaker.probed(well=False)
    assert pauses == sorted(pauses)
    assert pauses[0] == 1
    assert pauses[-1] == LAST_PROBE_S <= 10 - 2.5


def test_a_store_whose_pings_go_well_and_nothing_else_is_probed_ever_more_rarely() -> None:
    clock = Clock()
    breaker = broken(clock)
    pauses = []
    for _ in range(5):
        pauses.append(breaker.probe_in_s)
        breaker.probing()
        breaker.probed(well=True)
        for _ in range(FAILURES):
            breaker.failed(clock.now)
    assert pauses == [1, 2, 4, LAST_PROBE_S, LAST_PROBE_S]
    breaker.probing()
    breaker.probed(well=True)
    breaker.succeeded()
    for _ in range(FAILURES):
        breaker.failed(clock.now)
    assert breaker.probe_in_s == 1
