"""Addresses that texts and keys may be sent to."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit


def is_on_loopback(url: str) -> bool:
    """True for an address of this machine, which no other one sees."""
    name = urlsplit(url).hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def is_safe_address(url: str) -> bool:
    """True for https anywhere and http on this machine; without a password, which records would show, and a query."""
    try:
        parts: SplitResult = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url and not (parts.query or parts.fragment or "@" in parts.netloc)
    return has_host and plain and (parts.scheme == "https" or (parts.scheme == "http" and is_on_loopback(url)))
