"""Masks in the form that users of Drain3 have them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from nonet.logs.mining.masks import UserMask
from nonet.logs.mining.one_line import LineMasks


@dataclass(frozen=True, slots=True)
class MaskingInstruction:
    """A mask: what `pattern` matches is shown as `mask_with` between the configured prefix and suffix."""

    pattern: str
    mask_with: str

    def mask(self, content: str, mask_prefix: str, mask_suffix: str) -> str:
        """The content with this mask applied."""
        return LogMasker([self], mask_prefix, mask_suffix).mask(content)


RegexMaskingInstruction = MaskingInstruction


class LogMasker:
    """All masks of a miner; what `TemplateMiner.masker` is.

    Args:
        masking_instructions: the masks; where two match the same text, the first one has it.
        mask_prefix, mask_suffix: what stands around the names.

    >>> LogMasker([MaskingInstruction(r"(?<=id )\\d+", "ID")], "<:", ":>").mask("id 17 of 18")
    'id <:ID:> of 18'
    """

    def __init__(
        self, masking_instructions: Sequence[MaskingInstruction], mask_prefix: str = "<", mask_suffix: str = ">"
    ) -> None:
        self.masking_instructions = masking_instructions
        self.mask_prefix = mask_prefix
        self.mask_suffix = mask_suffix

    @cached_property
    def _masks(self) -> LineMasks:
        return LineMasks([UserMask(one.pattern) for one in self.masking_instructions])

    @property
    def mask_names(self) -> Collection[str]:
        """The names of the masks, each once."""
        return dict.fromkeys(one.mask_with for one in self.masking_instructions).keys()

    def instructions_by_mask_name(self, mask_name: str) -> list[MaskingInstruction]:
        """The masks of a name."""
        return [one for one in self.masking_instructions if one.mask_with == mask_name]

    def mask(self, content: str) -> str:
        """The content with the names of masks in place of what they match."""
        raw = content.encode("utf-8", "surrogateescape")
        pieces, end = [], 0
        for low, high, number in self._masks.find(raw):
            name = self.masking_instructions[number].mask_with
            pieces += [raw[end:low].decode("utf-8", "surrogateescape"), self.mask_prefix, name, self.mask_suffix]
            end = high
        return "".join(pieces) + raw[end:].decode("utf-8", "surrogateescape")
