#!/usr/bin/env python3
"""Records what PyTorch computes for six small MatLMs: the values that OracleTests compares with.

    python3 record.py            # writes <Case>.safetensors beside this file; needs torch >= 1.13, nothing else

Each file holds the weights (`weight.<name>`), a batch (`tokens`, `targets`), and for each objective (a granularity's name, or `joint`)
the logits, the gradient of every parameter, and the losses of ten AdamW steps. Everything is float32 and seeded.
Written from the definitions (RMSNorm: arXiv 1910.07467, rotary embedding: 2104.09864, GLU variants: 2002.05202, MatFormer: 2310.07707).
"""
import json, math, os, struct
import torch
import torch.nn.functional as F

CASES = {
    # The declarations of OracleModels.cs.
    "OracleLlama": dict(layers=2, width=16, heads=4, kv=2, context=12, vocabulary=31, hidden=32, kind="SwiGlu",
                        sizes=dict(S=4, M=8, L=16, XL=32)),
    "OracleClassic": dict(layers=2, width=12, heads=3, kv=3, context=9, vocabulary=17, hidden=48, kind="Gelu", bias=True, norm="Layer",
                          learned=True, tied=False, sizes=dict(Small=6, Large=48)),
    "OracleGemma": dict(layers=3, width=16, heads=2, kv=1, context=10, vocabulary=23, hidden=40, kind="GeGlu", bias=True, qk_norm=True,
                        base=500.0, epsilon=1e-6, sizes=dict(S=10, M=20, XL=40)),
    "OracleOdd": dict(layers=2, width=10, heads=5, kv=5, context=7, vocabulary=13, hidden=27, kind="SquaredRelu", tied=False,
                      sizes=dict(S=5, M=13, XL=27)),
    # A size keeps m hidden units, or (m, h) hidden units and heads, in every layer or, as a list, in each; None leaves a layer out.
    "OracleElastic": dict(layers=2, width=24, heads=6, kv=3, context=9, vocabulary=19, hidden=32, kind="SwiGlu", qk_norm=True,
                          sizes=dict(S=(8, 2), M=(8, 4), L=(16, 4), XL=(32, 6))),
    # What a layer has of its own stands in its dictionary.
    "OracleUneven": dict(layers=4, width=16, heads=4, kv=2, context=11, vocabulary=21, hidden=32, kind="GeGlu", window=3,
                         own={1: dict(kv=4, window=None), 2: dict(hidden=24, kind="Gelu", bias=True)},
                         sizes=dict(S=[16, 8, 6, 8], M=[16, 16, 12, 16], XL=[32, 32, 24, 32]),
                         profiles=dict(Shallow=[16, None, 24, 16])),
}


def layer(c, i):
    """What one layer has."""
    return {**c, **c.get("own", {}).get(i, {})}


def sizes_of(c, size):
    """(m, h) of each layer, or None."""
    each = size if isinstance(size, list) else [size] * c["layers"]
    return [(s, c["heads"]) if isinstance(s, int) else s for s in each]


def parameters(c):
    """Names in Hugging Face's Llama layout, and shapes."""
    d, layer_norm = c["width"], c.get("norm") == "Layer"
    out = {"model.embed_tokens.weight": (c["vocabulary"], d)}
    if c.get("learned"):
        out["model.embed_positions.weight"] = (c["context"], d)

    def norm(name):
        out[name + ".weight"] = (d,)
        if layer_norm:
            out[name + ".bias"] = (d,)

    def linear(name, rows, columns, with_bias):
        out[name + ".weight"] = (rows, columns)
        if with_bias:
            out[name + ".bias"] = (rows,)

    for i in range(c["layers"]):
        p, own = f"model.layers.{i}.", layer(c, i)
        kvw, bias, gated = own["kv"] * (d // c["heads"]), own.get("bias", False), own["kind"] in ("SwiGlu", "GeGlu")
        norm(p + "input_layernorm")
        linear(p + "self_attn.q_proj", d, d, False)
        linear(p + "self_attn.k_proj", kvw, d, False)
        linear(p + "self_attn.v_proj", kvw, d, False)
        linear(p + "self_attn.o_proj", d, d, False)
        if c.get("qk_norm"):
            out[p + "self_attn.q_norm.weight"] = (d // c["heads"],)
            out[p + "self_attn.k_norm.weight"] = (d // c["heads"],)
        norm(p + "post_attention_layernorm")
        if gated:
            linear(p + "mlp.gate_proj", own["hidden"], d, bias)
        linear(p + "mlp.up_proj", own["hidden"], d, bias)
        linear(p + "mlp.down_proj", d, own["hidden"], bias)
    norm("model.norm")
    if not c.get("tied", True):
        out["lm_head.weight"] = (c["vocabulary"], d)
    return out


def forward(c, w, tokens, size):
    """Logits (B, T, V) with the first hidden units and heads of every layer."""
    (b, t), d = tokens.shape, c["width"]
    head, eps = d // c["heads"], c.get("epsilon", 1e-5)

    def rms(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight

    def norm(x, name):
        if c.get("norm") == "Layer":
            return F.layer_norm(x, (d,), w[name + ".weight"], w[name + ".bias"], eps)
        return rms(x, w[name + ".weight"])

    def rotate(x):  # (B, T, H, D), halves rotated as in Llama
        frequency = c.get("base", 10000.0) ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
        angle = torch.outer(torch.arange(t, dtype=torch.float64), frequency)[None, :, None, :]
        cos, sin = angle.cos().float(), angle.sin().float()
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def part(name, count, columns=False):
        if name not in w:
            return None
        return w[name][:, :count] if columns else w[name][:count]

    x = w["model.embed_tokens.weight"][tokens]
    if c.get("learned"):
        x = x + w["model.embed_positions.weight"][:t]
    for i, kept in enumerate(sizes_of(c, size)):
        if kept is None:
            continue
        (m, heads), p, own = kept, f"model.layers.{i}.", layer(c, i)
        group = c["heads"] // own["kv"]
        y = norm(x, p + "input_layernorm")
        q = F.linear(y, part(p + "self_attn.q_proj.weight", heads * head)).view(b, t, heads, head)
        k = F.linear(y, part(p + "self_attn.k_proj.weight", heads // group * head)).view(b, t, heads // group, head)
        v = F.linear(y, part(p + "self_attn.v_proj.weight", heads // group * head)).view(b, t, heads // group, head)
        if c.get("qk_norm"):
            q, k = rms(q, w[p + "self_attn.q_norm.weight"]), rms(k, w[p + "self_attn.k_norm.weight"])
        if not c.get("learned"):
            q, k = rotate(q), rotate(k)
        k, v = (z.repeat_interleave(group, 2) for z in (k, v))
        scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(head)
        hidden_keys = torch.ones(t, t).triu(1)
        if own.get("window"):
            hidden_keys += torch.ones(t, t).tril(-own["window"])
        scores = scores.masked_fill(hidden_keys.bool(), float("-inf"))
        y = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v).reshape(b, t, heads * head)
        x = x + F.linear(y, part(p + "self_attn.o_proj.weight", heads * head, True))
        y = norm(x, p + "post_attention_layernorm")
        up = F.linear(y, part(p + "mlp.up_proj.weight", m), part(p + "mlp.up_proj.bias", m))
        if own["kind"] in ("SwiGlu", "GeGlu"):
            gate = F.linear(y, part(p + "mlp.gate_proj.weight", m), part(p + "mlp.gate_proj.bias", m))
            h = (F.silu(gate) if own["kind"] == "SwiGlu" else F.gelu(gate)) * up
        else:
            h = F.gelu(up) if own["kind"] == "Gelu" else F.relu(up).square()
        x = x + F.linear(h, part(p + "mlp.down_proj.weight", m, True), w.get(p + "mlp.down_proj.bias"))
    head_weight = w["model.embed_tokens.weight"] if c.get("tied", True) else w["lm_head.weight"]
    return F.linear(norm(x, "model.norm"), head_weight)


def loss(c, w, tokens, targets, m):
    return F.cross_entropy(forward(c, w, tokens, m).view(-1, c["vocabulary"]), targets.view(-1))


def record(c, seed):
    torch.manual_seed(seed)
    out, w = {}, {}
    for name, shape in parameters(c).items():
        # Away from the symmetric start: norms and biases too, so that a forgotten one shows.
        w[name] = torch.randn(shape) * (0.3 if len(shape) > 1 else 0.1) + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        out["weight." + name] = w[name].clone()
    tokens = torch.randint(0, c["vocabulary"], (3, c["context"] - 1))
    targets = torch.randint(0, c["vocabulary"], tokens.shape)
    out["tokens"], out["targets"] = tokens, targets
    for name, size in c.get("profiles", {}).items():
        with torch.no_grad():
            out["logits." + name] = forward(c, w, tokens, size)
    objectives = {name: [m] for name, m in c["sizes"].items()}
    objectives["joint"] = list(c["sizes"].values())
    for name, sizes in objectives.items():
        p = {k: v.clone().requires_grad_() for k, v in w.items()}

        def total():
            return sum(loss(c, p, tokens, targets, m) for m in sizes) / len(sizes)

        if name != "joint":
            out["logits." + name] = forward(c, p, tokens, sizes[0]).detach()
        total().backward()
        for k, v in p.items():
            out[f"gradient.{name}.{k}"] = v.grad.clone()
            v.grad = None
        # As MatFormer.Runtime's defaults: decay on matrices, global norm clipped to one.
        optimizer = torch.optim.AdamW([{"params": [v for v in p.values() if v.dim() > 1], "weight_decay": 0.1},
                                       {"params": [v for v in p.values() if v.dim() <= 1], "weight_decay": 0.0}],
                                      lr=3e-3, betas=(0.9, 0.95), eps=1e-8)
        losses = []
        for _ in range(10):
            optimizer.zero_grad(set_to_none=True)
            value = total()
            value.backward()
            torch.nn.utils.clip_grad_norm_(list(p.values()), 1.0)
            optimizer.step()
            losses.append(value.item())
        out["losses." + name] = torch.tensor(losses)
    return out


def save(path, tensors):
    header, blobs, offset = {"__metadata__": {"torch": torch.__version__}}, [], 0
    for name, value in tensors.items():
        value = value.contiguous()
        blob = value.numpy().tobytes()
        header[name] = {"dtype": {torch.float32: "F32", torch.int64: "I64"}[value.dtype], "shape": list(value.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    for seed, (name, case) in enumerate(CASES.items()):
        save(os.path.join(folder, name + ".safetensors"), record({**case}, seed))
        print(name, os.path.getsize(os.path.join(folder, name + ".safetensors")), "bytes")


main()
