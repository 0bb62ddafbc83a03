"""Tokens to text while they come: no half character, no lost space, nothing behind a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from gmrt.runtime.errors import ConstraintError

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Turns one token after another into text; special tokens are left out.

    A token's text depends on its neighbours: a decoder takes the space off the first word, and one character can take
    several tokens. So each piece is the difference between decoding a short window with and without the new token,
    and text that ends in an unfinished character waits for the next one. Joined, the pieces are the full decode.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {id_ for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._window: list[int] = []
        self._old = 0  # tokens at the window's start whose text has been given out
        self._shown = ""  # their text, decoded alone

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now, which may be empty."""
        if token in self._special:
            return ""
        self._window.append(token)
        text = self._tokenizer.decode(self._window)
        if text.endswith(_UNFINISHED) or len(text) <= len(self._shown):
            return ""
        piece = text[len(self._shown) :]
        del self._window[: self._old]
        self._old = len(self._window)
        self._shown = self._tokenizer.decode(self._window)
        return piece

    def finish(self) -> str:
        """Return what is still waiting, unfinished characters included."""
        return self._tokenizer.decode(self._window)[len(self._shown) :]


class TextStream:
    """An answer's text as it grows: `Detokenizer`, then stop strings, then no white space at either end.

    The pieces that `push` and `finish` return, joined, are the answer. Text that may turn out to be the beginning of a
    stop string, or white space at the end, is held back until the next token decides.

    A single string is one stop string. Raises `ConstraintError` for an empty one.
    """

    def __init__(self, tokenizer: Tokenizer, stop: str | Sequence[str] = ()) -> None:
        self._stop = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(self._stop):
            raise ConstraintError("a stop string must not be empty")
        self._detokenizer = Detokenizer(tokenizer)
        self._waiting = ""
        self._begun = False
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns what can be shown now. ``stopped`` turns True when a stop string is complete."""
        return self._take(self._detokenizer.push(token), last=False)

    def finish(self) -> str:
        """Return the rest of the answer, when no more tokens come."""
        return self._take(self._detokenizer.finish(), last=True)

    def _take(self, piece: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        self._waiting += piece
        ends = [at for at in map(self._waiting.find, self._stop) if at >= 0]
        if ends:
            self.stopped = True
            self._waiting = self._waiting[: min(ends)]
        held = 0 if self.stopped or last else max((_overlap(self._waiting, stop) for stop in self._stop), default=0)
        shown = self._waiting[: len(self._waiting) - held].rstrip()
        self._waiting = self._waiting[len(shown) :]
        if not self._begun:
            shown = shown.lstrip()
            self._begun = bool(shown)
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop``, shorter than it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
