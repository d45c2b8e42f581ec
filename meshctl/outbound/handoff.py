"""The hand-off: from judged letters to pairs in OUT, never twice and never half.

The steps, for all letters of a batch, each durable before the next:

1. **take**: a letter that was judged moves into its own folder in `.work/letters/` (see `letter.py`).
2. **prepare**: its pair is written into OUT under hidden names, from the bytes that were judged (`pair.py`).
3. **ledger**: `claimed` for what goes, `rejected` for what does not, one transaction for the batch.
4. **show the payload**: it gets its name in OUT, and what was dropped is removed from the letter's folder.
   The MESH Client does not react to a `.dat`.
5. **show the control file**, one rename a letter (`Pairs.show_control`): **the point of no return**. From
   step 3 on a restart goes forward; it takes back only a letter whose pair is gone from OUT.
6. **announce**: `message.queued` is logged, then the ledger says `queued`. The log comes first: a crash may
   repeat a line, never leave it out.
7. **close**: the letter's folder, now empty, is removed.

So what was dropped is in its folder only for as long as no control file was shown, and every letter whose
control file was shown is in the ledger. What a restart finds, and does, is in `recover.py`. A rejected letter
goes with the batch as far as step 3; the rest of its way is in `rejected.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.files.reading import is_general
from meshctl.journal.events import about_message
from meshctl.ledger.records import NewMessage
from meshctl.ledger.services import Services
from meshctl.outbound.earlier import origin_of
from meshctl.outbound.letter import ROW_NAME, Letter, LetterFolder
from meshctl.outbound.pair import Pairs, hidden_names
from meshctl.outbound.rejected import RejectedFolder, letter_row, log_rejected
from meshctl.platform import system

Stuck = tuple[LetterFolder, OSError]
"""A letter that cannot be finished now, and why."""


class HandOff:
    """Hands letters over to one OUT folder."""

    def __init__(
        self, pairs: Pairs, letters_folder: str, rejected: RejectedFolder, services: Services
    ) -> None:
        self.pairs = pairs
        self._letters_folder = letters_folder
        self._rejected = rejected
        self._services = services
        self._ledger = services.ledger

    def hand_over(self, letters: Sequence[Letter], sources: Iterable[Folder]) -> list[Stuck]:
        """Do steps 3 to 7 for letters that were taken, and prepared if they are to be sent.

        `sources` are the folders that they were taken from. Returns the letters that could not be finished,
        each for a reason of its own. Raises OSError or LedgerError for all other reasons. A restart, or the
        next turn, finishes or takes back what was begun.
        """
        started = self._services.clock.monotonic()
        sent = [letter for letter in letters if letter.rejection is None]
        rejected = [(letter, letter.rejection) for letter in letters if letter.rejection is not None]
        rows = self._rows(sent)
        explained = [
            self._rejected.draft(letter, rejection, self._services.clock.now())
            for letter, rejection in rejected
        ]
        dropped = [path for letter, _ in rejected for path in letter.folder.files()]
        parts = [name for letter in sent for name in hidden_names(letter.message_id)]
        places = [letter.folder.path for letter in letters]
        out = [self.pairs.out] if sent else []
        folders: list[str | Folder] = [*places, self._letters_folder, *sources, *out]
        durable.barrier(explained, folders, (self.pairs.out, parts), dropped)
        rejected_rows = [
            letter_row(letter, self._services.clock.now(), rejection, self._services.keys)
            for letter, rejection in rejected
        ]
        with self._services.journal.batch():
            log_rejected(self._services, rejected_rows)
            for row, letter in zip(rows, sent, strict=True):
                # Now: the ledger does not keep them, and a restart would not judge the letter again.
                self._log_cautions(row, letter)
        self._ledger.enter(rows, rejected_rows)
        stuck: list[Stuck] = []
        if sent:
            # What was dropped is removed only if its pair is where the MESH Client looks.
            self.pairs.out.check_in_place()
            sent = self._show_payloads(sent, stuck)
            shown = {letter.message_id for letter in sent}
            self.show_controls([letter.message_id for letter in sent])
            took_ms = round((self._services.clock.monotonic() - started) * 1000)
            with self._services.journal.batch():
                for row in rows:
                    if row.message_id in shown:
                        self._log_queued(row, took_ms)
            self.mark_queued([letter.message_id for letter in sent])
            for letter in sent:
                letter.folder.close()
        return stuck + self.finish_rejections([letter.folder for letter, _ in rejected])

    def finish_rejections(self, places: Sequence[LetterFolder]) -> list[Stuck]:
        """Move rejected letters to `rejected/`; return those that cannot be moved. Called again, it goes on.

        Raises OSError when it is the folder that takes no files.
        """
        stuck: list[Stuck] = []
        for step in (self._rejected.move_in, self._rejected.move_explanation, LetterFolder.close):
            places = [place for place in places if self._is_done(step, place, stuck)]
            if places:
                durable.barrier(
                    [], [self._rejected.folder, *(place.path for place in places if place.is_there)]
                )
        return stuck

    def _is_done(self, step: Callable[[LetterFolder], None], place: LetterFolder, stuck: list[Stuck]) -> bool:
        try:
            step(place)
        except OSError as error:
            if is_general(error) or not durable.takes_files(self._rejected.folder):
                raise
            stuck.append((place, error))
            return False
        return True

    def show_controls(self, message_ids: Sequence[str]) -> None:
        """Do step 5, once all payloads of the batch are durable under their names."""
        for message_id in message_ids:
            self.pairs.show_control(message_id)
        durable.sync_folder(self.pairs.out)

    def mark_queued(self, message_ids: Sequence[str]) -> None:
        """Do the ledger's part of step 6, once the log has its lines."""
        self._ledger.mark_queued(message_ids, self._services.clock.now(), self._services.clock.steady())

    def _show_payloads(self, letters: Sequence[Letter], stuck: list[Stuck]) -> list[Letter]:
        """Do step 4: show payloads, remove what was dropped. Return the letters done; others join `stuck`."""
        for letter in letters:
            self.pairs.show_data(letter.message_id)
        done = []
        for letter in letters:
            place = letter.folder
            try:
                for name, _ in letter.names:
                    system.unlink_if_there(place.path_of(name))
                if letter.row is not None:
                    system.unlink_if_there(place.path_of(ROW_NAME))
            except OSError as error:
                stuck.append((place, error))
            else:
                done.append(letter)
        durable.barrier([], [self.pairs.out, *(letter.folder.path for letter in letters)])
        return done

    def _rows(self, letters: Sequence[Letter]) -> list[NewMessage]:
        contents = [letter.content_hash for letter in letters]
        earlier = self._ledger.earlier_with_content([content for content in contents if content])
        created_at = self._services.clock.now()
        rows = []
        for letter, content in zip(letters, contents, strict=True):
            rows.append(self._row(letter, earlier.get(content) if content else None, created_at))
            if content is not None:
                earlier[content] = letter.message_id
        return rows

    def _row(self, letter: Letter, repeat_of: str | None, created_at: datetime) -> NewMessage:
        assert letter.draft is not None  # noqa: S101 - what is sent was composed
        details, keys = letter.draft.details, self._services.keys
        return NewMessage(
            message_id=letter.message_id,
            file_name=letter.shown_name,
            size_bytes=letter.status.st_size,
            sha256=letter.content_hash,
            created_at=created_at,
            use_case=details.use_case,
            workflow_id=details.workflow_id,
            asked=details.asked,
            local_id_key=keys.of(details.local_id) if details.local_id else None,
            patient_key=keys.of(details.nhs_number) if details.nhs_number else None,
            reference_keys=tuple(keys.of(reference) for reference in details.references),
            repeat_of=repeat_of,
            resend_of=details.resend_of,
            wrapped_bytes=letter.wrapped_bytes,
            document_id=details.document_id,
            document_version=details.document_version,
            to_mailbox=details.to_mailbox,
            replaces=details.replaces,
            **origin_of(details.origin, keys),
        )

    def _log_queued(self, row: NewMessage, took_ms: int) -> None:
        journal = self._services.journal
        journal.info(
            "message.queued",
            message_id=row.message_id,
            use_case=row.use_case,
            workflow_id=row.workflow_id,
            file=row.file_name,
            size=row.size_bytes,
            wrapped=row.wrapped_bytes is not None or None,
            wrapped_size=row.wrapped_bytes,
            replaces=row.replaces,
            took_ms=took_ms,
        )
        if row.repeat_of is not None:
            journal.warning(
                "message.repeat", message_id=row.message_id, repeat_of=row.repeat_of, file=row.file_name
            )
        if row.resend_of is not None:
            journal.info("message.resent", message_id=row.message_id, resend_of=row.resend_of)

    def _log_cautions(self, row: NewMessage, letter: Letter) -> None:
        """Log why a message that is sent may yet fail, and alert where a person has to look at once."""
        for caution in letter.cautions:
            about = about_message(row.message_id, row.use_case, row.workflow_id, row.file_name, caution.code)
            self._services.journal.tell(
                "message.warning",
                None if caution.code is None else about,
                message_id=row.message_id,
                use_case=row.use_case,
                file=row.file_name,
                code=caution.code,
                text=caution.text,
                advice=caution.advice,
            )
