"""What every table of the configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table: fixed once read, closed to unknown keys, silent about its input in errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,  # a default may clash with what the owner wrote beside it
        use_attribute_docstrings=True,
    )
