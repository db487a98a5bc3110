#!/usr/bin/env python3
"""What users feel: four figures beyond the side-by-side table, and what checking costs.

    cargo build --release && python3 bench/feel.py            # all of them, about six minutes
    python3 bench/feel.py save edit                           # some
    PLUGD=target/debug/plugd python3 bench/feel.py --quick    # a smoke test of half a minute

Python 3.11 or newer, standard library only, a C compiler, Linux. It measures from outside: the service tells
its own times by a FIFO, readiness is what the status file says, its renames are seen by inotify.
"""
import argparse, ctypes, os, re, select, shutil, signal, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PLUGD = os.path.abspath(os.environ.get('PLUGD', os.path.join(HERE, '..', 'target', 'release', 'plugd')))
LIBC = ctypes.CDLL(None, use_errno=True)
IN_MOVED_TO = 0x80


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def ms(seconds):
    return f'{seconds * 1000:.1f}'


class Node:
    """A node of its own in a temporary directory, with so many services that do nothing."""

    def __init__(self, idle, command='sleep 86400'):
        self.root = tempfile.mkdtemp(prefix='feel-')
        self.dir, self.state = os.path.join(self.root, 'services.d'), os.path.join(self.root, 'state')
        os.mkdir(self.dir)
        self.notes = os.path.join(self.root, 'notes')
        os.mkfifo(self.notes)
        self.fifo = os.open(self.notes, os.O_RDWR | os.O_NONBLOCK)
        self.unread, self.told = b'', {}
        self.late = os.path.join(self.root, 'late')
        subprocess.run(['cc', '-O2', '-o', self.late, os.path.join(HERE, 'late.c')], check=True)
        for number in range(idle):
            self.put(f'idle-{number:04}', f'command: {command}\n')
        self.news = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if LIBC.inotify_add_watch(self.news, self.dir.encode(), IN_MOVED_TO) < 0:
            sys.exit('inotify: ' + os.strerror(ctypes.get_errno()))
        log = open(os.path.join(self.root, 'log'), 'w')
        words = [PLUGD, 'run', '--no-tee', '--state-dir', self.state, self.dir]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until_up(idle)

    def until_up(self, idle):
        if idle:
            self.ask('wait', '--all', '--timeout', '120s')
        else:
            self.until(lambda: os.path.exists(os.path.join(self.dir, '_controller.status')))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(120)
        shutil.rmtree(self.root, ignore_errors=True)

    def ask(self, *words):
        """A verb; its output."""
        done = subprocess.run([PLUGD, '--dir', self.dir, '--state-dir', self.state, *words], capture_output=True)
        if done.returncode != 0:
            sys.exit(f'plugd {" ".join(words)}: {done.stderr.decode()}')
        return done.stdout.decode()

    def put(self, name, text):
        """A rename into the directory; the moment just before it."""
        beside = os.path.join(self.root, 'next')
        with open(beside, 'w') as file:
            file.write(text)
        moment = time.monotonic()
        os.rename(beside, os.path.join(self.dir, name + '.yaml'))
        return moment

    def remove(self, name):
        os.unlink(os.path.join(self.dir, name + '.yaml'))

    def service(self, port, delay_ms, need=None, extra=''):
        words = [self.late, self.notes, str(port), str(delay_ms)] + ([str(need)] if need else [])
        return f'command: [{", ".join(repr(word) for word in words)}]\nport: {port}\n{extra}'

    def until(self, holds, limit=120):
        end = time.monotonic() + limit
        while not holds():
            if time.monotonic() > end:
                sys.exit(f'waited for {limit} s in vain; see {self.root}/log')
            time.sleep(0.01)

    def status(self, name):
        try:
            with open(os.path.join(self.dir, name + '.status')) as file:
                return file.read()
        except FileNotFoundError:
            return ''

    def wait_ready(self, name, holds=lambda text: True, limit=30):
        """The moment at which the status file said that it is ready."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            text = self.status(name)
            if '\nready: 1/1\n' in text and holds(text):
                return time.monotonic()
            select.select([self.news], [], [], 1)
            try:
                os.read(self.news, 65536)
            except BlockingIOError:
                pass
        sys.exit(f'{name} is not ready after {limit} s:\n{self.status(name)}')

    def own(self, port):
        """How long the last process of that port took from its first instruction until it listened."""
        def arrived():
            try:
                self.unread += os.read(self.fifo, 1 << 20)
            except BlockingIOError:
                pass
            *lines, self.unread = self.unread.split(b'\n')
            for line in lines:
                what, of, nanos = line.split()
                self.told[what, int(of)] = int(nanos) / 1e9
            return (b'listen', port) in self.told
        self.until(arrived)
        return self.told.pop((b'listen', port)) - self.told.pop((b'begin', port))

    def pids(self):
        children = subprocess.run(['pgrep', '-P', str(self.process.pid), '-x', 'plugd'], capture_output=True, text=True)
        return [self.process.pid, *map(int, children.stdout.split())]

    def cpu(self):
        """Processor seconds of keeper and controller."""
        def of(pid):
            with open(f'/proc/{pid}/schedstat') as file:
                pass
            total = 0
            for task in os.listdir(f'/proc/{pid}/task'):
                with open(f'/proc/{pid}/task/{task}/schedstat') as file:
                    total += int(file.read().split()[0])
            return total / 1e9
        return sum(map(of, self.pids()))

    def share(self, seconds):
        """Their share of one core, in percent."""
        before, begun = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu() - before) / (time.monotonic() - begun)


def save(quick):
    """A manifest is saved, the service opens its port after 100 ms."""
    over, wait = [], []
    with Node(20 if quick else 1000) as node:
        for trial in range(5 if quick else 50):
            name, port = f'web-{trial}', 21000 + trial
            words = [PLUGD, '--dir', node.dir, '--state-dir', node.state, 'wait', name, '--timeout', '30s']
            waiter = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            time.sleep(0.15)
            saved = node.put(name, node.service(port, 100))
            ready = node.wait_ready(name)
            # Without a limit of its own: with one Python would look every few milliseconds.
            waiter.wait()
            wait.append(time.monotonic() - ready)
            own = node.own(port)
            over.append(ready - saved - 1.1 * own)
            node.remove(name)
    row('save → ready, beyond 1.1 × its own start, p50 / p99 ms', f'{ms(percentile(over, .5))} / {ms(percentile(over, .99))}', '5 (p99)')
    row('`plugd wait` returns after that, p50 / p99 ms', f'{ms(percentile(wait, .5))} / {ms(percentile(wait, .99))}', '2')


def edit(quick):
    """A running service is edited so that it must be replaced."""
    over = []
    with Node(20 if quick else 1000) as node:
        port = 22000
        node.put('web', node.service(port, 50))
        node.wait_ready('web')
        node.own(port)
        for trial in range(5 if quick else 50):
            time.sleep(0.3)
            saved = node.put('web', node.service(port, 50, extra=f'env: {{TRIAL: "{trial}"}}\n'))
            ready = node.wait_ready('web', lambda text: f'generation: {trial + 2}}}' in text)
            over.append(ready - saved - node.own(port))
    row('edit → new version ready, beyond its own start, p50 / p99 ms', f'{ms(percentile(over, .5))} / {ms(percentile(over, .99))}', '25')


def loops(quick):
    """A hundred crash loops with the default back-off beside ordinary services."""
    def hotplug(node, mark):
        took = []
        for trial in range(10 if quick else 50):
            name, port = f'{mark}-{trial}', 23000 + trial
            saved = node.put(name, node.service(port, 0))
            node.until(lambda: node.own(port) is not None)
            took.append(node.wait_ready(name) - saved)
            node.remove(name)
            node.until(lambda: not node.status(name))
        return percentile(took, .99)
    with Node(20) as node:
        alone = hotplug(node, 'alone')
        for number in range(100):
            node.put(f'loop-{number:03}', 'command: "false"\n')
        time.sleep(5 if quick else 90)
        share = node.share(5 if quick else 60)
        beside = hotplug(node, 'beside')
    row('100 crash loops, % of a core', f'{share:.2f}', '1')
    row("others' save → ready p99 beside them, ms more", ms(beside - alone), '0.5')


def outage(quick):
    """Fifty services that nobody told of their need lose the one database, and get it back."""
    with Node(0) as node:
        node.put('db', node.service(24000, 0))
        node.wait_ready('db')
        names = [f'app-{number:02}' for number in range(50)]
        for number, name in enumerate(names):
            node.put(name, node.service(24001 + number, 20, need=24000))
        ready = lambda: all('\nready: 1/1\n' in node.status(name) for name in names)
        node.until(ready)
        node.ask('stop', 'db')
        time.sleep(5 if quick else 60)
        node.ask('start', 'db')
        back = node.wait_ready('db')
        node.until(ready)
        took = time.monotonic() - back
    row('50 services are ready after their database is back, s', f'{took:.2f}', '5')


def probes(quick):
    """A thousand services that are checked every 10 s (tcp, http, one half each way), and the same with bare sockets."""
    count, first, seconds = 50 if quick else 1000, 25000, 10 if quick else 60
    http = 'readinessProbe: {httpGet: /}\n'
    for kind, probe in [('tcp', ['']), ('http', [http]), ('tcp and http', ['', http])]:
        with Node(0) as node:
            checks = os.path.join(node.root, 'checks')
            subprocess.run(['cc', '-O2', '-o', checks, os.path.join(HERE, 'checks.c')], check=True)
            for port in range(first, first + count):
                node.put(f'web-{port}', f'command: {checks} serve {port}\nport: {port}\n{probe[port % len(probe)]}')
            node.ask('wait', '--all', '--timeout', '120s')
            time.sleep(2 if quick else 30)
            share = node.share(seconds)
            bare = [bare_sockets(checks, each, first, count, seconds // 2) for each in kind.split(' and ')]
        bare = sum(bare) / len(bare)
        row(f'{count} {kind} checks every 10 s (with bare sockets {bare:.2f}), % of a core', f'{share:.2f}', '1')


def bare_sockets(checks, kind, first, count, seconds):
    words = [checks, 'bare', kind, str(first), str(count), str(seconds)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def row(what, figure, bar):
    print(f'| {what} | {figure} | {bar} |', flush=True)


ALL = [save, edit, loops, outage, probes]

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='*', help=', '.join(each.__name__ for each in ALL))
    parser.add_argument('--quick', action='store_true', help='a smoke test: fewer and shorter')
    args = parser.parse_args()
    unknown = set(args.what) - {each.__name__ for each in ALL}
    if unknown:
        parser.error(f'no such figure: {", ".join(unknown)}')
    print('| | plugd | bar |\n|---|---|---|')
    for each in ALL:
        if not args.what or each.__name__ in args.what:
            each(args.quick)
