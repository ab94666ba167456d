import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from fastapi import Response

from events.errors import UnreachableError
from ops.web import threads
from ops.web.threads import Shared, Threads

Let = Callable[[], Response]


@pytest.fixture
def let_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    monkeypatch.setattr(threads, "PATIENCE_SECONDS", 0.1)
    event = threading.Event()
    yield event
    event.set()


def refused(error: UnreachableError) -> Response:
    return Response(str(error), 503)


def test_of_many_the_places_are_answered_and_the_others_told_after_a_while(let_go: threading.Event) -> None:
    def hangs() -> Response:
        let_go.wait()
        return Response()

    async def ask() -> Counter[int]:
        answered = Threads(3).answered(hangs, refused)
        began = time.monotonic()
        asked = [asyncio.create_task(answered()) for _ in range(10)]
        # Who comes first has a place.
        told, late = await asyncio.wait(asked[3:], timeout=10)
        assert len(told) == 7
        assert not late
        assert time.monotonic() - began < 5
        let_go.set()
        return Counter([(await each).status_code for each in asked])

    assert asyncio.run(ask()) == {200: 3, 503: 7}


def test_who_comes_when_very_many_wait_is_told_at_once(
    let_go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(threads, "MOST_WAITING", 5)

    async def ask() -> None:
        answered = Threads(1).answered(lambda: Response(str(let_go.wait())), refused)
        asked = [asyncio.create_task(answered()) for _ in range(6)]
        await asyncio.sleep(0.05)
        assert (await answered()).status_code == 503
        let_go.set()
        assert {(await each).status_code for each in asked} == {200}

    asyncio.run(ask())


def test_who_waits_for_what_hangs_is_told_and_its_thread_is_one_less_until_it_ends(
    let_go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LONGEST_SECONDS", 0.1)

    async def ask() -> None:
        answered = Threads(1).answered(lambda: Response(str(let_go.wait())), refused)
        answer = await answered()
        assert (answer.status_code, answer.body) == (503, b"A server did not answer within 0.1 s.")
        assert b"Too many wait" in (await answered()).body
        let_go.set()
        while (await answered()).status_code != 200:
            await asyncio.sleep(0.01)

    asyncio.run(ask())


def test_what_it_raises_is_the_callers_and_frees_its_place(let_go: threading.Event) -> None:
    def fails() -> Response:
        raise ZeroDivisionError

    async def ask() -> None:
        answered = Threads(1).answered(fails, refused)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await answered()

    asyncio.run(ask())


def test_what_hangs_keeps_no_loop_from_ending(let_go: threading.Event) -> None:
    async def ask() -> None:
        answered = Threads(1).answered(lambda: Response(str(let_go.wait())), refused)
        asked = asyncio.create_task(answered())
        await asyncio.sleep(0.05)
        asked.cancel()

    asyncio.run(ask())
    assert all(each.daemon for each in threading.enumerate() if each.name == "asking")


def test_what_is_made_is_made_once_for_all_who_ask_meanwhile_and_anew_for_who_asks_after(
    let_go: threading.Event,
) -> None:
    made: list[bool] = []

    def make() -> int:
        made.append(let_go.wait())
        return len(made)

    async def ask() -> None:
        page = Shared(make)
        asked = [asyncio.create_task(page.get()) for _ in range(50)]
        await asyncio.sleep(0.05)
        # One that leaves takes it from nobody else.
        asked.pop().cancel()
        let_go.set()
        assert set(await asyncio.gather(*asked)) == {1}
        assert await page.get() == 2

    asyncio.run(ask())


def test_who_asks_after_a_failure_is_not_told_the_old_one() -> None:
    outcomes = iter([1 / 3])

    async def ask() -> None:
        page = Shared(lambda: next(outcomes, None) or 1 / len(""))
        assert await page.get() == 1 / 3
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await page.get()

    asyncio.run(ask())
