"""
Which names a certificate may carry, and which file names follow from them.

What is refused here could not be typed, printed, logged or stored safely later:
control characters, separators, names longer than RFC 5280 allows (64 for a CN).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from openai_relay.authority.errors import AuthorityError

LONGEST_NAME: Final = 64  #: ub-common-name of RFC 5280, counted in bytes as strict readers do

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")
_UNSAFE_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9._@+-]")


@dataclass(frozen=True, slots=True)
class AlternativeNames:
    """What a client certificate says beside its CN; a relay may take the client's name from any of it."""

    dns: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()
    email: tuple[str, ...] = ()

    def general_names(self) -> list[x509.GeneralName]:
        """The names, checked, in the order DNS, URI, e-mail."""
        return [
            *(x509.DNSName(dns_name(each)) for each in self.dns),
            *(x509.UniformResourceIdentifier(uri_name(each)) for each in self.uri),
            *(x509.RFC822Name(email_name(each)) for each in self.email),
        ]


def client_name(text: str) -> str:
    """A client's name as it goes into the CN: printable, at most 64 bytes of UTF-8, no separators."""
    name = unicodedata.normalize("NFC", text)
    if not name.strip():
        raise AuthorityError("The name is empty", "Give a name, such as alice or alice@example.org", repr(text))
    if not name.isprintable():
        raise AuthorityError("The name holds characters that do not print", "Leave them out", repr(_clip(text)))
    if "/" in name or "\\" in name:
        raise AuthorityError("The name holds a path separator", "Leave out / and \\", repr(_clip(text)))
    length = len(name.encode())
    if length > LONGEST_NAME:
        what = f"The name is {length} bytes long and a certificate's name has at most {LONGEST_NAME}"
        raise AuthorityError(what, "Give a shorter one", repr(_clip(text)))
    if name != name.strip() or name[0] in ".-":
        raise AuthorityError("The name starts with a dot or a dash, or has space around it", "Change that", repr(text))
    return name


def implied_names(name: str) -> AlternativeNames:
    """The alternative names of a client that gave none: its name, where that is an e-mail address or a host name."""
    for kind, check in (("email", email_name), ("dns", dns_name)):
        try:
            return AlternativeNames(**{kind: (check(name),)})
        except AuthorityError:
            continue
    return AlternativeNames()


def host_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """What a server answers to: addresses and host names, ``*.`` allowed, each once."""
    names: dict[x509.GeneralName, None] = {}
    for host in hosts:
        try:
            names[x509.IPAddress(ipaddress.ip_address(host))] = None
        except ValueError:
            names[x509.DNSName(dns_name(host, wildcard=True))] = None
    if not names:
        raise AuthorityError("A server certificate needs a name", "Give a host name or an address")
    return list(names)


def dns_name(text: str, wildcard: bool = False) -> str:
    """A host name in its ASCII form, lower case."""
    name = text.lower()
    labels = name.removeprefix("*.").split(".") if wildcard else name.split(".")
    legal = len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    if not legal or labels[-1].isdigit():
        do = "Give a name such as relay.example.org, without scheme or port; other scripts in their xn-- form"
        raise AuthorityError("This is not a host name", do, repr(_clip(text)))
    return name


def uri_name(text: str) -> str:
    """An absolute URI in ASCII, such as a SPIFFE ID."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    legal = text.isascii() and text.isprintable() and not re.search(r'[\s<>"{}|\\^`]', text)
    if not (legal and parts.scheme and (parts.netloc or parts.path)):
        raise AuthorityError(
            "This is not an absolute URI", "Give one such as spiffe://example.org/alice", repr(_clip(text))
        )
    return text


def email_name(text: str) -> str:
    """An e-mail address in ASCII."""
    mailbox, _, host = text.rpartition("@")
    try:
        if not _MAILBOX.fullmatch(mailbox):
            raise ValueError
        dns_name(host)
    except (ValueError, AuthorityError):
        raise AuthorityError(
            "This is not an e-mail address", "Give one such as alice@example.org", repr(_clip(text))
        ) from None
    return text


def name_text(name: x509.GeneralName) -> str:
    """One alternative name as people know it: ``DNS:relay.example.org``."""
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case x509.DirectoryName():
            return f"DirName:{name.value.rfc4514_string()}"
        case _:
            return type(name).__name__


def named(text: str) -> x509.GeneralName:
    """
    The alternative name that ``name_text`` has made this of.

    :raises AuthorityError: it is of a kind that is not issued here.
    """
    kind, _, value = text.partition(":")
    match kind:
        case "DNS":
            return x509.DNSName(value)
        case "IP":
            return x509.IPAddress(ipaddress.ip_address(value))
        case "URI":
            return x509.UniformResourceIdentifier(value)
        case "email":
            return x509.RFC822Name(value)
        case _:
            what = "A certificate with an alternative name of this kind cannot be renewed"
            raise AuthorityError(what, "Issue one with `openai-relay cert issue`", repr(_clip(text)))


def file_stem(name: str) -> str:
    """
    A file name, without its ending, that is safe on every file system and still says whose it is.

    Where a character had to go, a digest of the whole name keeps two names apart.
    """
    safe = _UNSAFE_IN_FILE_NAME.sub("_", name)
    if safe == name and not safe.startswith((".", "-")):
        return safe
    return f"{safe.lstrip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _clip(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"
