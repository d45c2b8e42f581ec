"""What all sections of the settings share."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """What all sections share: unknown keys are refused, values stay as read, errors quote no input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
