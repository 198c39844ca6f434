"""What all of them share."""

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Model):
    code: str = Field(description="Stable, for programs: invalid_input, not_found, conflict, refused, …")
    message: str
    hint: str = ""


class Accepted(Model):
    accepted: bool


class Created(Model):
    id: int
