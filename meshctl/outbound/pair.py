"""The pair of a message in OUT: written under hidden names from the bytes that were judged, then shown.

The pair is always our own two files, made in OUT with the rights that OUT gives: one path for every mount and
every system, and no sender has a handle on what is sent.

    OUT/.ID.dat.part   OUT/.ID.ctl.part     prepared: complete, and hidden from the MESH Client
    OUT/ID.dat         OUT/ID.ctl           shown

Large messages are written by a thread of their own, one after the other, so that small letters do not wait
for them: the kernel and the hashes do most of it without the interpreter. A letter in hand there is in its
folder, and the ledger does not know it: a restart judges it again.
"""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from itertools import chain
from threading import Event, Lock, Thread
from typing import BinaryIO, Final

from meshctl.errors import ConfigError
from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.files.reading import open_regular
from meshctl.outbound.letter import ChangedError, FileIdentity, Letter
from meshctl.payload.hl7_document import document_in
from meshctl.payload.itk3 import Readable
from meshctl.platform import host, system
from meshctl.settings.model import MailboxSettings
from meshctl.sizes import size_text

LARGE_BYTES: Final = 64 << 20
"""A larger message is written beside all other work."""
RESERVE_BYTES: Final = 64 << 20
"""What a large message leaves free on the file system of OUT."""
ROOM_MATTERS_BYTES: Final = 1 << 20
"""For a smaller message the free space does not matter."""

_CHUNK_BYTES: Final = 1 << 20
_KERNEL_BYTES: Final = 16 << 20
# From one kind of file system to another, or where the system cannot.
_NOT_BY_KERNEL: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
# With pieces of 1 MiB and, by the kernel, of 16.
_PIECES_A_SYNC: Final = 8
_STOP_SECONDS: Final = 2.0
_CONTROL, _DATA, _PART = ".ctl", ".dat", ".part"


@contextmanager
def opened_pairs(mailbox: MailboxSettings) -> Iterator["Pairs"]:
    """Open OUT for the pairs of one mailbox. Raises OSError."""
    with Folder(str(mailbox.out_folder)) as out:
        yield Pairs(out, mailbox)


class Pairs:
    """The pairs in one OUT folder, which is open for as long as a turn takes. Its methods raise OSError."""

    def __init__(self, out: Folder, mailbox: MailboxSettings) -> None:
        self.out = out
        self._mode = mailbox.file_mode
        self._group_id = _group_id(mailbox.group)

    def lacking_room(self, size_bytes: int, in_hand_bytes: int) -> str | None:
        """Return why a message of that size does not fit into OUT beside those in hand; None if it does."""
        if size_bytes < ROOM_MATTERS_BYTES or (out_bytes := system.free_bytes(self.out.place)) is None:
            return None
        free_bytes = out_bytes - in_hand_bytes
        if free_bytes >= size_bytes + RESERVE_BYTES:
            return None
        return (
            f"There is no room: OUT has {size_text(max(free_bytes, 0))} free; the message needs"
            f" {size_text(size_bytes)}, and {size_text(RESERVE_BYTES)} stay in reserve."
        )

    def prepare(self, letter: Letter, should_stop: Callable[[], bool] | None = None) -> None:
        """Write the pair of a letter under hidden names. Raises ChangedError if its files have changed.

        After an error what was written is removed at once. With `should_stop`, raises InterruptedError once
        that is true; what is written is then made durable on the way, so that no stop has to wait for all of
        it.
        """
        stem = letter.message_id
        try:
            with ExitStack() as opened:
                self._write(_hidden(stem, _DATA), _pieces(letter, opened), should_stop)
            self._write(_hidden(stem, _CONTROL), (letter.control,))
        except InterruptedError:
            # The next start removes it.
            raise
        except BaseException:
            for end in (_DATA, _CONTROL):
                with suppress(OSError):
                    self.out.unlink_if_there(_hidden(stem, end))
            raise
        letter.content = None

    def sync_data(self, letter: Letter) -> None:
        """Make a large payload durable by itself, while no other letter waits for it."""
        durable.sync_file(_hidden(letter.message_id, _DATA), self.out)

    def show_data(self, message_id: str) -> None:
        """Give a payload its name."""
        self.out.rename(_hidden(message_id, _DATA), message_id + _DATA)

    def show_control(self, message_id: str) -> None:
        """Give a control file its name; the client may take the pair now, so no restart takes it back."""
        self.out.rename(_hidden(message_id, _CONTROL), message_id + _CONTROL)

    def discard(self, message_id: str, *, payload_too: bool) -> None:
        """Remove what was prepared of a message; with `payload_too` also a payload that has its name."""
        names = [*hidden_names(message_id)]
        if payload_too:
            names.insert(0, message_id + _DATA)
        for name in names:
            self.out.unlink_if_there(name)

    def is_prepared(self, message_id: str) -> bool:
        """True if the control file of a message is hidden in OUT, so was not shown yet."""
        return self.out.has(_hidden(message_id, _CONTROL))

    def has_data(self, message_id: str) -> bool:
        """True if the payload of a message is in OUT, hidden or shown."""
        return self.out.has(_hidden(message_id, _DATA)) or self.has_shown_data(message_id)

    def has_shown_data(self, message_id: str) -> bool:
        """True if the payload of a message has its name in OUT."""
        return self.out.has(message_id + _DATA)

    def data_size(self, message_id: str) -> int:
        """Return the size of a payload in OUT, hidden or shown; 0 without one."""
        for name in (message_id + _DATA, _hidden(message_id, _DATA)):
            with suppress(FileNotFoundError):
                return self.out.status(name).st_size
        return 0

    @contextmanager
    def opened_data(self, message_id: str) -> Iterator[int]:
        """Open a payload that has its name in OUT, while the block lasts."""
        descriptor = self.out.open(message_id + _DATA, system.READ)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read_control(self, message_id: str, most_bytes: int) -> bytes:
        """Return a control file that was not shown yet."""
        descriptor = self.out.open(_hidden(message_id, _CONTROL), system.READ)
        try:
            return os.read(descriptor, most_bytes)
        finally:
            os.close(descriptor)

    def prepared_ids(self) -> set[str]:
        """Return the ids of the messages that have a hidden file in OUT."""
        with self.out.entries() as entries:
            names = [entry.name for entry in entries if entry.name[0] == "."]
        ends = (_CONTROL + _PART, _DATA + _PART)
        return {name[1:].removesuffix(end) for name in names for end in ends if name.endswith(end)}

    def _write(
        self,
        name: str,
        pieces: "Iterable[bytes | KernelCopy]",
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        descriptor = self.out.open(name, system.CREATE, self._mode)
        try:
            system.set_mode(descriptor, self._mode, self._group_id, f"{self.out.path}/{name}")
            with durable.naming(f"{self.out.path}/{name}"):
                for number, piece in enumerate(pieces, 1):
                    if isinstance(piece, KernelCopy):
                        piece.to(descriptor)
                    else:
                        durable.write_all(descriptor, piece)
                    if should_stop is not None:
                        if number % _PIECES_A_SYNC == 0:
                            os.fsync(descriptor)
                        if should_stop():
                            raise InterruptedError
        finally:
            os.close(descriptor)


def hidden_names(message_id: str) -> tuple[str, str]:
    """Return the hidden names of payload and control file."""
    return _hidden(message_id, _DATA), _hidden(message_id, _CONTROL)


def _hidden(message_id: str, end: str) -> str:
    return f".{message_id}{end}{_PART}"


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    number = host.group_number(group)
    if number is None:
        raise ConfigError(f"mailbox.group: there is no group {group!r} on this system.")
    return number


class _JudgedFile:
    """A file that was judged, read once more to be sent: it must be the same, to the last byte."""

    def __init__(self, file: BinaryIO, path: str, identity: FileIdentity, sha256: str | None) -> None:
        self._file = file
        self._path = path
        self._identity = identity
        self._sha256 = sha256
        self._hash = hashlib.sha256()

    def read(self, most_bytes: int) -> bytes:
        """Return the next bytes. Raises ChangedError at the end, if it is not the file that was judged."""
        with durable.naming(self._path):
            data = self._file.read(most_bytes)
        if self._sha256 is not None:
            self._hash.update(data)
        if not data:
            is_same = FileIdentity.of(os.fstat(self._file.fileno())) == self._identity
            if not is_same or self._sha256 not in (None, self._hash.hexdigest()):
                raise ChangedError
        return data


class KernelCopy:
    """A part of a file that the kernel copies by itself, without any of it passing through here."""

    def __init__(self, source: int) -> None:
        self._source = source
        self.is_over = False

    def to(self, target: int) -> None:
        """Copy the next bytes. Raises OSError."""
        try:
            copied = os.copy_file_range(self._source, target, _KERNEL_BYTES)
        except OSError as error:
            if error.errno not in _NOT_BY_KERNEL:
                raise
            data = os.read(self._source, _CHUNK_BYTES)
            durable.write_all(target, data)
            copied = len(data)
        self.is_over = copied == 0


def _kernel_copies(file: BinaryIO, identity: FileIdentity) -> Iterator[KernelCopy]:
    """Yield a large file that was not hashed; its size and time show whether it has changed."""
    copy = KernelCopy(file.fileno())
    while not copy.is_over:
        yield copy
    if FileIdentity.of(os.fstat(file.fileno())) != identity:
        raise ChangedError


def _pieces(letter: Letter, opened: ExitStack) -> Iterator[bytes] | Iterator[KernelCopy]:
    """Return what is sent of a letter, piece by piece."""
    place = letter.folder
    own, sha256 = place.path_of(letter.name), letter.sha256 or _sidecar_sha256(letter)
    if sha256 is None and letter.wrapped_bytes is None and hasattr(os, "copy_file_range"):
        return _kernel_copies(opened.enter_context(open_regular(own)), letter.identity)
    files: list[Readable] = []
    if letter.content is not None:
        files.append(BytesIO(letter.content))
    else:
        whole = _JudgedFile(opened.enter_context(open_regular(own)), own, letter.identity, sha256)
        files.append(whole if letter.document is None else _document_in(whole, letter))
    for attachment in letter.attachments:
        path, sha256 = place.path_of(attachment.name), attachment.reading.sha256
        files.append(_JudgedFile(opened.enter_context(open_regular(path)), path, attachment.identity, sha256))
    envelope = letter.draft.envelope if letter.draft else None
    if envelope is not None:
        return envelope.around(files)
    return iter(lambda: files[0].read(_CHUNK_BYTES), b"")


def _document_in(file: _JudgedFile, letter: Letter) -> Readable:
    """Return the document in a file of HL7 v2 that was too large to be kept. Raises ChangedError."""
    data = file.read(letter.status.st_size)
    # Its end shows whether it is the file that was judged.
    if file.read(1):
        raise ChangedError
    return BytesIO(document_in(data))


def _sidecar_sha256(letter: Letter) -> str | None:
    """Return the hash that the sidecar gives for a file, where that was too large to be hashed before."""
    return letter.sidecar.sha256 if letter.sidecar and letter.sidecar.sha256 else None


def differs_from_sidecar(letter: Letter) -> bool:
    """True if a letter that has changed was compared with nothing but the hash in its sidecar."""
    return letter.sha256 is None and _sidecar_sha256(letter) is not None


class LargeCopies:
    """The large messages that are being written. `wake` is called, from the thread, when one is done."""

    def __init__(self, mailbox: MailboxSettings, wake: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._wake = wake
        self._waiting: deque[Letter] = deque()
        self._done: list[tuple[Letter, Exception | None]] = []
        # The size of each, by message id.
        self._in_hand: dict[str, int] = {}
        self._numbers: dict[str, frozenset[str]] = {}
        self._guard = Lock()
        self._stopping = Event()
        self._thread: Thread | None = None

    @property
    def in_hand(self) -> frozenset[str]:
        """Return the ids of the letters that are being written or wait for it."""
        return frozenset(self._in_hand)

    @property
    def numbers(self) -> frozenset[str]:
        """Return the numbers of their documents at the system that sent them."""
        return frozenset(chain.from_iterable(self._numbers.values()))

    @property
    def in_hand_bytes(self) -> int:
        """Return how much room they have taken, or will take."""
        return sum(self._in_hand.values())

    def start(self, letter: Letter) -> None:
        """Have a letter written."""
        with self._guard:
            self._in_hand[letter.message_id] = letter.sent_bytes
            if letter.numbers:
                self._numbers[letter.message_id] = letter.numbers
            self._waiting.append(letter)
            if self._thread is None:
                self._thread = Thread(target=self._work, name="large copies", daemon=True)
                self._thread.start()

    def take_done(self) -> list[tuple[Letter, Exception | None]]:
        """Return the letters that were written since the last call, each with what went wrong."""
        with self._guard:
            done, self._done = self._done, []
            for letter, _ in done:
                del self._in_hand[letter.message_id]
                self._numbers.pop(letter.message_id, None)
        return done

    def close(self) -> None:
        """Break off; the next start removes what was written so far."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._guard:
                if not self._waiting:
                    self._thread = None
                    return
                letter = self._waiting.popleft()
            error: Exception | None = None
            try:
                # OUT is opened here again: that of a turn closes with the turn.
                with opened_pairs(self._mailbox) as pairs:
                    pairs.prepare(letter, self._stopping.is_set)
                    pairs.sync_data(letter)
            except InterruptedError:
                return
            except Exception as problem:  # noqa: BLE001 - the next turn deals with it
                error = problem
            with self._guard:
                self._done.append((letter, error))
            self._wake()
