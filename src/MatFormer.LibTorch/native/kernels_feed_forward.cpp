// The nested feed-forward.
#include <memory>

#include "kernels_common.h"

namespace mf::kernels {

namespace {

// Rows of a stream that one thread takes through the whole layer before the next ones, so that they stay in its cache.
constexpr int64_t chunk = 96;
// Rows whose hidden values are kept for the gradients of the weights.
constexpr int64_t span = 1024;

struct FeedForwardShape {
    std::vector<int64_t> firsts, rows;  // of each stream, in tokens
    int64_t most_rows;  // of a stream
    int64_t width;
    std::vector<int64_t> widths;
    std::vector<int64_t> offsets;  // where a stream's hidden values start
    int64_t hidden;  // hidden values of all streams
    bool gated;
    int activation;

    FeedForwardShape(const Tensor& x, at::IntArrayRef streams, at::IntArrayRef rows_of_streams, FeedForwardKind kind)
        : width(x.size(2)),
          widths(streams.vec()),
          hidden(0),
          gated(kernels::gated(kind)),
          activation(kind == FeedForwardKind::SquaredRelu ? 1
                     : kind == FeedForwardKind::SwiGlu    ? 2
                                                          : 0) {
        const Segments segments("FeedForward", x, static_cast<int64_t>(widths.size()), rows_of_streams);
        for (size_t r = 0; r < widths.size(); r++) {
            firsts.push_back(segments.first[r] * x.size(1));
            rows.push_back(segments.count[r] * x.size(1));
            offsets.push_back(hidden);
            hidden += rows[r] * widths[r];
        }
        most_rows = *std::max_element(rows.begin(), rows.end());
    }
};

struct FeedForwardFunction : Function<FeedForwardFunction> {
    // `g` and `u`, what the activation is given, are filled in if they are defined.
    static Tensor compute(const Tensor& x, const FeedForwardWeights& w, const FeedForwardShape& s, const Tensor& g, const Tensor& u) {
        const auto dtype = x.scalar_type();
        const Tensor gate_bias = rounded(w.gate_bias, dtype), up_bias = rounded(w.up_bias, dtype), down_bias = rounded(w.down_bias, dtype);
        Tensor y = at::empty_like(x);
        const Tensor in = x.view({-1, s.width}), out = y.view({-1, s.width});
        if (own_product(dtype) && s.most_rows > few) {
            fused(in, w, s, g, u, out, gate_bias, up_bias, down_bias);
            return y;
        }

        for (size_t r = 0; r < s.widths.size(); r++) {
            const int64_t m = s.widths[r], first = s.firsts[r], rows = s.rows[r];
            const auto hidden = [&](const Tensor& kept) {
                return kept.defined() ? kept.narrow(0, s.offsets[r], rows * m).view({rows, m}) : at::empty({rows, m}, x.options());
            };
            const auto head = [&](const Tensor& b) { return b.defined() ? b.narrow(0, 0, m) : b; };
            const Tensor part = in.narrow(0, first, rows), b = hidden(u);
            project(b, part, w.up.narrow(0, 0, m), head(up_bias));
            Tensor a;
            if (s.gated) project(a = hidden(g), part, w.gate.narrow(0, 0, m), head(gate_bias));
            Tensor h = at::empty({rows, m}, x.options());
            activate(s, a.defined() ? a.data_ptr() : nullptr, b.data_ptr(), h.data_ptr(), rows * m, dtype);
            project(out.narrow(0, first, rows), h, w.down.narrow(1, 0, m), down_bias);
        }
        return y;
    }

    static void activate(const FeedForwardShape& s, const void* g, const void* u, void* h, int64_t count, at::ScalarType dtype) {
        const int64_t size = dtype == at::kFloat ? 4 : 2;
        share(count, grain, [&](int64_t first, int64_t last) {
            const auto at_first = [&](const void* p) { return p == nullptr ? p : static_cast<const char*>(p) + first * size; };
            cpu::table().activate[element(dtype)](s.activation, at_first(g), at_first(u), static_cast<char*>(h) + first * size,
                                                  last - first);
        });
    }

    static void fused(const Tensor& x, const FeedForwardWeights& w, const FeedForwardShape& s, const Tensor& g, const Tensor& u,
                      const Tensor& y, const Tensor& gate_bias, const Tensor& up_bias, const Tensor& down_bias) {
        const cpu::Table& table = cpu::table();
        const auto dtype = x.scalar_type();
        const cpu::Element type = element(dtype);
        const int64_t size = x.element_size(), widest = s.widths[0];
        const Packed up(dtype, w.up.narrow(0, 0, widest).t()), down(dtype, w.down.narrow(1, 0, widest).t());
        const Packed gate = s.gated ? Packed(dtype, w.gate.narrow(0, 0, widest).t()) : up;
        const int64_t products = left_scratch(chunk, std::max(widest, s.width));
        const Scratch scratch(products + 3 * chunk * widest * size);
        std::vector<std::pair<size_t, int64_t>> chunks;  // the stream, and where in it
        for (size_t r = 0; r < s.widths.size(); r++) {
            for (int64_t row = 0; row < s.rows[r]; row += chunk) chunks.emplace_back(r, row);
        }
        const cpu::Matrix in = matrix(x);

        share(static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end) {
            char* space = static_cast<char*>(scratch.mine());
            char* hidden = space + (products + 63) / 64 * 64;
            for (int64_t c = begin; c < end; c++) {
                const auto [r, row] = chunks[static_cast<size_t>(c)];
                const int64_t m = s.widths[r], offset = s.offsets[r] + row * m;
                const int64_t rows = std::min(chunk, s.rows[r] - row), first = s.firsts[r] + row;
                const auto kept = [&](const Tensor& t, int64_t i) {
                    return t.defined() ? static_cast<char*>(t.data_ptr()) + offset * size : hidden + i * chunk * m * size;
                };
                char *a = s.gated ? kept(g, 0) : nullptr, *b = kept(u, 1), *h = hidden + 2 * chunk * m * size;
                cpu::Matrix part = in;
                part.data = static_cast<const char*>(in.data) + first * in.row * size;
                const auto bias = [](const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; };
                const cpu::Term up_term = up.term(part, s.width);
                table.multiply(type, &up_term, 1, 0, rows, m, {b, type, m, false, bias(up_bias)}, space);
                if (s.gated) {
                    const cpu::Term gate_term = gate.term(part, s.width);
                    table.multiply(type, &gate_term, 1, 0, rows, m, {a, type, m, false, bias(gate_bias)}, space);
                }
                table.activate[type](s.activation, a, b, h, rows * m);
                const cpu::Term down_term = down.term({h, type, m, 1}, m);
                table.multiply(type, &down_term, 1, 0, rows, s.width,
                               {static_cast<char*>(y.data_ptr()) + first * s.width * size, type, s.width, false, bias(down_bias)},
                               space);
            }
        });
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& up, const Tensor& down, const Optional& gate,
                          const Optional& gate_bias, const Optional& up_bias, const Optional& down_bias, int64_t kind,
                          std::vector<int64_t> widths, std::vector<int64_t> rows) {
        const FeedForwardWeights w{value(gate), value(gate_bias), up, value(up_bias), down, value(down_bias)};
        const FeedForwardShape s(x, widths, rows, static_cast<FeedForwardKind>(kind));
        Tensor u = at::empty({s.hidden}, x.options()), g = s.gated ? at::empty({s.hidden}, x.options()) : Tensor();
        Tensor y = compute(x, w, s, g, u);
        context->save_for_backward({x, up, down, w.gate, g, u});
        context->saved_data["kind"] = kind;
        context->saved_data["widths"] = std::move(widths);
        context->saved_data["rows"] = std::move(rows);
        context->saved_data["biases"] = std::vector<int64_t>{w.gate_bias.defined(), w.up_bias.defined(), w.down_bias.defined()};
        return y;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("feed_forward.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &up = saved[1], &down = saved[2], &gate = saved[3], &g = saved[4], &u = saved[5];
        const Tensor dy = gradients[0].contiguous();
        const auto widths = context->saved_data["widths"].toIntVector(), biases = context->saved_data["biases"].toIntVector();
        const FeedForwardShape s(x, widths, context->saved_data["rows"].toIntVector(),
                                 static_cast<FeedForwardKind>(context->saved_data["kind"].toInt()));
        const auto dtype = x.scalar_type();
        const int64_t size = x.element_size(), widest = s.widths[0];
        Tensor dx = at::empty_like(x), dup = floats(up.sizes()), ddown = floats(down.sizes()),
               dgate = s.gated ? floats(gate.sizes()) : Tensor();
        dup.narrow(0, widest, up.size(0) - widest).zero_();
        ddown.narrow(1, widest, up.size(0) - widest).zero_();
        if (s.gated) dgate.narrow(0, widest, up.size(0) - widest).zero_();
        Tensor dup_bias = biases[1] != 0 ? at::zeros({up.size(0)}, at::kFloat) : Tensor();
        Tensor dgate_bias = biases[0] != 0 ? at::zeros({up.size(0)}, at::kFloat) : Tensor();

        const Tensor in = x.view({-1, s.width}), out = dx.view({-1, s.width}), slope = dy.view({-1, s.width});
        const bool fused = own_product(dtype);
        const auto pack = [&](const Tensor& w) { return fused ? std::make_unique<Packed>(dtype, w) : nullptr; };
        const auto packed_up = pack(up.narrow(0, 0, widest)), packed_down = pack(down.narrow(1, 0, widest));
        const auto packed_gate = s.gated ? pack(gate.narrow(0, 0, widest)) : nullptr;
        const int64_t most = std::min(span, s.most_rows);
        const Tensor space = at::empty({(s.gated ? 3 : 2) * most * widest}, x.options());
        const Scratch scratch(left_scratch(chunk, std::max(2 * widest, s.width)) + chunk * widest * size);

        for (size_t r = 0; r < s.widths.size(); r++) {
            const int64_t m = s.widths[r];
            for (int64_t row = 0; row < s.rows[r]; row += span) {
                const int64_t rows = std::min(span, s.rows[r] - row), first = s.firsts[r] + row;
                const Tensor h = space.narrow(0, 0, rows * m).view({rows, m}),
                             du = space.narrow(0, most * widest, rows * m).view({rows, m});
                const Tensor dg = s.gated ? space.narrow(0, 2 * most * widest, rows * m).view({rows, m}) : Tensor();
                const Tensor part = in.narrow(0, first, rows), dpart = slope.narrow(0, first, rows), dout = out.narrow(0, first, rows);
                const int64_t start = s.offsets[r] + row * m;
                const auto slopes = [&](int64_t i, int64_t count, const void* dh) {
                    const auto at_row = [&](const Tensor& t, int64_t offset) {
                        return t.defined() ? static_cast<char*>(t.data_ptr()) + (offset + i * m) * size : nullptr;
                    };
                    cpu::table().activate_backward[element(dtype)](s.activation, at_row(g, start), at_row(u, start), dh, at_row(dg, 0),
                                                                   at_row(du, 0), at_row(h, 0), count * m);
                };
                if (fused) {
                    hidden_gradients(s, dpart, *packed_down, *packed_up, packed_gate.get(), du, dg, dout, m, scratch, slopes);
                    const Packed right(dtype, part);
                    const bool more = r > 0 || row > 0;
                    run(dtype, {right.term(matrix(du.t()), rows)}, m, s.width, {dup.data_ptr(), cpu::Float, s.width, more});
                    if (s.gated) run(dtype, {right.term(matrix(dg.t()), rows)}, m, s.width, {dgate.data_ptr(), cpu::Float, s.width, more});
                    const Packed values(dtype, h);
                    run(dtype, {values.term(matrix(dpart.t()), rows)}, s.width, m, {ddown.data_ptr(), cpu::Float, ddown.stride(0), more});
                } else {
                    const bool more = r > 0 || row > 0;
                    Tensor dh = at::empty({rows, m}, x.options());
                    product(dh, dpart, down.narrow(1, 0, m), dtype);
                    share(rows, row_grain(m), [&](int64_t begin, int64_t end) {
                        slopes(begin, end - begin, static_cast<char*>(dh.data_ptr()) + begin * m * size);
                    });
                    Tensor sum = floats({rows, s.width});
                    product(sum, du, up.narrow(0, 0, m), dtype);
                    if (s.gated) product(sum, dg, gate.narrow(0, 0, m), dtype, true);
                    Tensor(dout).copy_(sum);
                    product(dup.narrow(0, 0, m), du.t(), part, dtype, more);
                    if (s.gated) product(dgate.narrow(0, 0, m), dg.t(), part, dtype, more);
                    product(ddown.narrow(1, 0, m), dpart.t(), h, dtype, more);
                }
                if (dup_bias.defined()) dup_bias.narrow(0, 0, m).add_(column_sums(du));
                if (dgate_bias.defined()) dgate_bias.narrow(0, 0, m).add_(column_sums(dg));
            }
        }
        // In the order of forward's tensors: absent ones have no place.
        variable_list result{dx, dup, ddown};
        result.push_back(dgate);
        result.push_back(dgate_bias);
        result.push_back(dup_bias);
        result.push_back(biases[2] != 0 ? column_sums(slope) : Tensor());
        result.resize(result.size() + 3);
        return result;
    }

    // For each row of a span: the gradients of what the activation was given, and of x.
    template <class Slopes>
    static void hidden_gradients(const FeedForwardShape& s, const Tensor& dy, const Packed& down, const Packed& up, const Packed* gate,
                                 const Tensor& du, const Tensor& dg, const Tensor& dx, int64_t m, const Scratch& scratch,
                                 const Slopes& slopes) {
        const cpu::Table& table = cpu::table();
        const cpu::Element type = element(dy);
        const int64_t total = dy.size(0), size = dy.element_size(), products = left_scratch(chunk, std::max(2 * s.widths[0], s.width));
        share((total + chunk - 1) / chunk, 1, [&](int64_t begin, int64_t end) {
            char* space = static_cast<char*>(scratch.mine());
            char* dh = space + (products + 63) / 64 * 64;
            for (int64_t c = begin; c < end; c++) {
                const int64_t row = c * chunk, rows = std::min(chunk, total - row);
                const auto part = [&](const Tensor& t) {
                    cpu::Matrix x = matrix(t);
                    x.data = static_cast<const char*>(x.data) + row * x.row * size;
                    return x;
                };
                const cpu::Term back = down.term(part(dy), s.width);
                table.multiply(type, &back, 1, 0, rows, m, {dh, type, m}, space);
                slopes(row, rows, dh);
                cpu::Term terms[2] = {up.term(part(du), m)};
                if (gate != nullptr) terms[1] = gate->term(part(dg), m);
                table.multiply(type, terms, gate != nullptr ? 2 : 1, 0, rows, s.width,
                               {static_cast<char*>(dx.data_ptr()) + row * s.width * size, type, s.width}, space);
            }
        });
    }
};

}  // namespace

Tensor feed_forward(const Tensor& x, const FeedForwardWeights& weights, FeedForwardKind kind, at::IntArrayRef widths,
                    at::IntArrayRef rows) {
    const char* name = "FeedForward";
    check_activation(name, "x", x);
    const int64_t streams = static_cast<int64_t>(widths.size());
    TORCH_CHECK(streams > 0, "FeedForward: widths is empty, but must hold one width per stream");
    const Segments segments(name, x, streams, rows);
    TORCH_CHECK(static_cast<int32_t>(kind) >= 0 && static_cast<int32_t>(kind) <= 3, "FeedForward: unknown kind ",
                static_cast<int32_t>(kind));
    const int64_t width = x.size(2);
    TORCH_CHECK(weights.up.defined() && weights.up.dim() == 2, "FeedForward: up must be (hidden, ", width, ")");
    const int64_t hidden = weights.up.size(0);
    check_weight(name, "up", weights.up, x, {hidden, width});
    check_weight(name, "down", weights.down, x, {width, hidden});
    TORCH_CHECK(gated(kind) == weights.gate.defined(), "FeedForward: the kind ",
                gated(kind) ? "needs a gate, but none was given" : "has no gate, but one was given");
    TORCH_CHECK(gated(kind) || !weights.gate_bias.defined(), "FeedForward: gateBias was given without a gate");
    if (weights.gate.defined()) check_weight(name, "gate", weights.gate, x, {hidden, width});
    if (weights.gate_bias.defined()) check_weight(name, "gateBias", weights.gate_bias, x, {hidden});
    if (weights.up_bias.defined()) check_weight(name, "upBias", weights.up_bias, x, {hidden});
    if (weights.down_bias.defined()) check_weight(name, "downBias", weights.down_bias, x, {width});
    for (int64_t r = 0; r < streams; r++) {
        TORCH_CHECK(widths[r] >= 1 && widths[r] <= hidden && (r == 0 || widths[r] <= widths[r - 1]), "FeedForward: widths are ", widths,
                    ", but must run from the widest to the narrowest, each in 1..", hidden);
    }
    if (!x.is_cpu() || x.numel() == 0) return composite::feed_forward(x, weights, kind, widths, rows);
    const Tensor in = x.contiguous();
    const auto& w = weights;
    if (differentiable({x, w.gate, w.gate_bias, w.up, w.up_bias, w.down, w.down_bias})) {
        return FeedForwardFunction::apply(in, w.up, w.down, optional(w.gate), optional(w.gate_bias), optional(w.up_bias),
                                          optional(w.down_bias), static_cast<int64_t>(kind), widths.vec(), rows.vec());
    }
    return FeedForwardFunction::compute(in, w, FeedForwardShape(in, widths, rows, kind), {}, {});
}

}  // namespace mf::kernels
