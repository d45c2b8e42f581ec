"""What is sent, and told of at once all the same."""

from meshctl.outbound.recipient import surname_cautions
from tests.payloads import pdf
from tests.site import Site, sidecar

SURNAME = "Wa\u0142\u0119sa"


def test_a_surname_that_no_header_carries_is_told_when_it_is_sent(site: Site) -> None:
    """The letter goes out, and the log says at once why MESH will hardly find its practice."""
    patient = {"nhs_number": "9990000042", "date_of_birth": "2001-02-14", "surname": SURNAME}
    site.place("letter.pdf", pdf("a letter"), sidecar=sidecar(patient=patient))

    site.run_once()

    [stem] = site.stems()
    [told] = [line for line in site.log() if line.event == "message.warning"]
    [caution] = surname_cautions(SURNAME)
    assert (told.level, told.values["message_id"]) == ("WARNING", stem)
    assert (told.values["text"], told.values["advice"]) == (caution.text, caution.advice)
    assert SURNAME not in site.log_file.read_text()


def test_a_surname_within_latin_1_is_not_told_of(site: Site) -> None:
    """Accents that a header carries are nothing to warn of."""
    patient = {"nhs_number": "9990000042", "date_of_birth": "2001-02-14", "surname": "M\u00fcller"}
    site.place("letter.pdf", pdf("a letter"), sidecar=sidecar(patient=patient))

    site.run_once()

    assert len(site.stems()) == 1
    assert [line for line in site.log() if line.event == "message.warning"] == []
