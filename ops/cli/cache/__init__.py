"""`mbevents cache`: what the caches have, why, and forgetting it."""

import typer

from ops.cli.cache import get, invalidate, stats, why

app = typer.Typer(help="The caches: entities by MBID, searches, statistics.", no_args_is_help=True)
for group in (get, why, invalidate, stats):
    group.register(app)
