"""``flowsheet doctor``: whether this machine has what Flowsheet needs."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check versions, the state folder and its privacy, servers, ports, disk and settings.

    Nothing is changed. Exits with 1 if something is wrong.
    """
    from flowsheet.errors import CheckFailed
    from flowsheet.lifecycle.runtime.doctor import examine

    checks = examine()
    wrong = [check for check in checks if check.status == "wrong"]
    if as_json:
        listed = [check.model_dump() for check in checks]
        click.echo(json.dumps({"ok": not wrong, "checks": listed}, indent=1))
    else:
        for check in checks:
            click.echo(f"{check.status:5}  {check.name:22} {check.detail}")
            if check.todo:
                click.echo(f"{'':5}  {'':22} do: {check.todo}")
    if wrong:
        names = ", ".join(check.name for check in wrong)
        raise CheckFailed(f"{len(wrong)} of {len(checks)} checks found something wrong: {names}")
