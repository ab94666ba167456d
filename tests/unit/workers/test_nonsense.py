import pytest

from workers.nonsense import InvalidEventsError, refuse


def test_without_problems_nothing_is_refused() -> None:
    refuse([])


def test_of_many_problems_a_few_are_told() -> None:
    with pytest.raises(InvalidEventsError, match=r"500 of the message's events .*\(0; 1; 2; and 497 more\)"):
        refuse([f"{number}" for number in range(500)])
