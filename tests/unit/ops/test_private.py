import pytest

from ops.private import scrubbed, scrubbed_value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("to a.b+c@d-e.org now", "to <e-mail> now"),
        ("postgresql://mb:pw@db/mb refused", "postgresql://mb:***@db/mb refused"),
        ("connection to host=db password='a b' failed", "connection to host=db password=*** failed"),
        ("bad\nDETAIL:  Failing row (1, x).\nend", "bad\n(a row is not told)\nend"),
        ("bad\nCONTEXT:  COPY t\n  more\nend", "bad\n(a row is not told)\nend"),
        ("wrong [type=a, input_value='x', input_type=str]", "wrong [type=a, input_value=(not told), input_type=str]"),
        (
            "GET https://feed/replication-7.tar.bz2?token=aB3&x=1 failed",
            "GET https://feed/replication-7.tar.bz2?token=***&x=1 failed",
        ),
        ("artist/7 @ 12:30", "artist/7 @ 12:30"),
    ],
)
def test_what_is_private_is_taken_out_and_the_rest_stays(text: str, told: str) -> None:
    assert scrubbed(text) == told


def test_values_are_searched_to_a_bounded_depth() -> None:
    deep: dict[str, object] = {}
    deep["self"] = deep
    assert "a@b.org" not in str(scrubbed_value([{"a@b.org": ("a@b.org", 1, None, 2.5, True)}, deep]))
