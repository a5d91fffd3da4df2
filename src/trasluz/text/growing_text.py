"""Text that grows by bytes: whole characters only, and nothing from a stop string on.

    b"a"  b"\\xc3"  b"\\xb1o"   --add-->   "a"  ""  "ño"

What may yet become a stop string is held back until it is known; `finish` gives it out where it became none.
"""

import codecs
from collections.abc import Sequence

from trasluz.errors import RequestError


class GrowingText:
    """One text in the making; `text` is what has been given out."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        """Begin an empty text; RequestError for a stop string that is empty, with which every text would end."""
        if "" in stop:
            raise RequestError("`stop` holds an empty text, which stands everywhere; leave it out.")
        self.text = ""
        self.stopped = False
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held_back = ""

    def add(self, piece: bytes) -> str:
        """Take the bytes of one more token and return what can be given out now; after a stop string, nothing."""
        if self.stopped:
            return ""
        known = self._held_back + self._decoder.decode(piece)
        # Of several, the one that is complete first: what comes later changes nothing, however the text is cut.
        found = [(place + len(string), place) for string in self._stop if (place := known.find(string)) >= 0]
        if found:
            self.stopped = True
            return self._give_out(known, min(found)[1])
        return self._give_out(known, len(known) - self._open_end(known))

    def finish(self) -> str:
        """Return what was held back; bytes that are no whole character are left out."""
        return "" if self.stopped else self._give_out(self._held_back, len(self._held_back))

    def _give_out(self, known: str, count: int) -> str:
        given, self._held_back = known[:count], known[count:]
        self.text += given
        return given

    def _open_end(self, known: str) -> int:
        """Return how many characters at the end may be the begin of a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        for count in range(min(longest, len(known)), 0, -1):
            if any(string.startswith(known[-count:]) for string in self._stop):
                return count
        return 0
