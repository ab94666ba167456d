import socket
import time

import pytest

from events.deadlines import LEAST_SECONDS, SHARE, CutSocket, Question, due_within


@pytest.fixture
def question() -> Question:
    return Question()


def begun(question: Question, most: float = 1.0) -> float:
    question.begin()
    return question.cut(most)


def test_who_has_no_deadline_waits_as_long_as_it_takes(question: Question) -> None:
    assert begun(question) == 1.0
    assert not question.was_cut


def test_a_question_takes_a_part_of_what_is_left_and_no_more_than_it_would(question: Question) -> None:
    assert LEAST_SECONDS <= 0.2 * SHARE
    with due_within(0.4):
        assert 0.2 * SHARE < begun(question) <= 0.4 * SHARE
        assert question.was_cut
    with due_within(60):
        assert begun(question) == 1.0
        assert not question.was_cut


def test_one_that_comes_too_late_gets_a_little_all_the_same(question: Question) -> None:
    for seconds in (0.0, -5.0):
        with due_within(seconds):
            assert 0 < begun(question) <= LEAST_SECONDS


def test_all_waits_of_a_question_share_its_time(question: Question) -> None:
    with due_within(0.0):
        first = begun(question)
        time.sleep(0.01)
        assert question.cut(1.0) <= first - 0.01
        time.sleep(LEAST_SECONDS)
        with pytest.raises(TimeoutError):
            question.cut(1.0)


def test_the_sooner_of_two_deadlines_counts(question: Question) -> None:
    with due_within(0.4), due_within(60):
        assert 0.2 * SHARE < begun(question) <= 0.4 * SHARE
    with due_within(60), due_within(0.4):
        assert 0.2 * SHARE < begun(question) <= 0.4 * SHARE


def test_what_is_done_after_a_question_and_after_the_block_is_in_no_hurry(question: Question) -> None:
    with due_within(0.0):
        question.begin()
        question.end()
        assert question.cut(1.0) == 1.0
    assert begun(question) == 1.0


def test_an_answer_that_comes_in_small_pieces_takes_no_longer(question: Question) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, due_within(0.0):
        question.begin()
        began, cut = time.monotonic(), CutSocket(ours, question, 1.0)

        def read() -> None:
            while True:
                theirs.sendall(b".")
                cut.recv(1)
                time.sleep(0.005)

        with pytest.raises(TimeoutError):
            read()
        assert time.monotonic() - began < 0.5
        with pytest.raises(TimeoutError):
            cut.sendall(b"x")
