"""What the two hot routes answer, recorded from them as Litestar's typed handlers served them.

Keys, methods, encodings and lengths at their edges. Clients may rely on all of it, so whatever serves these
two paths must give the same, document by document.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from service.settings import BODY_BYTES_MAX
from tests.service.raw_http import Headers, Sent

VARY = ("vary", "Origin")
ORIGIN = ("Origin", "https://shop.example")
EVIL = ("Origin", "https://evil.example")
ALLOWED = ("access-control-allow-origin", "https://shop.example")


@dataclass(frozen=True)
class Refused:
    """A problem document, and the headers beside it."""

    status: int
    code: str
    detail: str
    errors: tuple[tuple[str, str, str], ...] = ()
    headers: Headers = (VARY,)

    def document(self) -> dict[str, Any]:
        errors = [{"pointer": p, "code": c, "remedy": r} for p, c, r in self.errors]
        named = {"status": self.status, "detail": self.detail, "code": self.code, "errors": errors}
        return {"type": "about:blank", "title": HTTPStatus(self.status).phrase, **named}


@dataclass(frozen=True)
class Done:
    """200 with an answer of the route."""

    headers: Headers = (VARY,)


def at(pointer: str, code: str, remedy: str, status: int = 400) -> Refused:
    return Refused(status, code, f"{pointer or '/'}: {remedy}", ((pointer, code, remedy),))


def malformed(remedy: str) -> Refused:
    return at("", "malformed_json", remedy)


def unauthorised(detail: str) -> Refused:
    return Refused(401, "unauthorised", detail, headers=(("www-authenticate", "Bearer"), VARY))


OK = Done()
NO_KEY = unauthorised("send a key: Authorization: Bearer sk_... or X-API-Key: sk_...")
WRONG_KEY = unauthorised("this key is unknown or revoked")
BROWSER = Refused(
    403,
    "secret_key_in_browser",
    "a secret key must never be in a browser: revoke it, and use a pk_ key there",
)
NO_SCOPE = Refused(403, "scope_missing", "this call needs a key with the scope {name}")
NO_METHOD = Refused(
    405,
    "method_not_allowed",
    "this path takes POST, OPTIONS; see /schema",
    headers=(("allow", "POST, OPTIONS"), VARY),
)
NO_PATH = Refused(404, "no_such_route", "there is nothing at this path; see /schema", headers=())
TOO_LARGE = Refused(413, "body_too_large", "a body may have at most 1 MiB; split it")
DEEP = malformed("nest at most a few hundred levels deep")
NO_NUMBER = at("/context/a", "not_a_number", "write a finite number; JSON has no NaN or Infinity")


def foreign(origin: str) -> Refused:
    detail = f"add {origin} to the store's origins (PATCH /v1/store) to allow it"
    return Refused(403, "origin_not_allowed", detail)


def bearer(key: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {key}")


def api_key(key: str) -> tuple[str, str]:
    return ("X-API-Key", key)


NONE = ("Authorization", "")
# name: (the request; {SK}, {PK}, {READ} and {PATH} are filled in, GOOD is the route's own body), (answer)
GOOD = b"GOOD"


def post(*headers: tuple[str, str], body: bytes = GOOD, target: str = "{PATH}", **more: Any) -> Sent:
    return Sent(target=target, headers=headers, body=body, **more)


KEYS: dict[str, tuple[Sent, Done | Refused]] = {
    "bearer": (post(), OK),
    "no key": (post(NONE), NO_KEY),
    "no key, no JSON": (post(NONE, body=b"{"), NO_KEY),
    "no key, too large": (post(NONE, body=b" " * (BODY_BYTES_MAX + 1)), NO_KEY),
    "a key nobody has": (post(bearer("sk_" + "a" * 32)), WRONG_KEY),
    "a key not ASCII": (post(bearer("sk_é")), WRONG_KEY),
    "a key of 5,000": (post(bearer("x" * 5000)), WRONG_KEY),
    "another scheme": (post(("Authorization", "Basic dTpw")), NO_KEY),
    "no scheme": (post(("Authorization", "{SK}")), NO_KEY),
    "a scheme and no key": (post(("Authorization", "Bearer")), NO_KEY),
    "a tab between": (post(("Authorization", "Bearer\t{SK}")), NO_KEY),
    "two spaces between": (post(("Authorization", "Bearer  {SK} ")), OK),
    "small letters": (post(("authorization", "bearer {SK}")), OK),
    "capitals": (post(("AUTHORIZATION", "BEARER {SK}")), OK),
    "X-API-Key": (post(NONE, api_key("{SK}")), OK),
    "x-api-key": (post(NONE, ("x-api-key", "{SK}")), OK),
    "X-API-KEY": (post(NONE, ("X-API-KEY", "{SK}")), OK),
    "another scheme, X-API-Key": (post(("Authorization", "Basic dTpw"), api_key("{SK}")), OK),
    "a scheme alone, X-API-Key": (post(("Authorization", "Bearer"), api_key("{SK}")), OK),
    "both, the bearer wrong": (post(bearer("sk_x"), api_key("{SK}")), WRONG_KEY),
    "both, the bearer right": (post(bearer("{SK}"), api_key("sk_x")), OK),
    "two bearers, the first right": (post(bearer("{SK}"), bearer("sk_x")), OK),
    "two bearers, the last right": (post(bearer("sk_x"), bearer("{SK}")), WRONG_KEY),
    "two X-API-Key, the first right": (post(NONE, api_key("{SK}"), api_key("sk_x")), OK),
    "two X-API-Key, the last right": (post(NONE, api_key("sk_x"), api_key("{SK}")), WRONG_KEY),
    "a key without the scope": (post(bearer("{READ}")), NO_SCOPE),
    "no scope, no JSON": (post(bearer("{READ}"), body=b"{"), NO_SCOPE),
    "no scope, too large": (post(bearer("{READ}"), body=b" " * (BODY_BYTES_MAX + 1)), NO_SCOPE),
    "a secret key in a browser": (post(ORIGIN), BROWSER),
    "a secret key in a file": (post(("Origin", "null")), BROWSER),
    "no scope, in a browser": (post(bearer("{READ}"), ORIGIN), BROWSER),
    "publishable": (post(bearer("{PK}")), OK),
    "publishable, its origin": (post(bearer("{PK}"), ORIGIN), Done((ALLOWED, VARY))),
    "publishable, another origin": (post(bearer("{PK}"), EVIL), foreign("https://evil.example")),
    "publishable, an origin in capitals": (
        post(bearer("{PK}"), ("Origin", "https://Shop.example")),
        foreign("https://Shop.example"),
    ),
    "publishable, an origin without end": (
        post(bearer("{PK}"), ("Origin", "https://" + "e" * 300)),
        foreign("https://" + "e" * 248),
    ),
    "publishable, two origins": (post(bearer("{PK}"), ORIGIN, EVIL), Done((ALLOWED, VARY))),
    "publishable, two origins, the last its": (
        post(bearer("{PK}"), EVIL, ORIGIN),
        foreign("https://evil.example"),
    ),
    "publishable, its origin, no JSON": (
        post(bearer("{PK}"), ORIGIN, body=b"[]"),
        replace(at("", "wrong_type", "must be object, found array"), headers=(ALLOWED, VARY)),
    ),
    "a secret key in the address": (post(NONE, target="{PATH}?key={SK}"), NO_KEY),
    "a key in the address, in capitals": (post(NONE, target="{PATH}?KEY={PK}"), NO_KEY),
    "a key in the address and one beside": (post(target="{PATH}?key=pk_x"), OK),
}
PATHS_AND_METHODS: dict[str, tuple[Sent, Done | Refused]] = {
    **{f"{m}": (Sent(m, "{PATH}"), NO_METHOD) for m in ("GET", "PUT", "PATCH", "DELETE", "HEAD", "TRACE")},
    "GET without a key": (Sent("GET", "{PATH}", (NONE,)), NO_METHOD),
    "a slash behind": (post(target="{PATH}/"), OK),
    "a slash before": (post(target="/{PATH}"), OK),
    "a letter escaped": (post(target="{ESCAPED}"), OK),
    "a slash behind, no key": (post(NONE, target="{PATH}/"), NO_KEY),
    "the whole address": (post(target="http://shop.test{PATH}"), OK),
    "something below": (post(target="{PATH}/x"), NO_PATH),
    "in capitals": (post(target="{UPPER}"), NO_PATH),
    "a query": (post(target="{PATH}?x=1&x=2"), OK),
    "a query that is none": (post(target="{PATH}?%ff=%zz&"), OK),
    "an empty query": (post(target="{PATH}?"), OK),
    "an anchor": (post(target="{PATH}#a"), OK),
}
ENCODINGS: dict[str, tuple[Sent, Done | Refused]] = {
    "no body": (post(body=b""), malformed("send one JSON value; Expecting value at line 1, column 1")),
    "no length": (
        post(("Content-Length", ""), body=b""),
        malformed("send one JSON value; Expecting value at line 1, column 1"),
    ),
    "one over a mebibyte": (post(body=b" " * (BODY_BYTES_MAX + 1)), TOO_LARGE),
    "a length over a mebibyte": (post(("Content-Length", str(BODY_BYTES_MAX + 1)), body=b""), TOO_LARGE),
    "in chunks": (post(is_chunked=True), OK),
    "in chunks, one over": (post(body=b" " * (BODY_BYTES_MAX + 1), is_chunked=True), TOO_LARGE),
    "in chunks, three times": (post(body=b"{" * 3 * BODY_BYTES_MAX, is_chunked=True), TOO_LARGE),
    "gzip": (
        post(("Content-Encoding", "gzip"), body=gzip.compress(b"{}", mtime=0)),
        malformed("send UTF-8; byte 1 is not"),
    ),
    "gzip by name alone": (post(("Content-Encoding", "gzip")), OK),
    "no type": (post(("Content-Type", "")), OK),
    "a beacon's type": (post(("Content-Type", "text/plain;charset=UTF-8")), OK),
    "a form's type": (post(("Content-Type", "application/x-www-form-urlencoded")), OK),
    "parts": (post(("Content-Type", "multipart/form-data; boundary=x")), OK),
    "another alphabet": (post(("Content-Type", "application/json; charset=latin-1")), OK),
    "two types": (post(("Content-Type", "application/json"), ("Content-Type", "text/xml")), OK),
    "wanting XML": (post(("Accept", "application/xml")), OK),
    "wanting gzip": (post(("Accept-Encoding", "gzip")), OK),
    "expecting to go on": (post(("Expect", "100-continue")), OK),
    "a byte order mark": (post(body=b"\xef\xbb\xbf{}"), malformed("send one JSON value in UTF-8")),
    "UTF-16": (post(body="{}".encode("utf-16")), malformed("send one JSON value in UTF-8")),
    "a name not UTF-8": (post(body=b'{"\xff": 1}'), malformed("send UTF-8; byte 2 is not")),
    "half a surrogate": (post(body=b'{"unit_id": "\\ud800"}'), malformed("send one JSON value in UTF-8")),
    "two values": (post(body=b"{}{}"), malformed("send one JSON value; Extra data at line 1, column 3")),
    "null": (post(body=b"null"), at("", "wrong_type", "must be object, found null")),
    "a list": (post(body=b"[]"), at("", "wrong_type", "must be object, found array")),
    "a number": (post(body=b"1"), at("", "wrong_type", "must be object, found int")),
    "objects without end": (post(body=b'{"a":' * 100_000), DEEP),
    "lists without end": (post(body=b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), DEEP),
    "5,000 digits": (
        post(body=b'{"a": ' + b"1" * 5000 + b"}"),
        malformed("write numbers of at most 4,300 digits"),
    ),
    "NaN": (post(body=b'{"context": {"a": NaN}}'), NO_NUMBER),
    "1e999": (post(body=b'{"context": {"a": 1e999}}'), NO_NUMBER),
}
BOTH = {**KEYS, **PATHS_AND_METHODS, **ENCODINGS}
EVENT_KEYS: dict[str, tuple[str, Done | Refused]] = {
    "?key={PK}": ("", OK),
    "?key={PK}&key=pk_x": ("", OK),
    "?key=pk_x&key={PK}": ("", WRONG_KEY),
    "?key=pk_nobody": ("", WRONG_KEY),
    "?key=": ("", NO_KEY),
}
