"""Notify people by e-mail, Slack or webhook: deploy the automations of ``automations.yaml``.

``python -m flows.notifications BLOCK [FILE]``, where BLOCK is the slug of a block's type and the
block's name, such as ``slack-webhook/flowsheet``. The block holds the address and its secrets; it
is made in Prefect's page or with Prefect's Python API.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from flowsheet.errors import FlowsheetError, UsageError

_DEFAULT_FILE = Path("automations.yaml")


def deploy_automations(block: str, file: Path = _DEFAULT_FILE) -> list[str]:
    """Create the file's automations, or bring them up to date; returns their names.

    Args:
        block: ``TYPE/NAME`` of the block that sends.
        file: YAML with ``automations``, whose notifications name no block.

    Raises:
        UsageError: there is no such block or file.
    """
    if not file.is_file():
        raise UsageError(
            "there is no file of automations", where=str(file), todo="specify it after the block"
        )
    automations = yaml.safe_load(file.read_text(encoding="utf-8"))["automations"]
    with get_client(sync_client=True) as client:
        block_id = _find_block(client, block)
        for automation in automations:
            _deploy(client, automation, block_id)
    return [automation["name"] for automation in automations]


def _find_block(client: SyncPrefectClient, block: str) -> str:
    block_type, _, name = block.partition("/")
    try:
        return str(client.read_block_document_by_name(name, block_type).id)
    except ObjectNotFound:
        raise UsageError(
            f"the Prefect server has no block {block}",
            todo="create it in Prefect's page (Blocks), and specify TYPE/NAME, such as "
            "slack-webhook/flowsheet, sendgrid-email/flowsheet or custom-webhook/flowsheet",
        ) from None


def _deploy(client: SyncPrefectClient, automation: dict[str, Any], block_id: str) -> None:
    actions = [{**action, "block_document_id": block_id} for action in automation["actions"]]
    core = AutomationCore.model_validate({**automation, "actions": actions})
    for existing in client.read_automations_by_name(core.name):
        client.delete_automation(existing.id)
    client.create_automation(core)


def main(arguments: list[str]) -> None:
    """Deploy the automations, and print their names."""
    try:
        if not arguments:
            raise UsageError("no block is specified", todo="python -m flows.notifications BLOCK")
        for name in deploy_automations(arguments[0], *map(Path, arguments[1:2])):
            print(name)
    except FlowsheetError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main(sys.argv[1:])
