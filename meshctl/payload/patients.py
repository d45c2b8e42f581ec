"""Whom a document is about: reference resolution, the choice among several patients, names and numbers.

Promises never to guess: where the subject does not tell several patients apart, or one patient has two NHS
numbers, the answer is the problem's name and no patient. Only a Patient resource is ever taken for a patient.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshctl.payload.facts import SEVERAL_NHS_NUMBERS, SEVERAL_PATIENTS, PatientFacts
from meshctl.payload.outline import Tree, part, parts, text, texts

# The NHS number's OID is what HL7 v3 and CDA converters put there.
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


@dataclass(slots=True, repr=False)
class Resource:
    """One resource of a message: its type, the fullUrl of its entry (or an empty text), and where it stands.

    `home` identifies the Bundle that holds it, or, where `contained`, the resource that holds it.
    """

    kind: str
    full_url: str
    home: int
    contained: bool
    tree: Tree


def resolve(reference: str, kind: str, resources: Sequence[Resource], home: int) -> list[Resource]:
    """Return the resources of type `kind` that `reference`, made in the Bundle `home`, means best.

    Exact spelling goes before a difference in case, the same Bundle before others, as one id may occur in
    two. More than one are returned only where nothing tells them apart.
    """
    # The usual case, and there is no better match.
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
    """Return how well a reference fits a resource: 4 to the letter, 1 just about, 0 not at all."""
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
    """Split `Patient/1`, `https://…/Patient/1/_history/2`, `urn:uuid:1` or `1` into type (if said) and id."""
    if reference[:4].casefold() == "urn:":
        return "", reference.rpartition(":")[2]
    before, _, target = reference.partition("/_history/")[0].rstrip("/").rpartition("/")
    return before.rpartition("/")[2].casefold(), target


def choose_patient(
    subjects: Sequence[tuple[Tree, int]], resources: Sequence[Resource], today: str
) -> tuple[PatientFacts | None, str | None]:
    """Return the patient that the documents' subjects mean, or why there is none.

    `subjects` are the documents' subject elements, each with the number of its Bundle; `today` is an ISO
    date, by which ended names are told. GPCM-SD-038: it is this Patient's details that route the message.
    """
    everyone = [resource for resource in resources if resource.kind == "Patient"]
    chosen: list[Resource] = []
    for subject, home in subjects:
        chosen += _subjects_patients(subject, home, everyone)
    candidates = chosen or everyone
    if not candidates:
        return None, None
    people = [_patient_facts(candidate.tree, today) for candidate in candidates]
    first, problem = people[0]
    if any(person != first for person, _ in people[1:]):
        return None, SEVERAL_PATIENTS
    return (None, problem) if problem else (first, None)


def _subjects_patients(subject: Tree, home: int, everyone: Sequence[Resource]) -> list[Resource]:
    """Return the patients that a subject means: by reference, else by an NHS number given in its place."""
    reference = text(subject, "reference")
    if reference is not None:
        return resolve(reference, "Patient", everyone, home)
    wanted = {_digits(number) for number in _nhs_numbers(parts(subject, "identifier"))}
    if not wanted:
        return []
    # A subject that is known by a number nobody here has is one more patient, so nobody here is chosen over
    # it.
    named = [
        one for one in everyone if wanted & {_digits(n) for n in _nhs_numbers(parts(one.tree, "identifier"))}
    ]
    return named or [Resource("Patient", "", home, contained=False, tree=subject), *everyone]


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
    """Return the official name, else the first one in use, else whatever there is."""
    in_use = [one for one in names if text(one, "use") not in _FORMER_USES and not _ended(one, today)]
    candidates = in_use or names
    official = (name for name in candidates if text(name, "use") == "official")
    return next(official, candidates[0] if candidates else {})


def _ended(item: Tree, today: str) -> bool:
    """True if a name or identifier is over; a period includes its last day, month or year."""
    end = (text(part(item, "period"), "end") or "")[: len("YYYY-MM-DD")]
    return bool(end) and end < today[: len(end)]


def _display_name(name: Tree) -> str | None:
    words = [*texts(name, "prefix"), *texts(name, "given"), *texts(name, "family")]
    return (
        " ".join(words) if texts(name, "family") else " ".join(texts(name, "text")) or " ".join(words) or None
    )
