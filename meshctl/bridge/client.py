"""NHS England's `MeshClient` with the one call that it lacks: asking after a message by our own id of it."""

from urllib.parse import quote

from mesh_client import MeshClient
from requests import Response


class BridgeClient(MeshClient):
    """A client for one mailbox."""

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
