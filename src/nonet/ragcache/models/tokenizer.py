"""Text to token ids and back, through the library `tokenizers`; streaming that never splits a character."""

from __future__ import annotations

import codecs
import json
import threading
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import blake3
import tokenizers

from nonet.common.errors import InputError

_FREE_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1))


def byte_characters() -> dict[str, int]:
    """The alphabet of byte-level BPE (GPT-2): printable bytes stand for themselves, the others for 256, 257, ...

    >>> byte_characters()["A"], byte_characters()["Ġ"]
    (65, 32)
    """
    others = [byte for byte in range(256) if byte not in _FREE_PRINTABLE]
    table = {chr(byte): byte for byte in _FREE_PRINTABLE}
    return table | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES = byte_characters()


def well_formed(text: str) -> str:
    r"""A text with U+FFFD for half surrogate pairs, which JSON may bring and UTF-8 cannot hold.

    >>> well_formed("a\ud83d pump") == "a\ufffd pump", well_formed("\ud83d\ude00") == "\U0001f600"
    (True, True)
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Tokenizer:
    """A byte-level or byte-fallback BPE tokenizer; safe to share between threads.

    Attributes:
        bos_id: the token that begins every prompt, or None.
        eos_ids: the tokens that end an answer.
        special_ids: tokens that stand for no text (turn marks and the like).

    Args:
        backend: the tokenizer itself.
        bos_id: see above.
        eos_ids: see above.

    Raises:
        InputError: another kind of tokenizer.

    >>> from nonet.ragcache.models.toy import toy_tokenizer
    >>> tokenizer = toy_tokenizer()
    >>> tokenizer.encode("Hé<|end|>"), tokenizer.encode("<|end|>", parse_special=False)
    ([72, 195, 169, 257], [60, 124, 101, 110, 100, 124, 62])
    >>> tokenizer.decode([72, 195, 169, 257])
    'Hé'
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, bos_id: int | None, eos_ids: Iterable[int]) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self.bos_id = bos_id
        self.eos_ids = tuple(eos_ids)
        self._added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(number for number, token in self._added.items() if token.special)
        self._serialised = backend.to_str()
        decoder = json.loads(self._serialised)["decoder"] or {}
        steps = {step["type"]: step for step in decoder.get("decoders", [decoder]) if "type" in step}
        if "ByteLevel" not in steps and "ByteFallback" not in steps:
            raise InputError("the tokenizer is neither byte-level nor byte-fallback BPE; choose another model")
        self._byte_level = "ByteLevel" in steps
        self._strips_first_space = "Strip" in steps and steps["Strip"]["start"] > 0

    @classmethod
    def from_file(cls, path: str | Path, *, bos_id: int | None, eos_ids: Iterable[int]) -> Tokenizer:
        """Read a `tokenizer.json`.

        Args:
            path: of the file.
            bos_id: the token that begins every prompt, or None.
            eos_ids: the tokens that end an answer.

        Raises:
            InputError: the file is missing or damaged.
        """
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; a model's folder needs its tokenizer.json")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain exceptions
            raise InputError(f"{path}: not a readable tokenizer ({error}); download it again") from error
        return cls(backend, bos_id=bos_id, eos_ids=eos_ids)

    @property
    def vocab_size(self) -> int:
        """Tokens, special ones included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits; two tokenizers with the same one give the same ids."""
        return blake3.blake3(self._serialised.encode()).hexdigest()

    def encode(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            text: any text; half surrogate pairs, which JSON may bring and UTF-8 cannot hold, are read as U+FFFD.
            add_special: put the tokens around it that the tokenizer's own rules want (often the first token). Rendered
                chat templates have them already.
            parse_special: read turn marks such as <|im_start|> in the text as the special tokens. Give False for
                text from outside (retrieved chunks), which could otherwise end its turn and speak for another role.
        """
        text = well_formed(text)
        with self._lock:
            self._backend.encode_special_tokens = not parse_special
            return list(self._backend.encode(text, add_special_tokens=add_special).ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of tokens; bytes that form no character give U+FFFD.

        Args:
            ids: tokens.
            skip_special: leave out special tokens.
        """
        with self._lock:  # `encode` changes a setting of the library's object, which must not be in use then
            return str(self._backend.decode(list(ids), skip_special_tokens=skip_special))

    def token_id(self, token: str) -> int | None:
        """The number of a token, None when there is none of that name.

        Args:
            token: as in the vocabulary.
        """
        found: int | None = self._backend.token_to_id(token)
        return found

    def token(self, number: int) -> str | None:
        """The token of a number as in the vocabulary, None when there is none.

        Args:
            number: the id.
        """
        found: str | None = self._backend.id_to_token(number)
        return found

    def token_bytes(self, number: int) -> bytes:
        """The bytes that a token adds to a text; empty for special and unknown ones.

        Args:
            number: the id.
        """
        token = self.token(number)
        if token is None or number in self.special_ids:
            return b""
        if number in self._added:
            return token.encode()
        if self._byte_level:
            return bytes(_BYTES[character] for character in token if character in _BYTES)
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
        return token.replace("▁", " ").encode()

    def stream(self) -> IncrementalDecoder:
        """A decoder for one answer that comes token by token."""
        return IncrementalDecoder(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._serialised, self.bos_id, self.eos_ids)


def _restored(serialised: str, bos_id: int | None, eos_ids: tuple[int, ...]) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(serialised), bos_id=bos_id, eos_ids=eos_ids)


class IncrementalDecoder:
    """Text from tokens one by one; an unfinished character waits for its last byte.

    >>> from nonet.ragcache.models.toy import toy_tokenizer
    >>> stream = toy_tokenizer().stream()
    >>> [stream.push(token) for token in (72, 195, 169)], stream.finish()
    (['H', '', 'é'], '')
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strip_next = tokenizer._strips_first_space

    def push(self, token: int) -> str:
        """What can be shown now that this token came; at most 3 bytes are held back.

        Args:
            token: the id.
        """
        content = self._tokenizer.token_bytes(token)
        if self._strip_next and content:
            content = content.removeprefix(b" ")
            self._strip_next = False
        return self._decoder.decode(content)

    def finish(self) -> str:
        """The rest: U+FFFD when the answer ended within a character."""
        return self._decoder.decode(b"", final=True)
