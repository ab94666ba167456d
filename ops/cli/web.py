"""`mbevents web`."""

import typer


def register(app: typer.Typer) -> None:
    app.command()(web)


def web() -> None:
    """Serve the feed of packets, entities, metrics and health over HTTP.

    On WEB_LISTEN: /api/musicbrainz (packets, for those with a token), /entity (what the database has, cached), /session
    (who is signed in), /metrics (of the whole system), /healthz (alive) and /readyz (what it depends on answers).
    """
    from ops.cli.common import load_settings, say_news, told
    from ops.service import running
    from ops.web.server import serve
    from ops.wiring import open_runtime

    settings = load_settings(service=True).settings
    with (
        told(settings),
        running("web", settings) as service,
        open_runtime(settings, progress=say_news, telemetry=service.telemetry, create_redis=True) as parts,
    ):
        serve(parts, service)
        raise typer.Exit(service.exit_code)
