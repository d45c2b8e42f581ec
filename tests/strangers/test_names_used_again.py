"""Names are used again: what came for one file is never sent with, and never lost to, another of its name."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.site import WRAPPING, documents_in, make_site, sidecar
from tests.strangers.shared_site import SLOWLY, contents, dropping, make_shared_site, needs_slowness, pdf

OF_A, OF_B = pdf("of patient A"), pdf("of patient B")
WAITING: Mapping[str, Mapping[str, Any]] = {**WRAPPING, "staging": {"sidecar_wait_seconds": 30}}


def test_a_sidecar_may_say_what_its_file_is(tmp_path: Path) -> None:
    """A file that is another one is refused with its sidecar, whether it is wrapped or sent as dropped."""
    site = make_site(
        tmp_path / "site", **{**WRAPPING, "use_cases.consultation-report": {"payload": "as dropped"}}
    )
    digest, size = hashlib.sha256(OF_A).hexdigest(), len(OF_A)
    right: list[dict[str, Any]] = [
        {"sha256": digest}, {"sha256": digest.upper(), "size_bytes": size}, {"size_bytes": size},
    ]  # fmt: skip
    wrong: list[dict[str, Any]] = [
        {"sha256": hashlib.sha256(OF_B).hexdigest()},
        {"size_bytes": size + 1},
        {"sha256": digest, "size_bytes": 1},
    ]
    names: dict[str, str | None] = {}
    for use_case in ("send-document", "consultation-report"):
        for said, code in (*((one, None) for one in right), *((one, "payload_differs") for one in wrong)):
            name = f"scan-{len(names)}.pdf"
            names[name] = code
            site.place(name, OF_A, sidecar=sidecar(**said, use_case=use_case))
    site.run_once()

    refused = {name for name, code in names.items() if code}
    assert {each.payload.name: each.content["code"] for each in site.explanations()} == {
        name: names[name] for name in refused
    }
    assert [document for data in site.sent_contents() for document in documents_in(data)] == [OF_A] * 6
    assert {path.name for path in site.rejected.iterdir()} == {
        f"{name}{end}" for name in refused for end in ("", ".error.json", ".meta.json")
    }


@needs_slowness
@pytest.mark.parametrize("runs", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_nothing_is_put_back_over_what_came_meanwhile(tmp_path: Path, runs: int) -> None:
    """A letter that cannot go now is put back, and a scanner has used its name again by then.

    Two kinds that are put back: one that changed while it was looked at, and one that waits for a page.
    """
    site = make_shared_site(tmp_path / "site", **WAITING)
    lacking = sidecar(document={"attachments": ["never-comes.pdf"]})
    site.place_sidecar("lacking.pdf", lacking)
    site.place_sidecar("restless.pdf", sidecar())
    names, restless = ["lacking.pdf", "restless.pdf"], ["restless.pdf"]
    with dropping(site.outbox, "occupy", names=names, restless=restless, pause=0.02) as dropper:
        for _ in range(runs):
            ended = site.meshctl("run", "--once", prefix=SLOWLY)
            assert (ended.exit_code, ended.stderr) == (0, "")
        made: list[str] = dropper.stop()
    everything = {each for _, found in contents(site) for each in found}
    assert [content for content in made if content.encode() not in everything] == []
