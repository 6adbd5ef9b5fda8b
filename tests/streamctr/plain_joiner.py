"""The rules of the funnel once more, as plainly as they can be said: what the kernel is compared with."""

import heapq
from collections import Counter


def join(stages, events, advance_ms, orphan_wait_ms, remember_ms):  # noqa: C901, PLR0915
    """Rows and outcomes; `stages` are (name, parent, observe_ms, window_ms), `events` ordered (time, stage, root)."""
    rows, outcomes, timers, roots, waiting, closed, births = [], Counter(), [], {}, [], {}, 0

    def children(parent):
        return [k for k in range(1, len(stages)) if stages[k][1] == parent]

    def emit(root, now, says):
        at = roots[root]["at"]
        label = {k: int(k in at) for k in says}
        rows.append((now, root, {k: sorted(v) for k, v in says.items()}, label, dict(at)))

    def happen(root, stage, now):
        nonlocal births
        births += 1
        outcomes["joined"] += 1
        roots[root]["at"][stage] = now
        for offset in {o for k in children(stage) for o in stages[k][2:4]}:
            heapq.heappush(timers, (now + offset, stage, offset, births, root))

    def fire_until(now):
        while timers and timers[0][0] <= now:
            due, parent, offset, _, root = heapq.heappop(timers)
            says, entry = {}, roots[root]
            for k in children(parent):
                says.update({k: {w for w, o in zip(("observed", "final"), stages[k][2:4], strict=True) if o == offset}})
            says = {k: words for k, words in says.items() if words}
            for k in [k for k, words in says.items() if "final" in words]:
                entry["final"].add(k)
                behind = [] if k in entry["at"] else children(k)
                while behind:
                    says[behind[0]] = {"absent"}
                    entry["final"].add(behind[0])
                    behind = behind[1:] + children(behind[0])
            emit(root, due, says)
            if len(entry["final"]) == len(stages) - 1:
                closed[root] = (due + remember_ms, set(roots.pop(root)["at"]))
        outcomes["orphan"] += sum(due <= now for due, _, _ in waiting)
        waiting[:] = [entry for entry in waiting if entry[0] > now]
        for root in [root for root, (until, _) in closed.items() if until <= now]:
            del closed[root]

    def take(root, stage, now):
        """The outcome of a child whose root is open, None if its parent has not happened."""
        entry, (_, parent, observe, _) = roots[root], stages[stage]
        if stage in entry["at"]:
            return "duplicate"
        if stage in entry["final"]:
            return "expired"
        if parent not in entry["at"]:
            return None
        happen(root, stage, now)
        if now >= entry["at"][parent] + observe:
            emit(root, now, {stage: {"late"}})
        return "joined"

    for now, stage, root in events:
        fire_until(now)
        if root in closed and root not in roots:
            outcomes["duplicate" if stage in closed[root][1] else "expired"] += 1
            continue
        if root not in roots:
            if stage > 0:
                waiting.append((now + orphan_wait_ms, root, stage))
                continue
            roots[root] = {"at": {}, "final": set()}
            happen(root, 0, now)
            emit(root, now, {})
        else:
            outcome = take(root, stage, now)
            if outcome is None:
                waiting.append((now + orphan_wait_ms, root, stage))
            if outcome != "joined":
                outcomes[outcome] += outcome is not None
                continue
        while True:
            fire_until(now)
            ready = (e for e in waiting if e[1] == root and root in roots and stages[e[2]][1] in roots[root]["at"])
            first = next(ready, None)
            if first is None:
                break
            waiting.remove(first)
            outcome = take(root, first[2], now)
            outcomes[outcome] += outcome != "joined"
    fire_until(advance_ms)
    outcomes["waiting"] = len(waiting)
    return rows, {name: n for name, n in outcomes.items() if name and n}, len(roots)
