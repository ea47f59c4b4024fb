#!/usr/bin/env python3
"""The peer of `MatFormer.Benchmarks -- train`, `-- memory` and `-- decode`: the same MatLM in plain eager PyTorch.

Reads commands from standard input, one a line, and answers each with the seconds that it took:
    joint N     N joint steps: forward and backward of every granularity on one batch, then clipping and AdamW
    sampled N   N steps of one granularity each, in turn
    split N     N steps of every granularity, each on its quarter of the batch
    decode N    N tokens of one sequence, greedily, one by one with a key/value cache; weights in the dtype
    add N       N additions of two small tensors
    base 0      instead of seconds, the megabytes of this process before there was a model
    peak 0      instead of seconds, the most megabytes that it had
The first line that it prints is its version. Needs torch >= 1.13.
"""
import argparse, contextlib, functools, itertools, math, sys, time
import torch
import torch.nn as nn
import torch.nn.functional as F

p = argparse.ArgumentParser()
for name, value in dict(layers=8, width=256, heads=8, hidden=1024, vocabulary=256, context=256, batch=8, threads=2).items():
    p.add_argument("--" + name, type=int, default=value)
p.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
p.add_argument("--device", default="cpu")
a = p.parse_args()

torch.manual_seed(0)
torch.set_num_threads(a.threads)
head = a.width // a.heads
sizes = [a.hidden // 8, a.hidden // 4, a.hidden // 2, a.hidden]
angle = torch.outer(torch.arange(a.context), 10000.0 ** (-torch.arange(0, head, 2) / head)).to(a.device)
cos, sin = angle.cos()[None, :, None, :], angle.sin()[None, :, None, :]
hidden_future = torch.ones(a.context, a.context, dtype=torch.bool, device=a.device).triu(1)


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(a.width))

    def forward(self, x):
        return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * self.weight


def rotate(x, position=0):
    first, second = x.chunk(2, -1)
    c, s = cos[:, position:position + x.shape[1]], sin[:, position:position + x.shape[1]]
    return torch.cat([first * c - second * s, second * c + first * s], -1).to(x.dtype)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda rows, columns: nn.Linear(columns, rows, bias=False)
        self.norm1, self.norm2 = RmsNorm(), RmsNorm()
        self.q, self.k, self.v, self.o = (linear(a.width, a.width) for _ in range(4))
        self.gate, self.up, self.down = linear(a.hidden, a.width), linear(a.hidden, a.width), linear(a.width, a.hidden)

    def forward(self, x, m, cache=None, position=0):
        b, t, d = x.shape
        y = self.norm1(x)
        q, k, v = (f(y).view(b, t, a.heads, head) for f in (self.q, self.k, self.v))
        q, k, v = rotate(q, position).transpose(1, 2), rotate(k, position).transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            cache[0][:, :, position:position + t], cache[1][:, :, position:position + t] = k, v
            k, v = cache[0][:, :, :position + t], cache[1][:, :, :position + t]
            if hasattr(F, "scaled_dot_product_attention"):
                y = F.scaled_dot_product_attention(q, k, v)
            else:
                y = F.softmax(q @ k.transpose(-1, -2) / math.sqrt(head), -1) @ v
        elif hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=True)
        else:
            s = (q @ k.transpose(-1, -2) / math.sqrt(head)).masked_fill(hidden_future, float("-inf"))
            y = F.softmax(s, -1) @ v
        x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
        y = self.norm2(x)
        h = F.silu(F.linear(y, self.gate.weight[:m])) * F.linear(y, self.up.weight[:m])
        return x + F.linear(h, self.down.weight[:, :m])


class MatLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(a.vocabulary, a.width)
        self.blocks = nn.ModuleList([Block() for _ in range(a.layers)])
        self.norm = RmsNorm()
        for w in self.parameters():
            if w.dim() > 1:
                nn.init.normal_(w, std=0.02)

    def forward(self, tokens, m, caches=None, position=0):
        x = self.embed(tokens)
        for i, block in enumerate(self.blocks):
            x = block(x, m, caches[i] if caches else None, position)
        return F.linear(self.norm(x), self.embed.weight)



def megabytes(key):
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(key + ":")).split()[1]) * 1024 / 1e6


torch.ones(4, 4) + torch.ones(4, 4)
base = megabytes("VmRSS") if a.device == "cpu" else 0
model = MatLM().to(a.device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
x = torch.randint(0, a.vocabulary, (a.batch, a.context), device=a.device)
y = torch.randint(0, a.vocabulary, (a.batch, a.context), device=a.device)
kind = a.device.split(":")[0]
turn = itertools.cycle(sizes)


def step(widths, split=False):
    optimizer.zero_grad(set_to_none=True)
    n = len(widths)
    for m, tokens, targets in zip(widths, x.chunk(n) if split else [x] * n, y.chunk(n) if split else [y] * n):
        with torch.autocast(kind, dtype=torch.bfloat16) if a.dtype == "bf16" else contextlib.nullcontext():
            logits = model(tokens, m)
        loss = F.cross_entropy(logits.float().view(-1, a.vocabulary), targets.reshape(-1)) / n
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@functools.lru_cache
def decoder():
    net = MatLM().to(a.device, torch.bfloat16 if a.dtype == "bf16" else torch.float32)
    shape = (1, a.heads, a.context, head)
    return net, [[torch.zeros(shape, dtype=net.norm.weight.dtype, device=a.device) for _ in range(2)] for _ in range(a.layers)]


@torch.inference_mode()
def decode(n):
    net, caches = decoder()
    token = torch.zeros(1, 1, dtype=torch.long, device=a.device)
    for position in range(n):
        token = net(token, a.hidden, caches, position)[:, -1].argmax(-1, keepdim=True)


small = torch.ones(4, 4)


def add(n):
    for _ in range(n):
        small.add(small)


print("PyTorch " + torch.__version__, flush=True)
for line in sys.stdin:
    name, count = line.split()
    if name in ("base", "peak"):
        print(base if name == "base" else megabytes("VmHWM"), flush=True)
        continue
    start = time.perf_counter()
    if name == "add":
        add(int(count))
    elif name == "decode":
        decode(int(count))
    else:
        for _ in range(int(count)):
            step([next(turn)] if name == "sampled" else sizes, split=name == "split")
    if a.device != "cpu":
        torch.cuda.synchronize()
    print(time.perf_counter() - start, flush=True)
