"""Addresses of servers: read, given a database's number, and shown without what is secret in them."""

import re
from inspect import signature
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

HIDDEN = "***"
_SECRET_PARAMETERS = {"password", "sslpassword", "passfile", "token"}
_CONNINFO_SECRET = re.compile(r"((?:ssl)?password)\s*=\s*(?:'(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)
_REDIS_SCHEMES = {"redis", "rediss", "unix"}
# What a URL may say of a connection beside its address. The rest, such as time-outs and the size of pools, is ours.
_REDIS_OPTIONS = {"db", "username", "password", "client_name", "protocol"}


def redis_base(server: str) -> str:
    """The URL of a Redis server given as `host`, `host:port` or URL. Raises ValueError, which never quotes it."""
    url = server if "://" in server else f"redis://{server}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("its port is not a number from 0 to 65535, or its address is not closed") from None
    if parts.scheme not in _REDIS_SCHEMES:
        raise ValueError("it must be host:port, redis://…, rediss://… or unix://…")
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise ValueError("a unix:// address needs the absolute path of a socket")
    elif not parts.hostname:
        raise ValueError("the host is missing")
    _check_redis(parts)
    # Of a path and this Redis's client takes this.
    if any(name == "db" for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError("it must not choose a database (db=…): each role has its own")
    if parts.scheme == "unix":
        return url
    if parts.path not in ("", "/", "/0"):
        raise ValueError("it must not choose a database (a path): each role has its own")
    where = parts.netloc if port is not None else f"{parts.netloc.removesuffix(':')}:6379"
    return urlunsplit((parts.scheme, where, "", parts.query, ""))


def check_role_url(url: str, *schemes: str) -> None:
    """Whether the URL of one role can be used. Raises ValueError, which never quotes it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("its port is not a number from 0 to 65535, or its address is not closed") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it must be a URL that begins with {', '.join(f'{each}://' for each in schemes)}")
    if parts.scheme not in _REDIS_SCHEMES:
        return
    if parts.scheme == "unix" and not parts.path.startswith("/"):
        raise ValueError("a unix:// address needs the absolute path of a socket")
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError("the host is missing")
    # Redis's client takes database 0 for what it cannot read: another role's.
    path = "" if parts.scheme == "unix" else parts.path.removeprefix("/")
    numbers = [path] if path else []
    numbers += [value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name == "db"]
    if not all(re.fullmatch("[0-9]+", number) for number in numbers):
        raise ValueError("its database is not a number: write redis://host:port/5, or unix:///path?db=5")
    _check_redis(parts)


def _check_redis(parts: SplitResult) -> None:
    """What Redis's client would only stumble over when it connects."""
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        raise ValueError("its host is no name: a part of it is empty or longer than 63 letters") from None
    known = set(_REDIS_OPTIONS)
    if parts.scheme == "rediss":
        from redis import SSLConnection

        known |= {name for name in signature(SSLConnection).parameters if name.startswith("ssl_")}
    if not known.issuperset(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError(f"it has an option (after the ?) that is none of {', '.join(sorted(known))}")


def numbered(base: str, database: int) -> str:
    """`redis_base`'s URL with the number of a database."""
    parts = urlsplit(base)
    if parts.scheme == "unix":
        query = urlencode([*parse_qsl(parts.query), ("db", str(database))])
        # Not urlunsplit: it writes `unix:/path` where there is no host.
        return f"unix://{parts.netloc}{parts.path}?{query}"
    return urlunsplit((parts.scheme, parts.netloc, f"/{database}", parts.query, ""))


def database_name(url: str) -> str:
    """The database that a PostgreSQL URL or conninfo names. Raises ValueError, which never quotes it."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme and scheme not in {"postgresql", "postgres"} and "=" not in scheme:
        raise ValueError("it must begin with postgresql:// (without a driver's name)")
    try:
        fields = conninfo_to_dict(url)
    except (psycopg.Error, ValueError):
        raise ValueError(
            "it cannot be read: write postgresql://user:password@host:port/database, with special characters of the "
            "password as %XX"
        ) from None
    name = fields.get("dbname")
    if not name:
        raise ValueError("it names no database: write postgresql://…/musicbrainz")
    return str(name)


def hidden(address: str) -> str:
    """An address as it may be shown: without passwords, and without the user where it is one (Sentry)."""
    if "://" not in address:
        if "@" in address:
            return f"{HIDDEN}@{address.rpartition('@')[2]}"
        return _CONNINFO_SECRET.sub(rf"\1={HIDDEN}", address)
    try:
        parts = urlsplit(address)
    except ValueError:
        return HIDDEN
    where = parts.netloc
    if "@" in where:
        user, _, host = where.rpartition("@")
        name, colon, _ = user.partition(":")
        if parts.scheme in {"http", "https"}:
            name = HIDDEN
        where = f"{name}{colon and f':{HIDDEN}'}@{host}"
    query = "&".join(
        f"{name}={HIDDEN if name.lower() in _SECRET_PARAMETERS else quote(value, safe='/:,')}"
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return f"{parts.scheme}://{where}{parts.path}{query and f'?{query}'}"


def parsed_listen(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 address stands in brackets. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("it must be host:port, like 127.0.0.1:9100")
    bare = host.removeprefix("[").removesuffix("]")
    if ":" in bare and host == bare:
        raise ValueError("an IPv6 address stands in brackets, like [::1]:9100")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host's address; names other than localhost are not looked up."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
