"""Asks several servers at once, and waits for none of them longer than agreed."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import Generic, TypeVar

from events.errors import UnreachableError

T = TypeVar("T")


class Asking(Generic[T]):
    """Questions by name, each in a thread of its own; one that nobody has answered yet is not asked again.

    So servers that hang hold one thread for each question, however often somebody asks.
    """

    def __init__(self, questions: Mapping[str, Callable[[], T]]) -> None:
        self._questions = dict(questions)
        self._asked: dict[str, Future[T]] = {}

    def ask(self, seconds: float) -> dict[str, "Future[T]"]:
        """In the order of the questions; what is not done after `seconds` goes on. For one caller at a time."""
        for name, question in self._questions.items():
            if name not in self._asked or self._asked[name].done():
                self._asked[name] = in_thread(question)
        wait(self._asked.values(), seconds)
        return dict(self._asked)


def within(seconds: float, question: Callable[[], T], whom: str) -> Callable[[], T]:
    """The question, given up on after `seconds`: then, and while it is still out, UnreachableError is raised.

    For one caller at a time.
    """
    asking = Asking({whom: question})

    def ask() -> T:
        answer = asking.ask(seconds)[whom]
        if not answer.done():
            raise UnreachableError(f"{whom} did not answer within {seconds:g} s.")
        return answer.result()

    return ask


def in_thread(work: Callable[[], T]) -> "Future[T]":
    """Do something in a thread that keeps no process alive; also that there is none for it becomes its outcome."""
    outcome: Future[T] = Future()
    # It is under way: who does not want the result any more cannot stop it.
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    try:
        # With the ids that the caller's log lines have.
        threading.Thread(target=copy_context().run, args=(run,), name="asking", daemon=True).start()
    except RuntimeError as error:
        outcome.set_exception(error)
    return outcome
