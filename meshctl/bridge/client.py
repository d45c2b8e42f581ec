"""NHS England's `MeshClient`, kept to MESH's own address, for messages that are sent once.

It checks each answer before anybody reads it: a redirect is never followed, and the body of an answer without
a payload is empty or one JSON object of a few megabytes, and comes in time.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from io import BytesIO
from time import monotonic
from typing import Any, Final
from urllib.parse import quote, urlsplit
from weakref import WeakKeyDictionary

from mesh_client import INT_ENDPOINT, LIVE_ENDPOINT, Endpoint, MeshClient
from requests import RequestException, Response
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl.bridge.answers import (
    TAKEN,
    BridgeFault,
    FailureKind,
    NotMeshError,
    StoppedError,
    fault_of,
    is_nothing,
    object_in,
    object_of,
)
from meshctl.settings.types import LOCAL_HOSTS

ENDPOINTS: Final[Mapping[str, Endpoint | str]] = {
    "live": LIVE_ENDPOINT,
    "integration": INT_ENDPOINT,
    "sandbox": "http://localhost:8700",
}
# MESH lists 500 a page; the rest is there at the next poll.
_MOST_PAGES: Final = 1000
_BLOCK_BYTES: Final = 1 << 16
# 500 ids a page are 20 kB; an error with its details is smaller.
_MOST_BYTES: Final = 4 << 20
_WITH_PAYLOAD: Final = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})
_MOST_STATUS: Final = 600


class Waiting:
    """How long one client waits for an answer, in one go: its head, or the next piece of its body.

    A socket's own timeout starts again with each byte, so that a head of a byte a second never ends. Another
    thread calls `break_off` often, and so ends what takes longer than `seconds`.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._now: tuple[socket.socket, float] | None = None
        self._sockets: WeakKeyDictionary[HTTPResponse, object] = WeakKeyDictionary()

    def comes_over(self, response: HTTPResponse, sock: object) -> None:
        """Remember the connection that the body of an answer comes over."""
        self._sockets[response] = sock

    @contextmanager
    def on(self, connection: object) -> Iterator[None]:
        """Wait for something of a connection while the block lasts."""
        # Through a proxy that itself speaks TLS, urllib3 has the socket within an object of its own.
        inner = connection if isinstance(connection, socket.socket) else getattr(connection, "socket", None)
        self._now = (inner, monotonic() + self.seconds) if isinstance(inner, socket.socket) else None
        try:
            yield
        finally:
            self._now = None

    def read(self, response: Response, *, decode: bool) -> bytes:
        """Return the next bytes of a body, none at its end. Raises urllib3.exceptions.HTTPError."""
        with self.on(self._sockets.get(response.raw)):
            data: bytes = response.raw.read1(_BLOCK_BYTES, decode_content=decode)
        return data

    def break_off(self) -> None:
        """End a wait that takes too long: to the waiting thread, the connection has broken off."""
        now = self._now
        if now is not None and monotonic() > now[1]:
            with suppress(OSError):
                # Below TLS, whose own state belongs to the thread that waits.
                socket.socket.shutdown(now[0], socket.SHUT_RDWR)


def _watched(pool: type[HTTPConnectionPool], waiting: Waiting) -> type:
    """Return a class of connection pools which wait for the head of an answer as `waiting` says."""
    plain: Any = pool.ConnectionCls

    def getresponse(connection: Any) -> Any:
        # A connection that ends with its answer lets go of it.
        sock = connection.sock
        with waiting.on(sock):
            response = plain.getresponse(connection)
        waiting.comes_over(response, sock)
        return response

    connection = type("WatchedConnection", (plain,), {"getresponse": getresponse})
    return type("WatchedPool", (pool,), {"ConnectionCls": connection})


class BridgeClient(MeshClient):
    """A client for one mailbox, which talks to MESH's own address and trusts no other.

    A connection over which nothing was sent for `idle_seconds` is not trusted with a message. `should_stop`
    is asked while an answer comes in.
    """

    # Load balancers forget a connection after a minute or so; what is sent in a row shares one.
    idle_seconds = 5.0
    _posted_at = float("-inf")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # urllib3 writes the keys of every TLS connection into the file that it names.
        os.environ.pop("SSLKEYLOGFILE", None)
        super().__init__(*arguments, **options)
        self.should_stop: Callable[[], bool] = lambda: False
        session = self._session
        proxies = {} if urlsplit(self._url).hostname in LOCAL_HOSTS else get_environ_proxies(self._url)
        session.proxies = {**proxies, **session.proxies}
        # Also $REQUESTS_CA_BUNDLE: see `verify_by`.
        session.trust_env = False
        # For every other address there is nothing to call it with.
        adapter = session.adapters[self._url]
        session.adapters.clear()
        session.mount(f"{self._url}/", adapter)
        session.hooks["response"] = [self._check]
        self.waiting = Waiting(max(2 * float(self._timeout), 60.0))
        self._limit_waits(adapter)

    def _limit_waits(self, adapter: Any) -> None:
        """Have every connection, also one through a proxy, wait as `waiting` says."""
        pools = {
            "http": _watched(HTTPConnectionPool, self.waiting),
            "https": _watched(HTTPSConnectionPool, self.waiting),
        }
        adapter.poolmanager.pool_classes_by_scheme = pools
        manager_for = adapter.proxy_manager_for

        def proxy_manager_for(proxy: str, **options: Any) -> Any:
            manager = manager_for(proxy, **options)
            manager.pool_classes_by_scheme = pools
            return manager

        adapter.proxy_manager_for = proxy_manager_for

    def verify_by(self, ca_bundle: str | None) -> None:
        """Trust the authorities in this file alone; None for those that requests has."""
        self._session.verify = ca_bundle or True

    def _check(self, response: Response, **options: Any) -> None:
        """Look at each answer first: before a redirect is followed, and before any of its body is read.

        Raises NotMeshError if it cannot be MESH's; reads it, unless it carries a payload. Raises
        StoppedError, RequestException.
        """
        status = response.status_code
        has_payload = bool(options.get("stream"))
        tracking = f"{self.mailbox_url}/outbox/tracking/"
        # Several messages with one LocalId.
        is_several = status == HTTPStatus.MULTIPLE_CHOICES and (response.url or "").startswith(tracking)
        is_taken = status in (_WITH_PAYLOAD if has_payload else TAKEN)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and not is_several:
            response.close()
            raise NotMeshError(f"what answered is not MESH: it redirects to another address (HTTP {status})")
        if not is_taken and not is_several and not HTTPStatus.BAD_REQUEST <= status < _MOST_STATUS:
            response.close()
            raise NotMeshError(f"what answered is not MESH: it never answers like that (HTTP {status})")
        if has_payload and is_taken:
            return
        body = self._read(response)
        # So that nobody reads it a second time, without a limit.
        response.raw = HTTPResponse(BytesIO(body), preload_content=False, status=status)
        if is_taken and not is_nothing(body) and object_in(body) is None:
            raise NotMeshError(f"what answered is not MESH: its answer is no JSON object (HTTP {status})")
        if response.url == self.mailbox_url and is_taken and response.content.strip():
            answer = object_of(response)
            if answer.get("mailboxId", answer.get("mailbox_id")) not in (None, self._mailbox):
                raise NotMeshError("what answered is not MESH: its handshake is for another mailbox")

    def _read(self, response: Response) -> bytes:
        """Return the body of an answer; close one that is too long or takes too long."""
        give_up_at = monotonic() + self.waiting.seconds
        body = bytearray()
        try:
            while piece := self.waiting.read(response, decode=True):
                body += piece
                self._check_reading(len(body), give_up_at)
        except BaseException:
            response.close()
            raise
        response.raw.release_conn()
        return bytes(body)

    def _check_reading(self, size_bytes: int, give_up_at: float) -> None:
        if self.should_stop():
            raise StoppedError
        if size_bytes > _MOST_BYTES:
            raise NotMeshError("what answered is not MESH: its answer does not end")
        if monotonic() > give_up_at:
            raise NotMeshError("MESH was reached and did not answer in time")

    def message_ids(self) -> Iterator[object]:
        """Yield what the inbox lists, oldest first; an id may be anything that JSON can be.

        Raises requests.RequestException; NotMeshError for a list, or the address of its next page, that
        cannot be MESH's. Ends at a page that has nothing new.
        """
        seen: set[str] = set()
        url = f"{self.mailbox_url}/inbox"
        for _ in range(_MOST_PAGES):
            page = self._get(url)
            listed = page.get("messages")
            if not isinstance(listed, list):
                raise NotMeshError("what answered is not MESH: its list of the inbox has no messages")
            seen_before = len(seen)
            for one in listed:
                seen.add(one if isinstance(one, str) else repr(one))
                yield one
            links = page.get("links")
            following = links.get("next") if isinstance(links, Mapping) else None
            if following is None or len(seen) == seen_before or self.should_stop():
                return
            url = self._own_url(following)

    def _own_url(self, link: object) -> str:
        """Return the URL of a link that MESH gave. Raises NotMeshError if it leads elsewhere."""
        if isinstance(link, str) and link.startswith("/") and not link.startswith("//"):
            try:
                url = urlsplit(f"{self._url}{link}")
            except ValueError:
                pass
            else:
                own = urlsplit(self._url)
                if (url.scheme, url.netloc) == (own.scheme, own.netloc):
                    return url.geturl()
        raise NotMeshError("what answered is not MESH: its list of the inbox leads elsewhere")

    def send_chunk(
        self,
        recipient: str,
        chunk: Any,
        chunk_num: int,
        total_chunks: int,
        compress: bool | None = None,
        message_id: str | None = None,
        **kwargs: Any,
    ) -> Response:
        """Send a chunk as `MeshClient` does, a message's first one never over a connection that was idle.

        Such a connection may have died unnoticed, and then nobody knows whether the message arrived.
        """
        if chunk_num == 1 and monotonic() - self._posted_at > self.idle_seconds:
            self._session.close()
        response: Response = super().send_chunk(
            recipient, chunk, chunk_num, total_chunks, compress, message_id, **kwargs
        )
        self._posted_at = monotonic()
        return response

    def track(self, mesh_id: str) -> Mapping[str, Any]:
        """Return what MESH says of a message by its MESH id. Raises requests.RequestException."""
        return self._get(f"{self.mailbox_url}/outbox/tracking", params={"messageID": mesh_id})

    def status_of(self, mesh_id: str) -> object:
        """Return the status that MESH gives of a message; None if MESH rejects the question.

        Raises BridgeFault.
        """
        try:
            return self.track(mesh_id).get("status") or ""
        except (RequestException, Urllib3Error) as error:
            fault = fault_of(error)
            if fault.kind is FailureKind.REJECTED:
                return None
            raise BridgeFault(fault) from None

    def track_local_id(self, local_id: str) -> Response:
        """Return what MESH says of the messages sent from this mailbox with a LocalId.

        404: there is none; 300: there are several. Only version 1 of the API has it. Raises
        requests.RequestException.
        """
        return self._session.get(
            f"{self.mailbox_url}/outbox/tracking/{quote(local_id, safe='')}",
            headers={"Accept": "application/vnd.mesh.v1+json"},
            timeout=self._timeout,
        )

    def lookup(self, ods_code: str, workflow_id: str) -> Mapping[str, Any]:
        """Return which mailboxes of an organisation take a workflow id. Raises requests.RequestException."""
        path = f"{quote(ods_code, safe='')}/{quote(workflow_id, safe='')}"
        return self._get(f"{self._url}/messageexchange/endpointlookup/{path}")

    def _get(self, url: str, **options: Any) -> Mapping[str, Any]:
        response = self._session.get(url, timeout=self._timeout, **options)
        response.raise_for_status()
        return object_of(response)
