import threading

from events.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, told: list[str] | None = None) -> Breaker:
    heard = told if told is not None else []
    return Breaker("it", failures=3, open_seconds=2, clock=clock, on_change=lambda _, state: heard.append(state))


def opened(clock: Clock, told: list[str] | None = None) -> Breaker:
    breaker = make(clock, told)
    for _ in range(3):
        breaker.failed()
    return breaker


def test_it_opens_after_so_many_failures_in_a_row_and_not_before() -> None:
    breaker = make(Clock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.allow()
    for _ in range(3):
        breaker.failed()
    assert breaker.state == "open"
    assert not breaker.allow()


def test_open_it_lets_one_try_after_a_while_whose_success_closes_it() -> None:
    clock, told = Clock(), list[str]()
    breaker = opened(clock, told)
    clock.now += 1.9
    assert (breaker.refuses, breaker.allow()) == (True, False)
    clock.now += 0.2
    assert (breaker.refuses, breaker.allow()) == (False, True)
    assert (breaker.refuses, breaker.allow()) == (True, False)
    breaker.succeeded()
    assert (breaker.refuses, breaker.allow()) == (False, True)
    assert told == ["open", "half_open", "closed"]


def test_a_trial_that_fails_opens_it_for_as_long_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 2.1
    assert breaker.allow()
    breaker.failed()
    clock.now += 1.9
    assert not breaker.allow()
    clock.now += 0.2
    assert breaker.allow()


def test_a_trial_that_never_says_how_it_went_does_not_keep_it_shut() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 2.1
    assert breaker.allow()
    clock.now += 2.1
    assert breaker.allow()
    assert not breaker.allow()


def test_of_many_threads_one_tries() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 2.1
    together = threading.Barrier(8)
    allowed: list[bool] = []

    def ask() -> None:
        together.wait(10)
        allowed.append(breaker.allow())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(allowed) == [False] * 7 + [True]
