"""The command line `mbevents`: thin, one file for each group of commands; heavy imports stay where they are used."""


def main() -> None:
    """The entry point."""
    from ops.cli.app import run

    run()
