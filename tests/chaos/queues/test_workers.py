"""Workers die at any moment: nothing is lost, and ledgered work is done once."""

import os
import signal
import time
from collections import Counter

from tests.chaos.queues.conftest import Stopwatch, World
from tests.integration.events.queues.support import eventually

# A worker is dead after 6 s without a heartbeat; reapers look every 2 s.
RECOVERY_SECONDS = 10


def test_work_of_a_worker_that_is_killed_in_the_middle_of_it_is_done_once_by_another(world: World) -> None:
    killed = world.start()
    world.give("slow", range(12))
    eventually(lambda: sum(world.started().values()) == 4, 20)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    died = Stopwatch()
    world.start()
    eventually(lambda: world.states() == {"done": 12}, 30)
    assert world.effects() == Counter(range(12))
    # The four that it had started, and three rounds of four by the other, beside the recovery.
    assert died.seconds < RECOVERY_SECONDS + 3 * 1.5 + 3
    assert sum(world.started().values()) == 12 + 4


def test_a_message_that_keeps_killing_its_worker_becomes_a_dead_letter_and_others_go_on(world: World) -> None:
    (task,) = world.give("killer", range(666, 667))
    world.give("quick", range(40))
    world.supervise(2, "--heartbeat-timeout", "1500")
    eventually(lambda: world.states() == {"done": 40, "dead": 1}, 50)
    assert set(world.effects()) == set(range(40))
    assert world.started() == {666: 4}
    ((letter_task, error, message),) = world.rows("SELECT task_id, error, message FROM mbevents.dead_letter")
    assert letter_task == task
    assert error == "its worker died 4 times while working on it"
    assert message["kwargs"]["events"] == [666]


def test_a_worker_that_is_told_to_stop_finishes_what_it_started_and_gives_back_the_rest(world: World) -> None:
    stopped = world.start()
    world.give("slow", range(20))
    eventually(lambda: sum(world.started().values()) == 4, 20)
    stopped.terminate()
    assert stopped.wait(15) == 0
    assert sum(world.effects().values()) == sum(world.started().values()) == 4
    depth = world.broker.depths()["work"]
    assert (depth.waiting, depth.in_progress) == (16, 0)


def test_a_worker_whose_supervisor_was_killed_stops(world: World) -> None:
    supervisor = world.supervise(1)
    world.give("quick", range(1))
    eventually(lambda: world.effects() == {0: 1}, 20)
    ((pid,),) = world.rows("SELECT pid FROM effect")
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: not _runs(pid), 10)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # An orphan that ended may stay as a zombie where nobody collects it.
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().split(") ")[1][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_frozen_worker_that_wakes_up_does_not_undo_what_others_did(world: World) -> None:
    frozen = world.start("--heartbeat-timeout", "1500")
    world.give("slow", range(4))
    eventually(lambda: sum(world.started().values()) == 4, 20)
    frozen.send_signal(signal.SIGSTOP)
    world.start("--heartbeat-timeout", "1500")
    eventually(lambda: world.states() == {"done": 4}, 20)
    frozen.send_signal(signal.SIGCONT)
    time.sleep(2)
    # It had begun and could not know: at least once is all that can be promised here.
    assert set(world.effects().values()) <= {1, 2}
    assert world.states() == {"done": 4}
    depth = world.broker.depths()["work"]
    assert (depth.waiting, depth.in_progress, depth.dead) == (0, 0, 0)
    world.give("quick", range(100, 110))
    eventually(lambda: world.states() == {"done": 14}, 10)
