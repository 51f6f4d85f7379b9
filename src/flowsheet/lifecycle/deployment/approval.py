"""Who may promote a model: declared approvers, and nobody alone whose model it is."""

from __future__ import annotations

from flowsheet.config import PromotionConfig
from flowsheet.environment import user_name
from flowsheet.errors import CheckFailed
from flowsheet.tracking import model_registry
from flowsheet.tracking.model_registry import ModelVersion


def check_approver(
    candidate: ModelVersion, config: PromotionConfig, actor: str, *, is_attested: bool
) -> None:
    """Check that the actor may promote the version.

    Args:
        candidate: the version to promote.
        config: its ``approvers`` and ``four_eyes``.
        actor: who decides, as stated.
        is_attested: the actor has answered a form; otherwise the user of this process has typed
            the name, and counts, too.

    Raises:
        CheckFailed: the actor may not.
    """
    where = f"{candidate.reference}, promotion {config.name}"
    if config.approvers and actor not in config.approvers:
        raise CheckFailed(
            f"{actor} is not an approver",
            where=where,
            todo=f"let one of them decide: {', '.join(config.approvers)}",
        )
    if not config.four_eyes:
        return
    trained_by = model_registry.get_training_user(candidate)
    people = {actor} if is_attested else {actor, user_name()}
    if trained_by is None or trained_by in people:
        reason = f"{trained_by} trained it" if trained_by else "who trained it is not recorded"
        raise CheckFailed(
            f"the model needs a second person's approval: {reason}",
            where=where,
            todo="let another user promote it, or answer the form of the promotion flow"
            " (approval=true)",
        )
