"""The configuration of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from flowsheet.config import FrozenModel
from flowsheet.own_origin import LOOPBACK_NAMES
from flowsheet.prediction.limits import Count, Limits, Seconds


class ServeConfig(FrozenModel):
    """Which model is served, where and how."""

    name: str
    alias: str = "champion"
    shadow: str | None = None
    """Alias of the version that shadow-scores the same requests."""
    keep_answers: Path | None = None
    """Folder for the answers; None: they are kept only with a shadow, in the state folder."""
    keep_subjects: bool = False
    """Keep the ids of subjects with the answers, where they are sent."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    allowed_hosts: tuple[str, ...] = ()
    """Names of the server besides the loopback names and ``host``, as in a request's ``Host``."""
    token_file: Path | None = None
    """File with the clients' tokens, a line ``name:token`` each; None: no login."""
    no_auth: bool = False
    """Answer everybody who can reach the server, on an address beyond loopback, too."""
    certfile: Path | None = None
    """PEM file with the server's certificate and its chain; None: plain HTTP."""
    keyfile: Path | None = None
    """PEM file with the certificate's private key."""
    limits: Limits = Limits()
    batch_size: Count = 32
    """Requests that are scored together, at most."""
    queue_size: Count = 500
    """Requests that may wait; further ones are rejected with 503."""
    poll_seconds: Seconds = 10.0
    """How often the registry is asked whether the alias has moved."""
    drain_seconds: Count = 30
    """How long a stopping server waits for requests under way."""

    @model_validator(mode="after")
    def _check_aliases(self) -> Self:
        if self.shadow == self.alias:
            raise ValueError(f"{self.alias} cannot be its own shadow: name another alias")
        return self

    @model_validator(mode="after")
    def _check_answers(self) -> Self:
        if self.keep_subjects and not (self.keep_answers or self.shadow):
            raise ValueError("--keep-subjects needs --keep-answers: no answers are kept without it")
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.token_file and self.no_auth:
            raise ValueError("--token-file and --no-auth exclude each other")
        if not (self.token_file or self.no_auth or self.host in LOOPBACK_NAMES):
            raise ValueError(
                f"other machines can reach {self.host}: name the clients in a --token-file,"
                " or choose --no-auth where a proxy or a network lets only them in"
            )
        if bool(self.certfile) != bool(self.keyfile):
            raise ValueError("--certfile and --keyfile belong together: give both or neither")
        return self
