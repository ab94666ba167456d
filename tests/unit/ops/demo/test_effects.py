import json

import pytest

from ops.demo.effects import Audit, Effect, Kind, Step, Watch, latencies, missing, proven, summary

FINE = Audit({"edit.voted": 2}, positions=2, unheard=0, twice=0, tasks=1, undone=0, dead=0, stale=0)


def step(name: str, *effects: Effect, fault: str | None = None, bulk: bool = False) -> Step:
    return Step(name, name.title(), 1, 1, effects, fault=fault, recovery=None if fault is None else 2.5, bulk=bulk)


def test_a_watch_is_done_when_all_was_seen_and_tells_when_the_last_was() -> None:
    watch = Watch(Kind.LOG, [("edit.opened", "edit/1"), ("edit.closed", "edit/1")])
    watch.saw([("edit.opened", "edit/1"), ("edit.voted", "edit/1")], at=10.001)
    early = watch.done
    watch.saw([("edit.closed", "edit/1")], at=10.004)
    watch.saw([("edit.closed", "edit/1")], at=11)
    assert (early, watch.done) == (False, True)
    effect = watch.effect(since=10)
    assert effect is not None
    assert (effect.seen, effect.wanted) == (True, 2)
    assert effect.ms == pytest.approx(4)


def test_what_was_never_seen_is_named_and_has_no_time() -> None:
    watch = Watch(Kind.LOG, [("edit.opened", "edit/1"), ("edit.closed", "edit/1")])
    watch.saw([("edit.opened", "edit/1")], at=1)
    assert watch.effect(since=0) == Effect(Kind.LOG, 2, None, ("edit.closed edit/1",))


def test_where_nothing_is_waited_for_there_is_no_effect() -> None:
    watch: Watch[str] = Watch(Kind.CACHE, [])
    assert watch.done
    assert watch.effect(since=0) is None


def test_what_was_seen_before_commit_returned_took_no_time() -> None:
    watch = Watch(Kind.CHANNEL, ["x"])
    watch.saw(["x"], at=0.9)
    effect = watch.effect(since=1)
    assert effect is not None
    assert effect.ms == 0


def test_a_station_that_was_looked_at_late_was_reached_before_a_later_one() -> None:
    seen = [Effect(Kind.LOG, 1, 9.0), Effect(Kind.CHANNEL, 1, 4.0), Effect(Kind.CACHE, 1, 3.0)]
    assert [effect.ms for effect in proven(seen)] == [3.0, 4.0, 3.0]
    never = [Effect(Kind.LOG, 1, None, ("x",)), Effect(Kind.CHANNEL, 1, 4.0)]
    assert proven(never) == never


def test_latencies_are_those_of_single_edits() -> None:
    steps = [
        step("vote", Effect(Kind.LOG, 1, 2.0)),
        step("note", Effect(Kind.LOG, 1, 4.0), Effect(Kind.READ, 1, 90.0)),
        step("link", Effect(Kind.LOG, 1, None, ("x",))),
        step("bulk", Effect(Kind.LOG, 1, 900.0), bulk=True),
        step("killed", Effect(Kind.LOG, 1, 7000.0), fault="killed"),
    ]
    assert latencies(steps) == {"log": {"n": 2, "p50_ms": 3.0, "max_ms": 4.0}}


def test_everything_that_was_not_seen_is_named_but_not_endlessly() -> None:
    steps = [step("bulk", Effect(Kind.CACHE, 9, None, tuple(f"recording {n}" for n in range(9))))]
    audit = Audit({"edit.voted": 2}, positions=3, unheard=1, twice=5, tasks=4, undone=1, dead=2, stale=1)
    assert missing(steps, audit) == [
        "bulk: cache: recording 0, recording 1, recording 2, recording 3, recording 4 and 4 more",
        "audit: 1 positions of the log without an event",
        "audit: 1 events that nobody heard",
        "audit: 1 tasks that are not done",
        "audit: 2 dead letters",
        "audit: 1 cached documents that are stale",
    ]
    assert audit.lost == 5


def test_the_summary_is_ok_only_when_everything_was_seen() -> None:
    seen, unseen = step("vote", Effect(Kind.LOG, 1, 2.0)), step("vote", Effect(Kind.LOG, 1, None, ("x",)))
    assert summary([seen], FINE, seconds=1)["ok"]
    assert not summary([unseen], FINE, seconds=1)["ok"]
    assert not summary([seen], None, seconds=1)["ok"]
    assert summary([seen], None, seconds=1)["lost"] is None


def test_the_summary_is_json_and_tells_recovery_of_faults_only() -> None:
    steps = [
        step("vote", Effect(Kind.LOG, 1, 2.006)),
        step("killed", Effect(Kind.LOG, 1, None, ("x",)), fault="killed"),
    ]
    told = json.loads(json.dumps(summary(steps, FINE, seconds=12.34)))
    assert told["seconds"] == 12.3
    assert told["recovery_seconds"] == {"killed": 2.5}
    assert told["steps"][0]["effects"] == {"log": {"seen": True, "number": 1, "ms": 2.01}}
    assert told["steps"][1]["effects"] == {"log": {"seen": False, "number": 1}}
    assert "fault" not in told["steps"][0]
    assert (told["events_total"], told["tasks"], told["lost"]) == (2, 1, 0)
