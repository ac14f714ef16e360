"""A member's own store of what the coordinators signed: roster and policy as TUF targets.

The hub only passes files on (theupdateframework.io, specification 1.0). Whatever it leaves out, changes, mixes or
serves late is noticed here (:mod:`.verification`), and what was verified before stays (:mod:`.sets`).

    >>> store = TrustStore(Path("trust"), root)
    >>> trusted = store.refresh(fetch, "office", now, "unrcca")
    >>> trusted.compiled.release(header, now.date())
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from . import seats
from .concern import Scope
from .encoding import canonical, loads
from .errors import Damaged, KengeleError, Refused, Untrusted
from .lines import check_own
from .metadata import Files
from .rotation import NEWS
from .sets import Sets, files_of, same_lists, served, sync
from .trusted import Trusted
from .verification import MOMENT, Fetch, Fetcher, verified
from .widening import replaced_keys, told

_SEEN: Final = "seen"
_UNVOUCHED: Final = "unvouched"
_UNSEEN: Final = "unseen"
_MAX_NOTES: Final = 64 * 1024
_MOST_UNSEEN: Final = 20


class TrustStore:
    """A directory with what was verified, which never goes back behind it.

    Args:
        directory: made if missing; only this store writes there.
        root: the first root metadata, from the network's card.
    """

    def __init__(self, directory: Path, root: bytes) -> None:
        self._directory = directory
        self._root = root
        self._sets = Sets(directory)

    def refresh(self, fetch: Fetch, scope: Scope, now: datetime, office: str = "") -> Trusted:
        """The documents as they stand at the hub.

        Args:
            fetch: how files are got.
            scope: whose documents are wanted.
            now: aware, UTC; what has expired by then is refused.
            office: with scope ``office``, its id: it gets the monitors whose reports may come to it.

        Raises:
            Untrusted: ``rolled-back``, ``frozen`` (expired), ``too-few-signatures``, ``mix-and-match``,
                ``not-served`` or ``bad-signature``; what was verified before stays.
            Malformed: a signed document does not follow its model, or they do not fit each other.
            Unreachable: as ``fetch`` raises it.
            Damaged: ``not-kept``: the directory cannot be written to.
        """
        return self._take(Fetcher(fetch), scope, now, office, fresh=True, until=now)

    def carried(self, fetch: Fetch, scope: Scope, now: datetime, office: str = "") -> Trusted:
        """The documents as somebody carried them here, on a stick or in a directory, days after they left the hub.

        The hub's word that there is none newer has run out on the way and is not asked for. All else is as in
        :meth:`refresh`: signatures, versions, and that the coordinators' own signatures have not run out.

        Raises:
            As :meth:`refresh`.
        """
        fetcher = Fetcher(fetch)
        vouched = min(now, fetcher.vouched_until() - MOMENT)
        return self._take(fetcher, scope, vouched, office, fresh=False, until=now)

    def _take(
        self, fetcher: Fetcher, scope: Scope, now: datetime, office: str, *, fresh: bool, until: datetime
    ) -> Trusted:
        # TUF keeps each file as soon as it has verified it. What a hub serves in part must not spoil the last whole
        # set, so a refresh works on a copy, which takes the set's place only when all of it holds.
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                before = self._sets.named()
                copy = Path(tempfile.mkdtemp(prefix="set-", dir=self._directory))
                try:
                    self._sets.copy_to(copy)
                    trusted = verified(copy, self._root, fetcher, scope, now, office, fresh=fresh, until=until)
                    if trusted.targets_expire <= until:
                        raise Untrusted(
                            "frozen", "These rules are past their date.", "Ask a coordinator for newer ones."
                        )
                    trusted = self._compared(copy, trusted, scope, now, office)
                    (copy / _UNVOUCHED).write_bytes(_spelt(trusted.unvouched))
                    (copy / _UNSEEN).write_bytes(_spelt(trusted.unseen))
                    (copy / _SEEN).write_text(now.isoformat(), "ascii")
                    sync(copy)
                    adopted = self._sets.adopt(copy, before)
                except BaseException:
                    if self._sets.named() != copy.name:
                        shutil.rmtree(copy, ignore_errors=True)
                    raise
                if adopted:
                    self._sets.tidy(copy)
                    return trusted
                # Another process was faster. What it took may be newer, so it is judged by that, from the start.
                shutil.rmtree(copy, ignore_errors=True)
        except OSError:
            raise Damaged(
                "not-kept",
                "The rules cannot be kept here.",
                "Look at this disk's space and the directory's permissions.",
            ) from None

    def _compared(self, copy: Path, after: Trusted, scope: Scope, now: datetime, office: str) -> Trusted:
        """``after`` with the offices whose keys the ones held here before do not vouch for, whatever it says itself.

        Raises:
            Untrusted: it follows at once on what is held here, and ``not-theirs``: an area's connections, which only
                coordinators and the hub have, newly speak of a key that they may not speak of; or
                ``too-few-signatures``: it widens, and fewer have signed than the network asks for then. Where versions
                were missed neither can be told; that it widened is noted.
        """
        try:
            if same_lists(self._sets.current(), copy):
                return _noted(after, self._sets.current())
            before, held = self.offline(scope, now, office), self.files()
        except (KengeleError, OSError, ValueError, TypeError, AttributeError):
            # Nothing is held here, or nothing that can be read: then there is nothing to compare.
            return after
        today = now.date()
        made, asked = files_of(copy), before.network.widening_threshold or 0
        at_once = seats.consecutive(held, made)
        if scope == "coordinator" and at_once:
            _check_own(held, made)
        unseen: list[str] = []
        if max(map(len, seats.signers(held, made)), default=0) < asked:
            grounds = seats.grounds(held, made, before, after, after.identity, today)
            if at_once and (why := next(grounds, None)) is not None:
                raise Untrusted(
                    "too-few-signatures",
                    f"{told(asked, why)} Fewer coordinators have signed.",
                    "Nothing was changed here. Tell all coordinators.",
                )
            unseen = [str(ground) for ground in islice(grounds, _MOST_UNSEEN)]
        replaced = replaced_keys(before, after, after.identity)
        return replace(
            after,
            unvouched=_recent(before.unvouched, today) | dict.fromkeys(replaced, today),
            unseen=_recent(before.unseen, today) | dict.fromkeys(unseen, today),
        )

    def offline(self, scope: Scope, now: datetime, office: str = "") -> Trusted:
        """The documents as they were verified last, their signatures checked again; whether they still hold is for
        the caller to judge by ``targets_expire``.

        Raises:
            Untrusted: ``no-trust``: nothing was ever verified here.
            Damaged: what is on the disk is not what was verified.
        """
        current = self._sets.current()
        if not current.is_dir():
            raise Untrusted(
                "no-trust", "This member has never seen the network's rules.", "Go online once; they are kept then."
            )
        try:
            judged = min(now, datetime.fromisoformat((current / _SEEN).read_text("ascii")))
            fetcher = Fetcher(lambda path: served(current, path))
            found = verified(current, self._root, fetcher, scope, judged, office, fresh=False, until=now)
            return _noted(found, current)
        except (KengeleError, OSError, ValueError, TypeError) as error:
            code = error.code if isinstance(error, KengeleError) else "unreadable"
            raise Damaged(
                "damaged", f"The rules kept here cannot be used ({code}).", "Go online; they are fetched anew."
            ) from None

    def files(self) -> dict[str, bytes]:
        """What was verified last, under the paths by which the hub serves it; for who drafts the next version."""
        return files_of(self._sets.current())


def _check_own(held: Files, made: Files) -> None:
    try:
        check_own(held, made)
    except Refused as error:
        raise Untrusted(
            error.code,
            f"{error.sentence} The hub should have refused it.",
            "Nothing was changed here. Tell all coordinators.",
        ) from None


def _spelt(notes: Mapping[str, date]) -> bytes:
    return canonical({name: day.isoformat() for name, day in notes.items()})


def _recent(notes: Mapping[str, date], today: date) -> dict[str, date]:
    return {name: day for name, day in notes.items() if today <= day + NEWS}


def _noted(found: Trusted, current: Path) -> Trusted:
    """``found`` with what was noted beside the set when it was taken over."""
    return replace(found, unvouched=_notes(current / _UNVOUCHED), unseen=_notes(current / _UNSEEN))


def _notes(path: Path) -> dict[str, date]:
    """As they were kept; none for a set that was taken over before such a thing was kept."""
    if not path.exists():
        return {}
    kept = loads(path.read_bytes(), max_bytes=_MAX_NOTES)
    return {str(name): date.fromisoformat(day) for name, day in kept.items()}
