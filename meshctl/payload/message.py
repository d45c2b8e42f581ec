"""What a FHIR message says, ITK3 (STU3) or R4: handling, document, organisation, patient, what it answers.

Pure: works on the small tree of `fhir`, so that XML and JSON obey the same rules. Missing or odd parts never
raise an error: what is not there is None. A patient is never guessed: where the subject does not distinguish
several patients, or one patient has two NHS numbers, the result is the name of the problem and no patient.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from meshctl.payload.facts import (
    CONFIDENTIAL,
    SEVERAL_NHS_NUMBERS,
    MessageFacts,
    PatientFacts,
    ResponseFacts,
    one_patient,
)
from meshctl.payload.fhir import FOCUS_KINDS, Tree, part, parts, text, texts

# A url is absolute or, as in FHIR's own examples, the name alone.
_HANDLING = re.compile(r"(?:.*[/#:])?Extension-ITK-MessageHandling-[0-9]+/?", re.IGNORECASE)
_HANDLING_PART = re.compile(r"(?:.*[/#:])?(InfAckRequested|BusAckRequested)/?")
_ACKNOWLEDGEMENTS = {"InfAckRequested": "infrastructure", "BusAckRequested": "business"}
_ODS_CODE_SYSTEMS = frozenset(
    {
        "https://fhir.nhs.uk/id/ods-organization-code",
        "http://fhir.nhs.uk/id/ods-organization-code",
        "http://fhir.nhs.net/id/ods-organization-code",
        "https://fhir.nhs.net/id/ods-organization-code",
    }
)
_PRACTICE = "generalPractitioner"
_ITK_CODE = re.compile(r"[123][0-9]{4}")
_SHORT_NUMBER = re.compile("[0-9]{1,9}")
_VERSION_NUMBER = "http://hl7.org/fhir/StructureDefinition/composition-clinicaldocument-versionNumber"
# Converters from HL7 v3 and CDA write the NHS number's OID.
_NHS_NUMBER_SYSTEMS = frozenset(
    {
        "https://fhir.nhs.uk/id/nhs-number",
        "https://fhir.hl7.org.uk/id/nhs-number",
        "http://fhir.nhs.uk/id/nhs-number",
        "http://fhir.nhs.net/id/nhs-number",
        "https://fhir.nhs.net/id/nhs-number",
        "urn:oid:2.16.840.1.113883.2.1.4.1",
    }
)
_FORMER_USES = frozenset({"old", "maiden"})
# Of names in use: those by which PDS does not know a patient.
_OTHER_USES = frozenset({"nickname", "anonymous"})
_NOT_FINAL = {
    "preliminary": "The document of the message is preliminary, by its status.",
    "entered-in-error": "The document of the message was entered in error, by its status.",
}
_SEE_STATUS = "See that it was meant for the practice; have the sending system hold back what is not final."
_NO_SUBJECT = (
    "The document's subject refers to a patient who is not in the message; the one who is was taken.",
    "See that the document is about that patient, and have the sending system write the right reference.",
)


@dataclass(slots=True, repr=False)
class Resource:
    """One resource of a message: its type, the fullUrl of its entry (or an empty text), and its place.

    `home` identifies the Bundle that holds it, or, where `contained`, the resource that holds it.
    """

    kind: str
    full_url: str
    home: int
    contained: bool
    tree: Tree


def message_facts(bundle: Tree, today: str) -> MessageFacts | None:
    """Return the facts of a Bundle, None if it is not a message; `today` is an ISO date.

    It is a message if its type says so and it has a MessageHeader, or if its first entry is one.
    """
    resources: list[Resource] = []
    _gather(bundle, resources)
    header = next((one for one in resources if one.kind == "MessageHeader" and one.home == id(bundle)), None)
    if header is None or not (text(bundle, "type") == "message" or _is_first(header, bundle)):
        return None
    compositions = _compositions(header, resources)
    document = compositions[0].tree if compositions else {}
    subjects = [(part(one.tree, "subject"), one.home) for one in compositions]
    subjects = subjects or _focus_subjects(header, resources)
    patient, problem = choose_patient(subjects, resources, today)
    practice = _organisation(compositions[:1], header, resources)
    return MessageFacts(
        event=_event(header.tree),
        endpoint=text(part(header.tree, "source"), "endpoint"),
        references=_references(bundle, header),
        acknowledgements=_acknowledgements(header.tree),
        title=text(document, "title"),
        confidential=(text(document, "confidentiality") or "").upper() in CONFIDENTIAL,
        practice_name=text(practice, "name"),
        ods_code=_ods_code(practice),
        patient=patient,
        patient_problem=problem,
        document_version=_document_version(document),
        response=_response(header.tree, resources),
        practice_codes=frozenset(_practice_codes(header, resources)),
        doubts=tuple(_doubts(compositions, subjects, resources)),
    )


def _doubts(
    compositions: Sequence[Resource], subjects: Sequence[tuple[Tree, int]], resources: Sequence[Resource]
) -> Iterator[tuple[str, str]]:
    """Yield what is doubtful about the documents of a message, each with what to do."""
    for status in dict.fromkeys(text(one.tree, "status") or "" for one in compositions):
        if status in _NOT_FINAL:
            yield _NOT_FINAL[status], _SEE_STATUS
    patients = [one for one in resources if one.kind == "Patient"]
    references = [(text(subject, "reference"), home) for subject, home in subjects]
    if patients and any(one and not resolve(one, "Patient", patients, home) for one, home in references):
        yield _NO_SUBJECT


def _gather(bundle: Tree, resources: list[Resource]) -> None:
    """Add the resources of a Bundle to a list, each with those that it contains."""
    for entry in parts(bundle, "entry"):
        full_url = text(entry, "fullUrl") or ""
        for kind, trees in part(entry, "resource").items():
            for tree in trees:
                resources.append(Resource(kind, full_url, id(bundle), contained=False, tree=tree))
                for slot in parts(tree, "contained"):
                    for inner in slot:
                        resources += [Resource(inner, "", id(tree), True, one) for one in parts(slot, inner)]
                if kind == "Bundle":
                    _gather(tree, resources)


def _is_first(header: Resource, bundle: Tree) -> bool:
    first = next(iter(parts(bundle, "entry")), {})
    return part(part(first, "resource"), "MessageHeader") is header.tree


def _compositions(header: Resource, resources: Sequence[Resource]) -> list[Resource]:
    """Return the Compositions of the documents in the header's focus, or all if there are none."""
    focused = []
    for focus in parts(header.tree, "focus"):
        reference = text(focus, "reference") or ""
        for document in resolve(reference, "Bundle", resources, header.home):
            inside = (one for one in resources if one.kind == "Composition" and one.home == id(document.tree))
            focused += [first for first in [next(inside, None)] if first]
        focused += resolve(reference, "Composition", resources, header.home)
    return focused or [one for one in resources if one.kind == "Composition"]


def _focus_subjects(header: Resource, resources: Sequence[Resource]) -> list[tuple[Tree, int]]:
    """Return the subjects in the focus of a message without a document, each with its Bundle."""
    return [
        (part(one.tree, "subject") or part(one.tree, "for"), one.home)
        for focus in parts(header.tree, "focus")
        for kind in FOCUS_KINDS
        for one in resolve(text(focus, "reference") or "", kind, resources, header.home)
    ]


def _event(header: Tree) -> str | None:
    """Return the event of a message: `event` in STU3, `eventCoding` or else `eventUri` in R4."""
    stu3, r4 = part(header, "event"), part(header, "eventCoding")
    return text(stu3, "code") or text(r4, "code") or text(header, "eventUri")


def _organisation(document: Sequence[Resource], header: Resource, resources: Sequence[Resource]) -> Tree:
    """Return the document's custodian, or else the message's sender."""
    asked = [(part(one.tree, "custodian"), one) for one in document]
    for element, holder in [*asked, (part(header.tree, "sender"), header)]:
        reference = text(element, "reference") or ""
        home = id(holder.tree) if reference.startswith("#") else holder.home
        for organisation in resolve(reference, "Organization", resources, home):
            if text(organisation.tree, "name") or _ods_code(organisation.tree):
                return organisation.tree
    return {}


def _practice_codes(header: Resource, resources: Sequence[Resource]) -> Iterator[str]:
    """Yield the ODS codes of the patients' practices, and of the receivers of the message."""
    named = [(part, one) for one in resources if one.kind == "Patient" for part in parts(one.tree, _PRACTICE)]
    receivers = [header.tree, *parts(header.tree, "destination")]
    named += [(receiver, header) for one in receivers for receiver in parts(one, "receiver")]
    for element, holder in named:
        reference = text(element, "reference") or ""
        home = id(holder.tree) if reference.startswith("#") else holder.home
        found = [element, *(one.tree for one in resolve(reference, "Organization", resources, home))]
        yield from (code.strip().upper() for one in found if (code := _ods_code(one)))


def _ods_code(organisation: Tree) -> str | None:
    for identifier in parts(organisation, "identifier"):
        system = (text(identifier, "system") or "").rstrip("/").casefold()
        if system in _ODS_CODE_SYSTEMS and text(identifier, "use") != "old":
            return text(identifier, "value")
    return None


def _references(bundle: Tree, header: Resource) -> tuple[str, ...]:
    """Return the ids by which a response can name this message; senders use any of the three."""
    header_id = text(header.tree, "id") or header.full_url.rpartition(":")[2]
    found = [text(part(bundle, "identifier"), "value"), text(bundle, "id"), header_id]
    return tuple(dict.fromkeys(one for one in found if one))


def _acknowledgements(header: Tree) -> tuple[str, ...] | None:
    """Return the acknowledgements that the handling extension asks for, None where it names neither.

    ITK3 Message Distribution: the extension's url is absolute and versioned; the urls of its parts are names,
    which some senders write as absolute ones.
    """
    asked: dict[str, bool] = {}
    for extension in parts(header, "extension"):
        if _HANDLING.fullmatch(text(extension, "url") or ""):
            for item in parts(extension, "extension"):
                named = _HANDLING_PART.fullmatch(text(item, "url") or "")
                flag = (text(item, "valueBoolean") or "").casefold()
                if named and flag in {"true", "false"}:
                    asked[_ACKNOWLEDGEMENTS[named[1]]] = flag == "true"
    return tuple(name for name in _ACKNOWLEDGEMENTS.values() if asked.get(name)) if asked else None


def _document_version(document: Tree) -> str | None:
    """Return the version of a document: in FHIR's own extension, else in `meta` (Send Document 1.3.2 and 2).

    A server may number there what it stores, with whatever it likes: only a short number is a version.
    """
    for extension in parts(document, "extension"):
        if text(extension, "url") == _VERSION_NUMBER:
            return text(extension, "valueString")
    version = text(part(document, "meta"), "versionId") or ""
    return version if _SHORT_NUMBER.fullmatch(version) else None


def _response(header: Tree, resources: Iterable[Resource]) -> ResponseFacts | None:
    response = part(header, "response")
    if not response:
        return None
    return ResponseFacts(
        identifier=text(response, "identifier") or "",
        response_code=text(response, "code") or "",
        codes=tuple(_itk_codes(resources)),
        is_r4=bool(part(header, "eventCoding") or text(header, "eventUri")),
    )


def _itk_codes(resources: Iterable[Resource]) -> Iterator[str]:
    for outcome in resources:
        if outcome.kind == "OperationOutcome":
            for issue in parts(outcome.tree, "issue"):
                for coding in parts(part(issue, "details"), "coding"):
                    code = text(coding, "code") or ""
                    if "itk-responsecodes" in (
                        text(coding, "system") or ""
                    ).casefold() or _ITK_CODE.fullmatch(code):
                        yield code


def resolve(reference: str, kind: str, resources: Sequence[Resource], home: int) -> list[Resource]:
    """Return the resources of type `kind` that `reference`, made in the Bundle `home`, fits best.

    Exact spelling counts more than a difference in case, the same Bundle more than others, as one id may
    occur in two. Several are returned only where they fit equally well.
    """
    # The usual case, and the best match.
    beside = [one for one in resources if one.full_url == reference and one.kind == kind and one.home == home]
    if beside and reference and not reference.startswith("#"):
        return beside
    best: list[Resource] = []
    best_rank = (0, False)
    for resource in resources:
        if resource.kind == kind and (rank := _match(reference, resource)):
            ranked = (rank, resource.home == home)
            if ranked > best_rank:
                best, best_rank = [resource], ranked
            elif ranked == best_rank:
                best.append(resource)
    return best


def _match(reference: str, resource: Resource) -> int:
    """Return how well a reference fits a resource: from 4, exactly, to 0, not at all."""
    resource_id = text(resource.tree, "id") or ""
    if resource.contained or reference.startswith("#"):
        return 4 if resource.contained and resource_id and reference == f"#{resource_id}" else 0
    full_url = resource.full_url
    if reference == full_url:
        return 4
    if reference.casefold() == full_url.casefold():
        return 3
    kind, target = _target(reference)
    if kind and kind != resource.kind.casefold():
        return 0
    known = [name for name in (resource_id, _target(full_url)[1]) if name]
    if target in known:
        return 2
    return 1 if target.casefold() in {name.casefold() for name in known} else 0


def _target(reference: str) -> tuple[str, str]:
    """Split `Patient/1`, `https://…/Patient/1/_history/2`, `urn:uuid:1` or `1` into type, if any, and id."""
    if reference[:4].casefold() == "urn:":
        return "", reference.rpartition(":")[2]
    before, _, target = reference.partition("/_history/")[0].rstrip("/").rpartition("/")
    return before.rpartition("/")[2].casefold(), target


def choose_patient(
    subjects: Sequence[tuple[Tree, int]], resources: Sequence[Resource], today: str
) -> tuple[PatientFacts | None, str | None]:
    """Return the patient that the documents' subjects refer to, or the problem why there is none.

    `subjects` are the documents' subject elements, each with the number of its Bundle; `today` is an ISO
    date, for names that have ended. GPCM-SD-038: the details of this Patient route the message.
    """
    everyone = [resource for resource in resources if resource.kind == "Patient"]
    chosen: list[Resource] = []
    for subject, home in subjects:
        chosen += _subjects_patients(subject, home, everyone)
    return one_patient([_patient_facts(candidate.tree, today) for candidate in chosen or everyone])


def _subjects_patients(subject: Tree, home: int, everyone: Sequence[Resource]) -> list[Resource]:
    """Return the patients that a subject refers to: by reference, else by an NHS number.

    A number beside the reference that is not the patient's own is one more patient.
    """
    reference = text(subject, "reference")
    wanted = {_digits(number) for number in _nhs_numbers(parts(subject, "identifier"))}
    if reference is not None:
        referred = resolve(reference, "Patient", everyone, home)
        has_other = wanted and any((own := _numbers_of(one)) and not wanted & own for one in referred)
        return [*referred, Resource("Patient", "", home, False, subject)] if has_other else referred
    if not wanted:
        return []
    # A subject with a number that no Patient here has is one more patient, so none of these is chosen.
    named = [one for one in everyone if wanted & _numbers_of(one)]
    return named or [Resource("Patient", "", home, contained=False, tree=subject), *everyone]


def _numbers_of(patient: Resource) -> set[str]:
    return {_digits(number) for number in _nhs_numbers(parts(patient.tree, "identifier"))}


def _patient_facts(patient: Tree, today: str) -> tuple[PatientFacts, str | None]:
    identifiers = parts(patient, "identifier")
    current = [one for one in identifiers if text(one, "use") != "old" and not _ended(one, today)]
    numbers = _nhs_numbers(current) or _nhs_numbers(identifiers)
    several = len(numbers) > 1 and len({_digits(number) for number in numbers}) > 1
    name = _current_name(parts(patient, "name"), today)
    facts = PatientFacts(
        nhs_number=numbers[0] if numbers else None,
        date_of_birth=text(patient, "birthDate"),
        surname=" ".join(texts(name, "family")) or None,
        display_name=_display_name(name),
    )
    return facts, SEVERAL_NHS_NUMBERS if several else None


def _nhs_numbers(identifiers: Iterable[Tree]) -> list[str]:
    numbers = []
    for identifier in identifiers:
        system = (text(identifier, "system") or "").rstrip("/").casefold()
        number = text(identifier, "value")
        if number is not None and system in _NHS_NUMBER_SYSTEMS:
            numbers.append(number)
    return numbers


def _digits(number: str) -> str:
    return number.replace(" ", "").replace("-", "")


def _current_name(names: Sequence[Tree], today: str) -> Tree:
    """Return the official name, else the first one in use, else the first; nicknames are the last in use."""
    in_use = [one for one in names if text(one, "use") not in _FORMER_USES and not _ended(one, today)]
    candidates = sorted(in_use, key=lambda one: text(one, "use") in _OTHER_USES) or names
    official = (name for name in candidates if text(name, "use") == "official")
    return next(official, candidates[0] if candidates else {})


def _ended(item: Tree, today: str) -> bool:
    """True if a name or identifier has ended; a period includes its last day, month or year."""
    end = (text(part(item, "period"), "end") or "")[: len("YYYY-MM-DD")]
    return bool(end) and end < today[: len(end)]


def _display_name(name: Tree) -> str | None:
    words = [*texts(name, "prefix"), *texts(name, "given"), *texts(name, "family")]
    return (
        " ".join(words) if texts(name, "family") else " ".join(texts(name, "text")) or " ".join(words) or None
    )
