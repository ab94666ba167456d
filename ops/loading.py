"""Reads the settings: the environment, `NAME_FILE` for secrets, and `.env`."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import DotEnvSettingsSource

from events.errors import UsageError
from ops.settings import RedisRole, Settings
from ops.urls import hidden

# REDIS_SESSION_URL and REDIS_ENTITY_URL are misspelt; REDIS_SERVICE_HOST and REDIS_CACHE_URL are somebody else's.
_LIKE = 0.85


class Shown(BaseModel, frozen=True):
    """One setting for people: its value without secrets, and where it comes from."""

    name: str
    value: str | int | float | None
    origin: str
    description: str


class Loaded:
    """Settings, and for each that was given where it was found."""

    def __init__(self, settings: Settings, origins: Mapping[str, str]) -> None:
        self.settings = settings
        self._origins = origins

    def shown(self) -> list[Shown]:
        """In the order of declaration."""
        return [
            Shown(
                name=name.upper(),
                value=_shown(getattr(self.settings, name)),
                origin=self._origins.get(name, "default"),
                description=field.description or "",
            )
            for name, field in Settings.model_fields.items()
        ]


def load(environ: Mapping[str, str] | None = None, env_file: Path = Path(".env")) -> Loaded:
    """Read the settings: the environment wins over `.env`; an empty value is none. Raises UsageError for wrong ones."""
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    sources: list[tuple[str, Mapping[str, str | None]]] = [
        (str(env_file), _env_file(env_file)),
        ("environment", dict(os.environ if environ is None else environ)),
    ]
    for origin, source in sources:
        _refuse_misspelt(source, origin)
        for name in Settings.model_fields:
            found = _find(name.upper(), source)
            if found is not None:
                values[name], how = found
                origins[name] = f"{how} ({origin})" if how else origin
    try:
        return Loaded(Settings.model_validate(values), origins)
    except ValidationError as error:
        raise UsageError("\n".join(_problem(each, values, origins) for each in error.errors())) from None


def is_secret(name: str) -> bool:
    """Whether a setting (by field name) is never shown as it is."""
    return SecretStr in get_args(Settings.model_fields[name].annotation)


def _env_file(path: Path) -> Mapping[str, str | None]:
    try:
        return DotEnvSettingsSource(Settings, env_file=path, env_file_encoding="utf-8", case_sensitive=True).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {path} cannot be read: {type(error).__name__}.") from None


def _refuse_misspelt(source: Mapping[str, str | None], origin: str) -> None:
    """A role's URL under a name that nobody reads would leave the role on another Redis without a word.

    Other programs have names with REDIS_ too: only what is like one of ours is refused. Raises UsageError.
    """
    ours = [name for name in (each.upper() for each in Settings.model_fields) if name.startswith("REDIS_")]
    for given, value in source.items():
        name = given.removesuffix("_FILE")
        if not value or not name.startswith("REDIS_") or name in ours:
            continue
        if name.startswith("REDIS_BROKER"):
            meant = ["BROKER_URL"]
        else:
            role = next((role.name for role in RedisRole if name.startswith(f"REDIS_{role.name}")), None)
            meant = [f"REDIS_{role}_URL"] if role else get_close_matches(name, ours, n=1, cutoff=_LIKE)
        if meant:
            raise UsageError(f"{given} (from {origin}) is no setting: rename it to {meant[0]}, or unset it.")


def _find(name: str, source: Mapping[str, str | None]) -> tuple[str, str] | None:
    """The value, and the name of the variable that named its file if one did."""
    direct, by_file = source.get(name) or None, source.get(f"{name}_FILE") or None
    if by_file is None:
        return None if direct is None else (direct, "")
    if direct is not None:
        raise UsageError(f"{name} and {name}_FILE are both set: unset one of them.")
    try:
        value = Path(by_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}_FILE names {by_file}, which cannot be read: {type(error).__name__}.") from None
    if not value:
        raise UsageError(f"{name}_FILE names {by_file}, which is empty.")
    return value, f"{name}_FILE"


def _problem(error: Mapping[str, object], values: Mapping[str, str], origins: Mapping[str, str]) -> str:
    location = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if not isinstance(location, tuple) or not location:
        return message
    name = str(location[0])
    given = "" if is_secret(name) else f" {hidden(values[name])!r}"
    return f"{name.upper()}{given} is wrong (from {origins[name]}): {message[:1].lower()}{message[1:]}."


def _shown(value: object) -> str | int | float | None:
    if isinstance(value, SecretStr):
        return hidden(value.get_secret_value())
    return value if value is None or isinstance(value, int | float) else str(value)
