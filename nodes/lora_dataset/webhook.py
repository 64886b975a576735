"""Progress sent to a web address: in the background, never to a private network unasked, never in the way of the work. What is worth telling is the caller's.

An address that a workflow brings must not let anybody reach into the network of the machine that runs it: its name is resolved once, every address
behind it is checked, and the connection goes to an address that was checked, under the name that the certificate must have.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, LikenessError
from ..installation import needed

log = logging.getLogger("likeness")

ALLOW_PRIVATE = "LIKENESS_WEBHOOK_ALLOW_PRIVATE"
# To connect, to send and for each piece of the answer, of which the first lines are read only.
SECONDS = 3.0
# What still waits when the work is done has so long, and from half of it on only the newest is sent.
LAST_SECONDS = 1.0
# Progress goes stale: beyond so many the oldest makes room.
MOST_WAITING = 16
LARGEST_BYTES = 64 * 1024
# A name may have many addresses; one that cannot be reached, as IPv6 without a route, is not the end.
MOST_TRIED = 3

# An IPv4 address is in the last 32 bits of these (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# (host, port) -> addresses; raises OSError.
Resolve = Callable[[str, int], Sequence[str]]


def addresses_of(host: str, port: int) -> list[str]:
    """The IP addresses of a name, in the system's order of preference. Raises OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def not_public(address: str) -> str:
    """What makes an IP address none of the public internet, such as `private` or `loopback`; "" for a public one.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is what that is.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "no address"
    return next(filter(None, map(_kind, _meant(ip))), "")


def _meant(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    if ip.version == 6:
        if ip.ipv4_mapped:
            yield ip.ipv4_mapped
            return
        if ip.sixtofour:
            yield ip.sixtofour
        if ip in _NAT64:
            yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
            return
    yield ip


def _kind(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    for kind in ("unspecified", "loopback", "link_local", "multicast", "private", "reserved"):
        if getattr(ip, f"is_{kind}"):
            return kind.replace("_", "-")
    if getattr(ip, "is_site_local", False):
        return "private"
    return "" if ip.is_global else "not public"


class Webhook:
    """Posts progress as JSON to an https address. trouble: why something did not arrive, the first time; "" as long as all did.

    environ: where LIKENESS_WEBHOOK_ALLOW_PRIVATE is looked up; set to 1 it allows http and addresses of private networks. resolve: how a name becomes
    addresses. ca: a file with the only certificates that are trusted; the usual ones without it. Raises InputError for an address that cannot be used,
    MissingPackageError without httpx. Nothing that happens later is an error: it is logged once, without what the address says behind its host.
    """

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ, *, resolve: Resolve = addresses_of, ca: Path | None = None):
        with needed("httpx"):
            import httpx
        import ssl

        self._private_allowed = environ.get(ALLOW_PRIVATE, "").strip().lower() in ("1", "true", "yes", "on")
        self._url = _checked(url, self._private_allowed)
        self._host, self._port = self._url.raw_host.decode("ascii"), self._url.port or {"https": 443, "http": 80}[self._url.scheme]
        self._resolve = resolve
        # No client: it would log whole addresses, follow the proxies of the environment, and has redirects and cookies to be turned off.
        self._transport = httpx.HTTPTransport(verify=ssl.create_default_context(cafile=ca) if ca else True)
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed_at: float | None = None
        self.trouble = ""

    def send(self, progress: Mapping[str, Any]) -> None:
        """Have this sent, soon and in order; returns at once. Where much waits, the oldest is left out. Values that JSON has not are sent as text."""
        try:
            body = json.dumps(dict(progress), allow_nan=False, default=str).encode("ascii")
        except Exception as error:
            # default=str runs foreign code.
            self._fail(f"a report cannot be written as JSON ({type(error).__name__})")
            return
        if len(body) > LARGEST_BYTES:
            self._fail(f"a report has {len(body)} bytes, more than the {LARGEST_BYTES} that are sent")
            return
        with self._changed:
            if self._closed_at is not None:
                return
            self._waiting.append(body)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="likeness-webhook", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Let what waits be sent, for at most LAST_SECONDS; what is not sent by then never is."""
        with self._changed:
            if self._closed_at is not None:
                return
            self._closed_at = time.monotonic()
            self._changed.notify()
        if self._thread is None:
            self._transport.close()
            return
        self._thread.join(LAST_SECONDS)
        with self._changed:
            if self._waiting:
                self._fail(f"{len(self._waiting)} reports were not sent, since the work was done first")
                self._waiting.clear()

    def __enter__(self) -> Webhook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed_at is not None)
                if not self._waiting:
                    break
                if self._closed_at is not None and time.monotonic() > self._closed_at + LAST_SECONDS / 2:
                    while len(self._waiting) > 1:
                        self._waiting.popleft()
                body = self._waiting.popleft()
            try:
                self._post(body)
            except _NotSentError as reason:
                self._fail(str(reason))
            except Exception as error:
                # The text of an error may hold the address.
                self._fail(f"sending failed ({type(error).__name__})")
        self._transport.close()

    def _post(self, body: bytes) -> None:
        import httpx

        headers = {"Host": self._url.netloc.decode("ascii"), "Content-Type": "application/json", "User-Agent": "character-likeness", "Connection": "close"}
        extensions = {"timeout": httpx.Timeout(SECONDS).as_dict(), "sni_hostname": self._host}
        addresses = self._addresses()
        for number, address in enumerate(addresses, 1):
            request = httpx.Request("POST", self._url.copy_with(host=address), headers=headers, content=body, extensions=extensions)
            try:
                response = self._transport.handle_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if number < len(addresses):
                    continue
                raise _NotSentError(f"no connection is possible ({_reason(error)})") from None
            except httpx.TimeoutException:
                raise _NotSentError(f"there was no answer within {SECONDS:g} seconds") from None
            except httpx.TransportError as error:
                raise _NotSentError(f"the connection broke ({_reason(error)})") from None
            status = response.status_code
            response.close()
            if 300 <= status < 400:
                raise _NotSentError(f"it answers {status}, a redirect, and none is followed; give the address that it leads to")
            if not 200 <= status < 300:
                raise _NotSentError(f"it answers {status}")
            return

    def _addresses(self) -> list[str]:
        """The addresses to try. All are checked: which one a system would take is not in our hands."""
        try:
            found = list(dict.fromkeys(self._resolve(self._host, self._port)))
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise _NotSentError("its name has no address")
        for address in found if not self._private_allowed else ():
            if kind := not_public(address):
                raise _NotSentError(f"{address} is {kind}, and only public addresses are sent to; set {ALLOW_PRIVATE}=1 where that is meant")
        return found[:MOST_TRIED]

    def _fail(self, reason: str) -> None:
        if not self.trouble:
            self.trouble = f"The webhook at {self._url.scheme}://{self._host} did not get everything: {reason}."
            log.warning("%s", self.trouble)


class _NotSentError(Exception):
    """Why a report did not arrive."""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _checked(url: str, private_allowed: bool) -> Any:
    """The address as httpx.URL. No message repeats it: it may hold secrets."""
    import httpx

    try:
        parsed = httpx.URL(url.strip())
    except (httpx.InvalidURL, TypeError, AttributeError):
        raise InputError("The webhook's address cannot be read; give one like https://example.com/progress.") from None
    if not parsed.scheme or not parsed.raw_host or not 0 < (parsed.port or 443) < 65536:
        raise InputError("The webhook's address has no scheme, no host or no such port; give one like https://example.com/progress.")
    if parsed.scheme != "https" and not (parsed.scheme == "http" and private_allowed):
        more = f" (http only with {ALLOW_PRIVATE}=1)" if parsed.scheme == "http" else ""
        raise InputError(f"The webhook's address begins with '{parsed.scheme}:'; it must be https{more}.")
    if parsed.userinfo:
        raise InputError("The webhook's address holds a user name or password before its host; put a token into its path or query instead.")
    return parsed.copy_with(fragment=None)


@contextmanager
def told(url: str | None, name: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Gives what tells the address how far the dataset or sweep `name` is; without an address, or with one that cannot be used, it tells nobody."""
    try:
        hook = Webhook(url) if url else None
    except LikenessError as error:
        # The work is worth more than the telling of it.
        log.warning("Webhook: %s", error)
        hook = None
    if hook is None:
        yield lambda progress: None
        return
    with hook:
        yield lambda progress: hook.send({"name": name, **progress})
