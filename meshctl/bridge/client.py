"""NHS England's `MeshClient`, with what sending each message once needs besides."""

import time
from typing import Any
from urllib.parse import quote

from mesh_client import MeshClient
from requests import Response
from requests.utils import get_environ_proxies


class BridgeClient(MeshClient):
    """A client for one mailbox.

    A connection over which nothing was sent for `idle_seconds` is not trusted with a message.
    """

    # Load balancers forget a connection after a minute or so; what is sent in a row shares one.
    idle_seconds = 5.0
    _posted_at = float("-inf")

    def trust_only(self, ca_bundle: str) -> None:
        """Believe servers by the authorities in this file alone.

        requests would add those of $REQUESTS_CA_BUNDLE or certifi. The environment's proxies are kept to.
        """
        self._session.proxies = get_environ_proxies(self._url)
        self._session.trust_env = False
        self._session.verify = ca_bundle

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
