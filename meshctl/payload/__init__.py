"""Reading what was dropped: FHIR messages, opaque files and sidecars."""
