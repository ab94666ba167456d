import json
import random
import signal
import time

import pytest

from tests.acceptance.demo.conftest import Demo

STEPS = [
    "register", "propose", "vote", "note", "rename", "merge", "link", "bulk", "worker_killed", "queues_lost", "mirror",
    "followed",
]  # fmt: skip


@pytest.mark.timeout(180)
def test_the_demo_sees_every_effect_of_every_edit_and_leaves_nothing(demo: Demo) -> None:
    process = demo.start("--json")
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    (line,) = out.splitlines()
    told = json.loads(line)
    assert told["ok"]
    assert (told["lost"], told["missing"]) == (0, [])
    assert [step["name"] for step in told["steps"]] == STEPS
    effects = {step["name"]: step["effects"] for step in told["steps"]}
    assert all(effect["seen"] for each in effects.values() for effect in each.values())
    assert effects["rename"]["cache"]["number"] > 8
    assert effects["bulk"]["cache"]["number"] == 2_000
    assert set(effects["merge"]) == {"log", "channel", "cache", "musicbrainz", "announced", "ledger", "read"}
    assert told["events"]["entity.merged"] == told["events"]["link.added"] == told["events"]["edit.noted"] == 1
    assert told["events_total"] == sum(told["events"].values()) > 6_000
    assert told["latency"]["cache"]["p50_ms"] > 0
    # What is stated for a killed worker, and room for a machine that has other things to do.
    assert told["recovery_seconds"]["worker_killed"] < 10 + 5
    assert told["recovery_seconds"]["queues_lost"] < 10 + 5
    assert set(effects["followed"]) == {"mirror", "mirror_log", "mirror_channel", "equal"}
    # A packet every second, and room for a machine that has other things to do.
    assert effects["followed"]["mirror"]["ms"] < 15_000
    assert told["events"]["packet.published"] >= 2
    assert "Everything arrived" in err
    assert demo.left() == []


# What it says first, and how long it goes on after that at the least.
MOMENTS = [("Starting PostgreSQL", 4), ("Starting bridge", 14), ("the mirror applies its first packet", 4)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("said", "latest"), MOMENTS)
def test_interrupted_at_any_moment_it_leaves_no_process_and_no_file(
    demo: Demo, number: signal.Signals, said: str, latest: float
) -> None:
    after = random.uniform(0, latest)
    process = demo.start()
    assert process.stderr is not None
    assert any(said in line for line in process.stderr)
    time.sleep(after)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (after, out, err)
    assert "Interrupted" in err, after
    assert "Traceback" not in err, after
    assert demo.left() == [], after
