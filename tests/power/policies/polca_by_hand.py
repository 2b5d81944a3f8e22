"""POLCA and the way of its commands, written from their descriptions alone: the oracle of the random series.

No code of `nonet.power` is used here. Clocks are MHz; a row has one server of each class.
"""

from __future__ import annotations

LOW_MHZ, HIGH_MHZ = (1410, 1275, 1110, 1110), (1410, 1410, 1410, 1305)
LATE_S = {"cap": 40.0, "brake": 5.0, "release": 5.0}
NO_ANSWER_S = {"cap": 44.0, "brake": 7.0, "release": 7.0}
MOST_TRIES = {"cap": 5, "brake": 20, "release": 20}
OLD_S = 6.0


class Server:
    """What is wanted of a server, what is known of it (None: nobody knows), and the one job on its way there."""

    def __init__(self, fates):
        self.fates = iter(fates)  # of each sending: "lands", "lost" or "twice"
        self.want, self.want_brake = 1410, False
        self.cap, self.brake, self.lowest = 1410, False, 1410
        self.job, self.gone, self.post, self.num_jobs, self.given_up = None, {}, [], 0, False

    def missing(self):
        if self.want_brake != self.brake:
            return ("brake", 288) if self.want_brake else ("release", self.want)
        return None if self.cap == self.want else ("cap", self.want)

    def order(self, now, fresh):
        self.given_up = False
        if self.job and self.missing() != self.job["what"]:
            now_brake = self.missing() is not None and self.missing()[0] == "brake"
            if (now_brake and self.job["what"][0] != "brake") or not self.job["sent"]:
                self.drop()
        self.begin(now, fresh)

    def begin(self, now, fresh):
        if self.job is None and not self.given_up and self.missing():
            self.num_jobs += 1
            self.job = {"what": self.missing(), "id": self.num_jobs, "tries": 0, "due": 0.0, "sent": False}
            self.send(now, fresh)

    def send(self, now, fresh):
        job, (kind, mhz) = self.job, self.job["what"]
        if (kind == "release" or (kind == "cap" and mhz > self.lowest)) and now - fresh > OLD_S:
            job["sent"], job["due"] = False, None
            return
        job["sent"], job["tries"], job["due"] = True, job["tries"] + 1, now + NO_ANSWER_S[kind]
        if kind == "cap":
            self.lowest = min(self.lowest, mhz)
        fate = next(self.fates)
        self.post += [(now + LATE_S[kind], job["id"])] * (fate != "lost")
        self.post += [(now + 2 * LATE_S[kind], job["id"])] * (fate == "twice")

    def drop(self):
        """Nobody waits for the answer any more; what the job may have changed is unknown."""
        if self.job["tries"]:
            self.gone[self.job["id"]] = self.job["what"]
            self.forget(self.job["what"][0])
        self.job = None

    def forget(self, kind):
        if kind == "cap":
            self.cap = None
        else:
            self.brake = None

    def arrive(self, number, now, fresh):
        if self.job and self.job["id"] == number:
            self.gone[number], self.job = self.job["what"], None
        elif self.job and self.job["sent"]:
            self.forget(self.gone[number][0])
            return
        kind, mhz = self.gone[number]
        if kind == "cap":
            self.cap = self.lowest = mhz
        else:
            self.brake = kind == "brake"
        if self.job and self.job["what"] != self.missing():
            self.drop()
        self.given_up = self.given_up and self.missing() is not None
        self.begin(now, fresh)

    def until(self, now, fresh):
        """Everything that arrives up to now, then what is due."""
        if self.job and self.job["due"] is None and fresh == now:
            self.job["due"] = now
        while self.post and min(self.post)[0] <= now:
            at, number = min(self.post)
            self.post.remove((at, number))
            self.arrive(number, at, fresh)
        job = self.job
        if job is None or job["due"] is None or job["due"] > now:
            return
        if job["what"] != self.missing():
            self.drop()
            self.begin(now, fresh)
        elif job["sent"] and job["tries"] >= MOST_TRIES[job["what"][0]]:
            self.drop()
            self.given_up = True
        else:
            self.send(now, fresh)


def polca(us, fresh, fates, period=2.0, latency=40.0):
    """The published table with immediate release: (time, class or "brake" or "release", MHz) of each command."""
    row, mode, braked, brake_since, changed = [Server(fate) for fate in fates], 0, False, 0.0, -1e9
    desired, log, seen, seen_at = [1410, 1410], [], None, 0.0
    last_fresh = -1e9
    for tick, u_now in enumerate(us):
        now = period * tick
        if fresh[tick]:
            seen, seen_at, last_fresh = u_now, now, now
        for server in row:
            server.until(now, last_fresh)
        settled = not any(server.job for server in row) and now - changed > latency + period
        blind = now - seen_at > 3 * period
        if blind and not braked:
            new = 3 if settled and mode == 2 else max(mode, 2)
        elif blind or seen is None:
            continue
        else:
            pull, let_go = seen > 1.0 and not braked, braked and seen < 0.89 - 0.05 and now - brake_since > 60.0
            if pull or let_go:
                braked, brake_since = pull, now if pull else brake_since
                log.append((now, "brake" if pull else "release"))
                for server in row:
                    server.want_brake = pull
                    server.order(now, last_fresh)
            if braked:
                continue
            new = mode
            if seen > 0.89:
                new = 2 if mode < 2 else 3 if mode == 2 and settled else mode
            elif seen > 0.80:
                new = max(mode, 1)
            if settled and new >= 2 and seen < 0.89 - 0.05:
                new -= 1
            elif settled and new == 1 and seen < 0.80 - 0.05:
                new = 0
        if new != mode:
            mode, changed = new, now
        for index, mhz in enumerate((LOW_MHZ[mode], HIGH_MHZ[mode])):
            if mhz != desired[index]:
                desired[index] = row[index].want = mhz
                log.append((now, index, mhz))
                row[index].order(now, last_fresh)
    return log
