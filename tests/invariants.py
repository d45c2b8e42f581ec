"""What must hold on a site whatever happened: each file once, no pair in part, services and folders agree."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from meshctl.daemon.obstacles import NOTE_NAME
from meshctl.errors import Rejection
from meshctl.files.reading import read_regular
from meshctl.mesh.message_id import is_message_id
from meshctl.payload.sidecar_reader import SIDECAR_BYTES, read_sidecar
from tests.hl7_messages import document_of
from tests.site import ERROR_SUFFIX, SIDECAR_SUFFIX, Dropped, Site, document_in, documents_in

_STATE_FILES = {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "key", "lock", "holder", NOTE_NAME}
# What counts as the content of a FIFO, a socket or a device, which has none.
SPECIAL_CONTENT = b"no ordinary file"
_BESIDE = (SIDECAR_SUFFIX, ERROR_SUFFIX)
_CLIENT_FOLDERS = ("OUT", "SENT", "FAILED")


def check_invariants(
    site: Site,
    dropped: Iterable[Dropped] | None = None,
    *,
    settled: bool = True,
) -> None:
    """Check all guarantees of design section 4 that folders and ledger can show.

    `dropped` is what was dropped, the site's own record if not given. `settled` is false while a run may
    still have files in hand.
    """
    check_each_once(site, site.dropped if dropped is None else dropped, {})
    check_pairs(site, {})
    check_explanations(site)
    if settled:
        check_nothing_temporary(site)
        check_ledger(site, {})


def check_each_once(site: Site, dropped: Iterable[Dropped], taken: Mapping[str, bytes]) -> None:
    """Every dropped file is in exactly one place, byte for byte, and nothing else is there."""
    dropped = list(dropped)
    check_none_lost(site, dropped, taken)
    check_none_doubled(site, dropped, taken)


def check_none_lost(site: Site, dropped: Iterable[Dropped], taken: Mapping[str, bytes]) -> None:
    """Every dropped file is somewhere, byte for byte."""
    lost = Counter(digest_of(each.data) for each in dropped) - _places(site, taken)[0]
    assert not lost, f"{lost.total()} dropped files are nowhere, or changed"


def check_none_doubled(site: Site, dropped: Iterable[Dropped], taken: Mapping[str, bytes]) -> None:
    """No dropped file is in two places, and nothing else is there."""
    found, places = _places(site, taken)
    surplus = found - Counter(digest_of(each.data) for each in dropped)
    shown = {digest: places.get(digest, []) for digest in surplus}
    assert not surplus, f"{surplus.total()} files too many: {shown}"


def check_pairs(site: Site, taken: Mapping[str, bytes]) -> None:
    """Every control file is whole and stands beside its payload, which its message's ledger row describes."""
    for folder in _CLIENT_FOLDERS:
        for stem in site.stems(folder):
            control = site.control(stem, folder)
            assert control.from_dts, f"{stem}.ctl names no sender"
            assert (site.client_folder(folder) / f"{stem}.dat").is_file(), f"{stem}.ctl has no payload"
    stems = Counter([stem for folder in _CLIENT_FOLDERS for stem in site.stems(folder)] + list(taken))
    assert not stems or max(stems.values()) == 1, "a message is in two folders"


def check_explanations(site: Site) -> None:
    """Every explanation stands beside its file, and every refused file has one."""
    explained = {
        explanation.payload.name
        for explanation in site.explanations()
        if explanation.content["message_id"] is not None
    }
    refused = {path.name for path in _payloads_in(site.rejected)}
    assert explained == refused - _attachments_in(site.rejected)


def _attachments_in(folder: Path) -> set[str]:
    """Return what sidecars in a folder name as attachments: they came there with their letters."""
    named: set[str] = set()
    for path in folder.glob(f"*{SIDECAR_SUFFIX}"):
        with suppress(Rejection, OSError):
            document = read_sidecar(read_regular(path, SIDECAR_BYTES + 1)).document
            named.update((document.attachments if document else None) or ())
    return named


def check_nothing_temporary(site: Site) -> None:
    """No work folder, half-written file or hidden name is left."""
    left = [path for path in site.work.rglob("*") if path.parent != site.work]
    left += [path for path in (*site.out.iterdir(), *site.rejected.iterdir()) if path.name.startswith(".")]
    # A damaged ledger is kept on purpose.
    state = (path for path in site.state.iterdir() if ".damaged-" not in path.name)
    left += [path for path in state if path.name not in _STATE_FILES]
    lone = {path.stem for path in site.out.glob("*.dat")} - set(site.stems())
    assert not left, f"left: {[str(path.relative_to(site.root)) for path in left]}"
    assert lone == set(), "payloads in OUT without a control file"


def check_ledger(site: Site, taken: Mapping[str, bytes], prefix: str = "") -> None:
    """The ledger holds exactly the messages that the folders show, in a state that fits."""
    rows = site.messages()
    refused = {each.content["message_id"] for each in site.explanations() if each.content["message_id"]}
    handed_over = {stem for folder in _CLIENT_FOLDERS for stem in site.stems(folder)} | set(taken)
    withdrawn = {key for key, row in rows.items() if row["reason_event"] == "WITHDRAW"}
    not_sent = {key for key, row in rows.items() if row["state"] == "rejected"} | withdrawn
    assert not_sent - site.noted("REDROP") == refused
    assert rows.keys() - not_sent == handed_over
    assert not [key for key, row in rows.items() if row["state"] == "claimed"]
    for stem in handed_over:
        assert stem.startswith(prefix)
        assert is_message_id(stem.removeprefix(prefix))
    for folder in _CLIENT_FOLDERS:
        for stem in site.stems(folder):
            data, row = site.payload(stem, folder), rows[stem]
            document = document_in(data)
            assert row["wrapped_bytes"] == (None if document == data else len(data))
            if row["content_key"] is None:
                # Of HL7 v2 the ledger has the size and hash of the whole file.
                assert row["size_bytes"] == len(document)
                assert row["sha256"] in (None, hashlib.sha256(document).digest())


def payloads_on(site: Site) -> Iterator[Path]:
    """Yield every payload on the site: in the outbox, the work folder, `rejected/` and with the client."""
    for folder, _, _ in os.walk(site.outbox):
        yield from _payloads_in(Path(folder))
    for letter in (site.work / "letters").glob("*/"):
        yield from (path for path in _payloads_in(letter) if not path.name.startswith("."))
    yield from _payloads_in(site.rejected)
    for name in _CLIENT_FOLDERS:
        yield from site.client_folder(name).glob("*.dat")


def fingerprints(path: Path) -> list[str]:
    """Return the fingerprint of each document in a message that meshctl made; of anything else its own."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return [fingerprint(path)]
    return [digest_of(each) for each in documents_in(path.read_bytes())]


def fingerprint(path: Path) -> str:
    """Return what tells contents apart; of a link where it leads, of a FIFO or device that it is one."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return digest_of(link_content(os.readlink(path)))
    return digest_of(document_in(path.read_bytes()) if stat.S_ISREG(mode) else SPECIAL_CONTENT)


def _places(site: Site, taken: Mapping[str, bytes]) -> tuple[Counter[str], dict[str, list[str]]]:
    """Return how often each content is found, and where."""
    found = Counter(digest_of(each) for data in taken.values() for each in documents_in(data))
    places: dict[str, list[str]] = {}
    for path in payloads_on(site):
        for digest in fingerprints(path):
            found[digest] += 1
            places.setdefault(digest, []).append(str(path.relative_to(site.root)))
    return found, places


def _payloads_in(folder: Path) -> Iterator[Path]:
    """Yield what is neither a folder, a sidecar beside its payload, nor an explanation beside its file."""
    names = {entry.name for entry in os.scandir(folder) if not entry.is_dir(follow_symlinks=False)}
    for name in sorted(names):
        is_beside = any(name.endswith(end) and name.removesuffix(end) in names for end in _BESIDE)
        if not is_beside and not _explains_a_folder(folder / name):
            yield folder / name


def _explains_a_folder(path: Path) -> bool:
    """Tell an explanation of a sub-folder of the outbox, which is left where it lies."""
    if not path.name.endswith(ERROR_SUFFIX) or not path.is_file():
        return False
    return b'"message_id": null' in path.read_bytes()


def link_content(target: str) -> bytes:
    """Return what counts as the content of a symbolic link."""
    return b"link to " + os.fsencode(target)


def digest_of(data: bytes) -> str:
    """Return the name of a content; of HL7 v2 that of the document in it, which is sent."""
    return hashlib.sha256(document_of(data)).hexdigest()
