"""What was sent before, as the ledger knows it: the message that a document replaces, documents by number."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from meshctl.clock import instant
from meshctl.errors import Rejection
from meshctl.ledger.database import LedgerError
from meshctl.ledger.documents import (
    WrappedMessage,
    is_under_way,
    newest_with_number,
    newest_with_reference,
    numbered_messages,
    numbers_after,
    numbers_before,
    taken_back,
    wrapped_message,
)
from meshctl.ledger.keys import KEY_NAME, KeyMissingError, Keys, read_keys
from meshctl.ledger.reads import snapshot
from meshctl.ledger.services import Services
from meshctl.mesh.address import NhsNumberCheck, check_nhs_number
from meshctl.mesh.states import State
from meshctl.outbound.document import Origin, replaced_message_id
from meshctl.outbound.hl7_sent import SentDocument
from meshctl.payload.sidecar import Sidecar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class EarlierMessages:
    """The messages of one mailbox: in the daemon's own ledger, or else in that of the state folder.

    Its methods raise sqlite3.Error for the daemon's ledger; another that cannot be read has no messages.
    """

    folder: Path
    services: Services | None

    def replaced_by(self, sidecar: Sidecar | None) -> WrappedMessage | None:
        """Return the message that a document replaces by its message id; None without one."""
        message_id = replaced_message_id(sidecar)
        patient = sidecar.patient if sidecar else None
        if message_id is None or patient is None or patient.nhs_number is None:
            return None
        nhs_number = patient.nhs_number
        return self._ask(
            lambda connection, keys: wrapped_message(connection, message_id, patient_key(keys, nhs_number))
        )

    def of_number(
        self, number: str, nhs_number: str | None = None, origin: Origin | None = None
    ) -> Sequence[SentDocument]:
        """Return the documents of a number, and those that replaced them, newest first.

        `nhs_number` and `origin` are those of the document that they are compared with.
        """

        def ask(connection: sqlite3.Connection, keys: Keys) -> Sequence[SentDocument]:
            return _documents(connection, keys, {keys.of(number)}, nhs_number, origin)

        return self._ask(ask) or ()

    def replaced_by_number(self, nhs_number: str, origin: Origin) -> Sequence[SentDocument]:
        """Return the documents of all numbers that one with this origin follows, newest first.

        And those that replaced them; also if what links them was rejected, or has failed.
        """

        def ask(connection: sqlite3.Connection, keys: Keys) -> Sequence[SentDocument]:
            own = [keys.of(number) for number in origin[:2] if number]
            before = numbers_before(connection, own) - set(own[:1])
            return _documents(connection, keys, before, nhs_number, origin)

        return self._ask(ask) or ()

    def related(self, numbers: Collection[str]) -> frozenset[str]:
        """Return what stands for some numbers, and for all that replaced them or were replaced by them."""

        def ask(connection: sqlite3.Connection, keys: Keys) -> frozenset[str]:
            own = {keys.of(number) for number in numbers}
            found = numbers_before(connection, own) | numbers_after(connection, own)
            return frozenset(key.hex() for key in found)

        return self._ask(ask) or frozenset(numbers)

    def taken_back(
        self, number: str, nhs_number: str, result: str | None
    ) -> tuple[str, datetime | None] | None:
        """Return the message that took a document of a patient back, and when it was written; else None."""
        return self._ask(
            lambda connection, keys: taken_back(
                connection,
                keys.of(number),
                patient_key(keys, nhs_number),
                keys.of(result) if result else None,
            )
        )

    def with_reference(self, reference: str) -> str | None:
        """Return the id of the newest message that was sent with this id in its payload; None without one."""
        return self._ask(lambda connection, keys: newest_with_reference(connection, keys.of(reference)))

    def with_number(self, number: str) -> str | None:
        """Return the id of the newest message that was sent with a document of this number; else None."""
        return self._ask(lambda connection, keys: newest_with_number(connection, keys.of(number)))

    def _ask(self, ask: Callable[[sqlite3.Connection, Keys], _T]) -> _T | None:
        """Return what the ledger answers; None where there is none."""
        if self.services is not None:
            return ask(self.services.ledger.connection, self.services.keys)
        with ExitStack() as opened:
            ledger = None
            # Nothing was ever sent from here, or this user may not see what was.
            with suppress(LedgerError, KeyMissingError, OSError):
                ledger = opened.enter_context(snapshot(self.folder)), read_keys(self.folder / KEY_NAME)
            return None if ledger is None else ask(*ledger)


def _documents(
    connection: sqlite3.Connection,
    keys: Keys,
    number_keys: Collection[bytes],
    nhs_number: str | None,
    origin: Origin | None,
) -> list[SentDocument]:
    wanted = patient_key(keys, nhs_number)
    compared = origin_of(origin, keys)
    documents = numbered_messages(connection, number_keys)
    # One that failed may have been sent again, as the message that it was.
    sent = {one.message_id: is_under_way(connection, keys.of(one.document_id)) for one in documents}
    return [
        SentDocument(
            one.message_id,
            is_of_patient=one.patient_key == wanted,
            is_same_content=one.content_key == compared.get("content_key"),
            is_queued=one.state is State.QUEUED,
            mailbox=one.mailbox,
            to_mailbox=one.to_mailbox,
            written_at=None if one.written_at is None else instant(one.written_at),
            replaces=one.replaces,
            number=one.number_key or b"",
            has_other_number=one.number_key is not None and one.number_key not in number_keys,
            is_withdrawn=bool(one.is_withdrawn) and not sent[one.message_id],
            has_failed=not (sent[one.message_id] or one.is_withdrawn),
            content=one.content_key or b"",
            is_same_result=one.result_key == compared.get("result_key"),
            is_edit=bool(one.is_edit),
            is_sent_again=one.state is State.FAILED and sent[one.message_id],
        )
        for one in documents
    ]


def patient_key(keys: Keys, nhs_number: str | None) -> bytes | None:
    """Return the key of a patient in the ledger; None without a number, empty for what is none."""
    if nhs_number is None:
        return None
    try:
        # Without a check digit: a wrong number is rejected before this matters.
        return keys.of(check_nhs_number(nhs_number, NhsNumberCheck.OFF))
    except Rejection:
        return b""


def origin_of(origin: Origin | None, keys: Keys) -> dict[str, Any]:
    """Return what the ledger's row of a message keeps of the origin of its document."""
    if origin is None:
        return {}
    of = {
        "number_key": origin.number,
        "replaced_key": origin.replaced_number,
        "content_key": origin.content,
        "result_key": origin.result,
    }
    hashes = {name: keys.of(value) if value else None for name, value in of.items()}
    return {**hashes, "is_edit": origin.is_edit, "written_at": origin.written_at}
