"""The tokenizer inside a GGUF file, rebuilt for the library `tokenizers`.

GGUF holds the vocabulary and either merges (byte-level BPE, with the name of the rule that cuts text into words) or
scores (SentencePiece, whose best-score-first merging is BPE with merges ranked by the score of their result).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nonet.common.errors import InputError

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(digits: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS.replace("DIGITS", digits)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


# What `tokenizer.ggml.pre` says: how text is cut into words before merging.
_WORD_RULES = {
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "llama-bpe": lambda: _split(r"\p{N}{1,3}"),
    "llama3": lambda: _split(r"\p{N}{1,3}"),
    "llama-v3": lambda: _split(r"\p{N}{1,3}"),
    "qwen2": lambda: _split(r"\p{N}"),
    "deepseek-r1-qwen": lambda: _split(r"\p{N}"),
}
_WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3")  # a word of the vocabulary is taken without merging


def gguf_tokenizer(metadata: Mapping[str, Any], path: str | Path) -> Tokenizer:
    """Rebuild the tokenizer of a GGUF file.

    Args:
        metadata: of the file.
        path: of the file, for messages.

    Raises:
        InputError: no vocabulary in the file, or a kind that is not supported.
    """
    tokens: list[str] | None = metadata.get("tokenizer.ggml.tokens")
    if not tokens:
        raise InputError(f"{path}: no vocabulary inside (tokenizer.ggml.tokens); choose a complete file")
    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        backend = _byte_level(metadata, tokens, path)
    elif kind == "llama":
        backend = _sentencepiece(metadata, tokens, path)
    else:
        raise InputError(f"{path}: tokenizer kind {kind!r} is not supported (supported: gpt2, llama)")
    _add_tokens(backend, metadata, tokens)
    _add_first_token(backend, metadata, tokens)
    return backend


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], path: str | Path) -> Tokenizer:
    rule = metadata.get("tokenizer.ggml.pre", "gpt-2")
    if rule not in _WORD_RULES:
        raise InputError(
            f"{path}: word rule {rule!r} (tokenizer.ggml.pre) is not supported (supported: {', '.join(_WORD_RULES)}); "
            f"use the model's safetensors folder, which brings its tokenizer.json"
        )
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get("tokenizer.ggml.merges", [])]
    vocab = {token: number for number, token in enumerate(tokens)}
    try:
        model = models.BPE(vocab, merges, fuse_unk=False, ignore_merges=rule in _WHOLE_WORDS_FIRST)
    except Exception as error:  # the library raises plain exceptions
        raise InputError(f"{path}: vocabulary and merges do not fit together ({error})") from error
    backend = Tokenizer(model)
    if "qwen" in rule:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _WORD_RULES[rule]()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], path: str | Path) -> Tokenizer:
    scores = metadata.get("tokenizer.ggml.scores", [])
    if len(scores) != len(tokens):
        raise InputError(f"{path}: {len(scores)} scores for {len(tokens)} tokens; the file is damaged")
    vocab = {token: number for number, token in enumerate(tokens)}
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    unknown = next((token for token, kind in zip(tokens, kinds, strict=False) if kind == _UNKNOWN), None)
    model = models.BPE(vocab, _merges(vocab, scores), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(model)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(steps)
    return backend


def _merges(vocab: Mapping[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """Every way to put a token together from two others, best score of the result first."""
    ranked = []
    for token, number in vocab.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocab and right in vocab:
                ranked.append((-scores[number], vocab[left], vocab[right], left, right))
    ranked.sort(key=lambda merge: merge[:3])
    return [(left, right) for *_, left, right in ranked]


def _add_tokens(backend: Tokenizer, metadata: Mapping[str, Any], tokens: list[str]) -> None:
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    pairs = list(zip(tokens, kinds, strict=False))
    control = [token for token, kind in pairs if kind == _CONTROL]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    defined = [token for token, kind in pairs if kind == _USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in defined])


def _add_first_token(backend: Tokenizer, metadata: Mapping[str, Any], tokens: list[str]) -> None:
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    wanted = metadata.get("tokenizer.ggml.add_bos_token", metadata["tokenizer.ggml.model"] == "llama")
    if wanted and bos is not None and 0 <= bos < len(tokens):
        name = tokens[bos]
        backend.post_processor = processors.TemplateProcessing(single=f"{name} $A", special_tokens=[(name, bos)])
