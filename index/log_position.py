"""Up to where does a collection have all changes of its store, and is one that comes news to it?

Changes come in any order, some twice: from several gateways, and as they happen beside the replay
of what was missed. Of each file the latest wins. A replay tells the state of files as it is now, so
that numbers of changes which were overtaken never come: only its end says that all are in.

Does not know: what a change does, or who waits for one.
"""

from __future__ import annotations


class LogPosition:
    """Mutable; one owner."""

    def __init__(self, seq: int = 0) -> None:
        self.seq = seq
        """All changes up to this one are in, or overtaken by some that are."""
        self._of_file: dict[int, int] = {}
        self._ahead: set[int] = set()

    def is_news(self, file: int, seq: int) -> bool:
        """Whether nothing newer is known of the file."""
        return seq > self._of_file.get(file, self.seq)

    def note(self, file: int, seq: int) -> None:
        """The change was applied, or was no news."""
        if seq <= self.seq:
            return
        self._of_file[file] = max(seq, self._of_file.get(file, 0))
        self._ahead.add(seq)
        self._move(self.seq)

    def advance(self, after: int, seq: int) -> None:
        """All changes behind `after` and up to `seq` have come, as far as they were not overtaken.

        Without effect where those up to `after` have not.
        """
        if after <= self.seq < seq:
            self._move(seq)

    def _move(self, seq: int) -> None:
        while seq + 1 in self._ahead:
            seq += 1
        if seq > self.seq:
            self.seq = seq
            self._ahead = {ahead for ahead in self._ahead if ahead > seq}
            self._of_file = {file: at for file, at in self._of_file.items() if at > seq}
