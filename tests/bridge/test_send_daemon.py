"""The daemon reads what the bridge left of its letters: each ends in the state that MESH's answer means."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bridge.mailbox import OTHER, arrived
from tests.bridge.proxy import Break, Proxy, proxy_to
from tests.bridge.sandbox import PASSWORD, SHARED_KEY, Sandbox
from tests.payloads import pdf
from tests.site import Site, make_site, sidecar

pytestmark = pytest.mark.slow
_LETTER: Final = pdf("a letter")
_PATIENT: Final = {"nhs_number": "9990000042", "date_of_birth": "2001-02-14", "surname": "Smith"}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox of the test's own."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        yield sandbox


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[Proxy]:
    """A proxy to the sandbox."""
    with proxy_to(sandbox.url) as proxy:
        yield proxy


@pytest.fixture
def site(tmp_path: Path, proxy: Proxy) -> Site:
    """A site whose bridge reaches the sandbox by the proxy."""
    bridge = {"environment": proxy.url, "password": "env:MESH_PASSWORD", "shared_key": "env:MESH_KEY"}
    site = make_site(tmp_path / "site", bridge=bridge)
    site.environ |= {"MESH_PASSWORD": PASSWORD, "MESH_KEY": SHARED_KEY}
    return site


def follow(site: Site, **said: Any) -> dict[str, Any]:
    """Drop a letter, let daemon and bridge work one after the other, and return what is known of it."""
    site.place("letter.pdf", _LETTER, sidecar=sidecar(**said))
    site.run_once()
    assert site.meshctl("bridge", "--once").exit_code == 0
    return known(site)


def known(site: Site) -> dict[str, Any]:
    """Let the daemon work, and return what is known of the only message then."""
    site.run_once()
    (message_id,) = site.messages()
    shown: dict[str, Any] = json.loads(site.meshctl("show", message_id, "--json").stdout)
    return shown


def test_a_letter_that_mesh_took_is_sent(site: Site, sandbox: Sandbox) -> None:
    shown = follow(site, to_mailbox=OTHER)

    assert (shown["state"], shown["mesh_id"]) == ("sent", sandbox.inbox(OTHER)[0])
    assert arrived(sandbox) == [_LETTER]


@pytest.mark.parametrize(
    ("said", "event", "code"),
    [
        ({"to_mailbox": "NOBODY7"}, "SEND", "12"),
        ({"patient": {**_PATIENT, "surname": "Wałęsa"}}, "TRANSFER", "06"),
    ],
    ids=["unregistered", "beyond Latin-1"],
)
def test_a_letter_that_mesh_rejected_is_failed(
    site: Site, said: dict[str, Any], event: str, code: str
) -> None:
    """The report in IN marks the message `failed`, with event and code, and is archived."""
    shown = follow(site, **said)

    assert shown["state"] == "failed"
    assert (shown["reason"]["event"], shown["reason"]["code"]) == (event, code)
    assert shown["reason"]["advice"]
    assert list(site.client_folder("IN").iterdir()) == []
    (stem,) = site.stems("FAILED")
    assert site.payload(stem, "FAILED") == _LETTER
    assert "Wałęsa" not in site.log_file.read_text() + (site.root / "log" / "bridge.log").read_text()


def test_a_letter_in_doubt_is_failed_with_advice(site: Site, proxy: Proxy, sandbox: Sandbox) -> None:
    """With a LocalId that tells nothing, a lost answer ends in `failed`, and a person is told what to do."""
    proxy.plan.append(("/outbox", Break.ANSWER_LOST))
    site.place("letter.pdf", _LETTER, sidecar=sidecar(to_mailbox=OTHER, local_id=""))
    site.run_once()
    if site.meshctl("bridge", "--once").exit_code == 1:
        assert known(site)["state"] == "collected"
        assert site.meshctl("bridge", "--once").exit_code == 0
    # Else it was slow, and came to its next attempt, a second after the first, in the same run.

    shown = known(site)
    assert (shown["state"], shown["reason"]["code"]) == ("failed", "UNSURE")
    assert "send it again only if" in shown["reason"]["advice"]
    assert arrived(sandbox) == [_LETTER]
