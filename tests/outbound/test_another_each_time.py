"""A file that is another one at each look, as on shares that give files new numbers, is told of."""

import os
from pathlib import Path

import pytest

from tests.payloads import make_bundle_xml
from tests.site import make_site


@pytest.mark.slow
def test_a_file_that_is_another_at_each_look_is_told_and_goes_when_it_stays(tmp_path: Path) -> None:
    """It never counts as complete; nothing but its number changes. Others are sent meanwhile."""
    polled = {"watch": "poll", "rescan_seconds": 0.1, "quiet_seconds": 0.3}
    site = make_site(tmp_path / "site", staging={**polled, "default_use_case": "send-document"})
    path, spare = site.outbox / "letter.xml", tmp_path / "spare"

    def replace() -> None:
        spare.write_bytes(make_bundle_xml())
        os.utime(spare, (1_700_000_000, 1_700_000_000))
        os.replace(spare, path)

    def is_told() -> bool:
        replace()
        return bool(site.events("file.set_aside"))

    with site.daemon() as daemon:
        site.place("other.xml", make_bundle_xml(identifier="OTHER"))
        daemon.wait_for(is_told, "the file to be set aside")
        [told] = site.events("file.set_aside")
        daemon.wait_for_pairs(2, 300)

    assert told.values["file"] == "letter.xml"
    assert "another file at each look" in told.values["text"]
    assert "file_identity" in told.values["advice"]
