"""The readers of other people's files: a try at each, and files to begin with.

Imported only when atheris is watching, so that it sees which lines of meshctl a file reaches.
"""

import json
import os
from collections.abc import Callable
from typing import Final

from meshctl.errors import Rejection
from meshctl.mesh.control_file import ControlFileError, read_control_file
from meshctl.payload.reader import read_payload
from meshctl.payload.sidecar_reader import read_sidecar
from tests.hl7_messages import mdm, oru
from tests.itk2 import (
    in_soap,
    make_business_answer,
    make_encoded_envelope,
    make_envelope,
    make_infrastructure_answer,
)
from tests.mesh.test_any_control_file import SEEDS
from tests.payloads import make_bundle_json, make_bundle_xml, make_response_xml
from tests.site import sidecar

_DESCRIPTOR: Final = os.memfd_create("payload")


def _control_file(data: bytes) -> None:
    try:
        read_control_file(data)
    except ControlFileError:
        return


def _payload(data: bytes) -> None:
    os.ftruncate(_DESCRIPTOR, 0)
    os.pwrite(_DESCRIPTOR, data, 0)
    try:
        read_payload(_DESCRIPTOR, len(data))
    except Rejection:
        return


def _sidecar(data: bytes) -> None:
    try:
        read_sidecar(data)
    except Rejection:
        return


_FULL: Final = sidecar(title="Letter", patient_name="Mr B Smith", version=1, acknowledgements=["business"])

_PAYLOADS: Final = [
    make_bundle_xml(),
    make_bundle_json(),
    make_response_xml(request_id="x"),
    make_envelope(),
    make_encoded_envelope(),
    in_soap(make_envelope()),
    make_business_answer("x", "AE", ("410",), payload_type="AE"),
    make_infrastructure_answer("x", "Failure", ("1000",)),
    mdm(),
    oru(),
    mdm(obx=[{2: "TX", 5: "Dear doctor"}, {2: "FT", 5: "yours\\.br\\x"}]),
]

READERS: Final[dict[str, tuple[Callable[[bytes], None], list[bytes]]]] = {
    "control-file": (_control_file, list(SEEDS)),
    "payload": (_payload, _PAYLOADS),
    "sidecar": (_sidecar, [json.dumps(said).encode() for said in (sidecar(), _FULL)]),
}
