"""Requests signed for S3 and stores like it: AWS Signature Version 4, by the signer of botocore.

Invariant: what is signed is what is sent: path and query are encoded once, in the one way that signer and store know,
and `Host` is what `Web` sends, port included. The content's digest is signed, over TLS too.
Source: Amazon S3, "Authenticating Requests (AWS Signature Version 4)"; its path is not normalised, nor encoded twice.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from agent.probes.key_file import KeyFile
from agent.probes.web import Answer, host
from protos.error import ProbeError

OWN_HEADERS: Final = frozenset(
    ("host", "date", "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token")
)
_GONE: Final = frozenset(("NoSuchKey", "NoSuchBucket", "NoSuchVersion"))
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
_MEANING: Final = {
    "RequestTimeTooSkewed": "this node's clock and the store's are more than 15 minutes apart",
    "SignatureDoesNotMatch": "the secret is not the key's, or what is between changes requests",
    "InvalidAccessKeyId": "the store does not know the key",
    "AuthorizationHeaderMalformed": "the region may be another",
    "InvalidToken": "the store does not know the session token, or not with that key",
    "ExpiredToken": "the session token has expired: whoever writes the file must renew it",
    "AccessDenied": "the key may not do that; without s3:ListBucket it is said of objects that are not there, too",
}


def missing() -> str:
    return "" if importlib.util.find_spec("botocore") else "needs botocore: pip install 'blackstart[s3]'"


def is_region(text: str) -> bool:
    return bool(_REGION.fullmatch(text))


def is_gone(answer: Answer) -> bool:
    """Whether the store says that there is no such object. A bare 404 is also said of a key that it does not know."""
    return answer.status == 404 and _code(answer) in _GONE


def reason(answer: Answer) -> str:
    """The error's code in the answer of a store, with what it means; empty where there is none."""
    code = _code(answer)
    return f"{code}: {_MEANING[code]}" if code in _MEANING else code


def _code(answer: Answer) -> str:
    found = _CODE.search(answer.body)
    return found[1].decode() if found else ""


class Signer:
    """Signs with the key that *keys* has at the time. *headers*: of every request; some of them are signed, too."""

    def __init__(self, keys: KeyFile, headers: dict[str, str]) -> None:
        self._keys = keys
        self._headers = {
            name: value
            for name, value in headers.items()
            if name.lower().startswith("x-amz-") or name.lower() in ("content-type", "content-md5")
        }
        self._request: Any = None
        self._auth: Any = None

    async def open(self) -> None:
        """Loads the library, beside the loop; ProbeError where there is no key."""
        self._request, self._auth = await asyncio.to_thread(_load)
        self._keys.key()

    def sign(self, method: str, url: str, content: bytes | None, region: str) -> tuple[str, dict[str, str]]:
        """*url* as it is to be sent, and the headers to send beside those of every request."""
        key, url = self._keys.key(), encoded(url)
        headers = {"Host": host(urlsplit(url)), **self._headers}
        failed = ""
        try:
            request = self._request(method=method, url=url, data=content, headers=headers)
            self._auth(key, "s3", region).add_auth(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, its traceback has the secret in it
            failed = type(error).__name__
        if failed:
            raise ProbeError(f"a request could not be signed: {failed}")
        return url, {name: value for name, value in request.headers.items() if name not in headers}


def encoded(url: str) -> str:
    """*url* with path and query in the form that is signed: all but unreserved characters as %XX, once."""
    parts = urlsplit(url)
    path = quote(unquote_to_bytes(parts.path), safe="/~") or "/"
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    query = "&".join(f"{_strict(name)}={_strict(value)}" for name, _, value in pairs)
    return f"{parts.scheme}://{parts.netloc}{path}" + (f"?{query}" if query else "")


def _strict(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="~")


def _load() -> tuple[Any, Any]:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest

    logging.getLogger("botocore.auth").setLevel(logging.WARNING)  # at DEBUG it tells the session token
    return AWSRequest, S3SigV4Auth
