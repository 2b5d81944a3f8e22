"""The rules of `simulate` written again, plainly, as SimPy processes; shares nothing with the engine.

One instance is a process that sleeps until its next event or until somebody wakes it. Time of what is left is worked
out anew from scratch at each step: prompts in seconds at level 1, decodes in tokens that each request still needs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from nonet.common.errors import MissingExtraError

_NEVER_S = float("inf")
_CLOSE = 1e-9


class Instance:
    """One model instance."""

    def __init__(self, env: Any, server: int, slots: int) -> None:
        self.env, self.server, self.slots = env, server, slots
        self.prompt: int | None = None
        self.prompt_left = 0.0
        self.waiting: list[int] = []
        self.left: dict[int, float] = {}  # request -> tokens left
        self.load = 0
        self.since = 0  # when `load` became what it is, as a counter
        self.wake = env.event()
        self.began_s, self.watts = 0.0, 0.0  # of the phase it is in


class PlainRow:
    """A row as SimPy processes.

    Args:
        load: with `arrival_s`, `prompt_tokens`, `output_tokens`, `priority`.
        servers: (priority, profile, instances, slots of each).
        prefill_share: see `Row`.
        levels: (time, server, level) in order of time.

    Raises:
        MissingExtraError: SimPy is not installed.
    """

    def __init__(
        self,
        load: Any,
        servers: Sequence[tuple[int, Any, int, int]],
        prefill_share: float = 1.0,
        levels: Sequence[tuple[float, int, float]] = (),
    ) -> None:
        try:
            import simpy
        except ImportError as error:
            raise MissingExtraError("the rival SimPy is not installed: pip install simpy") from error
        self.env = simpy.Environment()
        self.load, self.servers, self.share = load, servers, prefill_share
        self.level = [1.0] * len(servers)
        self.queues: dict[int, list[int]] = {}
        self.counter = 0
        self.first: dict[int, float] = {}
        self.done: dict[int, float] = {}
        self.joules = [0.0] * len(servers)
        self.instances: list[Instance] = []
        for s, (pool, _, count, slots) in enumerate(servers):
            self.queues.setdefault(pool, [])
            for _ in range(count):
                instance = Instance(self.env, s, slots)
                self.counter += 1
                instance.since = self.counter
                self.instances.append(instance)
                self.env.process(self.work(instance))
        self.env.process(self.arrivals())
        self.env.process(self.level_changes(levels))

    def run(self, until: float) -> tuple[dict[int, float], dict[int, float]]:
        """(time of the first token, time of the last) by request, seconds."""
        self.env.run(until)
        for instance in self.instances:  # asleep since its last event
            self.joules[instance.server] += instance.watts * (until - instance.began_s)
        return self.first, self.done

    def arrivals(self) -> Generator[Any, Any, None]:
        """Requests come."""
        load = self.load
        for r in range(len(load)):
            yield self.env.timeout(load.arrival_s[r] - self.env.now)
            pool = int(load.priority[r])
            self.queues[pool].append(r)
            self.dispatch(pool)

    def level_changes(self, levels: Sequence[tuple[float, int, float]]) -> Generator[Any, Any, None]:
        """Clocks change."""
        for time, server, level in levels:
            yield self.env.timeout(time - self.env.now)
            yield from self.settle_server(server)
            self.level[server] = level
            self.poke(server)

    def settle_server(self, server: int) -> Generator[Any, Any, None]:
        """Wake the instances so that each books the time until now at the old level, then go on."""
        self.poke(server)
        yield self.env.timeout(0)

    def poke(self, server: int) -> None:
        """Wake the instances of a server."""
        for instance in self.instances:
            if instance.server == server and not instance.wake.triggered:
                instance.wake.succeed()

    def dispatch(self, pool: int) -> None:
        """Give what waits to instances with a free slot."""
        queue = self.queues[pool]
        while queue:
            free = [i for i in self.instances if self.servers[i.server][0] == pool and i.load < i.slots]
            if not free:
                return
            chosen = min(free, key=lambda i: (i.load, i.since))
            request = queue.pop(0)
            self.set_load(chosen, chosen.load + 1)
            chosen.waiting.append(request)
            if not chosen.wake.triggered:
                chosen.wake.succeed()

    def set_load(self, instance: Instance, load: int) -> None:
        """An instance holds `load` requests from now on."""
        instance.load = load
        self.counter += 1
        instance.since = self.counter

    def rates(self, instance: Instance) -> tuple[float, float, float]:
        """(share of the prompt, prompt seconds a second, tokens a second)."""
        _, profile, _, _ = self.servers[instance.server]
        level = self.level[instance.server]
        share = 0.0 if instance.prompt is None else (self.share if instance.left else 1.0)
        prompt_rate = share * level
        token_rate = 0.0
        if instance.left:
            token_rate = (1 - share) / profile.decode_seconds_per_token(len(instance.left), level)
        return share, prompt_rate, token_rate

    def watts(self, instance: Instance, share: float) -> float:
        """Power of an instance at the wall."""
        _, profile, _, _ = self.servers[instance.server]
        level = self.level[instance.server]
        gpu = profile.idle_w
        if instance.prompt is not None or instance.left:
            gpu = 0.0
            if share > 0:
                gpu += share * profile.prefill_watts(int(self.load.prompt_tokens[instance.prompt]), level)
            if instance.left and share < 1:
                gpu += (1 - share) * profile.decode_watts(len(instance.left), level)
        return gpu * profile.server.gpu_factor * profile.tensor_parallel

    def work(self, instance: Instance) -> Generator[Any, Any, None]:
        """What an instance does."""
        env, load = self.env, self.load
        while True:
            if instance.prompt is None and instance.waiting:
                instance.prompt = instance.waiting.pop(0)
                profile = self.servers[instance.server][1]
                instance.prompt_left = profile.prefill_seconds(int(load.prompt_tokens[instance.prompt]))
            share, prompt_rate, token_rate = self.rates(instance)
            watts = self.watts(instance, share)
            prompt_in = instance.prompt_left / prompt_rate if prompt_rate > 0 else _NEVER_S
            least = min(instance.left.values(), default=0.0)
            decode_in = least / token_rate if token_rate > 0 else _NEVER_S
            start, instance.wake = env.now, env.event()
            instance.began_s, instance.watts = start, watts
            sleep = min(prompt_in, decode_in)
            slept = False
            if sleep == _NEVER_S:
                yield instance.wake
            else:
                timer = env.timeout(sleep)
                slept = timer in (yield timer | instance.wake)
            passed = env.now - start
            self.joules[instance.server] += watts * passed
            instance.prompt_left -= passed * prompt_rate
            for request in instance.left:
                instance.left[request] -= passed * token_rate
            if not slept:
                continue
            if instance.prompt is not None and prompt_in <= decode_in:
                prompt, instance.prompt = instance.prompt, None
                self.first[prompt] = env.now
                if load.output_tokens[prompt] > 1:
                    instance.left[prompt] = float(load.output_tokens[prompt] - 1)
                else:
                    self.end(instance, prompt)
            else:
                for request in [r for r, left in instance.left.items() if left <= _CLOSE]:
                    del instance.left[request]
                    self.end(instance, request)
            self.dispatch(self.servers[instance.server][0])

    def end(self, instance: Instance, request: int) -> None:
        """A request is done."""
        self.done[request] = self.env.now
        self.set_load(instance, instance.load - 1)
