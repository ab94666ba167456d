from typing import Any

import pytest

from workers.limits.core import MOST_REFUSALS, Decision, Scope, decide_without_redis, headers_of, postponed_ms

SCOPE = Scope("web", "somebody", 10)


@pytest.mark.parametrize(
    ("retry_after", "told"), [(0.000001, "1"), (0.5, "1"), (1.0, "1"), (1.000001, "2"), (59.2, "60")]
)
def test_who_waits_as_long_as_retry_after_says_is_never_too_early(retry_after: float, told: str) -> None:
    headers = dict(headers_of(Decision("refused", SCOPE, 0, retry_after, 1795656859.2, 1795656858900000)))
    assert headers == {
        "Retry-After": told,
        "X-RateLimit-Limit": "10",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1795656860",
    }


def test_what_is_allowed_is_told_what_remains_and_no_wait() -> None:
    headers = dict(headers_of(Decision("allowed", SCOPE, 9, 0.0, 1795656859.0, 1795656858000000)))
    assert headers == {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "1795656859"}


def test_without_redis_nothing_is_told_that_nobody_knows() -> None:
    assert headers_of(decide_without_redis([SCOPE], "open")) == []
    assert headers_of(decide_without_redis([SCOPE], "closed")) == [("Retry-After", "2")]


def test_without_redis_a_scope_answers_as_it_says_and_otherwise_as_the_default_has_it() -> None:
    always = Scope("web", "k", 1, without_redis="open")
    never = Scope("wikidata", "k", 1, without_redis="closed")
    assert decide_without_redis([always], "closed").allowed
    assert not decide_without_redis([never], "open").allowed
    # One that is closed is enough.
    decision = decide_without_redis([always, SCOPE, never], "open")
    assert (decision.allowed, decision.outcome, decision.scope) == (False, "unavailable_closed", never)
    assert decide_without_redis([always, SCOPE], "open").outcome == "unavailable_open"


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"limit": -1}, {"limit": 10**9}, {"seconds": 0}, {"seconds": -1.0}, {"seconds": float("nan")},
     {"seconds": float("inf")}],
)  # fmt: skip
def test_a_limit_that_makes_no_sense_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="The limit web is"):
        Scope(**{"name": "web", "key": "k", "limit": 1, **wrong})


def test_work_is_put_off_for_as_long_as_it_is_told_and_at_each_refusal_a_little_more() -> None:
    decision = Decision("refused", Scope("x", "k", 1, 10.0), 0, 1.2345678, 0.0, 1)
    for refusals, most in ((1, 2_235), (10, 11_235), (MOST_REFUSALS, 301_235), (10**6, 301_235)):
        delays = [postponed_ms(decision, refusals) for _ in range(200)]
        assert min(delays) >= 1_235
        assert (most - 1_235) / 2 < max(delays) - 1_235 <= most - 1_235
