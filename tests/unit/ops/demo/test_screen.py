import io

from ops.demo.effects import Audit, Effect, Kind, Step, summary
from ops.demo.screen import Screen

STEP = Step(
    "rename",
    "Edit 1 is applied: [the artist] is renamed",
    3,
    1,
    (Effect(Kind.LOG, 2, 2.25), Effect(Kind.CACHE, 1, None, ("artist 95e9aba6",))),
    ("Cached before, gone after: 1 artist.",),
)
AUDIT = Audit({"entity.updated": 2_000}, positions=2_000, unheard=0, twice=0, tasks=1, undone=0, dead=0, stale=0)


def shown(step: Step = STEP, audit: Audit | None = AUDIT) -> str:
    out = io.StringIO()
    screen = Screen(out, io.StringIO())
    screen.step(step)
    screen.table([step])
    screen.end(summary([step], audit, seconds=30))
    return out.getvalue()


def test_off_a_terminal_the_story_is_plain_text() -> None:
    text = shown()
    assert "\x1b" not in text
    assert " 1  Edit 1 is applied: [the artist] is renamed" in text
    assert "3 row changes captured, 1 event\n" in text
    assert "+2.2 ms  in the log (2)" in text


def test_what_was_never_seen_is_named_where_it_was_missed_and_at_the_end() -> None:
    text = shown()
    assert "never  gone from the entity cache: artist 95e9aba6" in text
    assert "Not everything arrived" in text
    assert "rename: cache: artist 95e9aba6" in text


def test_the_end_tells_the_totals_when_all_arrived() -> None:
    seen = Step("vote", "Béla votes yes", 1, 1, (Effect(Kind.LOG, 1, 2.0),), fault="killed", recovery=6.54)
    text = shown(seen)
    assert "6.5 s  to recover" in text
    assert "Everything arrived: 1 row change, 2,000 events, 1 task; lost 0. 30 s in all." in text


def test_what_takes_long_is_told_on_the_other_stream() -> None:
    out, err = io.StringIO(), io.StringIO()
    with Screen(out, err).working("Building") as working:
        working.update("schema 31")
        working.done("Built")
    assert err.getvalue() == "Building …\n  schema 31\n"
    assert out.getvalue().startswith("  Built ")
