"""What is shown: the story as it happens, the table at its end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.cli.common import plural
from ops.demo.effects import Effect, Kind, Step

_WIDTH = 110
_SAID = {
    Kind.LOG: "in the log",
    Kind.CHANNEL: "heard on pub/sub",
    Kind.CACHE: "gone from the entity cache",
    Kind.MUSICBRAINZ: "MusicBrainz Server's keys flagged and deleted",
    Kind.ANNOUNCED: "cache.invalidated heard",
    Kind.LEDGER: "work done, by the ledger",
    Kind.READ: "read again: as it is now",
    Kind.PACKET: "applied by the mirror",
    Kind.MIRROR: "a row of the mirror",
    Kind.MIRROR_LOG: "in the mirror's log",
    Kind.MIRROR_CHANNEL: "heard on the mirror's pub/sub",
    Kind.EQUAL: "compared: mirror and master are equal",
}
_COLUMNS = {
    Kind.LOG: "log",
    Kind.CHANNEL: "pub/sub",
    Kind.CACHE: "cache",
    Kind.MUSICBRAINZ: "MB keys",
    Kind.ANNOUNCED: "announced",
    Kind.LEDGER: "ledger",
    Kind.MIRROR: "mirror",
}


class Screen:
    """Writes the story to one stream and progress to another; both in colour on a terminal that wants it."""

    def __init__(self, story: TextIO, progress: TextIO) -> None:
        self._story = _console(story)
        self._progress = _console(progress)
        self._number = 0

    def say(self, text: str = "", style: str = "") -> None:
        self._story.print(Text(text, style=style))

    @contextmanager
    def working(self, what: str) -> Iterator["Working"]:
        """Something that takes a while, then a line with how long it took."""
        began = time.monotonic()
        if self._progress.is_terminal:
            with self._progress.status(Text(what)) as status:
                working = Working(lambda text: status.update(Text(text)), what)
                yield working
        else:
            self._progress.print(Text(f"{what} …"))
            working = Working(lambda text: self._progress.print(Text(f"  {text}")), what)
            yield working
        seconds = time.monotonic() - began
        self._story.print(Text(f"  {working.what:<90} {seconds:5.1f} s"))

    @contextmanager
    def waiting(self) -> Iterator["Working"]:
        """For what says by itself what is waited for, and leaves no line."""
        if self._progress.is_terminal:
            with self._progress.status("") as status:
                yield Working(lambda text: status.update(Text(text)), "")
        else:
            yield Working(lambda text: self._progress.print(Text(f"… {text}")), "")

    def step(self, step: Step) -> None:
        self._number += 1
        title = Text(f"\n{self._number:>2}  ", style="dim")
        title.append(step.title, style="bold" if step.fault is None else "bold yellow")
        self._story.print(title)
        self._line("COMMIT", f"{plural(step.rows, 'row change')} captured, {plural(step.events, 'event')}", "")
        for effect in step.effects:
            self._effect(effect)
        if step.recovery is not None:
            self._line(f"{step.recovery:.1f} s", "to recover, after the fault", "yellow")
        for note in step.notes:
            self._story.print(Text(f"{'':>19}{note}", style="dim"))

    def table(self, steps: list[Step]) -> None:
        """Milliseconds from COMMIT."""
        table = Table(
            title="Milliseconds from the return of COMMIT", title_justify="left", box=None, pad_edge=False,
            title_style="bold",
        )  # fmt: skip
        table.add_column("step", no_wrap=True)
        for name in ("rows", "events", *_COLUMNS.values()):
            table.add_column(name, justify="right")
        for step in steps:
            times = [_cell(step, kind) for kind in _COLUMNS]
            table.add_row(step.name, f"{step.rows:,}", f"{step.events:,}", *times)
        self._story.print()
        self._story.print(table)

    def end(self, summary: Mapping[str, Any]) -> None:
        """The sum of it, and what was not seen."""
        self.say()
        for name, found in summary["latency"].items():
            self.say(f"  {_SAID[Kind(name)]:<46} p50 {found['p50_ms']:>6.1f} ms   max {found['max_ms']:>6.1f} ms")
        for name, seconds in summary["recovery_seconds"].items():
            self.say(f"  {'recovered: ' + name.replace('_', ' '):<46} {seconds:>10.1f} s")
        types = ", ".join(f"{number:,} {name}" for name, number in sorted(summary["events"].items()))
        self.say(f"  {types}")
        self.say()
        numbers = {"row change": summary["rows"], "event": summary["events_total"], "task": summary["tasks"]}
        totals = ", ".join(plural(number, what) for what, number in numbers.items())
        if summary["ok"]:
            self.say(f"Everything arrived: {totals}; lost 0. {summary['seconds']:.0f} s in all.", "bold green")
            return
        self.say(f"Not everything arrived ({totals}):", "bold red")
        for each in summary["missing"]:
            self.say(f"  {each}", "red")

    def _effect(self, effect: Effect) -> None:
        number = "" if effect.wanted == 1 else f" ({effect.wanted:,})"
        if effect.ms is None:
            self._line("never", f"{_SAID[effect.kind]}{number}: {', '.join(effect.missing[:3])}", "bold red")
        else:
            self._line(f"+{effect.ms:,.1f} ms", f"{_SAID[effect.kind]}{number}", "green")

    def _line(self, when: str, what: str, style: str) -> None:
        text = Text(f"{when:>17}  ", style=style or "dim")
        text.append(what, style="red" if "red" in style else "default")
        self._story.print(text)


class Working:
    """What is being done now; `update` shows another part of it, `done` what the line says at its end."""

    def __init__(self, show: Any, what: str) -> None:
        self._show = show
        self.what = what

    def update(self, text: str) -> None:
        self._show(text)

    def done(self, what: str) -> None:
        self.what = what


def _cell(step: Step, kind: Kind) -> str:
    for effect in step.effects:
        if effect.kind is kind:
            return "never" if effect.ms is None else f"{effect.ms:,.1f}"
    return ""


def _console(stream: TextIO) -> Console:
    # Off a terminal the lines are as long as they are: they are read by programs, or by people who can scroll.
    width = None if stream.isatty() else _WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)
