"""Every error that crosses a boundary: a stable code, a sentence for a person, and what to do next.

No message ever quotes content: a code and a sentence say what is wrong without repeating what was sent.

    >>> raise Malformed("duplicate-key", "A member name occurs twice in one object.")
    Traceback (most recent call last):
    kengele_schemas.errors.Malformed: A member name occurs twice in one object.
"""

from __future__ import annotations

from typing import ClassVar


class KengeleError(Exception):
    """Base of all of Kengele's errors.

    ``code`` is stable and meant for programs, ``sentence`` for people, ``mend`` says what to do next;
    ``exit_code`` is what a command ends with.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, sentence: str, mend: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.mend = mend

    def diagnostics(self) -> str:
        """The text a person is shown: what happened, what to do, and the code to quote."""
        mend = f"\n  What to do: {self.mend}" if self.mend else ""
        return f"{self.sentence}{mend}\n  (code: {self.code})"


class Malformed(KengeleError):
    """Bytes or values that do not follow the format; nothing in them was acted on."""

    exit_code = 2


class Refused(KengeleError):
    """Well-formed, but the rules do not admit it; the code is the one a receipt carries."""

    exit_code = 3


class Unreachable(KengeleError):
    """The other side did not answer; what was to be sent is kept."""

    exit_code = 4


class Locked(KengeleError):
    """A key or passphrase does not open what it should."""

    exit_code = 5


class Untrusted(KengeleError):
    """A signature, a roster, a policy or a proof that does not hold."""

    exit_code = 6


class Damaged(KengeleError):
    """Stored data that cannot be read back as it was written, or storage that takes no more."""

    exit_code = 7


class CannotOpen(KengeleError):
    """A compartment that this key does not open. One code, whatever the reason: no oracle."""

    exit_code = 5

    def __init__(self) -> None:
        super().__init__("cannot-open", "This desk's keys do not open the report.")
