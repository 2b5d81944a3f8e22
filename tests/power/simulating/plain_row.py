"""The rules of `simulate` written again, plainly, as SimPy processes; shares nothing with the engine.

One instance is a process that sleeps until its next event or until somebody wakes it. Time of what is left is worked
out anew from scratch at each step: prompts in seconds at level 1, decodes in tokens that each request still needs.
"""

import simpy


class Instance:
    def __init__(self, env, server, slots):
        self.env, self.server, self.slots = env, server, slots
        self.prompt, self.prompt_left = None, 0.0
        self.waiting = []
        self.left = {}  # request -> tokens left
        self.load = 0
        self.since = 0.0  # when `load` became what it is, as a counter
        self.wake = env.event()
        self.began, self.watts = 0.0, 0.0  # of the phase it is in


class PlainRow:
    """`servers`: list of (pool, profile, instances, slots); `levels`: list of (time, server, level) in order."""

    def __init__(self, load, servers, prefill_share=1.0, levels=()):
        self.env = simpy.Environment()
        self.load, self.servers, self.share = load, servers, prefill_share
        self.level = [1.0] * len(servers)
        self.queues = {}
        self.counter = 0
        self.first, self.done = {}, {}
        self.joules = [0.0] * len(servers)
        self.instances = []
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

    def run(self, until):
        self.env.run(until)
        for instance in self.instances:  # asleep since its last event
            self.joules[instance.server] += instance.watts * (until - instance.began)
        return self.first, self.done

    def arrivals(self):
        load = self.load
        for r in range(len(load)):
            yield self.env.timeout(load.arrival_s[r] - self.env.now)
            pool = int(load.priority[r])
            self.queues[pool].append(r)
            self.dispatch(pool)

    def level_changes(self, levels):
        for time, server, level in levels:
            yield self.env.timeout(time - self.env.now)
            yield from self.settle_server(server)
            self.level[server] = level
            self.poke(server)

    def settle_server(self, server):
        # Wake the instances so that each books the time until now at the old level, then go on.
        self.poke(server)
        yield self.env.timeout(0)

    def poke(self, server):
        for instance in self.instances:
            if instance.server == server and not instance.wake.triggered:
                instance.wake.succeed()

    def dispatch(self, pool):
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

    def set_load(self, instance, load):
        instance.load = load
        self.counter += 1
        instance.since = self.counter

    def rates(self, instance):
        _, profile, _, _ = self.servers[instance.server]
        level = self.level[instance.server]
        share = 0.0 if instance.prompt is None else (self.share if instance.left else 1.0)
        prompt_rate = share * level
        token_rate = 0.0
        if instance.left:
            token_rate = (1 - share) / profile.decode_seconds_per_token(len(instance.left), level)
        return share, prompt_rate, token_rate

    def watts(self, instance, share):
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

    def work(self, instance):
        env, load = self.env, self.load
        while True:
            if instance.prompt is None and instance.waiting:
                instance.prompt = instance.waiting.pop(0)
                profile = self.servers[instance.server][1]
                instance.prompt_left = profile.prefill_seconds(int(load.prompt_tokens[instance.prompt]))
            share, prompt_rate, token_rate = self.rates(instance)
            watts = self.watts(instance, share)
            prompt_in = instance.prompt_left / prompt_rate if prompt_rate > 0 else float("inf")
            least = min(instance.left.values(), default=0.0)
            decode_in = least / token_rate if token_rate > 0 else float("inf")
            start, instance.wake = env.now, env.event()
            instance.began, instance.watts = start, watts
            sleep = min(prompt_in, decode_in)
            slept = False
            if sleep == float("inf"):
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
            if prompt_in <= decode_in:
                request, instance.prompt = instance.prompt, None
                self.first[request] = env.now
                if load.output_tokens[request] > 1:
                    instance.left[request] = float(load.output_tokens[request] - 1)
                else:
                    self.end(instance, request)
            else:
                for request in [r for r, left in instance.left.items() if left <= 1e-9]:
                    del instance.left[request]
                    self.end(instance, request)
            self.dispatch(self.servers[instance.server][0])

    def end(self, instance, request):
        self.done[request] = self.env.now
        self.set_load(instance, instance.load - 1)
