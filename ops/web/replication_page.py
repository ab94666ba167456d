"""The page of /replication-status: plain HTML that needs neither scripts nor anything from elsewhere.

Every text goes through `_text`: an error may quote whatever somebody wrote into a row.
"""

from collections.abc import Iterable, Sequence
from html import escape

from ops.replication import RUN_HEADERS, facts, runs
from workers.replication.status.core import Status
from workers.replication.status.verdict import Level, verdict

STYLE = """
:root { color-scheme: light dark; --line: #8885 }
:root { --ok: #1a7f37; --warning: #8a5a00; --critical: #b3261e; --unknown: #57606a }
@media (prefers-color-scheme: dark) {
  :root { --ok: #56d364; --warning: #e3b341; --critical: #ff8b80; --unknown: #adbac7 }
}
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem }
.state { border-left: .4rem solid; padding: .3rem .8rem }
.ok { color: var(--ok) }
.warning { color: var(--warning) }
.critical { color: var(--critical) }
.unknown { color: var(--unknown) }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; margin: 0 }
dt, dd { margin: 0; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
td:last-child { min-width: 14rem }
@media (max-width: 30rem) {
  dl { grid-template-columns: 1fr }
  dt { border: 0; padding-bottom: 0; font-weight: 600 }
}
a { color: inherit }
"""


def page(status: Status) -> bytes:
    """The state now."""
    found = verdict(status)
    parts = [
        _state(found.level, found.text),
        "<dl>",
        *(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts(status)),
        "</dl>",
    ]
    if status.mirror is not None:
        parts.append("<h2>Last runs</h2>")
        told = runs(status)
        parts.append(_table(RUN_HEADERS, told) if told else "<p>There was none yet.</p>")
    parts.append(f"<p>As of {_text(status.at.strftime('%Y-%m-%d %H:%M:%S %Z'))}. <a href=''>Read it again</a></p>")
    return _document(parts)


def failed(problem: str) -> bytes:
    """That nothing is known."""
    return _document([_state("UNKNOWN", problem)])


def _document(parts: Iterable[str]) -> bytes:
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>Replication</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        "<h1>Replication</h1>",
        *parts,
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join([*lines, ""]).encode()


def _state(level: Level, text: str) -> str:
    return f'<p class="state {level.lower()}"><strong>{level}</strong>: {_text(text)}</p>'


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(each.capitalize())}</th>' for each in headers)
    body = "\n".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    # It may be wider than a telephone; then it is scrolled, with a keyboard too.
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Last runs">'
        f"<table>\n<tr>{head}</tr>\n{body}\n</table></div>"
    )


def _text(value: str) -> str:
    return escape(value, quote=True)
