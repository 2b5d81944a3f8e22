"""Drain3's extra delimiters: each becomes blanks where no mask matches, before a message is mined."""

from __future__ import annotations

from collections.abc import Sequence

from nonet.logs.mining.masks import UserMask
from nonet.logs.mining.one_line import LineMasks, UserSpans


class DelimitedMasks(LineMasks):
    """The masks of messages whose delimiters became blanks: found in the message as it was.

    Args:
        masks: in order of precedence.
        delimiters: plain texts.
    """

    def __init__(self, masks: Sequence[UserMask], delimiters: Sequence[str]) -> None:
        super().__init__(masks)
        self._delimiters = [one.encode("utf-8", "surrogateescape") for one in delimiters if one]
        self._message = b""
        self._found: UserSpans = ()

    def blanked(self, message: str) -> str:
        """The message with blanks in place of delimiters, as many as these have bytes, and none at its ends.

        >>> DelimitedMasks([UserMask(r"blk_[0-9]+")], ["_", "->"]).blanked("_of_blk_17->done")
        'of blk_17  done'
        """
        content = message.strip().encode("utf-8", "surrogateescape")
        if not self._delimiters:
            return content.decode("utf-8", "surrogateescape")
        spans = super().find(content)
        pieces, end = [], 0
        for low, high, _ in spans:
            pieces += [self._replaced(content[end:low]), content[low:high]]
            end = high
        whole = b"".join(pieces) + self._replaced(content[end:])
        text = whole.decode("utf-8", "surrogateescape")
        shift = len(whole) - len(text.lstrip().encode("utf-8", "surrogateescape"))
        text = text.strip()
        self._message = text.encode("utf-8", "surrogateescape")
        self._found = [(low - shift, high - shift, number) for low, high, number in spans]
        return text

    def _replaced(self, piece: bytes) -> bytes:
        for delimiter in self._delimiters:
            piece = piece.replace(delimiter, b" " * len(delimiter))
        return piece

    def find(self, content: bytes) -> UserSpans:
        """As `LineMasks.find`; of the message blanked last, what stood there before."""
        return self._found if self._delimiters and content == self._message else super().find(content)
