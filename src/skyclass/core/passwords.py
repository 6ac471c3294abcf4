"""Passwords, tokens and keys masked in all text that is shown or stored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

MASK = "***"
SHORTEST = 4  # letters of a secret that is masked by its value alone: shorter ones occur in ordinary words
_SECRET = re.compile(
    r"(password|passwd|passphrase|passcode|pwd|secret|token|credentials?|signature"
    r"|(api|access|private|secret|account)[_-]?key)$|^(pass|sig|auth)$",
    re.IGNORECASE,
)
# Each pattern looks so far from where it begins, and no farther: a label may be a text of any length.
# user:password@ behind ://, the password up to the @ before the host (SQLAlchemy lets it hold slashes). An address that
# was taken for a path has one slash left.
_USER_INFO = re.compile(r"(:/{1,2}[^:/?#@\s'\"]{0,1000}):[^@\s'\"]{0,1000}@(?:[^/?#@\s'\"]{0,1000}@){0,9}")
# A token in the place of a user, where the web has one: https://TOKEN@host.
_WEB_USER = re.compile(r"(\b(?:https?|git\+https?|ftp):/{1,2})[^:/?#@\s'\"]{1,1000}@", re.IGNORECASE)
# key=value of URLs and of libpq's connection strings, "key": value of JSON and of Python.
_PAIR = re.compile(
    r"(?<![\w.%+-])(?P<key>[\w.%+-]+)(?P<between>\s{0,9}=\s{0,9}|['\"]\s{0,9}[:=]\s{0,9})"
    r"(?P<value>'(?:[^'\\]|\\.){0,1000}'|\"(?:[^\"\\]|\\.){0,1000}\"|[^\s&]+)"
)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with *** in place of each password that can be recognised in it.

    Parameters
    ----------
    text : an address, a command, the message of an error, ...
    secrets : values known to be secret (see `secrets_in`), masked wherever they occur

    Returns
    -------
    The text without the passwords of addresses (user:password@host, https://token@host), without the values of
    `password=`, `sslpassword=`, `token=` and the like, also where the name of the key is percent-encoded, and without
    `secrets`.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if "=" in text or ":" in text:
        text = _WEB_USER.sub(rf"\1{MASK}@", _USER_INFO.sub(rf"\1:{MASK}@", text))
        text = _PAIR.sub(_masked_pair, text)
    return text


def secrets_in(url: str) -> list[str]:
    """The passwords of an address, as written and percent-decoded, those of at least `SHORTEST` letters."""
    found = [match.group(0)[len(match.group(1)) + 1 : -1] for match in _USER_INFO.finditer(url)]
    _, _, query = url.partition("?")
    found += [value for key, value in parse_qsl(query) if _SECRET.search(key)]
    found += [part.partition("=")[2] for part in re.split("[&;]", query) if _SECRET.search(_key(part))]
    found += [form(one) for one in found for form in (unquote, unquote_plus)]
    return sorted({one for one in found if len(one) >= SHORTEST})


def _key(pair: str) -> str:
    return unquote(pair.partition("=")[0])


def _masked_pair(match: re.Match[str]) -> str:
    if not _SECRET.search(unquote(match["key"])):
        return match[0]
    value = match["value"]
    quote = value[0] if value[0] in "'\"" else ""
    return f"{match['key']}{match['between']}{quote}{MASK}{quote}"


def host_of(url: str) -> str:
    """The host of an address, without a user and a password."""
    return urlsplit(url).netloc.rpartition("@")[2]
