"""Which files hold the events, and how they are written."""

from typing import Any, Literal

from pydantic import Field, model_validator

from streamctr.schema import Config, Texts


class FilesConfig(Config):
    """Event files by paths, patterns or folders; `-` is standard input."""

    paths: Texts = Field(default=(), description="a file's name says its stage, where no field of its messages does")
    stages: dict[str, Texts] = Field(default_factory=dict, description="paths by stage, where names do not say it")
    format: Literal["auto", "json", "csv", "parquet", "arrow"] = Field(
        default="auto", description="auto: by the file's name; what says nothing is JSON lines"
    )
    merge: Literal["name", "time"] = Field(
        default="name", description="files of one stage: one after the other by name, or side by side by event time"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"paths": value} if isinstance(value, str | list | tuple) else value

    @model_validator(mode="after")
    def _some_paths(self) -> "FilesConfig":
        if not self.paths and not self.stages:
            raise ValueError("no path stands there; write one such as logs/*.jsonl")
        if self.paths and self.stages:
            raise ValueError("paths and stages both name files; leave one of them out")
        return self
