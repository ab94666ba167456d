"""What a store of dead letters promises: run against the fake here, and against Postgres."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import pytest

from events.errors import NotFoundError
from events.queues import dead_letters
from events.queues.dead_letters import DeadLetters, DeadLetterStore
from events.queues.letters import Filter, NewDeadLetter, letter_of


def letter(n: int, *, queue: str = "caches", actor: str = "work", task_id: int | None = None) -> NewDeadLetter:
    options: dict[str, Any] = {"retries": 3, "redis_message_id": f"r{n}", "queued_at": 1, "kept": True}
    if task_id is not None:
        options["task_id"] = task_id
    fields = {
        "queue_name": queue,
        "actor_name": actor,
        "args": [],
        "kwargs": {"n": n},
        "options": options,
        "message_id": f"m{n}",
        "message_timestamp": n,
    }
    return letter_of(fields, delivery_id=f"d{n}", error=f"error {n}")


def unreadable(n: int) -> NewDeadLetter:
    return NewDeadLetter(delivery_id=f"d{n}", queue="caches", error="it is not JSON", raw=b"\xff\0")


class StoreSuite(ABC):
    """Subclasses say how a store is made; `letters` come in with rising ids."""

    @abstractmethod
    def store(self, letters: Iterable[NewDeadLetter]) -> DeadLetterStore: ...

    def jobs(self, *letters: NewDeadLetter) -> tuple[DeadLetters, list[Any]]:
        sent: list[Any] = []
        return DeadLetters(self.store(letters), sent.extend), sent

    @pytest.fixture(autouse=True)
    def small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dead_letters, "RETRY_BATCH", 2)
        monkeypatch.setattr(dead_letters, "DISCARD_BATCH", 2)

    def test_the_newest_are_listed_first_page_by_page(self) -> None:
        jobs, _ = self.jobs(*map(letter, range(5)))
        first = jobs.list(limit=3)
        rest = jobs.list(limit=3, below=first[-1].id)
        assert [each.message_id for each in first + rest] == ["m4", "m3", "m2", "m1", "m0"]
        assert all(each.message is None for each in first)

    def test_one_is_shown_with_its_message(self) -> None:
        jobs, _ = self.jobs(letter(1), unreadable(2))
        bytes_only, whole = (jobs.show(each.id) for each in jobs.list())
        assert (whole.message or {})["kwargs"] == {"n": 1}
        assert (bytes_only.message, bytes_only.raw) == (None, b"\xff\0")

    def test_one_that_is_not_there_is_not_found(self) -> None:
        jobs, _ = self.jobs()
        with pytest.raises(NotFoundError, match="no dead letter 7"):
            jobs.show(7)

    def test_a_filter_narrows_what_is_listed_counted_retried_and_discarded(self) -> None:
        jobs, sent = self.jobs(
            letter(0), letter(1, queue="reviews"), letter(2, actor="other"), letter(3, queue="reviews"), letter(4)
        )
        assert {each.message_id for each in jobs.list(Filter(queue="reviews"))} == {"m1", "m3"}
        assert jobs.count(Filter(actor="other")) == 1
        ids = [each.id for each in jobs.list() if each.message_id in {"m0", "m2"}]
        assert jobs.count(Filter(ids=ids)) == 2
        assert {each.message_id for each in jobs.list(Filter(ids=ids))} == {"m0", "m2"}
        assert jobs.retry(Filter(queue="reviews")) == 2
        assert [each.message_id for each in sent] == ["m1", "m3"]
        assert jobs.discard(Filter(ids=ids)) == 2
        assert [each.message_id for each in jobs.list()] == ["m4"]

    def test_nothing_at_all_matches_an_empty_list_of_ids(self) -> None:
        jobs, _ = self.jobs(letter(1))
        assert (jobs.count(Filter(ids=[])), jobs.retry(Filter(ids=[])), jobs.discard(Filter(ids=[]))) == (0, 0, 0)

    def test_a_time_narrows_too(self) -> None:
        jobs, _ = self.jobs(letter(1))
        (only,) = jobs.list()
        assert jobs.count(Filter(died_before=only.died_at)) == 0
        assert jobs.count(Filter(died_after=only.died_at)) == 1

    def test_all_are_retried_in_their_order_as_if_they_had_never_run(self) -> None:
        jobs, sent = self.jobs(*(letter(n, task_id=n) for n in range(5)))
        assert jobs.retry(Filter()) == 5
        assert [each.kwargs["n"] for each in sent] == [0, 1, 2, 3, 4]
        assert sent[0].options == {"task_id": 0, "kept": True}
        assert jobs.count() == 0

    def test_what_is_no_message_stays_when_all_are_retried_and_goes_when_all_are_discarded(self) -> None:
        jobs, sent = self.jobs(unreadable(0), letter(1), unreadable(2))
        assert (jobs.count(Filter()), jobs.count_retriable(Filter())) == (3, 1)
        assert jobs.retry(Filter()) == 1
        assert len(sent) == 1
        assert jobs.discard(Filter()) == 2
        assert jobs.count() == 0

    def test_what_could_not_be_sent_stays(self) -> None:
        store = self.store([letter(0), letter(1)])

        def away(_: Iterable[Any]) -> None:
            raise ConnectionError("the broker is away")

        with pytest.raises(ConnectionError):
            DeadLetters(store, away).retry(Filter())
        assert store.count(Filter()) == 2
