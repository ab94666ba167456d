from ops.demo.story import ACTS, auto_edit, counted
from workers.caches.keys import EntityKey


def test_entities_are_counted_by_type_in_the_order_of_their_first() -> None:
    keys = [EntityKey("artist", "a"), *(EntityKey("release_group", str(n)) for n in range(1_000))]
    assert counted(keys) == "1 artist, 1,000 release groups"


def test_an_auto_edit_is_opened_and_closed() -> None:
    assert auto_edit(7) == {("edit.opened", "edit/7"), ("edit.closed", "edit/7")}


def test_every_act_has_a_name_of_its_own() -> None:
    names = [act.name for act in ACTS]
    assert len(set(names)) == len(names)
