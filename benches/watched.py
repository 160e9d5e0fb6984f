#!/usr/bin/env python3
"""What being watched costs: messages a second and processor time a message of three servers in turns, on the same machine,
to the same sink.

  bare      no admin listener, no sessions kept
  kept      as without configuration: the last sessions are recorded, nobody looks
  watched   the same with one scrape a second and ten viewers of the dashboard's stream

usage: cargo build --release --bins && benches/watched.py [--rounds N] [--seconds S] [--bin DIR]
It takes rounds * 3 * (seconds + 1) seconds: three and a half minutes as it stands. The issue allows `watched` 1 % beside
`kept`. Load goes to 127.0.0.1 only. How it fails: an exception that says which program did not start or what it said.
"""

import argparse, json, os, signal, socket, statistics, subprocess, sys, tempfile, threading, time
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Server:
    def __init__(self, program, backend, more):
        self.dir = tempfile.TemporaryDirectory()
        args = [program, "serve", "--data", self.dir.name, "--cores", "1", "--backend", backend, "--log-level", "warn", "--port-base", "0"]
        self.process = subprocess.Popen(args + more, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ports = {}
        for line in self.process.stdout:
            words = line.split()
            if words == ["ready"]:
                return
            if len(words) == 2:
                self.ports[words[0]] = words[1]
        raise RuntimeError("the server did not start")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Watchers:
    """One scrape a second and ten readers of the stream."""

    def __init__(self, address):
        self.url, self.ended, self.scrapes, self.octets = f"http://{address}/metrics", threading.Event(), 0, 0
        host, port = address.rsplit(":", 1)
        self.streams = []
        for _ in range(10):
            stream = socket.create_connection((host, int(port)))
            stream.sendall(b"GET /api/v1/live?overview=1&verdict=refused&history=200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.streams.append(stream)
        self.threads = [threading.Thread(target=self.read, args=(s,)) for s in self.streams] + [threading.Thread(target=self.scrape)]
        for thread in self.threads:
            thread.start()

    def read(self, stream):
        try:
            while part := stream.recv(1 << 16):
                self.octets += len(part)
        except OSError:
            pass

    def scrape(self):
        while not self.ended.wait(1.0):
            with urllib.request.urlopen(self.url) as answer:
                answer.read()
            self.scrapes += 1

    def stop(self):
        self.ended.set()
        for stream in self.streams:
            stream.shutdown(socket.SHUT_RDWR)
            stream.close()
        for thread in self.threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=9)
    parser.add_argument("--bin", default=os.path.join(os.path.dirname(__file__), "..", "target", "release"))
    args = parser.parse_args()
    load = os.path.join(args.bin, "gatepost-load")
    gate = os.path.join(args.bin, "gatepost")
    port = socket.create_server(("127.0.0.1", 0)).getsockname()[1]
    sink = subprocess.Popen([load, "sink", "--listen", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    servers = []
    try:
        time.sleep(1)
        backend = f"127.0.0.1:{port}"
        bare = Server(gate, backend, ["--set", "admin.enabled=false", "--set", "admin.sessions_kept=0"])
        servers.append(bare)
        kept = Server(gate, backend, ["--set", "admin.listen=127.0.0.1:0"])
        servers.append(kept)
        found = {"bare": [], "kept": [], "watched": []}
        for number in range(args.rounds + 1):
            for arm, server in (("bare", bare), ("kept", kept), ("watched", kept)):
                watchers = Watchers(kept.ports["admin"]) if arm == "watched" else None
                before, began = cpu_seconds(server.process.pid), time.time()
                said = subprocess.run([load, "send", server.ports["mx"], "-c", "32", "-s", str(args.seconds), "--json", "-"], capture_output=True, text=True)
                cpu, took = cpu_seconds(server.process.pid) - before, time.time() - began
                if watchers:
                    watchers.stop()
                messages = json.loads(said.stdout)["messages"]
                # The first round warms up.
                if number:
                    found[arm].append((messages / took, cpu / messages * 1e6))
                time.sleep(1)
        print(f"{'':10}{'messages/s':>12}{'CPU µs/message':>16}{'beside kept':>14}")
        base = statistics.median(cpu for _, cpu in found["kept"])
        for arm, runs in found.items():
            rate, cpu = (statistics.median(values) for values in zip(*runs))
            print(f"{arm:10}{rate:12.0f}{cpu:16.2f}{100 * (cpu / base - 1):+13.2f} %")
    finally:
        for server in servers:
            server.stop()
        sink.terminate()
        sink.wait(30)


main()
