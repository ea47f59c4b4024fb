#!/usr/bin/env python3
"""Records what PyTorch computes for small MatLMs, MatViTs and MatEncoders: the values that OracleTests compares with.

    python3 record.py            # writes <Case>.safetensors beside this file; needs torch >= 1.13, nothing else

Each file holds the weights (`weight.<name>`), a batch (`tokens` or `pixels`, `targets`), and for each objective (a granularity's name, or
`joint`) the logits, the gradient of every parameter, and the losses of ten AdamW steps. For encoders also the embeddings of each declared
width (`embeddings.<profile>.<width>`), the loss of each granularity and its distance from the whole model (`distilled.<name>`), and the
losses of ten steps on the mean of both (`losses.distilled`). Everything is float32 and seeded.
Written from the definitions (RMSNorm: arXiv 1910.07467, rotary embedding: 2104.09864, GLU variants: 2002.05202, MatFormer: 2310.07707,
ViT: 2010.11929, routed tokens: 2407.19985, compressed tokens: 2407.12753, fixed positions of patches: 2104.02057, nested embeddings:
2205.13147, InfoNCE: 1807.03748, distillation: 1503.02531).
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

ENCODERS = {
    # The declarations of EncoderModels.cs. Without `image` it is an encoder of texts.
    "OracleViT": dict(image=12, patch=4, channels=3, classes=7, layers=3, width=24, heads=4, kv=4, hidden=48, kind="Gelu", bias=True,
                      attention_bias=True, norm="Layer", epsilon=1e-12, position="Learned", pooling="ClassToken", dimensions={24: 1.0},
                      sizes=dict(S=12, M=24, XL=48), profiles=dict(Mixed=[12, 24, 48])),
    "OtherViT": dict(image=8, patch=2, channels=1, classes=5, layers=3, width=32, heads=4, kv=2, hidden=40, kind="SwiGlu", qk_norm=True,
                     attention_bias=True, position="Sinusoidal", pooling="Mean", dimensions={8: 1 / 3, 16: 1 / 3, 32: 1 / 3},
                     sizes=dict(S=(10, 2), M=(20, 4), XL=(40, 4)),
                     profiles=dict(Mixed=[(10, 2), (20, 4), (40, 4)], Short=[(10, 2), None, (40, 4)])),
    "OracleEncoder": dict(layers=3, width=32, heads=4, kv=4, context=20, vocabulary=64, embedding=16, hidden=64, kind="SwiGlu",
                          position="Rotary", pooling="Mean", temperature=0.05, dimensions={4: 0.25, 8: 0.25, 16: 0.5},
                          sizes=dict(S=16, M=32, XL=64), profiles=dict(Mixed=[16, 32, 64])),
    "OtherEncoder": dict(layers=2, width=24, heads=4, kv=4, context=20, vocabulary=64, embedding=24, hidden=40, kind="Gelu", bias=True,
                         attention_bias=True, norm="Layer", position="Learned", pooling="ClassToken", temperature=0.1,
                         dimensions={24: 1.0}, sizes=dict(S=(20, 1), XL=(40, 4)),
                         profiles=dict(Mixed=[(20, 1), (40, 4)], Short=[None, (40, 4)])),
}

# Recorded last, so that the seeds of those above stay theirs. Of the four pairs of OracleLlama3 one keeps its frequency, one has a blended
# one, and two are divided.
SCALED = {
    "OracleLinear": dict(layers=2, width=16, heads=2, kv=2, context=12, vocabulary=23, hidden=24, kind="SwiGlu", qk_norm=True,
                         scaling=dict(rope_type="linear", factor=2.5), sizes=dict(S=8, XL=24)),
    "OracleLlama3": dict(layers=2, width=16, heads=2, kv=1, context=12, vocabulary=31, hidden=32, kind="SwiGlu", base=100.0,
                         scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                      original_max_position_embeddings=40),
                         sizes=dict(S=8, M=16, XL=32)),
}

# The declaration of PrecisionTests.cs. The last group of 32 columns of a row is shorter.
NESTED = {
    "OracleNested": dict(layers=1, width=40, heads=5, kv=5, context=9, vocabulary=17, hidden=72, kind="SwiGlu", learned=True, tied=False,
                         sizes=dict(S=(32, 4), M=(64, 5), XL=(72, 5))),
}

# Recorded after all others. A size that is a number below 1 or 1.0 is a budget: in the routed layers a router chooses a width for each
# token.
ROUTED = {
    "RoutedViT": dict(image=12, patch=3, channels=3, classes=7, layers=3, width=24, heads=4, kv=4, hidden=48, kind="Gelu", bias=True,
                      attention_bias=True, norm="Layer", epsilon=1e-12, position="Learned", pooling="ClassToken", dimensions={24: 1.0},
                      routed=[1, 2], widths=[12, 24, 48], sizes={"routed-0.4": 0.4, "routed-0.7": 0.7}),
}

# Also recorded after the others. A size is the side of a grid of compressed tokens, and the hidden units.
LOOKUP = {
    "LookupViT": dict(image=12, patch=3, channels=3, classes=7, layers=2, width=24, heads=4, kv=4, hidden=48, kind="Gelu", bias=True,
                      attention_bias=True, norm="Layer", epsilon=1e-12, position="Learned", pooling="Mean", dimensions={24: 1.0}, light=10,
                      sizes={f"{name}-{grid}x{grid}": dict(grid=grid, size=size)
                             for grid in (2, 3) for name, size in dict(S=12, XL=48).items()}),
}

# A language model sorts the tokens of the whole batch for its loss. Its logits are those of tokens that choose by the thresholds.
ROUTED_TEXT = {
    "RoutedLm": dict(layers=3, width=24, heads=4, kv=2, context=12, vocabulary=23, hidden=48, kind="SwiGlu", bias=True,
                     routed=[1, 2], widths=[12, 24, 48], sizes={"routed-0.4": 0.4, "routed-0.7": 0.7},
                     thresholds={0.4: [0.45, 0.6], 0.7: [0.3, 0.4]}),
}

# Each text has its own length, and by it the numbers of tokens of the widths.
ROUTED_ENCODER = {
    "RoutedEncoder": dict(layers=3, width=24, heads=4, kv=4, context=20, vocabulary=64, embedding=16, hidden=48, kind="SwiGlu",
                          position="Rotary", pooling="ClassToken", temperature=0.1, dimensions={8: 0.5, 16: 0.5},
                          routed=[1, 2], widths=[12, 24, 48], sizes={"routed-0.4": 0.4, "routed-0.7": 0.7}),
}

# Also recorded after the others. A size (m, h, w) keeps the first w channels of the residual stream too.
NARROW = {
    "OracleNarrow": dict(layers=2, width=24, heads=4, kv=2, context=11, vocabulary=29, hidden=32, kind="SwiGlu", bias=True, qk_norm=True,
                         tied=True, sizes=dict(S=(8, 2, 12), M=(16, 4, 12), L=(16, 4, 20), XL=32),
                         profiles=dict(Mixed=[(8, 2, 12), (16, 4, 12)])),
    "NarrowClassic": dict(layers=2, width=12, heads=3, kv=3, context=9, vocabulary=17, hidden=24, kind="Gelu", bias=True, norm="Layer",
                          learned=True, tied=False, sizes=dict(S=(6, 3, 7), XL=24)),
}
NARROW_ENCODERS = {
    "NarrowViT": dict(image=8, patch=4, channels=2, classes=5, layers=2, width=24, heads=4, kv=4, hidden=32, kind="Gelu", bias=True,
                      attention_bias=True, norm="Layer", epsilon=1e-12, position="Learned", pooling="ClassToken",
                      dimensions={8: 1 / 3, 16: 1 / 3, 24: 1 / 3}, sizes=dict(S=(12, 2, 12), M=(24, 4, 20), XL=32)),
    "NarrowEncoder": dict(layers=2, width=24, heads=4, kv=4, context=20, vocabulary=40, embedding=16, hidden=32, kind="SwiGlu",
                          position="Rotary", pooling="Mean", temperature=0.1, dimensions={8: 0.5, 16: 0.5},
                          sizes=dict(S=(12, 4, 16), XL=32)),
}

# What parameters are called: in Hugging Face's ViT, and in its Llama, whose layout texts share.
VIT = dict(layer="vit.encoder.layer.", before="layernorm_before", q="attention.attention.query", k="attention.attention.key",
           v="attention.attention.value", o="attention.output.dense", q_norm="attention.attention.query_norm",
           k_norm="attention.attention.key_norm", after="layernorm_after", gate="intermediate.gate", up="intermediate.dense",
           down="output.dense", norm="vit.layernorm", cls="vit.embeddings.cls_token", positions="vit.embeddings.position_embeddings")
LLAMA = dict(layer="model.layers.", before="input_layernorm", q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj",
             o="self_attn.o_proj", q_norm="self_attn.q_norm", k_norm="self_attn.k_norm", after="post_attention_layernorm",
             gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj", norm="model.norm", cls="model.class_token",
             positions="model.embed_positions.weight")


def layer(c, i):
    """What one layer has."""
    return {**c, **c.get("own", {}).get(i, {})}


def sizes_of(c, size):
    """(m, h) of each layer, or None."""
    if isinstance(size, float):
        size = c["hidden"]
    each = size if isinstance(size, list) else [size] * c["layers"]
    return [(s, c["heads"]) if isinstance(s, int) else s and s[:2] for s in each]


def narrowed(c, w, size):
    """The weights that read and write the first channels of the residual stream, and the number of these channels."""
    each = size if isinstance(size, list) else [size]
    width = next((s[2] for s in each if isinstance(s, tuple) and len(s) == 3), c["width"])
    if width == c["width"]:
        return w, width
    out = {}
    for name, value in w.items():
        if any(part in name for part in ("o_proj", "down_proj", "output.dense", "patch_embeddings")):
            out[name] = value[:width]
        elif any(part in name for part in ("q_norm", "k_norm", "query_norm", "key_norm")) or name.endswith(".bias") and "norm" not in name:
            out[name] = value
        else:
            out[name] = value[..., :width]
    return out, width


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
        if i in c.get("routed", []):
            out[p + "router.weight"] = (len(c["widths"]), d)
            out[p + "router.alpha"] = (1,)
    norm("model.norm")
    if not c.get("tied", True):
        out["lm_head.weight"] = (c["vocabulary"], d)
    return out


def scaled(frequency, s):
    """A frequency of rotary positions, in radians per token, as a rope_scaling of transformers has it."""
    if s["rope_type"] == "linear":
        return frequency / s["factor"]
    original, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
    wavelength = 2 * math.pi / frequency
    if wavelength < original / high:
        return frequency
    if wavelength > original / low:
        return frequency / s["factor"]
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / s["factor"] + smooth * frequency


def frequencies(base, head, s):
    """Those of each pair of a head, in float64."""
    plain = [base ** (-2 * pair / head) for pair in range(head // 2)]
    return torch.tensor([scaled(f, s) if s else f for f in plain], dtype=torch.float64)


def forward(c, w, tokens, size, thresholds=None):
    """Logits (B, T, V) with the first hidden units and heads of every layer. With thresholds, routed tokens choose by them."""
    (b, t), head, eps = tokens.shape, c["width"] // c["heads"], c.get("epsilon", 1e-5)
    w, d = narrowed(c, w, size)

    def rms(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight

    def norm(x, name):
        if c.get("norm") == "Layer":
            return F.layer_norm(x, (d,), w[name + ".weight"], w[name + ".bias"], eps)
        return rms(x, w[name + ".weight"])

    def rotate(x):  # (B, T, H, D), halves rotated as in Llama
        frequency = frequencies(c.get("base", 10000.0), head, c.get("scaling"))
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

        def feed(x, m):
            y = norm(x, p + "post_attention_layernorm")
            up = F.linear(y, part(p + "mlp.up_proj.weight", m), part(p + "mlp.up_proj.bias", m))
            if own["kind"] in ("SwiGlu", "GeGlu"):
                gate = F.linear(y, part(p + "mlp.gate_proj.weight", m), part(p + "mlp.gate_proj.bias", m))
                h = (F.silu(gate) if own["kind"] == "SwiGlu" else F.gelu(gate)) * up
            else:
                h = F.gelu(up) if own["kind"] == "Gelu" else F.relu(up).square()
            return F.linear(h, part(p + "mlp.down_proj.weight", m, True), w.get(p + "mlp.down_proj.bias"))

        if isinstance(size, float) and i in c["routed"]:
            flat = x.reshape(b * t, d)
            chosen = routes(c, w, flat, p, size) if thresholds is None else reached(c, w, flat, p, thresholds)
            x = x + torch.stack([s * feed(token, width) for token, width, s in zip(flat, *chosen)]).view(b, t, d)
        else:
            x = x + feed(x, m)
    head_weight = w["model.embed_tokens.weight"] if c.get("tied", True) else w["lm_head.weight"]
    return F.linear(norm(x, "model.norm"), head_weight)


def loss(c, w, tokens, targets, m):
    return F.cross_entropy(forward(c, w, tokens, m).view(-1, c["vocabulary"]), targets.view(-1))


def encoder_parameters(c):
    """Names and shapes."""
    d, head, n = c["width"], c["width"] // c["heads"], VIT if "image" in c else LLAMA
    out, class_token = {}, c["pooling"] == "ClassToken"

    def norm(name):
        out[name + ".weight"] = (d,)
        if c.get("norm") == "Layer":
            out[name + ".bias"] = (d,)

    def linear(name, rows, columns, with_bias):
        out[name + ".weight"] = (rows, columns)
        if with_bias:
            out[name + ".bias"] = (rows,)

    if class_token:
        out[n["cls"]] = (1, 1, d)
    if "image" in c:
        if c["position"] == "Learned":
            out[n["positions"]] = (1, (c["image"] // c["patch"]) ** 2 + class_token, d)
        out["vit.embeddings.patch_embeddings.projection.weight"] = (d, c["channels"], c["patch"], c["patch"])
        out["vit.embeddings.patch_embeddings.projection.bias"] = (d,)
    else:
        out["model.embed_tokens.weight"] = (c["vocabulary"], d)
        if c["position"] == "Learned":
            out[n["positions"]] = (c["context"] + class_token, d)
    for i in range(c["layers"]):
        p, bias = n["layer"] + f"{i}.", c.get("bias", False)
        norm(p + n["before"])
        for what, rows in (("q", d), ("k", c["kv"] * head), ("v", c["kv"] * head), ("o", d)):
            linear(p + n[what], rows, d, c.get("attention_bias"))
        if c.get("qk_norm"):
            out[p + n["q_norm"] + ".weight"] = out[p + n["k_norm"] + ".weight"] = (head,)
        norm(p + n["after"])
        if c["kind"] in ("SwiGlu", "GeGlu"):
            linear(p + n["gate"], c["hidden"], d, bias)
        linear(p + n["up"], c["hidden"], d, bias)
        linear(p + n["down"], d, c["hidden"], bias)
        if "light" in c:
            for what in ("gather_norm", "norm"):
                norm(p + "lookup." + what)
            for what in ("query", "key", "value", "output"):
                linear(p + "lookup." + what, d, d, c["attention_bias"])
            if i < c["layers"] - 1:  # nothing reads the lookup tokens after the last layer
                norm(p + "lookup.spread_norm")
                linear(p + "lookup.spread_value", d, d, c["attention_bias"])
                norm(p + "lookup.light_norm")
                linear(p + "lookup.up", c["light"], d, bias)
                linear(p + "lookup.down", d, c["light"], bias)
        if i in c.get("routed", []):
            out[p + "router.weight"] = (len(c["widths"]), d)
            out[p + "router.alpha"] = (1,)
    norm(n["norm"])
    if "image" in c:
        linear("classifier", c["classes"], d, True)
    else:
        linear("projection", c["embedding"], d, False)
    return out


def fixed_positions(c):
    """(patches, W): sines and cosines of a patch's row, then of its column."""
    grid, quarter = c["image"] // c["patch"], c["width"] // 4
    rows = []
    for row in range(grid):
        for column in range(grid):
            parts = []
            for place in (row, column):
                angles = [place / 10000.0 ** (i / quarter) for i in range(quarter)]
                parts += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            rows.append(parts)
    return torch.tensor(rows)


def tokens_of(widths, tokens, budget):
    """How many tokens take each width: the distribution of greatest entropy whose mean width is a share `budget` of the widest."""
    shares = torch.tensor(widths, dtype=torch.float64) / widths[-1]
    low, high = -1e3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (middle * shares).softmax(0) @ shares < budget else (low, middle)
    counts = [int(c) for c in (low * shares).softmax(0) * tokens]
    counts[0] += tokens - sum(counts)
    for i in reversed(range(1, len(widths))):  # what rounding left over
        while counts[0] > 0 and sum(n * m for n, m in zip(counts, widths)) + widths[i] - widths[0] <= budget * tokens * widths[-1]:
            counts[0] -= 1
            counts[i] += 1
    return counts


def routes(c, w, x, p, budget):
    """The width of each token of an image, a text or a batch, and what scales its feed-forward: the widest takes the best, then the next, ..."""
    scores, widths = (x @ w[p + "router.weight"].t()).softmax(-1), [None] * len(x)
    scale = [None] * len(x)
    for i in reversed(range(len(c["widths"]))):
        free = sorted((t for t in range(len(x)) if widths[t] is None), key=lambda t: -scores[t, i].item())
        for t in free[:tokens_of(c["widths"], len(x), budget)[i]]:
            widths[t], scale[t] = c["widths"][i], 1 + w[p + "router.alpha"] * scores[t, i]
    return widths, scale


def compressed(many, grid):
    """The means of patches (side * side, W), over the cells of a grid: (grid * grid, W)."""
    side, cells = math.isqrt(len(many)), []
    image = many.view(side, side, -1)
    bounds = [(i * side // grid, -(-(i + 1) * side // grid)) for i in range(grid)]
    for top, bottom in bounds:
        for left, right in bounds:
            cells.append(image[top:bottom, left:right].reshape(-1, many.shape[1]).mean(0))
    return torch.stack(cells)


def reached(c, w, x, p, thresholds):
    """The same by the thresholds of all widths but the narrowest: the widest whose threshold the token's score reaches."""
    widths, scale = [], []
    for scores in (x @ w[p + "router.weight"].t()).softmax(-1):
        i = max([i for i in range(1, len(c["widths"])) if scores[i].item() >= thresholds[i - 1]], default=0)
        widths.append(c["widths"][i])
        scale.append(1 + w[p + "router.alpha"] * scores[i])
    return widths, scale


def encode(c, w, batch, size):
    """One vector of each image or text: (B, W), or (B, embedding)."""
    grid, size = (size["grid"], size["size"]) if isinstance(size, dict) else (None, size)
    head, n = c["width"] // c["heads"], VIT if "image" in c else LLAMA
    w, d = narrowed(c, w, size)
    eps, class_token = c.get("epsilon", 1e-5), c["pooling"] == "ClassToken"

    def rms(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight

    def norm(x, name):
        return (F.layer_norm(x, (d,), w[name + ".weight"], w[name + ".bias"], eps) if c.get("norm") == "Layer"
                else rms(x, w[name + ".weight"]))

    def linear(x, name, first):
        bias = w.get(name + ".bias")
        return F.linear(x, w[name + ".weight"][:first], None if bias is None else bias[:first])

    if "image" in c:
        x = F.conv2d(batch, w["vit.embeddings.patch_embeddings.projection.weight"], w["vit.embeddings.patch_embeddings.projection.bias"],
                     stride=c["patch"]).flatten(2).transpose(1, 2)
        lengths = [x.shape[1]] * x.shape[0]
    else:
        x = w["model.embed_tokens.weight"][batch.clamp(min=0)]
        lengths = (batch >= 0).sum(1).tolist()
    if class_token:
        x = torch.cat([w[n["cls"]].expand(x.shape[0], 1, d), x], 1)
        lengths = [length + 1 for length in lengths]
    if c["position"] == "Learned":
        x = x + w[n["positions"]].view(-1, d)[:x.shape[1]]
    elif c["position"] == "Sinusoidal":
        x = x + fixed_positions(c)[:, :d]

    # One at a time and without its padding, so that none can be seen.
    vectors = []
    for one, length in zip(x, lengths):
        one = one[:length]
        if grid is not None:
            many, one = one, compressed(one, grid)
            length = len(one)
        frequency = 10000.0 ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
        angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)[:, None, :]
        cos, sin = angle.cos().float(), angle.sin().float()

        def rotate(z):
            first, second = z.chunk(2, -1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

        for i, kept in enumerate(sizes_of(c, size)):
            if kept is None:
                continue
            (m, heads), p, group = kept, n["layer"] + f"{i}.", c["heads"] // c["kv"]
            if grid is not None:
                y, source = norm(one, p + "lookup.gather_norm"), norm(many, p + "lookup.norm")
                q, k, v = linear(y, p + "lookup.query", d), linear(source, p + "lookup.key", d), linear(source, p + "lookup.value", d)
                cuts = [slice(h * head, (h + 1) * head) for h in range(d // head)]
                seen_by = [(q[:, cut] @ k[:, cut].t() / math.sqrt(head)).softmax(-1) for cut in cuts]
                one = one + linear(torch.cat([a @ v[:, cut] for a, cut in zip(seen_by, cuts)], -1), p + "lookup.output", d)
            y = norm(one, p + n["before"])
            q = linear(y, p + n["q"], heads * head).view(length, heads, head)
            k = linear(y, p + n["k"], heads // group * head).view(length, heads // group, head)
            v = linear(y, p + n["v"], heads // group * head).view(length, heads // group, head)
            if c.get("qk_norm"):
                q, k = rms(q, w[p + n["q_norm"] + ".weight"]), rms(k, w[p + n["k_norm"] + ".weight"])
            if c["position"] == "Rotary":
                q, k = rotate(q), rotate(k)
            seen = []
            for h in range(heads):
                scores = q[:, h] @ k[:, h // group].t() / math.sqrt(head)
                seen.append(scores.softmax(-1) @ v[:, h // group])
            one = one + F.linear(torch.cat(seen, -1), w[p + n["o"] + ".weight"][:, :heads * head], w.get(p + n["o"] + ".bias"))
            y = norm(one, p + n["after"])

            def feed(y, m):
                up = linear(y, p + n["up"], m)
                if c["kind"] in ("SwiGlu", "GeGlu"):
                    gate = linear(y, p + n["gate"], m)
                    hidden = (F.silu(gate) if c["kind"] == "SwiGlu" else F.gelu(gate)) * up
                else:
                    hidden = F.gelu(up) if c["kind"] == "Gelu" else F.relu(up).square()
                return F.linear(hidden, w[p + n["down"] + ".weight"][:, :m], w.get(p + n["down"] + ".bias"))

            if isinstance(size, float) and i in c["routed"]:
                one = one + torch.stack([s * feed(token, width) for token, width, s in zip(y, *routes(c, w, one, p, size))])
            else:
                one = one + feed(y, m)
            if grid is not None and i < c["layers"] - 1:
                v = linear(norm(one, p + "lookup.spread_norm"), p + "lookup.spread_value", d)
                many = many + torch.cat([a.t() @ v[:, cut] for a, cut in zip(seen_by, cuts)], -1)
                y = F.gelu(linear(norm(many, p + "lookup.light_norm"), p + "lookup.up", c["light"]))
                many = many + linear(y, p + "lookup.down", d)
        one = norm(one, n["norm"])
        vectors.append(one[0] if class_token else one.mean(0))
    x = torch.stack(vectors)
    return x if "image" in c else F.linear(x, w["projection.weight"])


def class_logits(c, w, x, dimension):
    x = x[:, :dimension]
    return F.linear(x, w["classifier.weight"][:, :x.shape[1]], w["classifier.bias"])


def choices(c, mine, others, targets, softening=1.0):
    """Logarithms of the chances of each of `mine` choosing each of `others`: one row at a time, of which some are left out."""
    numbers, rows = targets[::2].tolist(), []
    for i, number in enumerate(numbers):
        scores = [mine[i] @ other / c["temperature"] / softening if j == i or numbers[j] != number else torch.tensor(-1e30)
                  for j, other in enumerate(others)]
        rows.append(torch.stack(scores).log_softmax(0))
    return torch.stack(rows)


def encoder_loss(c, w, batch, targets, size):
    x, total = encode(c, w, batch, size), 0.0
    for dimension, share in c["dimensions"].items():
        if "image" in c:
            total = total + share * F.cross_entropy(class_logits(c, w, x, dimension), targets)
        else:
            unit = F.normalize(x[:, :dimension], dim=-1)
            queries, documents = unit[::2], unit[1::2]
            found = choices(c, queries, documents, targets).diagonal() + choices(c, documents, queries, targets).diagonal()
            total = total - share * found.mean() / 2
    return total


def encoder_distance(c, w, batch, targets, size, softening):
    """softening^2 KL(whole model || this one), of classes, or of choices among the whole model's vectors."""
    whole = list(c["sizes"].values())[-1]
    if size == whole:
        return torch.zeros(())
    frozen = {name: value.detach() for name, value in w.items()}
    mine, its, total = encode(c, w, batch, size), encode(c, frozen, batch, whole), 0.0

    def divergence(known, learnt):
        return (known.exp() * (known - learnt)).sum(-1).mean() * softening ** 2

    for dimension, share in c["dimensions"].items():
        if "image" in c:
            total = total + share * divergence((class_logits(c, frozen, its, dimension) / softening).log_softmax(-1),
                                               (class_logits(c, w, mine, dimension) / softening).log_softmax(-1))
        else:
            own, taught = F.normalize(mine[:, :dimension], dim=-1), F.normalize(its[:, :dimension], dim=-1)
            for first, second in ((0, 1), (1, 0)):
                total = total + share / 2 * divergence(choices(c, taught[first::2], taught[second::2], targets, softening),
                                                       choices(c, own[first::2], taught[second::2], targets, softening))
    return total


def record_encoder(c, seed):
    def batch():
        if "image" in c:
            pixels = torch.rand(5, c["channels"], c["image"], c["image"]) * 2 - 1
            return "pixels", pixels, torch.randint(0, c["classes"], (5,))
        tokens = torch.randint(0, c["vocabulary"], (8, c["context"] - 1))
        for row, length in enumerate((19, 3, 1, 19, 7, 12, 2, 18)):
            tokens[row, length:] = -1
        return "tokens", tokens, torch.tensor([0, 0, 1, 1, 2, 2, 0, 0])  # the last pair is no negative of the first

    def outputs(name, w, data, size):
        x = encode(c, w, data, size)
        out = {f"embeddings.{name}.{d}": F.normalize(x[:, :d], dim=-1) for d in c["dimensions"]}
        return {**out, "logits." + name: class_logits(c, w, x, c["width"])} if "image" in c else out

    def distilled(w, data, targets):
        parts = {name: torch.stack([encoder_loss(c, w, data, targets, size), encoder_distance(c, w, data, targets, size, 2.0)])
                 for name, size in c["sizes"].items()}
        return parts, sum(part.sum() for part in parts.values()) / len(parts)

    return record(c, seed, encoder_parameters, batch, outputs, encoder_loss, None if "routed" in c or "light" in c else distilled)


def record_decoder(c, seed):
    def batch():
        tokens = torch.randint(0, c["vocabulary"], (3, c["context"] - 1))
        return "tokens", tokens, torch.randint(0, c["vocabulary"], tokens.shape)

    def outputs(name, w, tokens, size):
        return {"logits." + name: forward(c, w, tokens, size, c["thresholds"][size] if isinstance(size, float) else None)}

    out = record(c, seed, parameters, batch, outputs, loss)
    for i in c.get("routed", []):
        out[f"weight.model.layers.{i}.router.thresholds"] = torch.tensor(list(c["thresholds"].values())).logit()  # log-odds
    return out


def record(c, seed, parameters, batch, outputs, loss, distilled=None):
    torch.manual_seed(seed)
    out, w = {}, {}
    for name, shape in parameters(c).items():
        # Away from the symmetric start: norms and biases too, so that a forgotten one shows.
        w[name] = torch.randn(shape) * (0.3 if len(shape) > 1 else 0.1) + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        out["weight." + name] = w[name].clone()
    what, data, targets = batch()
    out[what], out["targets"] = data, targets
    for name, size in c.get("profiles", {}).items():
        with torch.no_grad():
            out.update(outputs(name, w, data, size))
    objectives = {name: [m] for name, m in c["sizes"].items()}
    objectives["joint"] = list(c["sizes"].values())
    if distilled is not None:
        objectives["distilled"] = []
        for name, part in distilled(w, data, targets)[0].items():
            out["distilled." + name] = part
    for name, sizes in objectives.items():
        p = {k: v.clone().requires_grad_() for k, v in w.items()}

        def total():
            if name == "distilled":
                return distilled(p, data, targets)[1]
            return sum(loss(c, p, data, targets, m) for m in sizes) / len(sizes)

        if name not in ("joint", "distilled"):
            out.update({k: v.detach() for k, v in outputs(name, p, data, sizes[0]).items()})
        if name != "distilled":
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


def straight_through(weight, bits):
    """Nested rounding in groups of 32 columns, whose gradient is that of the rounded weight (arXiv 1308.3432, 2502.06786)."""
    rounded = torch.zeros_like(weight)
    for start in range(0, weight.shape[1], 32):
        group = weight[:, start:start + 32].detach()
        positive, negative = group.clamp(min=0).amax(1, keepdim=True), (-group).clamp(min=0).amax(1, keepdim=True)
        scale = torch.maximum(positive / 119, negative / 128).half().float()
        q8 = torch.clamp(torch.round(group / scale), -128, 119)
        q4 = torch.floor((q8 + 8) / 16)
        rounded[:, start:start + 32] = scale * {8: q8, 4: q4 * 16, 2: (4 * torch.floor(q4 / 4) + 1.5) * 16}[bits]
    return weight + (rounded - weight).detach()


def record_nested(c, seed):
    """The joint loss of all sizes at each of the bits, and its gradients."""
    torch.manual_seed(seed)
    w = {name: torch.randn(shape) * (0.3 if len(shape) > 1 else 0.1) + (1.0 if "norm" in name else 0.0)
         for name, shape in parameters(c).items()}
    tokens = torch.randint(0, c["vocabulary"], (3, c["context"] - 1))
    targets = torch.randint(0, c["vocabulary"], tokens.shape)
    out = {"tokens": tokens, "targets": targets, **{"weight." + name: value.clone() for name, value in w.items()}}
    for bits in (8, 4, 2):
        p = {k: v.clone().requires_grad_() for k, v in w.items()}
        rounded = {k: straight_through(v, bits) if v.dim() == 2 and "embed_positions" not in k else v for k, v in p.items()}
        losses = torch.stack([loss(c, rounded, tokens, targets, size) for size in c["sizes"].values()])
        losses.mean().backward()
        out[f"losses.{bits}"] = losses.detach()
        out.update({f"gradient.{bits}.{k}": v.grad.clone() for k, v in p.items()})
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
    first = {**CASES, **ENCODERS, **SCALED}
    # Each of these was recorded beside the others, with seeds that continue those of the first.
    later = [ROUTED, LOOKUP, {**NARROW, **NARROW_ENCODERS}, ROUTED_TEXT, ROUTED_ENCODER]
    cases = [*enumerate(first.items()), *(case for group in later for case in enumerate(group.items(), len(first)))]
    for seed, (name, case) in cases:
        encoders = {**ENCODERS, **ROUTED, **ROUTED_ENCODER, **LOOKUP, **NARROW_ENCODERS}
        recorded = (record_encoder if name in encoders else record_decoder)({**case}, seed)
        if name == "OracleLlama3":  # those of Llama 3.1 8B and Llama 3.2 1B, as their config.json has them
            for model, head, factor in (("llama3.1", 128, 8.0), ("llama3.2", 64, 32.0)):
                scaling = {**case["scaling"], "factor": factor, "original_max_position_embeddings": 8192}
                recorded["frequencies." + model] = frequencies(500000.0, head, scaling).float()
        save(os.path.join(folder, name + ".safetensors"), recorded)
        print(name, os.path.getsize(os.path.join(folder, name + ".safetensors")), "bytes")
    for seed, (name, case) in enumerate(NESTED.items()):
        save(os.path.join(folder, name + ".safetensors"), record_nested({**case}, seed))
        print(name, os.path.getsize(os.path.join(folder, name + ".safetensors")), "bytes")


if __name__ == "__main__":
    main()
