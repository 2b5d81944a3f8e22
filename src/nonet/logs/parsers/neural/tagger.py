"""The token tagger of UniParser: words and characters in, "constant" or "variable" for every token out.

Ma, Hovy: "End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF", ACL 2016, in the sizes of the Loghub-2.0
evaluation. That evaluation runs this tagger under the name of UniParser (Liu et al., WWW 2022), without the contrastive
loss of the UniParser paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nonet.logs.parsers.neural.crf import LinearChainCRF
from nonet.logs.parsers.neural.glove import PADDING, WordVectors

CONSTANT, VARIABLE = 0, 1
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
CHARACTER_DIMENSION = len(_ALPHABET) + 1
_OTHER, _NO_CHARACTER = CHARACTER_DIMENSION, 0
_ROW_OF_CHARACTER = {character: row for row, character in enumerate(_ALPHABET, 1)}
_LONGEST_WORD = 64  # characters; the rest of a longer token tells no more


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Padded sequences of tokens.

    Attributes:
        words: int64, shape (batch, length): rows of the word vectors.
        characters: int64, shape (batch, length, longest word).
        mask: bool, shape (batch, length): true on real tokens.
    """

    words: Tensor
    characters: Tensor
    mask: Tensor

    @classmethod
    def of(cls, sequences: Sequence[Sequence[str]], vectors: WordVectors) -> TokenBatch:
        """Pad sequences, none of them empty."""
        length = max(map(len, sequences))
        longest = max(3, min(_LONGEST_WORD, max(len(token) for tokens in sequences for token in tokens)))
        words = torch.full((len(sequences), length), PADDING)
        characters = torch.full((len(sequences), length, longest), _NO_CHARACTER)
        for row, tokens in enumerate(sequences):
            words[row, : len(tokens)] = torch.tensor([vectors.row(token) for token in tokens])
            for column, token in enumerate(tokens):
                codes = [_ROW_OF_CHARACTER.get(character, _OTHER) for character in token[:longest].lower()]
                characters[row, column, : len(codes)] = torch.tensor(codes)
        lengths = torch.tensor([len(tokens) for tokens in sequences])
        return cls(words, characters, torch.arange(length) < lengths[:, None])


class CharacterCNN(nn.Module):
    """Features of a token's spelling: depthwise convolution over its characters, largest response.

    Args:
        filters: number of filters for every dimension of the character embedding.
    """

    def __init__(self, filters: int = 4) -> None:
        super().__init__()
        self.num_features = CHARACTER_DIMENSION * filters
        self.embedding = nn.Embedding(CHARACTER_DIMENSION + 1, CHARACTER_DIMENSION, padding_idx=_NO_CHARACTER)
        self.dropout = nn.Dropout(0.25)
        self.convolution = nn.Conv1d(
            CHARACTER_DIMENSION, self.num_features, kernel_size=3, padding=1, groups=CHARACTER_DIMENSION
        )

    def forward(self, characters: Tensor) -> Tensor:
        """From (tokens, longest word) to (tokens, num_features)."""
        embedded = self.dropout(self.embedding(characters)).transpose(1, 2)
        responses: Tensor = self.convolution(embedded)
        return responses.amax(dim=2)


class TokenTagger(nn.Module):
    """Word vectors (frozen) and `CharacterCNN`, two layers of bidirectional LSTM, linear layer, `LinearChainCRF`.

    Args:
        vectors: of words.
        hidden: size of an LSTM direction.
    """

    def __init__(self, vectors: WordVectors, hidden: int = 64) -> None:
        super().__init__()
        self.vectors = vectors
        self.words = nn.Embedding.from_pretrained(vectors.vectors, freeze=True, padding_idx=PADDING)
        self.word_dropout = nn.Dropout(0.5)
        self.spelling = CharacterCNN()
        size = vectors.vectors.shape[1] + self.spelling.num_features
        self.lstm = nn.LSTM(size, hidden, num_layers=2, dropout=0.1, bidirectional=True, batch_first=True)
        self.emission = nn.Linear(2 * hidden, 2)
        self.crf = LinearChainCRF(2)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Emissions, shape (batch, length, 2)."""
        rows, length = batch.words.shape
        spelling = self.spelling(batch.characters.flatten(0, 1)).view(rows, length, -1)
        features = torch.cat([self.word_dropout(self.words(batch.words)), spelling], dim=2)
        packed = pack_padded_sequence(features, batch.mask.sum(1), batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=length)
        emissions: Tensor = self.emission(hidden)
        return emissions

    def loss(self, sequences: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> Tensor:
        """Mean negative log-likelihood of the tags."""
        batch = TokenBatch.of(sequences, self.vectors)
        padded = torch.zeros_like(batch.words)
        for row, line_tags in enumerate(tags):
            padded[row, : len(line_tags)] = torch.tensor(line_tags)
        return -self.crf.log_likelihood(self(batch), padded, batch.mask).mean()

    @torch.no_grad()
    def tag(self, sequences: Sequence[Sequence[str]], batch_size: int = 256) -> list[list[int]]:
        """Tags of every sequence; an empty one has none."""
        self.eval()
        tags: list[list[int]] = [[] for _ in sequences]
        by_length = sorted((row for row, tokens in enumerate(sequences) if tokens), key=lambda row: len(sequences[row]))
        for start in range(0, len(by_length), batch_size):
            rows = by_length[start : start + batch_size]
            batch = TokenBatch.of([sequences[row] for row in rows], self.vectors)
            for row, found in zip(rows, self.crf.decode(self(batch), batch.mask), strict=True):
                tags[row] = found
        return tags


@dataclass(frozen=True, slots=True)
class Training:
    """How the tagger is trained: Adam, until the loss on the development lines has not fallen for `patience` epochs."""

    learning_rate: float = 0.1
    weight_decay: float = 0.01
    batch_size: int = 16
    epochs: int = 100
    patience: int = 10


Example = tuple[list[str], list[int]]
"""Tokens of a line and their tags."""


def train_tagger(
    tagger: TokenTagger, examples: Sequence[Example], development: Sequence[Example], settings: Training
) -> None:
    """Train in place, and leave the parameters of the best epoch."""
    learnt = [parameter for parameter in tagger.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    best_loss, best_state, since_best = float("inf"), tagger.state_dict(), 0
    for _ in range(settings.epochs):
        tagger.train()
        for batch in _shuffled_batches(examples, settings.batch_size):
            optimizer.zero_grad()
            tagger.loss(*zip(*batch, strict=True)).backward()
            nn.utils.clip_grad_norm_(learnt, 5.0)
            optimizer.step()
        loss = _mean_loss(tagger, development)
        if loss < best_loss:
            best_loss, since_best = loss, 0
            best_state = {name: value.clone() for name, value in tagger.state_dict().items()}
        else:
            since_best += 1
            if since_best >= settings.patience:
                break
    tagger.load_state_dict(best_state)


def _shuffled_batches(examples: Sequence[Example], size: int) -> Iterator[list[Example]]:
    order = torch.randperm(len(examples)).tolist()
    for start in range(0, len(order), size):
        yield [examples[index] for index in order[start : start + size]]


@torch.no_grad()
def _mean_loss(tagger: TokenTagger, examples: Sequence[Example]) -> float:
    tagger.eval()
    return float(tagger.loss(*zip(*examples, strict=True)))
