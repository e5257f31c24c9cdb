#!/usr/bin/env python3
"""The drain of a stock Tentacle server, by connections and distance, with and without TCP_QUICKACK.

The delay lies below TCP, because what is measured is TCP's: two network namespaces, joined by two TUN devices between
which this process carries every packet half a round trip late. So acknowledgements, Nagle's algorithm and slow start are
the kernel's own, at both ends. Without a delay both ends share one namespace, on its loopback.

"Without" hides the server's setsockopt calls from the kernel (strace injects their success), so that one binary is
measured both ways.

    tests/benches/stock_drain.py --server target/release/tidegate-server --stock /path/to/tentacle_server

Needs root, ip, setpriv, strace and, for a real stock server, perl; `--stock target/release/stock-server-double` needs no
perl. Everything lies in a temporary directory, and every namespace is removed at the end.
"""

import argparse, ctypes, fcntl, heapq, os, pathlib, select, shutil, signal, struct, subprocess, tempfile, threading, time

SIZE = 12_000
FILTERS = r".*\.conf:conf;.*\.md5:md5;.*\.zip:collections;.*\.lock:trans;.*\.rcmd:commands"
SITE, CENTRAL = "10.93.0.1", "10.93.0.2"


def run(*command):
    subprocess.run(command, check=True)


class Namespace:
    """A network namespace, with a TUN device if it is one of two."""

    def __init__(self, name, address=None, other=None):
        self.name = name
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        if address:
            run("ip", "-n", name, "tuntap", "add", "dev", "wan", "mode", "tun")
            self.tun = self.open_tun()
            run("ip", "-n", name, "addr", "add", address, "peer", other, "dev", "wan")
            run("ip", "-n", name, "link", "set", "wan", "up", "txqueuelen", "10000")

    def open_tun(self):
        """The device belongs to the namespace in which it is opened."""
        opened = []

        def enter():
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{self.name}") as namespace:
                if libc.setns(namespace.fileno(), 0x40000000) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"wan", 0x0001 | 0x1000))
            opened.append(tun)

        # A namespace is a thread's own.
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return opened[0]

    def command(self, *command):
        return ["ip", "netns", "exec", self.name, *command]

    def remove(self):
        run("ip", "netns", "del", self.name)


class Wire(threading.Thread):
    """Carries packets between two TUN devices, each `delay` seconds late."""

    def __init__(self, ends, delay):
        super().__init__(daemon=True)
        self.ends, self.delay, self.over = ends, delay, False

    def run(self):
        late, number = [], 0
        while not self.over:
            wait = max(0.0, late[0][0] - time.monotonic()) if late else 0.2
            ready, _, _ = select.select(self.ends, [], [], wait)
            now = time.monotonic()
            for end in ready:
                other = self.ends[1 - self.ends.index(end)]
                try:
                    for _ in range(64):
                        heapq.heappush(late, (now + self.delay, number, other, os.read(end, 65536)))
                        number += 1
                except BlockingIOError:
                    pass
            while late and late[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(late)
                try:
                    os.write(end, packet)
                except OSError:
                    pass  # the device is going away


def fill(directory, files):
    directory.chmod(0o777)
    for index in range(files):
        name = directory / f"plant-host-{index % 100:03}.{1_700_000_000 + index}.data"
        lines = [f"<agent_data agent_name='plant-host-{index % 100:03}' interval='300'>\n"]
        size = len(lines[0])
        while size < SIZE - 14:
            line = f"<module><name>m{len(lines)}</name><data>{(index * 7919 + len(lines) * 104729) % 9973}</data></module>\n"
            lines.append(line)
            size += len(line)
        name.write_text("".join(lines) + "</agent_data>\n")
        name.chmod(0o666)


def drain(options, rtt, connections, quickack, number):
    """Seconds for the whole of `pull --once`."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="stock-drain-"))
    root.chmod(0o755)
    storage, incoming, state = root / "storage", root / "incoming", root / "state"
    for directory in (storage, incoming, state):
        directory.mkdir()
    fill(storage, options.files)
    mine = f"drain{os.getpid()}n{number}"
    if rtt:
        spaces = [Namespace(f"{mine}s", SITE, CENTRAL), Namespace(f"{mine}c", CENTRAL, SITE)]
        wire = Wire([space.tun for space in spaces], rtt / 2000)
        wire.start()
        address = SITE
    else:
        spaces, wire, address = [Namespace(mine)], None, "127.0.0.1"
    try:
        stock = [options.stock] if os.access(options.stock, os.X_OK) and not is_perl(options.stock) else ["perl", options.stock]
        arguments = ["-a", address, "-p", "41121", "-I", "-o", "-i", FILTERS, "-s", str(storage)]
        as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        log = open(root / "stock.log", "wb")
        server = subprocess.Popen(spaces[0].command(*as_nobody, *stock, *arguments), stdout=log, stderr=log)
        time.sleep(1)
        config = root / "server.toml"
        config.write_text(
            f'sync_connections = {connections}\nincomingdir = "{incoming}"\nstate_directory = "{state}"\n'
            f'[[site]]\nname = "stock"\naddress = "{address}"\ntls = "off"\n'
        )
        pull = [options.server, "pull", "--once", "--config", str(config)]
        if not quickack:
            hide = ["-e", "trace=setsockopt", "-e", "inject=setsockopt:retval=0"]
            pull = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", *hide, *pull]
        begun = time.monotonic()
        done = subprocess.run(spaces[-1].command(*pull), capture_output=True, text=True)
        seconds = time.monotonic() - begun
        arrived = sum(1 for entry in incoming.iterdir() if entry.name.endswith(".data"))
        if done.returncode or arrived != options.files or any(storage.glob("*.data")):
            raise SystemExit(f"{arrived} of {options.files} arrived: {done.stdout}{done.stderr}")
        return seconds
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        if wire:
            wire.over = True
            wire.join()
        for space in spaces:
            space.remove()
        shutil.rmtree(root)


def is_perl(path):
    with open(path, "rb") as program:
        return program.read(2) == b"#!"


def main():
    numbers = lambda text: [int(number) for number in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, help="the sync server's binary")
    parser.add_argument("--stock", required=True, help="tentacle_server, or the double of the tests")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rtt", type=numbers, default=[0, 20, 100], help="round trips in ms")
    parser.add_argument("--connections", type=numbers, default=[1, 2, 4])
    parser.add_argument("--quickack", type=numbers, default=[1, 0], help="1: with, 0: without")
    options = parser.parse_args()
    print(f"| {options.files} files of {SIZE} bytes, RTT | connections | TCP_QUICKACK | s | ms a file |\n|---|---|---|---|---|")
    number = 0
    for rtt in options.rtt:
        for quickack in options.quickack:
            for connections in options.connections:
                number += 1
                seconds = drain(options, rtt, connections, quickack, number)
                with_it = "yes" if quickack else "no"
                print(f"| {rtt} ms | {connections} | {with_it} | {seconds:.1f} | {seconds * 1000 / options.files:.0f} |", flush=True)


main()
