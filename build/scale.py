#!/usr/bin/env python3
"""Prints the tables of docs/scale.md: what the exchange of gradients costs, by the alpha-beta model.

    python3 build/scale.py             # measures this machine's loopback, then computes
    python3 build/scale.py --no-measure

Only Python's standard library is used. The measured part starts processes that talk by TCP over 127.0.0.1.
"""
import argparse
import multiprocessing
import os
import socket
import statistics
import threading
import time

# --- the model -------------------------------------------------------------------------------------------------------------------------


def ring(ranks, size, alpha, beta):
    """Seconds of a ring all-reduce of `size` bytes: 2(n-1) steps, each with a message of size/n bytes."""
    return 2 * (ranks - 1) * alpha + 2 * (ranks - 1) / ranks * size * beta


def two_levels(ranks, per_node, size, inner, outer):
    """Seconds of reduce-scatter in each node, ring all-reduce among the nodes of each shard, all-gather in each node."""
    if ranks <= per_node:
        return ring(ranks, size, *inner)
    return ring(per_node, size, *inner) + ring(ranks // per_node, size / per_node, *outer)


class Shape:
    """The parameters of a decoder with SwiGLU feed-forwards, norms aside. `tables` is 1 if the head is the embedding's, else 2."""

    def __init__(self, name, layers, width, hidden, vocabulary, tables, widths):
        self.name, self.hidden = name, hidden
        self.shared = tables * vocabulary * width + layers * 4 * width * width
        self.unit = layers * 3 * width  # parameters of one hidden unit in all layers
        self.widths = widths

    def parameters(self, hidden=None):
        return self.shared + self.unit * (hidden or self.hidden)

    def sampled_share(self):
        """The mean share of parameters whose gradient a step of `sampled` has, each granularity drawn as often."""
        return statistics.fmean(self.parameters(w) for w in self.widths) / self.parameters()


# The paper's ratios: an eighth, a quarter, half and all of the hidden units.
SHAPES = [
    Shape("DocsLm", 8, 256, 1024, 256, 1, [128, 256, 512, 1024]),
    Shape("1.3 B", 24, 2048, 5632, 32000, 2, [704, 1408, 2816, 5632]),
    Shape("7 B", 32, 4096, 11008, 32000, 2, [1376, 2752, 5504, 11008]),
]

# --- assumptions, sources in docs/scale.md ----------------------------------------------------------------------------------------------

PER_NODE = 8
NVLINK = (3e-6, 1 / 360e9)      # 450 GB/s in each direction, of which a collective reaches 80%
INFINIBAND = (10e-6, 1 / 40e9)  # one port of 400 Gb/s for each GPU, 50 GB/s, of which a collective reaches 80%
ETHERNET = (50e-6, 8 / 1.1e9)   # one port of 10 Gb/s, 1.25 GB/s, for the eight GPUs of a node
PEAK = 989e12                   # dense bf16 FLOP/s of an H100 SXM
UTILISATION = 0.4
BATCH = 1024 * 2048             # tokens of a step on all GPUs together
HIDDEN_BY_BACKWARD = 2 / 3      # the part of a step in which gradients are made, so that sending them may overlap
MEMORY = 80e9
WIRE = {"f32": 4, "bf16": 2}


def step_seconds(shape, gpus, share=1.0):
    """Seconds of arithmetic of a step on each GPU: 6 FLOPs for each parameter and token (2 forward, 4 backward)."""
    return 6 * shape.parameters() * share * BATCH / gpus / (PEAK * UTILISATION)


def efficiency(compute, exchange):
    """Share of the time spent in arithmetic if all that can overlap does."""
    return compute / (compute + max(0.0, exchange - HIDDEN_BY_BACKWARD * compute))


# --- measuring loopback -----------------------------------------------------------------------------------------------------------------


def receive(connection, view):
    at = 0
    while at < len(view):
        got = connection.recv_into(view[at:])
        if got == 0:
            raise ConnectionError("the other process ended")
        at += got


def connect(rank, ranks, ports):
    """Returns the sockets to the next and from the previous process of a ring."""
    server = socket.create_server(("127.0.0.1", 0))
    ports[rank] = server.getsockname()[1]
    while ports[(rank + 1) % ranks] == 0:
        time.sleep(0.001)
    following = socket.create_connection(("127.0.0.1", ports[(rank + 1) % ranks]))
    previous, _ = server.accept()
    for each in (following, previous):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return following, previous


def exchange(following, previous, out, into):
    sender = threading.Thread(target=following.sendall, args=(out,))
    sender.start()
    receive(previous, into)
    sender.join()


def work(rank, ranks, ports, sizes, repeats, barrier, times):
    """Passes messages round a ring as an all-reduce does, without adding them up: 2(n-1) steps of size/n bytes."""
    following, previous = connect(rank, ranks, ports)
    for index, size in enumerate(sizes):
        part = max(1, size // ranks)
        out, into = memoryview(bytearray(part)), memoryview(bytearray(part))
        for repeat in range(repeats + 2):
            barrier.wait()
            start = time.perf_counter()
            for _ in range(2 * (ranks - 1)):
                if part <= 4096:
                    following.sendall(out)
                    receive(previous, into)
                else:
                    exchange(following, previous, out, into)
            if rank == 0 and repeat >= 2:
                times[index * repeats + repeat - 2] = time.perf_counter() - start
    following.close()
    previous.close()


def measure(ranks, sizes, repeats=30):
    """Returns the seconds of each size: the fastest of several, because other programs only ever slow it down."""
    ports = multiprocessing.Array("i", ranks)
    barrier, times = multiprocessing.Barrier(ranks), multiprocessing.Array("d", len(sizes) * repeats)
    processes = [
        multiprocessing.Process(target=work, args=(rank, ranks, ports, sizes, repeats, barrier, times)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise SystemExit("error: a process of the measurement failed")
    return [min(times[i * repeats:(i + 1) * repeats]) for i in range(len(sizes))]


# --- tables -----------------------------------------------------------------------------------------------------------------------------


def table(columns, rows):
    print("| " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * (len(columns) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def duration(seconds):
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "an unknown processor")


def print_measured():
    small, large = 64, 1 << 20
    two = measure(2, [small, large])
    alpha = two[0] / 2                          # 2(n-1) = 2 steps, whose bytes do not matter
    beta = (two[1] - 2 * alpha) / large         # 2(n-1)/n = 1
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before: alpha = {duration(alpha)}, "
          f"1/beta = {1 / beta / 1e9:.2f} GB/s\n")
    sizes = [1 << 10, 1 << 18, 1 << 22, 34 << 20]  # the last one: DocsLm's gradients in float32
    rows = []
    for ranks in (2, 4):
        for size, seconds in zip(sizes, measure(ranks, sizes)):
            model = ring(ranks, size, alpha, beta)
            rows.append([str(ranks), f"{size / 1024:,.0f} KiB", duration(seconds), duration(model), f"{seconds / model:.2f}"])
    table(["processes", "gradients", "measured", "by the model", "ratio"], rows)


def print_exchange():
    print(f"Milliseconds of one exchange, float32 on the wire, {PER_NODE} GPUs a node:\n")
    counts = [8, 16, 64, 256, 1024]
    table(["model, network between nodes"] + [f"{n} GPUs" for n in counts], [
        [f"{shape.name}, {name}"]
        + [f"{1e3 * two_levels(n, PER_NODE, WIRE['f32'] * shape.parameters(), NVLINK, outer):,.0f}" for n in counts]
        for shape in SHAPES[1:] for name, outer in (("InfiniBand", INFINIBAND), ("10 Gb/s Ethernet", ETHERNET))
    ])


def print_efficiency():
    print(f"Share of the time spent in arithmetic, {BATCH:,} tokens a step, InfiniBand, float32 on the wire unless bf16 is named:\n")
    counts = [8, 64, 256, 512, 1024]
    rows = []
    for shape in SHAPES[1:]:
        share = shape.sampled_share()
        for name, part, sent, wire in (
                ("dense", 1.0, 1.0, "f32"), ("dense, bf16", 1.0, 1.0, "bf16"), ("`sampled`, all sent", share, 1.0, "f32"),
                ("`sampled`, prefixes sent", share, share, "f32"), ("`sampled`, prefixes sent, bf16", share, share, "bf16")):
            size = WIRE[wire] * shape.parameters() * sent
            exchanges = [two_levels(n, PER_NODE, size, NVLINK, INFINIBAND) for n in counts]
            rows.append([f"{shape.name}, {name}", f"{size / 1e9:.1f} GB"] + [
                f"{100 * efficiency(step_seconds(shape, n, part), exchange):.0f}%" for n, exchange in zip(counts, exchanges)])
    table(["model, objective", "gradients"] + [f"{n} GPUs" for n in counts], rows)


def print_sampled():
    print("Mean share of the gradients that a step of `sampled` has:\n")
    table(["model", "parameters", "share"],
          [[s.name, f"{s.parameters():,}", f"{s.sampled_share():.2f}"] for s in SHAPES])


def print_memory():
    print("Bytes of weights, gradients and AdamW's moments on each GPU (activations come on top):\n")
    rows = []
    for shape in SHAPES[1:]:
        p = shape.parameters()
        rows.append([shape.name, f"{16 * p / 1e9:.0f} GB", f"{(8 * p + 8 * p / 8) / 1e9:.0f} GB", f"{(8 * p + 8 * p / 64) / 1e9:.0f} GB",
                     f"{16 * p / 64 / 1e9:.1f} GB"])
    table(["model", "copied to all", "moments divided by 8", "moments divided by 64", "all divided by 64 (FSDP)"], rows)
    for name, bytes_each in (("copied to all", 16), ("moments divided by 64", 8 + 8 / 64)):
        print(f"With half of {MEMORY / 1e9:.0f} GB left for activations, {name}: at most "
              f"{MEMORY / 2 / bytes_each / 1e9:.1f} billion parameters.\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-measure", action="store_true", help="leave out what this machine's loopback can do")
    if not parser.parse_args().no_measure:
        print_measured()
    print_sampled()
    print_exchange()
    print_efficiency()
    print_memory()


if __name__ == "__main__":
    main()
