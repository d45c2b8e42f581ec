"""Two sites, each with daemon and bridge, and one MESH between them: letters go, acknowledgements come."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bridge.sandbox import Sandbox, TestAuthority
from tests.bridge.whole_site import WholeSite, make_whole_site
from tests.payloads import MadeMessage, make_bundle_xml, make_response_xml
from tests.site import wait_until

A, B = "X26ABC1", "X26ABC2"
REQUEST_ID = "0bcb5098-ce5a-4a85-a547-2574f90310e4"
USE_CASE = "send-document"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class TwoSites:
    """A, which sends letters, and B, which receives and acknowledges them."""

    a: WholeSite
    b: WholeSite
    sandbox: Sandbox


@pytest.fixture(params=["plain", "tls"])
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwoSites]:
    """Two sites at one sandbox, plain and over TLS."""
    authority = TestAuthority(tmp_path / "ca") if request.param == "tls" else None
    with Sandbox(tmp_path / "sandbox", authority=authority) as sandbox:
        yield TwoSites(
            make_whole_site(tmp_path / "a", sandbox, A, authority),
            make_whole_site(tmp_path / "b", sandbox, B, authority),
            sandbox,
        )


def test_a_letter_and_its_acknowledgements(sites: TwoSites) -> None:
    """A letter from A lies in B's IN as it was; B's two acknowledgements complete it at A."""
    letter = make_bundle_xml(MadeMessage(identifier=REQUEST_ID))
    a, b = sites.a, sites.b

    a.place("letter.xml", letter, sidecar={"use_case": USE_CASE, "to_mailbox": B})
    a.run_once()
    a.bridge_once()
    a.run_once()
    [message_id] = a.messages()
    sent = a.messages()[message_id]
    b.bridge_once()
    b.run_once()

    assert sent["state"] == "sent"
    assert b.stems("IN") == [sent["mesh_id"]]
    assert b.payload(sent["mesh_id"], "IN") == letter
    arrived = b.control(sent["mesh_id"], "IN")
    assert (arrived.from_dts, arrived.to_dts, arrived.dts_id) == (A, B, sent["mesh_id"])
    assert arrived.workflow_id == "GPCONNECT_SEND_DOCUMENT"
    assert a.stems("SENT") == [message_id]

    states = []
    for name, code in (("infrastructure", "20013"), ("business", "30001")):
        bundle_id = f"7a3f4c8e-0000-4000-8000-{int(code):012d}"
        answer = make_response_xml(request_id=REQUEST_ID, codes=(code,), bundle_id=bundle_id)
        b.place(f"{name}.xml", answer, sidecar={"use_case": USE_CASE, "to_mailbox": A})
        b.run_once()
        b.bridge_once()
        a.bridge_once()
        a.run_once()
        states.append(a.messages()[message_id]["state"])

    assert states == ["received", "completed"]
    assert sites.sandbox.inbox(A) == sites.sandbox.inbox(B) == []


@pytest.mark.parametrize("sites", ["plain"], indirect=True)
def test_all_four_processes_at_once(sites: TwoSites) -> None:
    """Adapters and bridges as services: letters dropped at A lie in B's IN, each once."""
    letters = [make_bundle_xml(MadeMessage(identifier=f"0bcb5098-0000-4000-8000-{n:012d}")) for n in range(5)]
    a, b = sites.a, sites.b

    with a.at_work(), b.at_work():
        for number, letter in enumerate(letters):
            a.place(f"{number}.xml", letter, sidecar={"use_case": USE_CASE, "to_mailbox": B})
        wait_until(lambda: len(b.stems("IN")) >= len(letters), "all letters at B")
        wait_until(lambda: set(a.states()) == {"sent"}, "all letters sent at A")

    arrived = [b.payload(stem, "IN") for stem in b.stems("IN")]
    assert sorted(arrived) == sorted(letters)
    assert all(one["mesh_id"] for one in a.messages().values()), a.meshctl("list", "--json").stdout
    assert {one["mesh_id"] for one in a.messages().values()} == set(b.stems("IN"))


@pytest.mark.parametrize(
    ("told", "code", "advice"),
    [
        ({"status": "undeliverable", "code": "14"}, "14", "recipient"),
        ({"status": "error", "code": "EPL-151"}, "EPL-151", "practice"),
    ],
    ids=["undelivered", "no mailbox matches"],
)
def test_a_report_fails_its_message(tmp_path: Path, told: dict[str, str], code: str, advice: str) -> None:
    """A report of MESH is matched by the id that MESH gave, and the message fails with code and advice."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        site = make_whole_site(tmp_path / "a", sandbox, A)
        site.place("letter.xml", make_bundle_xml(), sidecar={"use_case": USE_CASE, "to_mailbox": B})
        site.run_once()
        site.bridge_once()
        site.run_once()
        [row] = site.messages().values()
        report_id = sandbox.report(
            A, description="as told", workflow_id="x", linked_message_id=row["mesh_id"], **told
        )
        site.bridge_once()
        site.run_once()
        inbox = sandbox.inbox(A)

    [row] = site.messages().values()
    assert (row["state"], row["reason_event"], row["reason_code"]) == ("failed", "SEND", code)
    assert advice in row["reason_advice"].lower()
    assert list(site.client_folder("IN").iterdir()) == []
    assert len(list((site.root / "archive").rglob(f"{report_id}.ctl"))) == 1
    assert inbox == []
