import psycopg
import psycopg_pool
import pytest
from fastapi import Response

from events.errors import NotFoundError, UnreachableError, UsageError
from ops.web.reading import problems_told


def answer_to(error: Exception) -> Response:
    @problems_told
    def answering() -> Response:
        raise error

    return answering()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("what?"), 400),
        (NotFoundError("nobody"), 404),
        (UnreachableError("away"), 503),
        (psycopg_pool.PoolTimeout("away"), 503),
        (psycopg.errors.QueryCanceled("too long"), 503),
    ],
)
def test_what_cannot_be_answered_is_a_problem(error: Exception, status: int) -> None:
    answer = answer_to(error)
    assert (answer.status_code, answer.media_type) == (status, "application/problem+json")
    assert (answer.headers.get("retry-after") == "5") == (status == 503)


def test_a_query_of_ours_that_is_wrong_is_not_taken_for_a_server_that_is_away() -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        answer_to(psycopg.errors.UndefinedTable("no such table"))
