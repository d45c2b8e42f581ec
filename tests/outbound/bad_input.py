"""The table of bad input, and of input that only looks bad: what is dropped, and what is to become of it."""

import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from tests.itk2 import (
    LOCAL,
    NON_CODED,
    NULLIFICATION,
    UNVERIFIED,
    VERIFIED,
    MadeCda,
    MadeEnvelope,
    in_soap,
    make_business_answer,
    make_encoded_envelope,
    make_envelope,
)
from tests.outbound.cases import (
    CDA_PATIENT,
    GIVEN,
    NHS_NUMBER,
    PATIENT,
    SAID,
    SURNAME,
    Case,
    cda,
    fhir_json,
    given,
    link,
    message,
    named,
    odd_sidecar,
    patient,
    raw_sidecar,
    said,
    sparse,
    special,
    xml,
)
from tests.payloads import (
    NHS_NUMBER_SYSTEM,
    make_response_xml,
    pdf,
    person_name,
    synthetic_nhs_number,
)

MAX_PAYLOAD_BYTES = 16_000_000
_OTHER_NUMBER = synthetic_nhs_number(77)
_OTHER = replace(PATIENT, nhs_number=_OTHER_NUMBER, resource_id="other", full_url="urn:uuid:other")
_SAID_BYTES = json.dumps(SAID).encode()


def _identifiers(*numbers: str) -> tuple[dict[str, str], ...]:
    return tuple({"system": NHS_NUMBER_SYSTEM, "value": number} for number in numbers)


def _with_doctype(doctype: str) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(b"<Bundle", doctype.encode() + b"\n<Bundle", 1)


def _bomb(levels: int) -> str:
    """Return the billion laughs: each entity is ten of the one before."""
    entities = "".join(
        f'<!ENTITY l{level} "{"".join(f"&l{level - 1};" for _ in range(10))}">' for level in range(1, levels)
    )
    return f'<!DOCTYPE Bundle [<!ENTITY l0 "lol">{entities}]>'


PATIENTS = [
    message("no-patient", "patient_missing", None),
    message("two-patients-no-subject", "patient_ambiguous", patients=(PATIENT, _OTHER), subject=None),
    message("subject-is-neither-of-two", "patient_ambiguous", patients=(PATIENT, _OTHER), subject="#nobody"),
    message("subject-tells-two-apart", None, patients=(PATIENT, _OTHER)),
    patient("two-nhs-numbers", "patient_ambiguous", identifiers=_identifiers(NHS_NUMBER, _OTHER_NUMBER)),
    patient("same-nhs-number-twice", None, identifiers=_identifiers(NHS_NUMBER, NHS_NUMBER)),
    patient("no-nhs-number", "patient_incomplete", nhs_number=None),
    patient("no-birth-date", "patient_incomplete", date_of_birth=None),
    patient("no-surname", "patient_incomplete", surname=None),
    patient("number-of-another-system", "patient_incomplete", nhs_number_system="https://example.org/id"),
    message("nhs-numbers-disagree", "patient_disagreement",
            sidecar={"patient": {**GIVEN, "nhs_number": _OTHER_NUMBER}}),
    message("birth-dates-disagree", "patient_disagreement",
            sidecar={"patient": {**GIVEN, "date_of_birth": "2001-02-15"}}),
    message("surnames-disagree", "patient_disagreement", sidecar={"patient": {**GIVEN, "surname": "Other"}}),
    message("surnames-agree-but-for-apostrophe-and-hyphen", None, replace(PATIENT, names=(
        person_name("O\u2019Quibble\u2010thwaite"),)),
        sidecar={"patient": {**GIVEN, "surname": "O'Quibble-Thwaite"}}),
    message("surnames-agree-but-for-case", None, sidecar={"patient": {**GIVEN, "surname": SURNAME.upper()}}),
    message("sidecar-completes-year-of-birth", None, replace(PATIENT, date_of_birth="2001"),
            sidecar={"patient": GIVEN}),
    message("sidecar-contradicts-year-of-birth", "patient_disagreement",
            replace(PATIENT, date_of_birth="2002"), sidecar={"patient": GIVEN}),
    patient("nhs-number-of-9-digits", "nhs_number_invalid", nhs_number="999000004"),
    patient("nhs-number-of-11-digits", "nhs_number_invalid", nhs_number="99900000421"),
    patient("nhs-number-wrong-check-digit", "nhs_number_invalid", nhs_number="9990000043"),
    patient("nhs-number-with-letters", "nhs_number_invalid", nhs_number="99900000A2"),
    patient("nhs-number-of-zeros", "nhs_number_invalid", nhs_number="0000000000"),
    patient("nhs-number-in-arabic-digits", "nhs_number_invalid", nhs_number="٩٩٩٠٠٠٠٠٤٢"),
    patient("nhs-number-with-spaces", None, nhs_number=" 999 000 0042 "),
    patient("nhs-number-with-hyphens", None, nhs_number="999-000-0042"),
    given("nhs-number-empty", "patient_incomplete", nhs_number=""),
    patient("birth-year", "date_of_birth_invalid", date_of_birth="1980"),
    patient("birth-month", "date_of_birth_invalid", date_of_birth="1980-02"),
    patient("birth-date-february-30", "date_of_birth_invalid", date_of_birth="1980-02-30"),
    patient("birth-date-in-future", "date_of_birth_invalid", date_of_birth="2999-01-01"),
    patient("birth-date-british", "date_of_birth_invalid", date_of_birth="03/02/1980"),
    patient("birth-date-with-time", "date_of_birth_invalid", date_of_birth="1980-02-03T10:00:00Z"),
    patient("birth-date-without-hyphens", "date_of_birth_invalid", date_of_birth="19800203"),
    given("birth-date-empty", "patient_incomplete", date_of_birth=""),
    given("surname-empty", "patient_incomplete", surname=""),
    given("surname-blank", "patient_incomplete", surname=" \t "),
    patient("surname-with-underscore", "surname_invalid", surname="Quibble_thwaite"),
    patient("surname-with-newline", "surname_invalid", surname="Quibble\nthwaite"),
    given("surname-ends-in-newline", None, surname=f"{SURNAME}\n"),
    patient("surname-with-direction-override", "surname_invalid", surname="Quibble\u202ethwaite"),
    patient("surname-of-36-characters", "surname_invalid", surname="Q" * 36),
    patient("surname-of-35-characters", None, surname="Q" * 35),
    patient("surname-with-apostrophe", None, surname="O'Quibble-Thwaite d'Été"),
    message("former-name-is-not-taken", None, replace(PATIENT, names=(
        person_name("Maiden_name", use="maiden"), person_name(SURNAME)))),
]  # fmt: skip

USE_CASES = [
    message("use-case-ambiguous", "use_case_ambiguous", folder=None),
    Case("use-case-missing", "use_case_missing", b"opaque, and nothing says what it is"),
    Case("patient-missing", "patient_missing", b"opaque, in its folder", folder="send-document"),
    said("use-case-unknown", "use_case_unknown", use_case="send-documents"),
    said("use-case-with-path", "use_case_unknown", use_case="../send-document"),
    said("to-mailbox-is-a-path", "to_mailbox_invalid", to_mailbox="../../etc"),
    said("to-mailbox-is-an-address", "to_mailbox_invalid", to_mailbox="GPPROVIDER_1_2_3"),
    said("to-mailbox-of-two-characters", "to_mailbox_invalid", to_mailbox="X2"),
    said("to-mailbox-in-small-letters", "to_mailbox_invalid", to_mailbox="x26abc2"),
    said("to-mailbox-with-hyphen-and-underscore", None, to_mailbox="X26-AB_C2"),
    said("to-mailbox-empty", None, to_mailbox=""),
    said("to-mailbox-with-newline", None, to_mailbox="X26ABC2\n"),
    said("to-mailbox", None, to_mailbox="X26ABC2"),
    said("to-mailbox-is-an-nhs-number", "nhs_number_misplaced", to_mailbox=NHS_NUMBER),
    said("to-mailbox-is-an-nhs-number-in-groups", "nhs_number_misplaced", to_mailbox="999 000 0042"),
    said("to-mailbox-holds-an-nhs-number", "nhs_number_misplaced", to_mailbox="X-99900_00042"),
    said("version-is-an-nhs-number", "nhs_number_misplaced", version=NHS_NUMBER),
    said("version-holds-an-nhs-number", "nhs_number_misplaced", version="v999 000 0042"),
    said("resend-of-begins-with-an-nhs-number", "nhs_number_misplaced",
         resend_of=f"{NHS_NUMBER}_20261122091502480113_7F3A9C"),
    message("version-of-the-document-is-an-nhs-number", "nhs_number_misplaced", version=NHS_NUMBER),
    message("version-of-the-document", None, version="2026-11-22 10.15"),
    Case("response-without-mailbox", "response_without_mailbox", make_response_xml(request_id="one"),
         folder="send-document"),
    Case("response", None, make_response_xml(request_id="two"), {"to_mailbox": "X26ABC2"},
         folder="send-document"),
]  # fmt: skip

SIDECARS = [
    raw_sidecar("sidecar-empty", "sidecar_not_json", b""),
    raw_sidecar("sidecar-not-json", "sidecar_not_json", b"use_case: send-document"),
    raw_sidecar("sidecar-cut-short", "sidecar_not_json", _SAID_BYTES[:-1]),
    raw_sidecar("sidecar-goes-on", "sidecar_not_json", _SAID_BYTES + b" {}"),
    raw_sidecar("sidecar-single-quotes", "sidecar_not_json", _SAID_BYTES.replace(b'"', b"'")),
    raw_sidecar("sidecar-array", "sidecar_not_object", b"[" + _SAID_BYTES + b"]"),
    raw_sidecar("sidecar-text", "sidecar_not_object", b'"send-document"'),
    raw_sidecar("sidecar-null", "sidecar_not_object", b"null"),
    said("sidecar-unknown-key", "sidecar_unknown_key", patiens=GIVEN),
    given("sidecar-unknown-key-of-patient", "sidecar_unknown_key", dob="2001-02-14"),
    said("sidecar-key-is-a-patient", "sidecar_unknown_key", **{f"{SURNAME} {NHS_NUMBER}": 1}),
    said("sidecar-patient-outside", "sidecar_unknown_key", surname=SURNAME),
    raw_sidecar("sidecar-duplicate-key", "sidecar_duplicate_key", b'{"title": "a", "title": "b"}'),
    raw_sidecar("sidecar-duplicate-patient-key", "sidecar_duplicate_key",
                b'{"patient": {"surname": "A", "surname": "B"}}'),
    said("sidecar-patient-is-text", "sidecar_wrong_value", patient=SURNAME),
    given("sidecar-number-not-text", "sidecar_wrong_value", nhs_number=9990000042),
    said("sidecar-version-true", "sidecar_wrong_value", version=True),
    said("sidecar-version-fraction", "sidecar_wrong_value", version=1.5),
    said("sidecar-version-enormous", "sidecar_wrong_value", version=10**30),
    said("sidecar-acknowledgement-unknown", "sidecar_wrong_value", acknowledgements=["postal"]),
    said("sidecar-acknowledgements-text", "sidecar_wrong_value", acknowledgements="business"),
    said("sidecar-nul", "sidecar_wrong_value", title="Letter\0"),
    said("sidecar-escape-sequence", "sidecar_wrong_value", title="\x1b]0;owned\x07"),
    said("sidecar-lone-surrogate", "sidecar_wrong_value", title="\ud800"),
    said("sidecar-title-long", "sidecar_wrong_value", title="t" * 1001),
    given("sidecar-surname-long", "sidecar_wrong_value", surname="Q" * 256),
    raw_sidecar("sidecar-not-a-number", "sidecar_not_json", b'{"version": NaN}'),
    raw_sidecar("sidecar-infinite", "sidecar_not_json", b'{"version": -Infinity}'),
    raw_sidecar("sidecar-exponent", "sidecar_wrong_value", b'{"version": 1e999}'),
    raw_sidecar("sidecar-number-of-5000-digits", "sidecar_not_json", b'{"version": ' + b"9" * 5000 + b"}"),
    raw_sidecar("sidecar-10000-arrays-deep", "sidecar_not_json", b"[" * 10_000 + b"]" * 10_000),
    raw_sidecar("sidecar-10000-objects-deep", "sidecar_not_json",
                b'{"title":' * 10_000 + b"1" + b"}" * 10_000),
    raw_sidecar("sidecar-raw-control-character", "sidecar_not_json", b'{"title": "a\nb"}'),
    raw_sidecar("sidecar-utf-16", "sidecar_not_json", json.dumps(SAID).encode("utf-16")),
    raw_sidecar("sidecar-latin-1", "sidecar_not_json", '{"title": "Été"}'.encode("latin-1")),
    raw_sidecar("sidecar-byte-order-mark", None, b"\xef\xbb\xbf" + _SAID_BYTES),
    raw_sidecar("sidecar-one-byte-over-1-mib", "sidecar_too_large", _SAID_BYTES.ljust(1024 * 1024 + 1)),
    raw_sidecar("sidecar-of-1-mib", None, _SAID_BYTES.ljust(1024 * 1024)),
    odd_sidecar("sidecar-of-100-mb", "sidecar_too_large", lambda path: sparse(path, 10**8)),
    odd_sidecar("sidecar-folder", "sidecar_not_a_file", lambda path: path.mkdir()),
    said("sidecar-of-a-longer-file", "payload_differs", size_bytes=1000),
    said("sidecar-of-another-file", "payload_differs", sha256="0" * 64),
    Case("sidecar-of-this-file", None, pdf("described"),
         {**SAID, "size_bytes": 25, "sha256": sha256(pdf("described")).hexdigest().upper()}),
    Case("sidecar-of-another-large-file", "payload_differs", b"opaque" * 50_000,
         {**SAID, "sha256": "0" * 64}),
    Case("sidecar-alone", "sidecar_alone", _SAID_BYTES, name="no-such-payload.pdf.meta.json"),
    Case("sidecar-of-a-folder", "sidecar_alone", _SAID_BYTES + b" ", name="send-document.meta.json"),
    Case("sidecar-of-a-sidecar", "sidecar_alone", _SAID_BYTES + b"  ", name="x.pdf.meta.json.meta.json"),
]  # fmt: skip

XML = [
    xml("xml-cut-short", "payload_xml_broken", lambda data: data[: len(data) // 2]),
    xml("xml-wrong-end-tag", "payload_xml_broken", lambda data: data.replace(b"</Bundle>", b"</Bundel>")),
    xml("xml-two-roots", "payload_xml_broken", lambda data: data + b"<Bundle/>"),
    xml("xml-nul", "payload_xml_broken", lambda data: data.replace(b"<Bundle", b"<!--\0--><Bundle", 1)),
    xml("xml-undeclared-entity", "payload_xml_broken", lambda data: data.replace(b"Brian", b"&brian;")),
    xml("xml-not-utf-8-inside", "payload_xml_broken", lambda data: data.replace(b"Brian", b"Andr\xe9")),
    xml("xml-control-reference", "payload_xml_broken", lambda data: data.replace(b"Brian", b"&#8;")),
    xml("xml-dtd", "payload_dtd", _with_doctype("<!DOCTYPE Bundle>")),
    xml("xml-dtd-of-html", "payload_dtd", _with_doctype("<!DOCTYPE html>")),
    xml("xml-dtd-far-down", "payload_dtd", _with_doctype(f"<!--{'x' * 9000}--><!DOCTYPE Bundle>")),
    xml("xml-dtd-behind-instruction", "payload_dtd", _with_doctype("<?pi ?><!DOCTYPE Bundle>")),
    xml("xml-external-dtd", "payload_dtd", _with_doctype('<!DOCTYPE Bundle SYSTEM "http://127.0.0.1:9/x">')),
    xml("xml-billion-laughs", "payload_dtd",
        lambda data: _with_doctype(_bomb(10))(data).replace(b"Brian", b"&l9;")),
    xml("xml-billion-laughs-in-attribute", "payload_dtd", _with_doctype(_bomb(12))),
    xml("xml-quadratic-blow-up", "payload_dtd",
        lambda data: _with_doctype(f'<!DOCTYPE Bundle [<!ENTITY a "{"a" * 50_000}">]>')(data)
        .replace(b"Brian", b"&a;" * 50_000)),
    xml("xml-entity-that-holds-itself", "payload_dtd", _with_doctype('<!DOCTYPE B [<!ENTITY a "&a;">]>')),
    xml("xml-external-entity-file", "payload_dtd",
        lambda data: _with_doctype('<!DOCTYPE Bundle [<!ENTITY x SYSTEM "file:///etc/passwd">]>')(data)
        .replace(b"Brian", b"&x;")),
    xml("xml-external-entity-network", "payload_dtd",
        _with_doctype('<!DOCTYPE Bundle [<!ENTITY x SYSTEM "http://127.0.0.1:9/">]>')),
    xml("xml-parameter-entity", "payload_dtd",
        _with_doctype('<!DOCTYPE Bundle [<!ENTITY % p SYSTEM "http://127.0.0.1:9/">%p;]>')),
    xml("xml-300-levels-deep", "payload_too_complex",
        lambda data: data.replace(b"</Bundle>\n", b"<a>" * 300 + b"</a>" * 300 + b"</Bundle>", 1)),
    xml("xml-text-of-11-mb", "payload_too_complex",
        lambda data: data + b"<!--" + b" ." * 5_500_000 + b"-->"),
    xml("xml-utf-16", "payload_encoding", lambda data: data.decode().encode("utf-16")),
    xml("xml-utf-16-without-mark", "payload_encoding", lambda data: data.decode().encode("utf-16-be")),
    xml("xml-utf-32", "payload_encoding", lambda data: data.decode().encode("utf-32")),
    xml("xml-declares-utf-7", "payload_encoding", lambda data: data.replace(b'"UTF-8"', b'"UTF-7"', 1)),
    xml("xml-declares-ebcdic", "payload_encoding", lambda data: data.replace(b'"UTF-8"', b'"cp037"', 1)),
    xml("xml-byte-order-mark", None, lambda data: b"\xef\xbb\xbf" + data),
    xml("xml-latin-1-declared", None, lambda data: data.replace(b'"UTF-8"', b'"ISO-8859-1"', 1)
        .replace(b"Brian", b"Andr\xe9")),
    xml("xml-include-is-not-followed", None, lambda data: data.replace(b"</Bundle>\n",
        b'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="/etc/passwd"/></Bundle>', 1)),
    Case("xml-of-another-kind", "patient_missing", b"<letter>xml</letter>", folder="send-document"),
    Case("html", None, b"<!DOCTYPE html><html><br>one</html>", SAID, "letter.html"),
    Case("xml-only-a-bracket", "payload_xml_broken", b"<", SAID),
]  # fmt: skip

JSON = [
    fhir_json("json-cut-short", "payload_json_broken", lambda data: data[:-1]),
    fhir_json("json-goes-on", "payload_json_broken", lambda data: data + b"}"),
    fhir_json("json-duplicate-key", "payload_json_broken", lambda data: data[:-1] + b', "type": "message"}'),
    fhir_json("json-not-a-number", "payload_json_broken", lambda data: data[:-1] + b', "total": NaN}'),
    fhir_json("json-control-character", "payload_json_broken",
              lambda data: data.replace(b"Brian", b"\\u0007")),
    fhir_json("json-10000-deep", "payload_too_complex",
              lambda data: data[:-1] + b', "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    fhir_json("json-number-of-5000-digits", "payload_json_broken",
              lambda data: data[:-1] + b', "total": ' + b"9" * 5000 + b"}"),
    fhir_json("json-utf-16", "payload_encoding", lambda data: data.decode().encode("utf-16")),
    fhir_json("json-byte-order-mark", None, lambda data: b"\xef\xbb\xbf" + data),
    Case("json-of-another-kind", "patient_missing", b'{"letter": "json"}', folder="send-document"),
    Case("json-broken-of-another-kind", None, b'{"letter": ', SAID, "broken.json"),
]  # fmt: skip

FILES = [
    Case("dat-by-hand", "control_file_by_hand", b"dat", SAID, "letter.dat"),
    Case("ctl-by-hand", "control_file_by_hand", b"<DTSControl><!--mine--></DTSControl>", name="letter.ctl"),
    Case("dat-in-capitals", "control_file_by_hand", b"DAT", SAID, "LETTER2.DAT"),
    Case("explanation-dropped-again", "use_case_missing", b'{"message_id": "x", "code": "y"}',
         name="letter.pdf.error.json"),
    Case("empty", "payload_empty", b"", SAID),
    Case("empty-fhir", "payload_empty", b"", name="empty.xml", folder="send-document"),
    Case("too-large", "payload_too_large", bytes(MAX_PAYLOAD_BYTES + 1), SAID),
]  # fmt: skip

NAMES = [
    Case("name-of-255-bytes", "file_name_unsafe", b"opaque 255", name="n" * 251 + ".pdf"),
    Case("name-without-room-for-a-sidecar", "file_name_unsafe", b"opaque 246", name="é" * 121 + ".pdf"),
    named("name-of-245-bytes", None, "m" * 241 + ".pdf"),
    Case("name-too-long-for-an-explanation", "use_case_missing", b"opaque 240", name="é" * 118 + ".pdf"),
    Case("name-cut-within-a-character", "use_case_missing", b"opaque 239", name="x" + "é" * 117 + ".pdf"),
    named("name-with-c1-control", "file_name_unsafe", "a\x9b2Jb.pdf"),
    named("name-with-two-dots", "file_name_unsafe", "a..b.pdf"),
    named("name-with-equals-sign", None, "a level=ERROR code=x.pdf"),
    named("name-with-apostrophe", None, "O'Leary's letter.pdf"),
    named("name-with-spaces", None, " two  spaces .pdf"),
    named("name-for-a-shell", None, "$(touch owned); `id` &.pdf"),
    named("name-of-an-option", None, "--help.pdf"),
    named("name-with-a-glob", None, "[a].pdf"),
    named("name-turned-round", None, "a\u202efdp.exe"),
    named("name-with-nhs-number", None, f"{NHS_NUMBER} letter.pdf"),
    named("name-without-ending", None, "letter"),
]  # fmt: skip

_DOCUMENT = MadeCda(**CDA_PATIENT)
_NAMED = {"use_case": "inpatient-discharge-cda"}
_NULLIFIED: dict[str, Any] = {"message_type": NULLIFICATION}

CDA = [
    cda("cda-in-its-envelope", None),
    cda("cda-in-base64", None, make_encoded_envelope(_DOCUMENT, tracking_id="cda-in-base64")),
    cda("cda-in-its-folder", None, message_type=NON_CODED, folder="emergency-care-discharge-cda"),
    cda("cda-with-a-number-not-verified", None, ids=((LOCAL, "H77"), (UNVERIFIED, NHS_NUMBER))),
    cda("cda-in-soap", "cda_in_soap", in_soap(make_envelope(_DOCUMENT, tracking_id="cda-in-soap"))),
    cda("cda-bare", "cda_bare", _DOCUMENT.written()),
    cda("cda-bare-of-no-known-type", "cda_bare", replace(_DOCUMENT, message_type=NON_CODED).written()),
    cda("cda-encrypted", "cda_encrypted", make_envelope(_DOCUMENT, flags=' encrypted="true"')),
    cda("cda-compressed", "cda_compressed", make_envelope(_DOCUMENT, flags=' compressed="true"')),
    cda("cda-twice", "cda_several_payloads", MadeEnvelope(payloads=(_DOCUMENT.written(),) * 2).written()),
    cda("cda-unreadable", "cda_unreadable", make_envelope(_DOCUMENT, flags=' base64="true"')),
    cda("cda-missing", "cda_missing", MadeEnvelope(payloads=(b"<other/>",)).written()),
    cda("cda-of-no-known-type", "use_case_missing", message_type=NON_CODED),
    cda("cda-under-send-document", "cda_use_case", folder="send-document"),
    cda("cda-under-a-use-case-of-fhir", "cda_use_case", folder="inpatient-discharge"),
    cda("cda-takes-back", "cda_nullification", **_NULLIFIED, folder="inpatient-discharge-cda"),
    cda("cda-takes-back-as-a-sidecar-says", None, **_NULLIFIED, sidecar=_NAMED),
    cda("cda-without-a-number", "patient_incomplete", ids=((LOCAL, NHS_NUMBER),)),
    cda("cda-with-two-numbers", "patient_ambiguous",
        ids=((VERIFIED, NHS_NUMBER), (UNVERIFIED, _OTHER_NUMBER))),
    cda("cda-with-nine-digits", "nhs_number_invalid", ids=((VERIFIED, NHS_NUMBER[:9]),)),
    cda("cda-without-a-birth-time", "patient_incomplete", birth_time=None),
    cda("cda-with-a-birth-year", "date_of_birth_invalid", birth_time="2001"),
    cda("cda-without-a-surname", "patient_incomplete", family=None),
    cda("cda-that-its-sidecar-contradicts", "patient_disagreement",
        sidecar={**_NAMED, "patient": {**GIVEN, "nhs_number": _OTHER_NUMBER}}),
    cda("itk2-answer-without-mailbox", "response_without_mailbox", make_business_answer("one"),
        folder="inpatient-discharge-cda"),
    cda("itk2-answer", None, make_business_answer("two"), folder="inpatient-discharge-cda",
        sidecar={"to_mailbox": "X26ABC2"}),
]  # fmt: skip

CASES = [*PATIENTS, *USE_CASES, *SIDECARS, *XML, *JSON, *CDA, *FILES, *NAMES]

# Windows has no such files and names, and links only for those with a privilege.
if sys.platform != "win32":
    CASES += [
        odd_sidecar("sidecar-link", "sidecar_not_a_file", lambda path: path.symlink_to("/etc/hosts")),
        odd_sidecar("sidecar-fifo", "sidecar_not_a_file", os.mkfifo),
        link("link-to-a-file", "/etc/hostname"),
        link("link-to-nothing", "/nonexistent/letter.pdf"),
        link("link-to-itself", "link-to-itself.pdf"),
        link("link-to-a-folder", "/etc"),
        link("link-into-the-outbox", "letter.html"),
        special("fifo", os.mkfifo),
        special("socket", lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)),
        special("device", lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))),
        named("name-not-utf-8", "file_name_unsafe", b"lett\xe9r.pdf"),
        named("name-with-newline", "file_name_unsafe", "a\n2026-11-22T09:15:02Z ERROR message.failed.pdf"),
        named("name-with-tab", "file_name_unsafe", "a\tb.pdf"),
        named("name-with-escape-sequence", "file_name_unsafe", "\x1b[2J\x1b]0;owned\x07.pdf"),
        named("name-with-double-quotes", "file_name_unsafe", 'a" code="fine.pdf'),
        named("name-with-backslash", "file_name_unsafe", "a\\n.pdf"),
        named("name-with-pipe-and-star", None, "* | ? > x.pdf"),
    ]  # fmt: skip
