"""The plainest forward pass: all rows, all keys, one n x n mask; complex numbers for the rotation."""

import torch


def turned(x, positions, frequencies):
    half = x.shape[-1] // 2
    pairs = torch.complex(x[..., :half].double(), x[..., half:].double())
    angles = positions[:, None].double() * frequencies.double()
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat([pairs.real, pairs.imag], -1)


def agreed(changes):
    """The mean of some changes times the share of its square that their scatter does not explain."""
    mean = sum(changes) / len(changes)
    if len(changes) < 2:
        return torch.zeros_like(mean)
    variance = sum(float((one - mean).double().pow(2).sum()) for one in changes) / (len(changes) - 1)
    square = float(mean.double().pow(2).sum())
    if square == 0:
        return mean
    return mean * max(0.0, (square - variance / len(changes)) / square)


def dense(decoder, ids, positions=None, stored=None, led=()):
    """Logits of every row, keys and values [L, n, kv, d] not rotated, attention [L, heads, n, n].

    `stored` maps a row to its keys and values [L, kv, d], which take the place of the computed ones. `led` is pairs: a
    map as `stored` of rows that are computed all the same, and rows to which what that changed on average is added,
    less the more it differed from row to row.
    """
    config = decoder.config
    n = len(ids)
    positions = torch.arange(n) if positions is None else positions
    x = decoder.embed(ids)
    all_keys, all_values, maps = [], [], []
    for number, layer in enumerate(decoder.layers):
        q, k, v = layer.project(x)
        for row, (keys, values) in (stored or {}).items():
            k[row], v[row] = keys[number], values[number]
        for leaders, followers in led:
            for mine, which in ((k, 0), (v, 1)):
                change = agreed([mine[row] - held[which][number] for row, held in leaders.items()])
                for row in followers:
                    mine[row] = mine[row] + change
        all_keys.append(k.clone())
        all_values.append(v.clone())
        kind = config.layers[number]
        frequencies = kind.rope_theta ** (-torch.arange(0, config.head_dim, 2).double() / config.head_dim)
        q, k = turned(q, positions, frequencies), turned(k, positions, frequencies)
        group = config.num_heads // config.num_kv_heads
        k, v = k.repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
        scores = torch.einsum("rhd,shd->hrs", q, k) * config.attention_scale
        distance = positions[:, None] - positions[None]
        allowed = distance >= 0
        if kind.window is not None:
            allowed &= distance < kind.window
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        maps.append(weights)
        x = layer.finish(x, torch.einsum("hrs,shd->rhd", weights, v).flatten(1).float())
    return decoder.logits(x), torch.stack(all_keys), torch.stack(all_values), torch.stack(maps)
