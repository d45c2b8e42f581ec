"""Asking MESH whether an upload arrived whose answer never came.

MESH is asked by LocalId, which is the host's own and often the ODS code on every message. So its answer is
believed only where it cannot mean another message: none at all has this LocalId, or just one has, and it
bears the file name of ours.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from requests import RequestException, Response
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl.bridge.client import BridgeClient
from meshctl.bridge.faults import BridgeFault, Fault, Trouble, fault_of, fault_of_response
from meshctl.bridge.mesh_ids import is_sane_id

# A LocalId that a path could be misread with is not asked by: 404 would then be about another address.
_ASKABLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:@+=,~-]*")


class Whereabouts(StrEnum):
    """What MESH knows of an upload."""

    THERE = "there"
    NOT_THERE = "not there"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Found:
    """The answer; `mesh_id` with THERE alone, and `is_whole` whether no chunk is missing."""

    whereabouts: Whereabouts
    mesh_id: str = ""
    is_whole: bool = False


_NOT_KNOWN: Final = Found(Whereabouts.NOT_KNOWN)
_ODD_ANSWER: Final = Fault(Trouble.LATER, "", "ANSWER", "what answers after an upload is not MESH")


def ask_after(client: BridgeClient, local_id: str, file_name: str) -> Found:
    """Ask after the message with this LocalId and file name. Raises BridgeFault if MESH cannot be asked."""
    if not _ASKABLE.fullmatch(local_id):
        return _NOT_KNOWN
    try:
        return _read(client.track_local_id(local_id), file_name)
    except (RequestException, Urllib3Error) as error:
        raise BridgeFault(fault_of(error)) from None


def is_still_uploading(status: object) -> bool:
    """Tell from the status of a message in either version of the API whether chunks are missing."""
    return isinstance(status, str) and status.strip().lower() == "uploading"


def _read(response: Response, file_name: str) -> Found:
    if response.status_code == HTTPStatus.NOT_FOUND:
        return Found(Whereabouts.NOT_THERE)
    if response.status_code == HTTPStatus.OK:
        answer = response.json()
        mesh_id = answer.get("messageId") if isinstance(answer, dict) else None
        if not is_sane_id(mesh_id):
            raise BridgeFault(_ODD_ANSWER)
        if answer.get("fileName") != file_name:
            return _NOT_KNOWN
        return Found(Whereabouts.THERE, mesh_id, not is_still_uploading(answer.get("status")))
    if response.status_code == HTTPStatus.MULTIPLE_CHOICES:
        return _NOT_KNOWN
    if response.status_code < HTTPStatus.BAD_REQUEST:
        raise BridgeFault(_ODD_ANSWER)
    fault = fault_of_response(response)
    if fault.trouble is Trouble.REFUSED:
        return _NOT_KNOWN
    raise BridgeFault(fault)
