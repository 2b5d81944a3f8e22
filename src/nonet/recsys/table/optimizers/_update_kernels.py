"""One function a rule: weights (n, dim) and state (n, state_dim) float32, changed; gradients (n, dim) float32.

Parameters are float64, so every rule is computed in double precision and rounded once where it is stored.
`decay` is weight decay: the gradient that a rule sees is `g + decay * w`, in the accumulator and in the step alike.
"""

from __future__ import annotations

import math

import numpy as np

from nonet.common.kernels import kernel


@kernel
def sgd(weights, gradients, lr, decay):
    """w -= lr g."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            w = np.float64(weights[i, j])
            weights[i, j] = w - lr * (gradients[i, j] + decay * w)


@kernel
def momentum(weights, state, gradients, lr, decay, mu, nesterov):
    """u = mu u - lr g; w += u, or with Nesterov w += -mu u_old + (1 + mu) u. State: u."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            w = np.float64(weights[i, j])
            old = np.float64(state[i, j])
            new = mu * old - lr * (gradients[i, j] + decay * w)
            state[i, j] = new
            weights[i, j] = w + ((1.0 + mu) * new - mu * old if nesterov else new)


@kernel
def adagrad(weights, state, gradients, lr, decay):
    """n += g^2; w -= lr g / sqrt(n). State: n. While n = 0 the gradient is 0, and so is the step."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            w = np.float64(weights[i, j])
            g = gradients[i, j] + decay * w
            n = np.float64(state[i, j]) + g * g
            state[i, j] = n
            if n > 0.0:
                weights[i, j] = w - lr * g / math.sqrt(n)


@kernel
def rmsprop(weights, state, gradients, lr, decay, mu):
    """n = mu n + (1 - mu) g^2; w -= lr g / (sqrt(n) + 1). State: n."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            w = np.float64(weights[i, j])
            g = gradients[i, j] + decay * w
            n = mu * state[i, j] + (1.0 - mu) * g * g
            state[i, j] = n
            weights[i, j] = w - lr * g / (math.sqrt(n) + 1.0)


@kernel
def adadelta(weights, state, gradients, lr, decay, rho, eps):
    """a = rho a + (1 - rho) g^2; d = sqrt(b + eps) / sqrt(a + eps) g; w -= lr d; b likewise of d^2. State: a, b."""
    dim = weights.shape[1]
    for i in range(weights.shape[0]):
        for j in range(dim):
            w = np.float64(weights[i, j])
            g = gradients[i, j] + decay * w
            a = rho * state[i, j] + (1.0 - rho) * g * g
            b = np.float64(state[i, dim + j])
            d = math.sqrt(b + eps) / math.sqrt(a + eps) * g
            state[i, j] = a
            state[i, dim + j] = rho * b + (1.0 - rho) * d * d
            weights[i, j] = w - lr * d


@kernel
def adam(weights, state, gradients, lr, decay, beta1, beta2, eps, nesterov, amsgrad):
    """Steps are counted per key. State: m, v, (the largest v with amsgrad,) beta1^t, beta2^t."""
    dim = weights.shape[1]
    powers = state.shape[1] - 2
    for i in range(weights.shape[0]):
        power1 = np.float64(state[i, powers])
        power2 = np.float64(state[i, powers + 1])
        rate = lr * math.sqrt(1.0 - power2) / (1.0 - power1)
        state[i, powers] = power1 * beta1
        state[i, powers + 1] = power2 * beta2
        for j in range(dim):
            w = np.float64(weights[i, j])
            g = gradients[i, j] + decay * w
            m = beta1 * state[i, j] + (1.0 - beta1) * g
            v = beta2 * state[i, dim + j] + (1.0 - beta2) * g * g
            state[i, j] = m
            state[i, dim + j] = v
            if amsgrad:
                v = max(v, np.float64(state[i, 2 * dim + j]))
                state[i, 2 * dim + j] = v
            upper = (1.0 - beta1) * g + beta1 * m if nesterov else m
            weights[i, j] = w - rate * upper / (math.sqrt(v) + eps)


@kernel
def ftrl(weights, state, gradients, lr, decay, beta, l1, l2):
    """FTRL-proximal, McMahan et al. 2013. State: z, n.

    n' = n + g^2; z += g - w (sqrt(n') - sqrt(n)) / lr;
    w = 0 if |z| <= l1, else lr (sgn(z) l1 - z) / (sqrt(n') + beta + l2 lr).
    """
    dim = weights.shape[1]
    for i in range(weights.shape[0]):
        for j in range(dim):
            w = np.float64(weights[i, j])
            g = gradients[i, j] + decay * w
            old = np.float64(state[i, dim + j])
            n = old + g * g
            z = state[i, j] + g - (math.sqrt(n) - math.sqrt(old)) / lr * w
            state[i, j] = z
            state[i, dim + j] = n
            under = math.sqrt(n) + beta + l2 * lr
            if abs(z) <= l1 or under == 0.0:
                weights[i, j] = 0.0
            else:
                weights[i, j] = lr * (math.copysign(l1, z) - z) / under


@kernel
def group_adagrad(weights, state, gradients, lr, decay, beta, l2):
    """One accumulator a row. State: S.

    S += max_j g_j^2; e = lr / (beta + sqrt(S)); z = g - w / e; w = 0 if |z| < l2, else -e (1 - l2 / |z|) z.
    """
    dim = weights.shape[1]
    for i in range(weights.shape[0]):
        largest = 0.0
        for j in range(dim):
            g = gradients[i, j] + decay * np.float64(weights[i, j])
            largest = max(largest, g * g)
        total = state[i, 0] + largest
        state[i, 0] = total
        under = beta + math.sqrt(total)
        if under == 0.0:
            continue  # no gradient ever, so no step
        step = lr / under
        square = 0.0
        for j in range(dim):
            w = np.float64(weights[i, j])
            z = gradients[i, j] + decay * w - w / step
            square += z * z
        norm = math.sqrt(square)
        for j in range(dim):
            if norm < l2 or norm == 0.0:
                weights[i, j] = 0.0
            else:
                w = np.float64(weights[i, j])
                weights[i, j] = -step * (1.0 - l2 / norm) * (gradients[i, j] + decay * w - w / step)


@kernel
def moving_average(weights, gradients, mu):
    """w = mu w + (1 - mu) g."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weights[i, j] = mu * weights[i, j] + (1.0 - mu) * gradients[i, j]


@kernel
def batch_softmax(weights, last_steps, step, rate):
    """B = (1 - rate) B + rate (step - A); A = step.

    Args:
        last_steps: int32 (n, 1), A, in the bits of the state.
    """
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weights[i, j] = (1.0 - rate) * weights[i, j] + rate * (step - last_steps[i, 0])
        last_steps[i, 0] = step
