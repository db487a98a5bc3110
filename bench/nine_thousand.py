#!/usr/bin/env python3
"""As many services as the limit of open files allows (about 9,900 of 20,000), and what becomes of the others.

    cargo build --release && ulimit -n "$(ulimit -Hn)" && python3 bench/nine_thousand.py     # about six minutes
    PLUGD=target/debug/plugd python3 bench/nine_thousand.py --limit 500                      # a smoke test

Python 3.11 or newer, standard library only, a C compiler, Linux. Each service is a C program that only waits.
"""
import argparse, os, re, resource, subprocess, sys, tempfile, time

from feel import Node, ms, percentile

# What plugd says that fits: two descriptors an instance, and what the keeper needs itself.
OWN, EACH = 84, 2


class Many(Node):
    """A node whose services all begin with it."""

    def until_up(self, idle):
        self.until(lambda: self.children() >= idle, 600)
        self.spawned = time.monotonic() - self.begun
        self.until(lambda: self.summary('running') >= idle, 600)
        self.up = time.monotonic() - self.begun

    def children(self):
        """Processes of the keeper, its controller left out."""
        try:
            with open(f'/proc/{self.process.pid}/task/{self.process.pid}/children') as file:
                return len(file.read().split()) - 1
        except FileNotFoundError:
            sys.exit(f'the keeper has ended; see {self.root}/log')

    def summary(self, word):
        found = re.search(rf'^summary: .*\b{word}: (\d+)', self.status('_controller'), re.M)
        return int(found[1]) if found else 0

    def pss(self):
        """MiB of keeper and of controller."""
        def of(pid):
            with open(f'/proc/{pid}/smaps_rollup') as file:
                return int(re.search(r'^Pss: +(\d+)', file.read(), re.M)[1]) / 1024
        return [of(pid) for pid in self.pids()]

    def wakings(self):
        """How often their threads have gone to sleep in their lives."""
        total = 0
        for pid in self.pids():
            for task in os.listdir(f'/proc/{pid}/task'):
                with open(f'/proc/{pid}/task/{task}/status') as file:
                    total += int(re.search(r'^voluntary_ctxt_switches:\s+(\d+)', file.read(), re.M)[1])
        return total

    def rest(self, seconds):
        """Their share of a core in percent, and how often a second they wake."""
        before = self.wakings()
        share = self.share(seconds)
        return share, (self.wakings() - before) / seconds

    def restarts(self, name):
        return int(re.search(r'^restarts: (\d+)', self.status(name), re.M)[1])

    def hotplug(self, count):
        took = []
        for trial in range(count):
            name, port = f'web-{trial}', 28000 + trial
            saved = self.put(name, self.service(port, 0))
            took.append(self.wait_ready(name) - saved)
            self.own(port)
            self.remove(name)
            self.until(lambda: not self.status(name))
        return took


def idle_program(folder):
    """Waits for ever, in as few pages as there are."""
    source = b'#include <unistd.h>\nint main(void) { for (;;) pause(); }\n'
    program = os.path.join(folder, 'idle')
    subprocess.run(['cc', '-O2', '-static', '-x', 'c', '-o', program, '-'], input=source, check=True)
    return program


def row(what, figure):
    print(f'| {what} | {figure} |', flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--limit', type=int, default=resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    limit = parser.parse_args().limit
    seconds = 60 if limit > 5000 else 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    fit = (limit - OWN) // EACH
    # Some room for those that come while it is measured.
    loaded, above = fit - fit // 50, fit // 10
    with tempfile.TemporaryDirectory() as folder:
        program = idle_program(folder)
        with Many(loaded, program) as node:
            who = node.pids()
            print(f'| {loaded} services, {limit} descriptors | plugd |\n|---|---|')
            row('until all are executed, s', f'{node.spawned:.2f}')
            row('until the status of the node says that all run, s', f'{node.up:.2f}')
            time.sleep(seconds / 2)
            row('memory at rest, keeper and controller, PSS MiB', ' + '.join(f'{each:.1f}' for each in node.pss()))
            share, wakings = node.rest(seconds)
            row('at rest, % of a core', f'{share:.2f}')
            row('at rest, wakings a second', f'{wakings:.1f}')
            took = node.hotplug(50 if limit > 5000 else 5)
            row('save → ready of one more, p50 / p99 ms', f'{ms(percentile(took, .5))} / {ms(percentile(took, .99))}')
            # More than there is room for.
            for number in range(above):
                node.put(f'more-{number:04}', f'command: {program}\n')
            judged = lambda: node.summary('running') + node.summary('unhealthy') == loaded + above
            node.until(judged, 300)
            time.sleep(seconds / 2)
            names = [f'more-{number:04}' for number in range(above)]
            lack = [name for name in names if '\nstatus: running\n' not in node.status(name)]
            told = [name for name in lack if '\nreason: ResourceExhausted\n' in node.status(name)]
            row(f'of {above} more, those that run', above - len(lack))
            row('… those that say `unhealthy (ResourceExhausted)`', len(told))
            row('… their restarts, together', sum(node.restarts(name) for name in lack))
            share, wakings = node.rest(seconds)
            row('with them, % of a core', f'{share:.2f}')
            row('with them, wakings a second', f'{wakings:.1f}')
            for number in range(len(lack)):
                node.remove(f'idle-{number:04}')
            began = time.monotonic()
            node.until(lambda: node.summary('running') == loaded + above - len(lack)
                       and node.summary('total') == loaded + above - len(lack), 300)
            row(f'until all run after {len(lack)} were removed, s', f'{time.monotonic() - began:.2f}')
            if node.pids() != who:
                sys.exit('the keeper or the controller is another one now')
            ending = time.monotonic()
        row('until all have ended, s', f'{time.monotonic() - ending:.2f}')
