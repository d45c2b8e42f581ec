"""What must be masked where the name that somebody else gave a file repeats it. Pure."""

from datetime import date

from meshctl.payload.facts import MessageFacts
from meshctl.payload.sidecar import Sidecar


def confidants(facts: MessageFacts | None, sidecar: Sidecar | None) -> tuple[str, ...]:
    """Return the values that must be masked where somebody else's file name repeats them."""
    known: set[str] = set()
    named = facts.patient if facts else None
    for part in (named, sidecar.patient if sidecar else None):
        if part is not None:
            known.update(value for value in (part.nhs_number, part.surname) if value)
            known.update(_date_spellings(part.date_of_birth))
    names = (named.display_name if named else None, sidecar.patient_name if sidecar else None)
    for name in names:
        known.update((name or "").split())
    return tuple(sorted(value for value in known if len(value) > 1))


def _date_spellings(written: str | None) -> list[str]:
    if not written:
        return []
    try:
        day = date.fromisoformat(written.strip())
    except ValueError:
        return [written.strip()]
    dd, mm, yyyy = f"{day.day:02}", f"{day.month:02}", f"{day.year:04}"
    joined = [separator.join(parts) for separator in "-._" for parts in ((yyyy, mm, dd), (dd, mm, yyyy))]
    return [f"{dd}{mm}{yyyy}", f"{yyyy}{mm}{dd}", f"{dd}{mm}{yyyy[2:]}", *joined]
