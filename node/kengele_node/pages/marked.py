"""Words that the templates translate but name by a variable only: marked here, where their extraction sees them."""

from __future__ import annotations

from typing import Final


def N_(word: str) -> str:
    """``word`` itself; the name is the mark."""
    return word


WORDS: Final = frozenset(
    {
        # A proposal that was taken off the board
        N_(
            "It is off the board, but enough have signed it: whoever kept it can still publish it, until another"
            " version is in force. To end it, make a version that changes nothing: kengele coordinator renew, then sign"
            " and publish it."
        ),
        # The menu
        N_("Rules"),
        N_("Draft"),
        N_("Approvals"),
        N_("Members"),
        N_("Invitations"),
        N_("Audit"),
        # Compartments
        N_("handling"),
        N_("summary"),
        N_("account"),
        N_("place"),
        N_("people"),
        N_("source"),
        N_("media"),
        # Roles
        N_("monitor"),
        N_("office"),
        N_("coordinator"),
        # Statuses
        N_("active"),
        N_("suspended"),
        N_("revoked"),
        # How far a newcomer is
        N_("open"),
        N_("waiting"),
        N_("answered"),
        N_("ready"),
        N_("approved"),
        # What the log's entries are, what they changed and how
        N_("report"),
        N_("recall"),
        N_("confirmed"),
        N_("narrowed"),
        N_("trust"),
        N_("group"),
        N_("rule"),
        N_("added"),
        N_("removed"),
        N_("changed"),
        # Weights of findings
        N_("error"),
        N_("warning"),
        N_("note"),
    }
)
