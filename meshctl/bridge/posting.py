"""The two calls that carry a payload to MESH, and what it means when one fails.

The first must not be repeated unless it is certain that MESH has not taken the message; so what may have
arrived is never told as anything else. The others may be repeated.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from requests import HTTPError, RequestException, Response
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl.bridge.client import BridgeClient
from meshctl.bridge.faults import Fault, Trouble, fault_of, fault_of_response
from meshctl.bridge.mesh_ids import is_sane_id
from meshctl.bridge.mex import MexHeaders
from meshctl.bridge.payload import ChunkStream, open_regular
from meshctl.bridge.uploads import Upload

_TAKEN: Final = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED})
# Of a further chunk: MESH has the message whole already, or no longer knows the beginning.
_OUT_OF_STEP: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.LOCKED})

_ASK: Final = Fault(
    Trouble.LATER, "", "CHUNK", "MESH does not take this part of a message; it is asked how far it is"
)
_ODD_ANSWER: Final = Fault(Trouble.UNSURE, "", "ANSWER", "MESH's answer to an upload says neither yes nor no")


class CallError(Exception):
    """A call that failed, and what that means."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


def post_first(
    client: BridgeClient, path: str, upload: Upload, headers: MexHeaders, should_stop: Callable[[], bool]
) -> str:
    """Send a message, or the first chunk of it; return the id that MESH gives it.

    Raises:
        CallError: UNSURE if MESH may have it all the same, else it surely has not.
        StoppedError: `should_stop` said so, before the payload was handed over; MESH has not got it.
        OSError: the payload cannot be read; MESH has not got it.

    """
    options: dict[str, Any] = {**headers.options}
    with open_regular(path) as file:
        stream = ChunkStream(file, 0, min(upload.chunk_bytes, upload.size_bytes), should_stop)
        try:
            response = client.send_chunk(
                headers.recipient, stream, 1, upload.chunks, compress=upload.compress, **options
            )
            return _mesh_id(response)
        except HTTPError as error:
            raise CallError(fault_of(error, uploading=True)) from None
        except (RequestException, Urllib3Error) as error:
            if stream.error is not None:
                raise stream.error from None
            fault = fault_of(error, uploading=stream.is_handed_over)
            if stream.is_handed_over:
                fault = replace(fault, trouble=Trouble.UNSURE)
            raise CallError(fault) from None


def post_next(client: BridgeClient, path: str, upload: Upload, should_stop: Callable[[], bool]) -> None:
    """Send the first chunk that MESH lacks of a message that it has given an id.

    Raises CallError, never UNSURE; StoppedError and OSError as `post_first` does.
    """
    offset = upload.chunks_sent * upload.chunk_bytes
    with open_regular(path) as file:
        size_bytes = min(upload.chunk_bytes, upload.size_bytes - offset)
        stream = ChunkStream(file, offset, size_bytes, should_stop)
        number = upload.chunks_sent + 1
        try:
            response = client.send_chunk(
                "", stream, number, upload.chunks, compress=upload.compress, message_id=upload.mesh_id
            )
        except HTTPError as error:
            is_out_of_step = error.response is not None and error.response.status_code in _OUT_OF_STEP
            raise CallError(_ASK if is_out_of_step else fault_of(error)) from None
        except (RequestException, Urllib3Error) as error:
            if stream.error is not None:
                raise stream.error from None
            raise CallError(fault_of(error)) from None
        if response.status_code not in _TAKEN:
            raise CallError(_ASK)


def _mesh_id(response: Response) -> str:
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        raise CallError(fault_of_response(response, uploading=True))
    answer = response.json() if response.status_code in _TAKEN else None
    if not isinstance(answer, Mapping):
        raise CallError(_ODD_ANSWER)
    mesh_id = answer.get("message_id") or answer.get("messageID")
    if is_sane_id(mesh_id):
        return mesh_id
    if "errorDescription" in answer or "detail" in answer:
        raise CallError(fault_of_response(response, uploading=True))
    raise CallError(_ODD_ANSWER)
