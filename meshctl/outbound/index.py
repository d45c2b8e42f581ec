"""An index `NAME.index.csv` comes last: its rows are for files that lie beside it, and for no others.

A row never stands in the outbox. It is kept in the work folder with the identity of its file, and goes with
that very file, also if that was still being written when the index was read. A row whose file is not there is
reported at once, and never used for a file of that name that comes later: names are used again, and the next
`scan-2.pdf` is another patient's. The steps, each durable before the next begins:

1. The rows, and the explanation of rejected ones, are written to `.work/indexes/.<stamp>/`.
2. The index is moved in beside them; then the folder loses its dot: **the point of no return**.
3. The explanation goes to `rejected/`, and the index is removed.
4. Each row moves into the folder of its letter, when that is taken; the last one takes the folder along.

What a restart finds: a folder with a dot and no index in it never was, and is removed; any other goes on.
"""

import json
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from meshctl.errors import Rejection
from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.services import Services
from meshctl.outbound.earlier_indexes import EarlierIndexes
from meshctl.outbound.letter import (
    ROW_NAME,
    ChangedError,
    FileIdentity,
    KeptRow,
    LetterFolder,
    WorkFolder,
    check_same,
    has_own_sidecar,
    inode_of,
    is_of_one_owner,
    mark_of_file,
    read_row,
)
from meshctl.outbound.names import SIDECAR_SUFFIX, NameRules, is_index
from meshctl.outbound.neighbours import FolderNeighbours, Source
from meshctl.outbound.rejected import Explained, RejectedFolder
from meshctl.outbound.set_aside import SetAside
from meshctl.payload.index import CORRECT_ROWS, Row, match_rows, read_index
from meshctl.platform import system
from meshctl.settings.model import StagingSettings

_ROW_END: Final = ".row"
_EXPLANATION: Final = "explanation"
_PLACE: Final = re.compile(r"\.?(\d{20}_[0-9a-f]{6})(?:\.(.+))?")
_PRIVATE, _MODE = 0o700, 0o600
_MOST_HELD, _MOST_MISSING = 200, 100_000
# No file has a longer one.
_LONGEST_NAME = 255
_EXPECTED: Final = "expected"


# Why a row, or an index, is not used: by code, the text and the advice.
_WHY_NOT: Final = {
    "index_sidecar_exists": ("The file has a sidecar of its own, which is used.", CORRECT_ROWS),
    "index_file_attached": ("A sidecar names the file as its attachment. The row is not used.", CORRECT_ROWS),
    "index_file_foreign": (
        "The file belongs to another user than the index.",
        "Have the index and its files dropped by one user.",
    ),
    "index_file_disputed": (
        "Another row names the same file, for somebody else or in another index. Neither is used.",
        "Take the file out of the outbox, and drop it again with one index.",
    ),
    "index_file_missing": (
        "The file that lay beside the index has gone, or another was put in its place. The row is not used.",
        "Drop the file first, and then a new index with its row.",
    ),
    "index_file_unfinished": (
        (
            "The file was still being written when meshctl ended, so that another one may have its place by"
            " now. The row is not used."
        ),
        "Let the index come last, and drop it again with the file.",
    ),
    "index_repeated": (
        "The index is one that was read in the last week, and the file is another. The row is not used.",
        "Drop the file with the index that was written for it; one with this row alone if that is right.",
    ),
    "index_changed": (
        "Another file or folder was put in the place of the index while it was read.",
        "Drop the index again, as an ordinary file.",
    ),
}


class _Given(NamedTuple):
    """A row that is given to a file: the file's name, and its status when the index was read."""

    row: Row
    file: str
    status: os.stat_result


class _Missed(NamedTuple):
    """For whom a missing file was, by which index, and how long that is remembered."""

    digest: bytes
    by: os.stat_result
    until_clock: float


_Key = tuple[str | None, str]
"""The use case of a sub-folder, None for the outbox itself, and the name of a file in it."""


class Indexes:
    """The indexes of one mailbox, and the rows that wait for their files."""

    def __init__(
        self, settings: StagingSettings, services: Services, set_aside: SetAside, rejected: RejectedFolder
    ) -> None:
        self._work = WorkFolder(settings.work)
        self._names = NameRules(settings)
        self._wait_seconds = settings.sidecar_wait_seconds
        self._services = services
        self._set_aside = set_aside
        self._rejected = rejected
        self._rows: dict[_Key, KeptRow] = {}
        self._disputed: set[_Key] = set()
        # By the user who owns the index: what one says of a name takes nothing from another.
        self._missing: dict[int, dict[_Key, _Missed]] = {}
        self._held: dict[_Key, int] = {}
        self._earlier = EarlierIndexes(services)

    def expand(self, beside: FolderNeighbours, name: str, data: bytes, identity: FileIdentity) -> list[str]:
        """Take an index whose bytes are `data`, and keep its rows; return the files that they are for.

        Raises Rejection when it cannot be used as a whole, ChangedError when it is no longer what was read,
        FileNotFoundError when it has gone, OSError; it then stays where it was.
        """
        folder, use_case = beside.source
        rows = read_index(data, self._names.check_named)
        index = folder.status(name)
        given, rejected = self._match(rows, index, beside)
        if self._earlier.was_read(use_case, data):
            sent = self._earlier.were_sent(folder, [each.file for each in given])
            rejected += [(each.row, _rejection("index_repeated")) for each in given if each.file not in sent]
            given = [each for each in given if each.file in sent]
        files = {_EXPECTED: json.dumps([identity.size_bytes, identity.changed_ns]).encode()}
        for each in given:
            is_complete = beside.is_complete(each.file, each.status)
            files[f"{each.row.number}{_ROW_END}"] = _kept(name, each, is_complete=is_complete)
        if rejected:
            files[_EXPLANATION] = self._explanation(name, len(rows), rejected)
        place = self._new_name(use_case)
        hidden = f"{self._work.indexes}/.{place}"
        system.make_folder(hidden, _PRIVATE)
        try:
            self._write(hidden, files)
            folder.take(name, f"{hidden}/{name}")
            check_same(f"{hidden}/{name}", identity)
        except ChangedError:
            with suppress(FileExistsError):
                folder.put(f"{hidden}/{name}", name)
            self._recover_one(f".{place}", use_case)
            raise
        except BaseException:
            if not os.path.lexists(f"{hidden}/{name}"):
                _remove(hidden)
            raise
        durable.barrier([], [folder, hidden])
        shown_name = mask_file_name(name)
        self._services.journal.info("file.index_read", file=shown_name, rows=len(rows), refused=len(rejected))
        self._hold(given, beside)
        if given:
            self._earlier.note_read(use_case, data)
        self._go_on(place, use_case)
        self._remember_missing(use_case, index, rejected)
        return [each.file for each in given]

    def recover(self) -> None:
        """Finish what an interrupted run has begun, and find the rows that wait. Raises OSError."""
        self._rows.clear()
        for name in sorted(os.listdir(self._work.indexes)):
            named = _PLACE.fullmatch(name)
            if named is None:
                continue
            with self._set_aside.guarding(name, named[2]):
                self._recover_one(name, named[2])

    def _recover_one(self, name: str, use_case: str | None) -> None:
        path = f"{self._work.indexes}/{name}"
        index = next((each for each in os.listdir(path) if is_index(each)), None)
        if index is not None and not _is_expected(path, index):
            # Something else, perhaps another user's, was put in its place while it was taken.
            self._rejected.take_in(
                f"{path}/{index}", index, _rejection("index_changed"), self._services.clock.now()
            )
            index = None
        if name.startswith(".") and index is None:
            _remove(path)
        else:
            self._go_on(name.removeprefix("."), use_case)

    def row_of(self, use_case: str | None, name: str, status: os.stat_result) -> KeptRow | None:
        """Return the row that stands for the sidecar of this very file."""
        row = self._rows.get((use_case, name))
        if row is None or not row.is_for(status) or (use_case, name) in self._disputed:
            return None
        is_known = row.mark is not None or (use_case, name) in self._held or system.NEVER_REUSES_NUMBERS
        return row if is_known else None

    def forget_used(self, use_case: str | None, name: str) -> None:
        """Forget a row that has gone with its letter."""
        row = self._rows.pop((use_case, name), None)
        self._let_go(use_case, name)
        if row is not None:
            self._close(os.path.dirname(row.path))

    def take_back(self, place: LetterFolder) -> None:
        """Keep the row of a letter that is put back. Raises OSError."""
        path = place.path_of(ROW_NAME)
        if not os.path.lexists(path):
            return
        row = read_row(path)
        kept_in = f"{self._work.indexes}/{self._new_name(place.use_case)}"
        system.make_folder(kept_in, _PRIVATE)
        system.rename(path, f"{kept_in}/{row.number}{_ROW_END}")
        self._find_rows(kept_in, place.use_case)

    def report_gone(self, source: Source) -> None:
        """Report and drop the rows whose file has gone, was replaced, or has got a sidecar of its own."""
        gone: dict[str, list[tuple[KeptRow, Rejection]]] = {}
        for (use_case, name), row in list(self._rows.items()):
            rejection = self._why_useless(source, name, row) if use_case == source.use_case else None
            if rejection is not None:
                gone.setdefault(row.index, []).append((row, rejection))
        for index, rows in gone.items():
            rejected = [
                (Row(row.number, row.file, row.sidecar, None, _words_of(row)), rejection)
                for row, rejection in rows
            ]
            self._publish(index, self._explanation(index, len(rejected), rejected))
            for row, _ in rows:
                system.unlink_if_there(row.path)
                self.forget_used(source.use_case, row.file)

    def _why_useless(self, source: Source, name: str, row: KeptRow) -> Rejection | None:
        folder, use_case = source
        if (use_case, name) in self._disputed:
            self._disputed.discard((use_case, name))
            return _rejection("index_file_disputed")
        try:
            status = folder.status(name)
            if self.row_of(use_case, name, status) is None:
                is_for = row.is_for(status)
                return _rejection("index_file_unfinished" if is_for else "index_file_missing")
            return _rejection("index_sidecar_exists") if has_own_sidecar(folder, name, status) else None
        except FileNotFoundError:
            return _rejection("index_file_missing")
        except OSError:
            return None

    def _new_name(self, use_case: str | None) -> str:
        """Return a name for a folder of kept rows, which no other has (see `_PLACE`)."""
        stamp = f"{self._services.clock.now():%Y%m%d%H%M%S%f}_{secrets.token_hex(3)}"
        return f"{stamp}.{use_case}" if use_case else stamp

    def _match(
        self, rows: Sequence[Row], index: os.stat_result, beside: FolderNeighbours
    ) -> tuple[list[_Given], list[tuple[Row, Rejection]]]:
        """Return the rows with the files that they are for, and the rows that are rejected."""
        folder = beside.source.folder
        with folder.entries() as entries:
            names = {entry.name for entry in entries}
        given, rejected = [], []

        def is_own(name: str) -> bool:
            status = _file_status(folder, name)
            return status is not None and is_of_one_owner(index, status)

        for row, found in match_rows(rows, names, is_own):
            if isinstance(found, Rejection):
                rejected.append((row, found))
            elif (status := _file_status(folder, found)) is None:
                rejected.append((row, _rejection("index_file_missing")))
            elif found + SIDECAR_SUFFIX in names and has_own_sidecar(folder, found, status):
                rejected.append((row, _rejection("index_sidecar_exists")))
            elif (rejection := self._why_not(_Given(row, found, status), index, beside)) is not None:
                rejected.append((row, rejection))
            else:
                given.append(_Given(row, found, status))
        return given, rejected

    def _why_not(self, given: _Given, index: os.stat_result, beside: FolderNeighbours) -> Rejection | None:
        """Return why a row must not be given to the file of its name, None if it may."""
        _, file, status = given
        key = (beside.source.use_case, file)
        if not is_of_one_owner(index, status):
            return _rejection("index_file_foreign")
        if beside.is_attached(file):
            return _rejection("index_file_attached")
        if beside.was_replaced(file, status):
            return _rejection("index_file_missing")
        other = self._rows.get(key)
        if other is not None and other.is_for(status):
            # It is unclear which row is right: the other one is rejected as well.
            self._disputed.add(key)
            return _rejection("index_file_disputed")
        return _rejection("index_file_disputed") if self._was_for_another(key, given) else None

    def _was_for_another(self, key: _Key, given: _Given) -> bool:
        """True if a file was missed before, and for somebody else, by an index that may speak for it."""
        now, digest = self._services.clock.monotonic(), _digest(given.row)
        missed = (missing[key] for missing in self._missing.values() if key in missing)
        return any(
            now < each.until_clock and each.digest != digest and is_of_one_owner(each.by, given.status)
            for each in missed
        )

    def _hold(self, given: Sequence[_Given], beside: FolderNeighbours) -> None:
        """Keep the files open that are still being written, so that no other file gets their inodes."""
        folder, use_case = beside.source
        for _, name, status in [] if system.NEVER_REUSES_NUMBERS else given:
            if not beside.is_complete(name, status) and len(self._held) < _MOST_HELD:
                with suppress(OSError):
                    descriptor = folder.open(name, system.READ)
                    if inode_of(os.fstat(descriptor)) == inode_of(status):
                        self._held[use_case, name] = descriptor
                    else:
                        os.close(descriptor)

    def _let_go(self, use_case: str | None, name: str) -> None:
        descriptor = self._held.pop((use_case, name), None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the files that are held open."""
        for use_case, name in list(self._held):
            self._let_go(use_case, name)

    def _remember_missing(
        self, use_case: str | None, index: os.stat_result, rejected: Sequence[tuple[Row, Rejection]]
    ) -> None:
        """Remember for whom the missing files were.

        Such a file may yet come, and then an index with the next batch of the same names, for other patients.
        It is remembered for as long as a file waits for its sidecar.
        """
        until = self._services.clock.monotonic() + self._wait_seconds
        for row, rejection in rejected:
            if rejection.code == "index_file_missing" and row.file:
                missing = self._missing.setdefault(index.st_uid, {})
                if len(missing) >= _MOST_MISSING:
                    missing.pop(next(iter(missing)))
                missing[use_case, row.file] = _Missed(_digest(row), index, until)

    def forget_missing(self, use_case: str | None, file: str, status: os.stat_result) -> None:
        """Forget for whom a missing file was: it came, and has left the outbox."""
        for missing in self._missing.values():
            missed = missing.get((use_case, file))
            if missed is not None and is_of_one_owner(missed.by, status):
                del missing[use_case, file]

    def _write(self, hidden: str, files: Mapping[str, bytes]) -> None:
        """Do step 1."""
        paths = [f"{hidden}/{name}" for name in files]
        for path, data in zip(paths, files.values(), strict=True):
            durable.write_new(path, data, _MODE)
        durable.barrier(paths, [hidden, self._work.indexes])

    def _go_on(self, place: str, use_case: str | None) -> None:
        """Do steps 2 and 3, from where they were interrupted."""
        path = f"{self._work.indexes}/{place}"
        if os.path.lexists(f"{self._work.indexes}/.{place}"):
            system.rename(f"{self._work.indexes}/.{place}", path)
            durable.sync_folder(self._work.indexes)
        index = next((name for name in os.listdir(path) if is_index(name)), None)
        if index is not None:
            with suppress(FileNotFoundError):
                self._publish(index, Path(f"{path}/{_EXPLANATION}").read_bytes())
            system.unlink_if_there(f"{path}/{_EXPLANATION}")
            durable.sync_folder(path)
            system.unlink(f"{path}/{index}")
            durable.sync_folder(path)
        system.unlink_if_there(f"{path}/{_EXPECTED}")
        self._find_rows(path, use_case)

    def _find_rows(self, path: str, use_case: str | None) -> None:
        for name in os.listdir(path):
            if name.endswith(_ROW_END):
                row = read_row(f"{path}/{name}")
                self._rows[use_case, row.file] = row
        self._close(path)

    def _close(self, path: str) -> None:
        """Remove a folder from which the last row has gone."""
        with suppress(OSError):
            os.rmdir(path)

    def _explanation(self, index: str, rows: int, rejected: Sequence[tuple[Row, Rejection]]) -> bytes:
        text = f"{len(rejected)} of {rows} rows cannot be used, for the reason given at each."
        rejection = Rejection("index_rows_refused", text, CORRECT_ROWS)
        explained = [
            {
                "row": row.number,
                "file": mask_file_name(row.file[:_LONGEST_NAME], row.words_to_mask),
                "code": rejection.code,
                "text": rejection.text,
                "advice": rejection.advice,
            }
            for row, rejection in rejected
        ]
        at = self._services.clock.now()
        return Explained(None, mask_file_name(index), rejection, at).content(rows=explained)

    def _publish(self, index: str, explanation: bytes) -> None:
        """Log, alert, and put an explanation of rows into `rejected/`, beside those of earlier indexes."""
        content = json.loads(explanation)
        shown_name = mask_file_name(index)
        self._services.journal.tell(
            "file.index_rows_refused",
            {"file": shown_name, "advice": CORRECT_ROWS},
            file=shown_name,
            refused=len(content["rows"]),
            text=content["text"],
        )
        self._rejected.explain(index, explanation)


def _kept(index: str, given: _Given, *, is_complete: bool) -> bytes:
    """Return a row as `read_row` reads it."""
    content = {
        "index": index,
        "row": given.row.number,
        "file": given.file,
        "inode": inode_of(given.status),
        "mark": mark_of_file(given.status) if is_complete else None,
        "sidecar": json.loads(given.row.sidecar),
    }
    return json.dumps(content).encode()


def _file_status(folder: Folder, name: str) -> os.stat_result | None:
    with suppress(OSError):
        status = folder.status(name)
        return status if stat.S_ISREG(status.st_mode) else None
    return None


def _words_of(row: KeptRow) -> tuple[str, ...]:
    patient = json.loads(row.sidecar).get("patient") or {}
    return tuple(str(value) for value in patient.values() if len(str(value)) > 1)


def _is_expected(path: str, index: str) -> bool:
    """True if an index that was taken is the one whose rows were written."""
    status = os.lstat(f"{path}/{index}")
    try:
        expected = json.loads(Path(f"{path}/{_EXPECTED}").read_bytes())
    except FileNotFoundError:
        # It was removed after all had been dealt with but the index itself.
        return stat.S_ISREG(status.st_mode)
    return stat.S_ISREG(status.st_mode) and [status.st_size, status.st_mtime_ns] == expected


def _remove(folder: str) -> None:
    for name in os.listdir(folder):
        system.unlink(f"{folder}/{name}")
    system.rmdir(folder)


def _digest(row: Row) -> bytes:
    """Return a digest of what says for whom a row is, and of nothing else."""
    return blake2b(json.dumps(json.loads(row.sidecar), sort_keys=True).encode(), digest_size=16).digest()


def _rejection(code: str) -> Rejection:
    return Rejection(code, *_WHY_NOT[code])
