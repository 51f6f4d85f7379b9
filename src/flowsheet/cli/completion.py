"""Completion in shells: names of experiments, cohorts and models, keys, runs and registered models.

``flowsheet completion bash`` prints the script that a shell needs. While a word is being completed
nothing slow is imported and nothing is created: without a state folder there are no runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

ShellComplete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, experiments, models and keys in a SHELL.

    \b
    flowsheet completion bash > ~/.local/share/bash-completion/completions/flowsheet
    eval "$(flowsheet completion zsh)"                       # a line of ~/.zshrc
    flowsheet completion fish > ~/.config/fish/completions/flowsheet.fish
    """
    from click.shell_completion import get_completion_class

    root = context.find_root().command
    complete_class = get_completion_class(shell)
    assert complete_class
    complete = complete_class(root, {}, "flowsheet", "_FLOWSHEET_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())


def complete_from(list_names: Callable[[], Iterable[str]]) -> ShellComplete:
    """A completion by those of the names that start with what was typed."""

    def complete(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        try:
            return [CompletionItem(name) for name in list_names() if name.startswith(typed)]
        except Exception:  # an error would be printed into the line that is being typed
            return []

    return complete


def complete_choice(group: str) -> ShellComplete:
    """A completion by the names of the files of ``conf/GROUP/``."""

    def list_choices() -> list[str]:
        from flowsheet.compose import choices

        return choices(group)

    return complete_from(list_choices)


def complete_override(context: click.Context, _: click.Parameter, typed: str) -> list[Any]:
    """A completion of ``KEY=VALUE``: keys of a configuration, choices, and parameters of models."""
    only_cohort = context.command.name in ("ingest", "simulate")
    return complete_from(lambda: _list_overrides(typed, only_cohort=only_cohort))(context, _, typed)


def _list_overrides(typed: str, *, only_cohort: bool) -> list[str]:
    from flowsheet.compose import CHOICES, choices
    from flowsheet.config import ExperimentConfig
    from flowsheet.config.overrides import find_type, list_keys

    key, equals, _ = typed.partition("=")
    if equals:
        names = choices("model" if key == "models" else key) if _is_choice(key) else []
        return [f"{key}={name}" for name in names]
    parent = key.rpartition(".")[0]
    if not parent:
        groups = ["cohort"] if only_cohort else list(CHOICES)
        choosing = [] if only_cohort else [f"{group}=" for group in groups]
        values = [] if only_cohort else ["seed=", "registry.", "memory."]
        return [*choosing, *(f"{group}." for group in groups), *values]
    if parent == "models":
        return [f"models.{name}." for name in choices("model")]
    annotation = find_type(ExperimentConfig, parent.split("."))
    keys = [f"{name}=" for name in list_keys(annotation)]
    if parent.startswith("models.") and parent.endswith(".params"):
        keys = [f"{name}=" for name in _model_parameters(parent.split(".")[1])]
    return [f"{parent}.{name}" for name in keys]


def _is_choice(key: str) -> bool:
    from flowsheet.compose import CHOICES

    return key in CHOICES


def _model_parameters(model: str) -> Iterable[str]:
    from flowsheet.compose import load
    from flowsheet.models.base import MODELS

    return MODELS.get(str(load("model", model)["kind"])).Params.model_fields


def complete_registered(context: click.Context, _: click.Parameter, typed: str) -> list[Any]:
    """A completion by registered models: names, and then ``@ALIAS`` and ``/VERSION``."""
    from flowsheet.tracking.registered_names import list_references

    return complete_from(list_references)(context, _, typed)
