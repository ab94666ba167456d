"""The settings page of the documentation."""

from ops.loading import is_secret
from ops.settings import RedisRole, Settings


def settings_page() -> str:
    """The settings page of the documentation, in Markdown."""
    lines = [
        "# Settings",
        "",
        "<!-- Written by `make generate` from ops/settings.py. -->",
        "",
        "Each is an environment variable, or a line of a file `.env` in the working directory; the environment wins, "
        "and an empty value counts as none.",
        "Instead of any `NAME`, `NAME_FILE` may hold the path of a file with the value: for secrets. "
        "`mbevents config` prints what is in force, secrets hidden, and where each comes from.",
        "A wrong value, or a name that is nearly that of a Redis setting, is told by every command, which then does "
        "nothing (exit code 2).",
        "",
        "| Name | Default | Values | What it does |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        text = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name.upper()}` | {default} | {_values(name)} | {text} |")
    lines += [
        "",
        "One `REDIS_SERVER` serves all roles, each in its own database: "
        + ", ".join(f"{role.name.lower()} {role.value}" for role in RedisRole)
        + ". A role with a URL of its own is served from there. "
        "Those of the broker, of sessions (MusicBrainz Server's store) and of limits must not evict keys "
        "(`maxmemory-policy noeviction`).",
        "",
    ]
    return "\n".join(lines)


def _values(name: str) -> str:
    schema = Settings.model_json_schema(mode="serialization")["properties"][name]
    options = [schema, *schema.get("anyOf", ())]
    for each in options:
        if "enum" in each:
            return ", ".join(f"`{value}`" for value in each["enum"])
        if each.get("type") == "integer":
            least, most = each.get("minimum"), each.get("maximum")
            return f"number, {least} to {most}" if most is not None else f"number, at least {least}"
        if each.get("type") == "number":
            return f"number above {each['exclusiveMinimum']:g}, at most {each['maximum']:g}"
    if is_secret(name):
        return "secret"
    return "path" if any(each.get("format") == "path" for each in options) else "text"
