"""Which release this is."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    try:
        return installed("mbevents")
    except PackageNotFoundError:
        return "unknown"
