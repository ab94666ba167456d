"""What only the broker on Redis promises: one copy of each work, quick wake-ups, and an account of every message."""

import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import orjson
import pytest
import redis
from dramatiq.errors import ConnectionClosed

from events.queues.broker import RedisQueues
from ops.stack import Stack
from tests.integration.events.queues.support import actor, drain, eventually, message, working

MakeBroker = Callable[..., RedisQueues]


def dies(broker: RedisQueues) -> None:
    """Make its heartbeat an old one, as if its process had been killed."""
    assert broker.client.zadd(broker.keys.heartbeats, {broker.broker_id: 1}) == 0


def hold(broker: RedisQueues, queue: str, count: int = 500) -> list[str]:
    return [key.decode() for key, _, _ in broker.fetch(queue, count)]


def waiting(broker: RedisQueues, queue: str) -> list[int]:
    """The numbers of the messages that wait, in their order."""
    keys = broker.keys.queue(queue)
    ids = broker.client.lrange(keys.waiting, 0, -1)
    return [orjson.loads(data)["kwargs"]["n"] for data in broker.client.hmget(keys.messages, ids)] if ids else []


def numbered(queue: str, count: int, **options: Any) -> list[Any]:
    return [message(queue, "work", n=n, **options) for n in range(count)]


def noting(seen: list[int]) -> Callable[..., None]:
    def work(*, n: int) -> None:
        seen.append(n)

    return work


def test_ledgered_work_is_in_its_queue_once_until_it_is_done(redis_broker: MakeBroker) -> None:
    broker = redis_broker()
    work = message("q", "work", task_id=7, n=7)
    assert broker.enqueue_many([work, work]) == 1
    assert broker.enqueue_many([work], delay=60_000) == 0
    assert hold(broker, "q") == ["7"]
    assert broker.enqueue_many([work]) == 0
    broker.ack("q", "7")
    assert broker.enqueue_many([work], delay=60_000) == 1
    assert broker.enqueue_many([work]) == 0
    assert broker.depths()["q"].delayed == 1


def test_the_broker_can_be_asked_which_work_has_a_message(redis_broker: MakeBroker) -> None:
    broker = redis_broker()
    broker.enqueue_many(message("q", "work", task_id=n, n=n) for n in (1, 2, 3))
    broker.enqueue(message("q", "work", task_id=4, n=4), delay=60_000)
    hold(broker, "q", 3)
    broker.ack("q", "1")
    broker.bury("q", "2", "no")
    assert broker.has_messages("q", [1, 2, 3, 4, 5]) == [False, True, True, True, False]
    assert broker.has_messages("other", [3]) == [False]


def test_an_idle_worker_is_woken(redis_broker: MakeBroker) -> None:
    broker, waits = redis_broker(), list[float]()
    actor(broker, "work", "q", lambda sent: waits.append(time.monotonic() - sent))
    with working(broker):
        eventually(lambda: broker.wakeups.healthy)
        for _ in range(20):
            time.sleep(0.02)
            broker.enqueue(message("q", "work", sent=time.monotonic()))
        eventually(lambda: len(waits) == 20)
    # Alone on a machine it is 1 to 2 ms; without being woken it would be seconds.
    assert sorted(waits)[10] < 0.1


def test_a_message_is_found_when_nobody_was_woken(redis_broker: MakeBroker, redis_server: Stack) -> None:
    broker, seen = redis_broker(), list[int]()
    actor(broker, "work", "q", noting(seen))
    with working(broker):
        eventually(lambda: broker.wakeups.healthy)
        with redis.Redis.from_url(redis_server.redis_url(6)) as client:
            assert client.client_kill_filter(_type="pubsub") == 1
            before = time.monotonic()
            broker.enqueue(message("q", "work", n=1))
        eventually(lambda: seen == [1])
        assert time.monotonic() - before < 3
        eventually(lambda: broker.wakeups.healthy)


def test_many_messages_go_in_parts_that_do_not_hold_redis_up(
    redis_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, calls = redis_broker(), list[int]()
    run = broker._run

    def counted(script: str, keys: Any, args: Any) -> Any:
        calls.append((len(args) - 3) // 2)
        return run(script, keys, args)

    monkeypatch.setattr(broker, "_run", counted)
    assert broker.enqueue_many([*numbered("q", 1_201), message("r", "work", n=1)]) == 1_202
    big = "x" * 400_000
    assert broker.enqueue_many([message("r", "work", text=big) for _ in range(4)]) == 4
    assert calls == [500, 500, 201, 1, 3, 1]
    assert waiting(broker, "q") == list(range(1_201))


def test_hooks_of_middleware_see_every_message(redis_broker: MakeBroker) -> None:
    seen: list[tuple[str, int | None]] = []

    class Noted(dramatiq.Middleware):  # type: ignore[misc]
        def before_enqueue(self, _: Any, message: Any, delay: int | None) -> None:
            message.options["noted"] = True
            seen.append(("before", delay))

        def after_enqueue(self, _broker: Any, _message: Any, delay: int | None) -> None:
            seen.append(("after", delay))

    broker = redis_broker([Noted()])
    broker.enqueue_many(numbered("q", 2))
    assert seen == [("before", None), ("before", None), ("after", None), ("after", None)]
    assert all(orjson.loads(data)["options"]["noted"] for _, data, _ in broker.fetch("q", 2))


def test_what_is_given_back_keeps_its_place_at_the_head(redis_broker: MakeBroker) -> None:
    broker = redis_broker()
    broker.enqueue_many(numbered("q", 1_300))
    ids = hold(broker, "q", 600) + hold(broker, "q", 600)
    broker.give_back("q", ids)
    assert waiting(broker, "q") == list(range(1_300))
    assert broker.idle(["q"], None) is False


def test_messages_of_a_fetch_whose_answer_was_lost_are_given_back(redis_broker: MakeBroker) -> None:
    broker = redis_broker()
    broker.enqueue_many(numbered("q", 3))
    known, *lost = hold(broker, "q")
    broker.in_hand("q").take(known)
    broker.consume("q", prefetch=1)
    assert sorted(waiting(broker, "q")) == [1, 2]
    assert len(lost) == 2


def test_a_dead_workers_messages_return_to_the_head_of_their_queue(redis_broker: MakeBroker) -> None:
    killed, reaper = redis_broker(), redis_broker()
    reaper.enqueue_many(numbered("q", 4))
    hold(killed, "q", 2)
    assert reaper.reap(max_redeliveries=3).workers == 0
    dies(killed)
    reaped = reaper.reap(max_redeliveries=3)
    assert (reaped.workers, reaped.returned, reaped.buried) == (1, 2, 0)
    assert sorted(waiting(reaper, "q")[:2]) == [0, 1]
    assert reaper.reap(max_redeliveries=3).workers == 0


def test_a_worker_that_stopped_cleanly_is_not_taken_for_dead(redis_broker: MakeBroker) -> None:
    # Who has no heartbeat from this very moment is dead.
    stopped, reaper, seen = redis_broker(), redis_broker(heartbeat_timeout=0), list[int]()
    actor(stopped, "work", "q", noting(seen))
    stopped.enqueue_many(numbered("q", 3))
    with working(stopped):
        eventually(lambda: sorted(seen) == [0, 1, 2])
    stopped.close()
    assert reaper.reap(max_redeliveries=3).workers == 0


def test_a_worker_that_stopped_with_messages_in_its_hands_is_reaped(redis_broker: MakeBroker) -> None:
    stopped, reaper = redis_broker(), redis_broker(heartbeat_timeout=0)
    stopped.enqueue_many(numbered("q", 3))
    stopped.consume("q")
    hold(stopped, "q", 2)
    stopped.close()
    reaped = reaper.reap(max_redeliveries=3)
    assert (reaped.workers, reaped.returned) == (1, 2)
    assert len(waiting(reaper, "q")) == 3


def test_reapers_at_the_same_time_return_each_message_once(redis_broker: MakeBroker) -> None:
    killed, reapers = redis_broker(), [redis_broker() for _ in range(4)]
    killed.enqueue_many(numbered("q", 300))
    hold(killed, "q", 300)
    dies(killed)
    returned: list[int] = []
    threads = [
        threading.Thread(target=lambda each=each: returned.append(each.reap(max_redeliveries=3).returned))
        for each in reapers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(returned) == [0, 0, 0, 300]
    assert sorted(waiting(killed, "q")) == list(range(300))


def test_what_was_acked_by_a_worker_taken_for_dead_is_not_lost_for_the_next(redis_broker: MakeBroker) -> None:
    slow, other = redis_broker(), redis_broker()
    slow.enqueue(message("q", "work", task_id=1, n=1))
    hold(slow, "q")
    dies(slow)
    other.reap(max_redeliveries=3)
    assert hold(other, "q") == ["1"]
    slow.ack("q", "1")
    slow.bury("q", "1", "late")
    slow.give_back("q", ["1"])
    slow.postpone(message("q", "work", task_id=1, n=1).copy(options={"redis_message_id": "1"}), 0)
    depth = other.depths()["q"]
    assert (depth.waiting, depth.in_progress, depth.delayed, depth.dead) == (0, 1, 0, 0)


def test_a_message_that_kills_its_workers_is_buried_and_its_neighbours_are_not(redis_broker: MakeBroker) -> None:
    reaper = redis_broker()
    reaper.enqueue_many(message("q", "work", task_id=n, n=n) for n in range(50))
    deaths = 0
    while True:
        worker = redis_broker()
        held = {key.decode(): count for key, _, count in worker.fetch("q", 50)}
        if "13" not in held:
            break
        # As the middleware does: whoever was in a dead worker's hands is marked when it starts, and from the second
        # death on it runs alone.
        suspects = sorted(each for each, count in held.items() if count <= 1)
        for each in ["13"] if held["13"] > 1 else [*suspects[:8], "13"]:
            if held[each] > 0:
                worker.mark_started("q", each)
        dies(worker)
        deaths += 1
        reaper.reap(max_redeliveries=3)
    assert deaths == 4
    assert sorted(held) == sorted(str(n) for n in range(50) if n != 13)
    (corpse,) = reaper.corpses()
    assert (corpse.key, corpse.queue) == (b"13", "q")
    assert corpse.error == "its worker died 4 times while working on it"


def test_a_message_that_ran_without_killing_is_no_suspect_any_more(redis_broker: MakeBroker) -> None:
    broker, reaper = redis_broker(), redis_broker()
    broker.enqueue(message("q", "work", task_id=1, n=1))
    hold(broker, "q")
    dies(broker)
    reaper.reap(max_redeliveries=3)
    ((_, data, deaths),) = reaper.fetch("q", 1)
    assert deaths == 1
    reaper.postpone(message("q", "work", task_id=1, n=1).copy(options=orjson.loads(data)["options"]), 0)
    reaper.consume("q")  # starts the pulse, which moves what is due
    eventually(lambda: waiting(reaper, "q") == [1])
    assert [count for _, _, count in reaper.fetch("q", 1)] == [0]


def test_a_worker_that_is_given_what_it_works_on_does_not_run_it_twice(
    redis_broker: MakeBroker, redis_server: Stack
) -> None:
    broker, seen, go_on = redis_broker(), list[int](), threading.Event()

    def work(n: int) -> None:
        seen.append(n)
        go_on.wait(10)

    actor(broker, "work", "q", work)
    with working(broker):
        broker.enqueue(message("q", "work", task_id=1, n=1))
        eventually(lambda: seen == [1])
        with redis.Redis.from_url(redis_server.redis_url(6)) as client:
            client.flushall()
        broker.enqueue(message("q", "work", task_id=1, n=1))
        broker.enqueue(message("q", "work", task_id=2, n=2))
        eventually(lambda: seen == [1, 2])
        go_on.set()
        eventually(lambda: broker.depths()["q"].in_progress == 0)
    assert seen == [1, 2]
    assert broker.has_messages("q", [1, 2]) == [False, False]


def test_work_delivered_again_between_its_ack_and_our_noting_it_is_given_back(redis_broker: MakeBroker) -> None:
    broker = redis_broker()
    consumer = broker.consume("q", prefetch=5)
    broker.enqueue(message("q", "work", task_id=1, n=1))
    broker.declare_queue("q")
    actor(broker, "work", "q", noting([]))
    first = next(consumer)
    assert first is not None
    # What ack does, with the second delivery in the middle of it.
    broker.ack("q", "1")
    broker.enqueue(message("q", "work", task_id=1, n=1))
    assert next(consumer) is None
    assert waiting(broker, "q") == []
    consumer._let_go([first])
    assert waiting(broker, "q") == [1]
    assert next(consumer) is not None


def test_a_lifetime_ends_when_redis_loses_its_data(redis_broker: MakeBroker, redis_server: Stack) -> None:
    one, other = redis_broker(), redis_broker()
    assert one.lifetime() == other.lifetime() == one.lifetime()
    before = one.lifetime()
    with redis.Redis.from_url(redis_server.redis_url(6)) as client:
        client.flushall()
    assert other.lifetime() != before


def test_depths_tell_how_much_is_where(redis_broker: MakeBroker) -> None:
    broker = redis_broker()
    broker.declare_queue("empty")
    broker.enqueue_many(numbered("q", 5))
    broker.enqueue_many(numbered("q", 2), delay=60_000)
    first, second = hold(broker, "q", 2)
    broker.bury("q", first, "no")
    time.sleep(0.05)
    depth = broker.depths()["q"]
    assert (depth.waiting, depth.in_progress, depth.delayed, depth.dead) == (3, 1, 2, 1)
    assert 0.05 <= depth.oldest_seconds < 5
    assert broker.depths()["empty"].oldest_seconds == 0
    broker.flush("q")
    assert (broker.depths()["q"].waiting, broker.depths()["q"].delayed) == (0, 0)
    assert second


def test_one_broker_drains_what_another_has_delayed_to_now(redis_broker: MakeBroker) -> None:
    sender, worker, seen = redis_broker(), redis_broker(), list[int]()
    actor(worker, "work", "q", noting(seen))
    sender.enqueue_many(numbered("q", 1_100), delay=0)
    drain(worker)
    assert sorted(seen) == list(range(1_100))


def test_namespaces_do_not_meet(redis_broker: MakeBroker) -> None:
    one, other = redis_broker(), redis_broker(namespace="OTHER")
    one.enqueue(message("q", "work", n=1))
    assert list(other.fetch("q", 1)) == []


def test_a_user_who_may_use_our_keys_only_can_do_everything(redis_server: Stack) -> None:
    with redis.Redis.from_url(redis_server.redis_url(6)) as admin:
        admin.acl_log_reset()
        admin.acl_setuser(
            "mbevents",
            enabled=True,
            nopass=True,
            keys=["MB:*"],
            reset_channels=True,
            channels=["MB:*"],
            commands=["+@all", "-@dangerous", "+info"],
        )
        url, done = redis_server.redis_url(6).replace("unix://", "unix://mbevents:@"), list[int]()
        try:
            broker = RedisQueues(url)
            actor(broker, "work", "q", noting(done))
            broker.enqueue_many(numbered("q", 2))
            broker.enqueue_many([message("q", "work", n=2)], delay=50)
            broker.reap(max_redeliveries=1)
            drain(broker)
            assert sorted(done) == [0, 1, 2]
            broker.close()
            # With CLIENT redis-py tells its name, and can do without.
            assert [each for each in admin.acl_log() if each["object"] != "client"] == []
        finally:
            admin.acl_deluser("mbevents")


def test_every_trouble_with_redis_is_one_that_workers_wait_out(redis_broker: MakeBroker, redis_server: Stack) -> None:
    broker = redis_broker()
    with redis.Redis.from_url(redis_server.redis_url(6)) as client:
        client.set(broker.keys.queue("q").waiting, "not a list")
        with pytest.raises(ConnectionClosed, match="Redis: "):
            broker.enqueue(message("q", "work", n=1))
        with pytest.raises(ConnectionClosed, match="WRONGTYPE"):
            broker.depths()
