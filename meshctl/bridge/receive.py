"""From the mailbox at MESH into IN: each message and each report once, whatever happens on the way.

A message goes through these steps. What is on disk after each of them is durable before the next begins:

    1  work/arriving/ID.dat     the payload, whole (a report has none)
    2  work/arriving/ID.ctl     the control file as it will be in IN
    3  work/delivered/ID        the note: from here on the message is ours, and is never fetched again
    4  IN/ID.dat, IN/ID.ctl     moved from arriving/ by rename, payload first
    5  MESH is told             an acknowledged message is deleted there
    6  work/acknowledged/ID     the note, moved; it goes an hour later

The note is the point of no return. What a start finds says what to do:

    files in arriving/, no note          broken off before it; they are removed, MESH still has the message
    a note, and ID.ctl in arriving/      broken off before it was all in IN; the moves are finished
    a note, and no ID.ctl in arriving/   it is in IN, or was and somebody has taken it: MESH is told

Where IN is on another file system, step 4 is a copy (files/carrying.py), of which a start finds more.

So no kill loses a message or puts it into IN twice, even if the daemon or another program takes files out of
IN at once, and MESH is never told before both files are durable in IN. What has arrived is never looked up in
IN: others take its files. IN is never made either: a missing one may be a disk that is not mounted.

A list of the inbox may be older than an acknowledgement, and MESH still hands out what was acknowledged. So
an id that is listed again within the hour, or goes on being listed, is only acknowledged again.

An id comes from the network. Only a sane one becomes a file name or part of an address; another is left alone
and logged once. A message that cannot be received does not hold up the others.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from requests import RequestException
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl import clock
from meshctl.bridge.answers import (
    ApiFault,
    BridgeFault,
    FailureKind,
    NotMeshError,
    StoppedError,
    advice_on,
    fault_of,
    is_rejection_with,
    is_sane_id,
    local_fault,
)
from meshctl.bridge.client import BridgeClient
from meshctl.bridge.download import DamagedError, Download, TooMuchError, arrived_control_file
from meshctl.files import durable
from meshctl.files.client_folders import ClientFolders
from meshctl.journal.events import Journal
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.control_file import ControlFileError, write_control_file
from meshctl.platform import system

_ARRIVING: Final = "arriving"
_DELIVERED: Final = "delivered"
_ACKNOWLEDGED: Final = "acknowledged"
_REMEMBERED_SECONDS: Final = 3600.0
_PRIVATE: Final = 0o700
_CONTROL_MODE: Final = 0o640
_GONE: Final = frozenset({404, 410})
# A message that fails so often in a row, and comes no further, lets the others pass until the next poll.
_TRIES: Final = 3
_REST_SECONDS: Final = 86_400.0
_FIRST_REST_SECONDS: Final = 30.0
_LONGEST_REST_SECONDS: Final = 3600.0
_MOST_LOGGED: Final = 1000
_MOST_LOGGED_ODD: Final = 20
_LONGEST_ID: Final = 100
_LEFT_ADVICE: Final = (
    "MESH keeps it for some days. Ask its sender or the National Service Desk, by its id, if this continues."
)


class Receiver:
    """The receiving side of one mailbox.

    `inbox` is its IN, `work` the bridge's folder, on the same file system. `folders` are to be durable.
    `should_stop` is asked between blocks of a download, which may take long. Making one touches neither MESH
    nor IN, and raises OSError.
    """

    def __init__(
        self,
        *,
        client: BridgeClient,
        folders: ClientFolders,
        inbox: Path,
        work: Path,
        journal: Journal,
        most_bytes: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._folders = folders
        self._inbox = str(inbox)
        self._arriving = str(work / _ARRIVING)
        self._delivered = str(work / _DELIVERED)
        self._acknowledged = str(work / _ACKNOWLEDGED)
        self._journal = journal
        self._most_bytes = most_bytes
        self._should_stop = should_stop
        self._noted: set[str] = set()
        self._done: dict[str, float] = {}
        self._set_aside: set[str] = set()
        # Until when a message is left alone that costs much and leads nowhere.
        self._resting: dict[str, float] = {}
        self._logged: set[tuple[str, str]] = set()
        self._logged_odd: set[str] = set()
        self._rests_taken: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._listing: Iterator[object] | None = None
        self._download: Download | None = None
        self._recover()

    def _recover(self) -> None:
        """Find what was left unfinished; `step` finishes it. Raises OSError."""
        for folder in (self._arriving, self._delivered, self._acknowledged):
            durable.make_folders(folder, _PRIVATE)
        self._noted = {name for name in os.listdir(self._delivered) if is_sane_id(name)}
        for name in os.listdir(self._arriving):
            if os.path.splitext(name)[0] not in self._noted:
                system.unlink(f"{self._arriving}/{name}")
        with os.scandir(self._acknowledged) as entries:
            self._done = {entry.name: entry.stat().st_mtime for entry in entries}
        self._is_recovered = True
        if self._noted:
            self._journal.warning("bridge.recovered", messages=len(self._noted))

    def step(self) -> bool:
        """Receive one message, or finish receiving one; False when nothing is left until the next poll.

        Raises BridgeFault when neither this message nor another can be received now, StoppedError.
        """
        try:
            return self._step()
        except OSError as error:
            # Somebody may have emptied the work folder, or changed the disk: read again what is there.
            self._is_recovered = False
            if self._download is not None:
                # The disk may have no space for this one message.
                self._count_failure(self._download.message_id)
            self._listing = None
            self._forget_download()
            raise BridgeFault(local_fault(error)) from None

    def _step(self) -> bool:
        if not os.path.isdir(self._inbox):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._inbox)
        if not self._is_recovered:
            self._recover()
        unfinished = self._noted - self._set_aside
        if unfinished:
            self._settle(min(unfinished))
            return True
        message_id = self._next()
        if message_id is None:
            return False
        if message_id in self._done:
            self._acknowledge_again(message_id)
        else:
            self._receive(message_id)
        return True

    def _next(self) -> str | None:
        """Return the next id to receive; None at the end of what the inbox listed."""
        try:
            if self._listing is None:
                self._listing = self._client.message_ids()
            for message_id in self._listing:
                if not is_sane_id(message_id):
                    self._pass_over(message_id)
                elif message_id not in self._noted | self._set_aside and not self._rests(message_id):
                    return message_id
        except (RequestException, Urllib3Error) as error:
            self._listing = None
            raise BridgeFault(fault_of(error)) from None
        self._listing = None
        self._set_aside.clear()
        self._forget_acknowledged()
        return None

    def _receive(self, message_id: str) -> None:
        """Take all steps with a message, or leave it at MESH and log why."""
        download = self._download_of(message_id)
        chunks_before = download.chunks_done
        try:
            headers = download.finish(self._client, self._should_stop)
            self._stage_control_file(message_id, headers)
        except DamagedError as error:
            self._leave(message_id, str(error))
        except TooMuchError as error:
            self._resting[message_id] = monotonic() + _REST_SECONDS
            self._leave(message_id, f"{error}; it is tried again in a day, or when the bridge starts again")
        except ControlFileError as error:
            self._leave(message_id, f"no control file can be made of its headers: {error}")
        except (RequestException, Urllib3Error) as error:
            if download.chunks_done > chunks_before:
                del self._failures[message_id]
            self._not_fetched(message_id, error)
        else:
            with open(f"{self._delivered}/{message_id}", "wb"):
                self._noted.add(message_id)
            self._download = None
            del self._failures[message_id]
            self._deliver(message_id)
            self._journal.info(
                "bridge.received",
                mesh_id=message_id,
                kind="data" if download.has_payload else "report",
                workflow_id=mask_file_name(headers.get("Mex-WorkflowID", "")),
                size=download.size_bytes,
            )
            self._acknowledge(message_id)

    def _stage_control_file(self, message_id: str, headers: Mapping[str, str]) -> None:
        control = write_control_file(arrived_control_file(headers, message_id))
        path = self._staged(message_id, ".ctl")
        system.unlink_if_there(path)
        durable.write_new(path, control, _CONTROL_MODE)
        durable.sync_file(path)
        durable.sync_folder(self._arriving)

    def _settle(self, message_id: str) -> None:
        """Take the steps after the note that have not been taken."""
        self._deliver(message_id)
        self._acknowledge(message_id)

    def _deliver(self, message_id: str) -> None:
        # An earlier attempt may have made the note and failed before this.
        durable.sync_folder(self._delivered)
        control, data = self._staged(message_id, ".ctl"), self._staged(message_id, ".dat")
        if self._folders.is_to_be_delivered(message_id, control):
            self._folders.deliver(message_id, control, data if os.path.lexists(data) else None)
            durable.sync_folder(self._arriving)

    def _acknowledge(self, message_id: str) -> None:
        if self._tell_mesh(message_id):
            del self._failures[message_id]
            system.rename(f"{self._delivered}/{message_id}", f"{self._acknowledged}/{message_id}")
            self._noted.discard(message_id)
            self._done[message_id] = clock.now().timestamp()

    def _acknowledge_again(self, message_id: str) -> None:
        os.utime(f"{self._acknowledged}/{message_id}")
        system.rename(f"{self._acknowledged}/{message_id}", f"{self._delivered}/{message_id}")
        del self._done[message_id]
        self._noted.add(message_id)
        self._settle(message_id)

    def _forget_acknowledged(self) -> None:
        now = clock.now().timestamp()
        for message_id in [one for one, at in self._done.items() if abs(now - at) > _REMEMBERED_SECONDS]:
            system.unlink(f"{self._acknowledged}/{message_id}")
            del self._done[message_id]

    def _tell_mesh(self, message_id: str) -> bool:
        """Acknowledge a message at MESH; False when MESH rejects that."""
        try:
            self._client.acknowledge_message(message_id)
        except (RequestException, Urllib3Error) as error:
            if is_rejection_with(error, _GONE):
                # Acknowledged before, or long ago: MESH has forgotten it. It is in IN.
                return True
            fault = fault_of(error)
            if fault.kind is not FailureKind.REJECTED:
                self._count_failure(message_id)
                raise BridgeFault(fault) from None
            self._set_aside.add(message_id)
            self._log_left(message_id, f"it is in IN, but MESH rejects its acknowledgement: {fault.text}")
            return False
        return True

    def _not_fetched(self, message_id: str, error: Exception) -> None:
        """Decide what a failed request for a message means: for it alone, or for all. Raises BridgeFault."""
        if is_rejection_with(error, _GONE):
            self._leave(message_id, "MESH no longer has it; somebody else has collected it, or it expired")
            return
        fault = fault_of(error)
        if fault.kind is FailureKind.REJECTED:
            self._leave(message_id, f"MESH rejects the request for it: {fault.text}")
            return
        if fault.kind is FailureKind.DENIED or isinstance(error, NotMeshError):
            # MESH itself has listed it a moment ago.
            self._rest(message_id)
            self._leave(message_id, f"{fault.text}. {advice_on(fault)}".rstrip(". "))
            return
        self._listing = None
        self._count_failure(message_id, fault)
        raise BridgeFault(fault) from None

    def _count_failure(self, message_id: str, fault: ApiFault | None = None) -> None:
        """Count a failure to receive or acknowledge a message; let others pass if it continues."""
        self._failures[message_id] += 1
        if self._failures[message_id] >= _TRIES:
            self._set_aside.add(message_id)
            if fault is not None:
                self._rest(message_id)
                self._log_left(message_id, f"it failed several times in a row: {fault.text}")

    def _rest(self, message_id: str) -> None:
        """Leave a message alone for a while, longer each time."""
        self._rests_taken[message_id] += 1
        seconds = min(_FIRST_REST_SECONDS * 2 ** self._rests_taken[message_id], _LONGEST_REST_SECONDS)
        self._resting[message_id] = monotonic() + seconds

    def _leave(self, message_id: str, why: str) -> None:
        """Leave a message at MESH until the next poll."""
        self._forget_download()
        self._set_aside.add(message_id)
        self._log_left(message_id, why)

    def _rests(self, message_id: str) -> bool:
        """True if a message is still left alone."""
        if message_id in self._resting and self._resting[message_id] <= monotonic():
            del self._resting[message_id]
        return message_id in self._resting

    def _pass_over(self, odd_id: object) -> None:
        """Leave an id that cannot be requested, and log it once."""
        if self._should_stop():
            raise StoppedError
        shown = mask_file_name(odd_id[:_LONGEST_ID]) if isinstance(odd_id, str) else "(not a text)"
        if len(self._logged_odd) < _MOST_LOGGED_ODD and shown not in self._logged_odd:
            self._logged_odd.add(shown)
            is_last = len(self._logged_odd) == _MOST_LOGGED_ODD
            more = "; further ids like it are left as well, and not logged" if is_last else ""
            self._log_left(shown, f"its id cannot be a file name{more}")

    def _log_left(self, message_id: str, why: str) -> None:
        if (message_id, why) in self._logged or len(self._logged) >= _MOST_LOGGED:
            return
        self._logged.add((message_id, why))
        if len(self._logged) == _MOST_LOGGED:
            why += "; further messages that are left are not logged until the bridge starts again"
        shown = mask_file_name(message_id)
        text = f"A message cannot be received and stays at MESH: {why}."
        self._journal.tell(
            "bridge.left",
            {"mesh_id": shown, "text": text, "advice": _LEFT_ADVICE},
            mesh_id=shown,
            reason=why,
        )

    def _download_of(self, message_id: str) -> Download:
        """Return the download of a message, the one that broke off where there is one."""
        if self._download is None or self._download.message_id != message_id:
            self._forget_download()
            self._download = Download(message_id, self._staged(message_id, ".dat"), self._most_bytes)
        return self._download

    def _forget_download(self) -> None:
        """Give up a download, and the space that it takes."""
        download, self._download = self._download, None
        if download is not None:
            with suppress(OSError):
                system.unlink(self._staged(download.message_id, ".dat"))

    def _staged(self, message_id: str, ending: str) -> str:
        return f"{self._arriving}/{message_id}{ending}"
