"""Threads of the web for one kind of request, so that who waits for a slow server keeps nobody else waiting."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Generic, TypeVar

from anyio import CapacityLimiter, fail_after
from fastapi import Response

from events.errors import UnreachableError
from ops.asking import in_thread

# Who has waited this long for a thread is better told to come back: each second more of it is one for all behind.
PATIENCE_SECONDS = 2.0
# Who comes when so many wait is told at once.
MOST_WAITING = 200
# What takes longer is not slow: it hangs.
LONGEST_SECONDS = 15.0

Answering = Callable[..., Response]
T = TypeVar("T")


class Threads:
    """So many at once; who gets none in time is refused."""

    def __init__(self, most: int) -> None:
        self._places = CapacityLimiter(most)

    def answered(
        self, answering: Answering, refused: Callable[[UnreachableError], Response]
    ) -> Callable[..., Coroutine[Any, Any, Response]]:
        """For FastAPI: runs `answering` in a thread; `refused` makes the answer when that does not come in time."""

        @wraps(answering)
        async def run(*args: object, **kwargs: object) -> Response:
            try:
                return await self._run(partial(answering, *args, **kwargs))
            except UnreachableError as error:
                return refused(error)

        return run

    async def _run(self, work: Callable[[], Response]) -> Response:
        who = object()
        await self._take(who)
        # Not a thread of anyio's, which would keep the process from ending while a server hangs.
        answer = asyncio.wrap_future(in_thread(work))
        # Also when nobody waits for it any more: as many threads as places.
        answer.add_done_callback(lambda _: self._places.release_on_behalf_of(who))
        try:
            await asyncio.wait([answer], timeout=LONGEST_SECONDS)
        except asyncio.CancelledError:
            answer.cancel()
            raise
        if not answer.done():
            raise UnreachableError(f"A server did not answer within {LONGEST_SECONDS:g} s.")
        return answer.result()

    async def _take(self, who: object) -> None:
        if self._places.statistics().tasks_waiting < MOST_WAITING:
            try:
                with fail_after(PATIENCE_SECONDS):
                    return await self._places.acquire_on_behalf_of(who)
            except TimeoutError:
                pass
        raise UnreachableError("Too many wait for a server that is slow. Ask again soon.")


class Shared(Generic[T]):
    """Makes something in a thread; who asks while it is made gets the same. For one event loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: asyncio.Future[T] | None = None

    async def get(self) -> T:
        if self._made is None or self._made.done():
            self._made = asyncio.wrap_future(in_thread(self._make))
        # Who gives up takes it from nobody else.
        return await asyncio.shield(self._made)
