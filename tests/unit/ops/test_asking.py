import threading
import time
from collections import Counter

import pytest

from ops.asking import Asking, in_thread


def test_all_are_asked_at_once_and_the_slow_ones_waited_for_no_longer_than_agreed() -> None:
    let_go = threading.Event()
    asking = Asking({"hangs": let_go.wait, "second": lambda: True, "hangs too": let_go.wait})
    began = time.monotonic()
    answers = asking.ask(0.1)
    assert time.monotonic() - began < 1
    assert list(answers) == ["hangs", "second", "hangs too"]
    assert [each.done() for each in answers.values()] == [False, True, False]
    let_go.set()
    assert answers["hangs"].result(5)


def test_one_that_still_hangs_is_not_asked_again_and_answers_when_it_can() -> None:
    asked: Counter[str] = Counter()
    let_go = threading.Event()

    def hangs() -> None:
        asked["hangs"] += 1
        let_go.wait()

    def answers() -> None:
        asked["answers"] += 1

    asking = Asking({"hangs": hangs, "answers": answers})
    for _ in range(3):
        assert not asking.ask(0.01)["hangs"].done()
    assert asked == {"hangs": 1, "answers": 3}
    let_go.set()
    assert asking.ask(5)["hangs"].done()


def test_what_a_question_raises_is_its_answer() -> None:
    def fails() -> None:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"):
        Asking({"fails": fails}).ask(5)["fails"].result()


def test_without_another_thread_it_is_told_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    assert isinstance(in_thread(time.monotonic).exception(), RuntimeError)
