"""NHS England's `MeshClient`, kept to MESH's own address, with what sending each message once needs."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from mesh_client import INT_ENDPOINT, LIVE_ENDPOINT, Endpoint, MeshClient
from requests import Response
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from meshctl.bridge.answers import NotMeshError, Waiting, check_answer, object_of
from meshctl.settings.types import LOCAL_HOSTS

ENDPOINTS: Final[Mapping[str, Endpoint | str]] = {
    "live": LIVE_ENDPOINT,
    "integration": INT_ENDPOINT,
    "sandbox": "http://localhost:8700",
}
# MESH lists 500 a page; the rest is there at the next poll.
_MOST_PAGES: Final = 1000


def _mailbox_in(response: Response) -> object:
    """Return the mailbox that an answer to a handshake names; None if it names none."""
    body = object_of(response) if response.content.strip() else {}
    return body.get("mailboxId", body.get("mailbox_id"))


def _watched(pool: type[HTTPConnectionPool], waiting: Waiting) -> type:
    """Return a kind of connection pool whose connections wait for the head of an answer as `waiting` says."""
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
    """A client for one mailbox, which talks to MESH's own address and believes no other.

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
        self._watch(adapter)

    def _watch(self, adapter: Any) -> None:
        """Have every connection say since when it waits for the head of an answer."""
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
        """Believe servers by the authorities in this file alone, None for those that requests has."""
        self._session.verify = ca_bundle or True

    def _check(self, response: Response, **options: Any) -> None:
        """See each answer first: before a redirect is followed, and before any of its body is read."""
        tracking = f"{self.mailbox_url}/outbox/tracking/"
        is_handshake = response.url == self.mailbox_url
        check_answer(
            response,
            has_payload=bool(options.get("stream")),
            may_be_several=(response.url or "").startswith(tracking),
            waiting=self.waiting,
            stop=self.should_stop,
        )
        if is_handshake and response.ok and _mailbox_in(response) not in (None, self._mailbox):
            raise NotMeshError("what answered is not MESH: it shakes hands with another mailbox")

    def message_ids(self) -> Iterator[object]:
        """Yield what the inbox lists, oldest first; an id may be anything that JSON can be.

        Raises requests.RequestException; NotMeshError for a list, or the address of its next page, that
        cannot be MESH's. Ends at a page that has nothing new.
        """
        seen: set[str] = set()
        url = f"{self.mailbox_url}/inbox"
        for _ in range(_MOST_PAGES):
            response = self._session.get(url, timeout=self._timeout)
            response.raise_for_status()
            page = object_of(response)
            listed = page.get("messages")
            if not isinstance(listed, list):
                raise NotMeshError("what answered is not MESH: its list of the inbox has no messages")
            known = len(seen)
            for one in listed:
                seen.add(one if isinstance(one, str) else repr(one))
                yield one
            links = page.get("links")
            following = links.get("next") if isinstance(links, Mapping) else None
            if following is None or len(seen) == known or self.should_stop():
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
        if chunk_num == 1 and time.monotonic() - self._posted_at > self.idle_seconds:
            self._session.close()
        response: Response = super().send_chunk(
            recipient, chunk, chunk_num, total_chunks, compress, message_id, **kwargs
        )
        self._posted_at = time.monotonic()
        return response

    def track(self, mesh_id: str) -> Mapping[str, Any]:
        """Return what MESH says of a message by its MESH id. Raises requests.RequestException."""
        response = self._session.get(
            f"{self.mailbox_url}/outbox/tracking",
            params={"messageID": mesh_id},
            timeout=self._timeout,
        )
        response.raise_for_status()
        return object_of(response)

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
        asked = f"{quote(ods_code, safe='')}/{quote(workflow_id, safe='')}"
        response = self._session.get(
            f"{self._url}/messageexchange/endpointlookup/{asked}", timeout=self._timeout
        )
        response.raise_for_status()
        return object_of(response)
