"""Which URLs and addresses a user may have us call: public ones only."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from .core import CallError, Kind, port_of

# Beside what `ipaddress` knows, whose lists differ between releases of Python.
_SPECIAL = [
    *map(ip_network, ("0.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4")),
    ip_network("168.63.129.16/32"),  # Azure's own services, which answer every machine there
]
_GLOBAL_UNICAST = ip_network("2000::/3")
# Documentation, and what carries an IPv4 address that somebody else's relay would connect to: 6to4, Teredo and kin.
_REFUSED_6 = [*map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))]
_NAT64 = ip_network("64:ff9b::/96")

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# By the rules of browsers and of libc, a host that ends so is an IPv4 address: 2130706433, 0x7f.1, 0177.0.0.1.
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)")
_WEB_PORTS = frozenset({80, 443})
# Those above 1023 that browsers refuse, since what listens there may take HTTP for its own commands.
_BAD_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
)


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is one of the internet at large."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        if found in _NAT64:
            # What IPv6-only networks have instead of IPv4: the way to the address that is in it.
            return is_public(str(IPv4Address(found.packed[-4:])))
        return found in _GLOBAL_UNICAST and not found.scope_id and found.is_global and not _among(found, _REFUSED_6)
    return found.is_global and not found.is_multicast and not _among(found, _SPECIAL)


def check_url(url: httpx.URL, *, allow_http: bool) -> None:
    """Raises CallError for what a user may not give; where the host leads is seen when it is resolved."""
    if url.scheme != "https" and not allow_http:
        raise CallError(Kind.BAD_URL, "Only https:// is taken.")
    port = port_of(url)
    if port not in _WEB_PORTS and (port < 1024 or port in _BAD_PORTS):
        raise CallError(Kind.BAD_URL, f"Port {port} is not taken.")
    host = url.raw_host.decode("ascii").lower()
    if ":" in host or _is_dotted(host):
        if not is_public(host):
            raise CallError(Kind.FORBIDDEN_ADDRESS, f"{host} is not a public address.")
    elif _NUMERIC.fullmatch(host) or not _NAME.fullmatch(host):
        raise CallError(Kind.BAD_URL, "Its host is neither a name nor an address in its usual form.")


def _is_dotted(host: str) -> bool:
    try:
        return str(IPv4Address(host)) == host
    except ValueError:
        return False


def _among(address: IPv4Address | IPv6Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
