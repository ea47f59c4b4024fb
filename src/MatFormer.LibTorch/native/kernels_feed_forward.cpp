// The nested feed-forward.
#include <cstring>

#include "kernels_common.h"

namespace mf::kernels {

namespace {

// Rows of a stream that one thread takes through the whole layer before the next ones, so that they stay in its cache.
constexpr int64_t chunk = 96;
static_assert(chunk % cpu::depth_unit == 0);
// Rows whose hidden values are kept for the gradients of the weights.
constexpr int64_t span = 1024;

// Hidden units first..last, and how many streams of a group have them: its first ones, being the widest.
struct Slab {
    int64_t first, last;
    int64_t streams;
    int64_t size() const { return last - first; }
};

// Streams over the same rows of x, for which it is multiplied once: one, or all of them where they part. Slab after slab adds to the
// results of the streams that have it, so that each stream is done when the last of its slabs is; and what a slab's gradients come from is
// the sum of the gradients of those streams.
struct Group {
    int64_t first, rows;  // of x, and of the first stream's result, in tokens; the other streams' results follow
    int64_t width, offset;  // hidden units, and where the group's hidden values start
    std::vector<Slab> slabs;  // the narrowest stream's first

    bool alone() const { return slabs[0].streams == 1; }
    // The first of the streams that are done with a slab; the last is the last that has it.
    int64_t done(size_t slab) const { return slab + 1 < slabs.size() ? slabs[slab + 1].streams : 0; }
};

struct FeedForwardShape {
    std::vector<Group> groups;  // the widest first
    int64_t streams;
    int64_t most_rows;  // of a group
    int64_t width;
    int64_t hidden;  // hidden values of all groups
    bool gated;
    int activation;

    FeedForwardShape(const Tensor& x, at::IntArrayRef widths, at::IntArrayRef rows, bool parting, FeedForwardKind kind)
        : streams(static_cast<int64_t>(widths.size())),
          width(x.size(2)),
          hidden(0),
          gated(kernels::gated(kind)),
          activation(kind == FeedForwardKind::SquaredRelu ? 1
                     : kind == FeedForwardKind::SwiGlu    ? 2
                                                          : 0) {
        const int64_t time = x.size(1);
        if (parting) {
            Group all{0, x.size(0) * time, widths[0], 0, {}};
            int64_t first = 0;
            for (int64_t r = streams; r-- > 0; first = widths[r]) {
                if (widths[r] > first) all.slabs.push_back({first, widths[r], r + 1});
            }
            groups.push_back(all);
            hidden = all.rows * all.width;
        } else {
            const Segments segments("FeedForward", x, streams, rows);
            for (size_t r = 0; r < widths.size(); r++) {
                groups.push_back({segments.first[r] * time, segments.count[r] * time, widths[r], hidden, {{0, widths[r], 1}}});
                hidden += groups[r].rows * widths[r];
            }
        }
        most_rows = 0;
        for (const Group& group : groups) most_rows = std::max(most_rows, group.rows);
    }

    // What each slab of the widest group multiplies; the others have only one, and begin as that does.
    std::vector<Packed> packed(at::ScalarType dtype, const Tensor& down, bool turned) const {
        std::vector<Packed> slabs;
        for (const Slab& slab : groups[0].slabs) {
            const Tensor part = down.narrow(1, slab.first, slab.size());
            slabs.emplace_back(dtype, turned ? part.t() : part);
        }
        return slabs;
    }
};

struct FeedForwardFunction : Function<FeedForwardFunction> {
    // `g` and `u`, what the activation is given, are filled in if they are defined.
    static Tensor compute(const Tensor& x, const FeedForwardWeights& w, const FeedForwardShape& s, const Tensor& g, const Tensor& u) {
        const auto dtype = x.scalar_type();
        const Tensor gate_bias = rounded(w.gate_bias, dtype), up_bias = rounded(w.up_bias, dtype), down_bias = rounded(w.down_bias, dtype);
        const int64_t copies = s.groups[0].alone() ? 1 : s.streams;
        Tensor y = at::empty({copies * x.size(0), x.size(1), s.width}, x.options());
        const Tensor in = x.view({-1, s.width}), out = y.view({-1, s.width});
        if (own_product(dtype) && s.most_rows > few) {
            fused(in, w, s, g, u, out, gate_bias, up_bias, down_bias);
            return y;
        }

        for (const Group& group : s.groups) {
            const int64_t m = group.width, rows = group.rows;
            const auto hidden = [&](const Tensor& kept) {
                return kept.defined() ? kept.narrow(0, group.offset, rows * m).view({rows, m}) : at::empty({rows, m}, x.options());
            };
            const auto head = [&](const Tensor& b) { return b.defined() ? b.narrow(0, 0, m) : b; };
            const Tensor part = in.narrow(0, group.first, rows), b = hidden(u);
            project(b, part, w.up.narrow(0, 0, m), head(up_bias));
            Tensor a;
            if (s.gated) project(a = hidden(g), part, w.gate.narrow(0, 0, m), head(gate_bias));
            Tensor h = at::empty({rows, m}, x.options());
            activate(s, a.defined() ? a.data_ptr() : nullptr, b.data_ptr(), h.data_ptr(), rows * m, dtype);
            if (group.alone()) {
                project(out.narrow(0, group.first, rows), h, w.down.narrow(1, 0, m), down_bias);
                continue;
            }
            const Tensor sums = floats({rows, s.width});
            for (size_t k = 0; k < group.slabs.size(); k++) {
                const Slab& slab = group.slabs[k];
                product(sums, h.narrow(1, slab.first, slab.size()), w.down.narrow(1, slab.first, slab.size()).t(), dtype, k > 0,
                        k == 0 ? down_bias : Tensor());
                for (int64_t r = group.done(k); r < slab.streams; r++) out.narrow(0, group.first + r * rows, rows).copy_(sums);
            }
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
        const int64_t size = x.element_size(), widest = s.groups[0].width;
        const Packed up(dtype, w.up.narrow(0, 0, widest).t());
        const Packed gate = s.gated ? Packed(dtype, w.gate.narrow(0, 0, widest).t()) : up;
        const std::vector<Packed> down = s.packed(dtype, w.down, true);
        const int64_t products = left_scratch(chunk, std::max(widest, s.width)), sums_size = s.groups[0].alone() ? 0 : chunk * s.width * 4;
        const Scratch scratch(products + sums_size + 3 * chunk * widest * size);
        std::vector<std::pair<size_t, int64_t>> chunks;  // the group, and where in it
        for (size_t i = 0; i < s.groups.size(); i++) {
            for (int64_t row = 0; row < s.groups[i].rows; row += chunk) chunks.emplace_back(i, row);
        }
        const cpu::Matrix in = matrix(x);

        share(static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end) {
            char* space = static_cast<char*>(scratch.mine());
            char* sums = space + (products + 63) / 64 * 64;
            char* hidden = sums + sums_size;
            for (int64_t c = begin; c < end; c++) {
                const auto [i, row] = chunks[static_cast<size_t>(c)];
                const Group& group = s.groups[i];
                const int64_t m = group.width, offset = group.offset + row * m;
                const int64_t rows = std::min(chunk, group.rows - row), first = group.first + row;
                const auto kept = [&](const Tensor& t, int64_t j) {
                    return t.defined() ? static_cast<char*>(t.data_ptr()) + offset * size : hidden + j * chunk * m * size;
                };
                char *a = s.gated ? kept(g, 0) : nullptr, *b = kept(u, 1), *h = hidden + 2 * chunk * m * size;
                cpu::Matrix part = in;
                part.data = static_cast<const char*>(in.data) + first * in.row * size;
                const auto bias = [](const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; };
                cpu::Term up_term = up.term(part, s.width);
                up_term.ahead = group.rows - row - rows;
                table.multiply(type, &up_term, 1, 0, rows, m, {b, type, m, false, bias(up_bias)}, space);
                if (s.gated) {
                    const cpu::Term gate_term = gate.term(part, s.width);
                    table.multiply(type, &gate_term, 1, 0, rows, m, {a, type, m, false, bias(gate_bias)}, space);
                }
                table.activate[type](s.activation, a, b, h, rows * m);
                const auto result = [&](int64_t stream) {
                    return static_cast<char*>(y.data_ptr()) + (first + stream * group.rows) * s.width * size;
                };
                for (size_t k = 0; k < group.slabs.size(); k++) {
                    const Slab& slab = group.slabs[k];
                    const cpu::Term term = down[k].term({h + slab.first * size, type, m, 1}, slab.size());
                    const cpu::Target whole{result(0), type, s.width, false, bias(down_bias)};
                    const cpu::Target sum{sums, cpu::Float, s.width, k > 0, k == 0 ? bias(down_bias) : nullptr};
                    table.multiply(type, &term, 1, 0, rows, s.width, group.alone() ? whole : sum, space);
                    for (int64_t r = group.done(k); r < slab.streams && !group.alone(); r++) {
                        if (type == cpu::Float) {
                            std::memcpy(result(r), sums, static_cast<size_t>(rows * s.width * size));
                        } else {
                            table.to_narrow(reinterpret_cast<const float*>(sums), result(r), rows * s.width);
                        }
                    }
                }
            }
        });
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& up, const Tensor& down, const Optional& gate,
                          const Optional& gate_bias, const Optional& up_bias, const Optional& down_bias, int64_t kind,
                          std::vector<int64_t> widths, std::vector<int64_t> rows, bool parting) {
        const FeedForwardWeights w{value(gate), value(gate_bias), up, value(up_bias), down, value(down_bias)};
        const FeedForwardShape s(x, widths, rows, parting, static_cast<FeedForwardKind>(kind));
        Tensor u = at::empty({s.hidden}, x.options()), g = s.gated ? at::empty({s.hidden}, x.options()) : Tensor();
        Tensor y = compute(x, w, s, g, u);
        context->save_for_backward({x, up, down, w.gate, g, u});
        context->saved_data["kind"] = kind;
        context->saved_data["widths"] = std::move(widths);
        context->saved_data["rows"] = std::move(rows);
        context->saved_data["parting"] = parting;
        context->saved_data["biases"] = std::vector<int64_t>{w.gate_bias.defined(), w.up_bias.defined(), w.down_bias.defined()};
        return y;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("feed_forward.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &up = saved[1], &down = saved[2], &gate = saved[3], &g = saved[4], &u = saved[5];
        const Tensor dy = gradients[0].contiguous();
        const auto widths = context->saved_data["widths"].toIntVector(), biases = context->saved_data["biases"].toIntVector();
        const FeedForwardShape s(x, widths, context->saved_data["rows"].toIntVector(), context->saved_data["parting"].toBool(),
                                 static_cast<FeedForwardKind>(context->saved_data["kind"].toInt()));
        const auto dtype = x.scalar_type();
        const int64_t widest = s.groups[0].width;
        Tensor dx = at::empty_like(x), dup = floats(up.sizes()), ddown = floats(down.sizes()),
               dgate = s.gated ? floats(gate.sizes()) : Tensor();
        dup.narrow(0, widest, up.size(0) - widest).zero_();
        ddown.narrow(1, widest, up.size(0) - widest).zero_();
        if (s.gated) dgate.narrow(0, widest, up.size(0) - widest).zero_();
        Tensor dup_bias = biases[1] != 0 ? at::zeros({up.size(0)}, at::kFloat) : Tensor();
        Tensor dgate_bias = biases[0] != 0 ? at::zeros({up.size(0)}, at::kFloat) : Tensor();

        const Tensor in = x.view({-1, s.width}), out = dx.view({-1, s.width}), slope = dy.view({-1, s.width});
        const Gradients gradients_of{dup, dgate, ddown, dup_bias, dgate_bias};
        if (own_product(dtype)) {
            fused_gradients(s, in, slope, out, up, gate, down, g, u, gradients_of);
        } else {
            plain_gradients(s, in, slope, out, up, gate, down, g, u, gradients_of);
        }
        // In the order of forward's tensors: absent ones have no place.
        variable_list result{dx, dup, ddown};
        result.push_back(dgate);
        result.push_back(dgate_bias);
        result.push_back(dup_bias);
        result.push_back(biases[2] != 0 ? column_sums(slope) : Tensor());
        result.resize(result.size() + 4);
        return result;
    }

    // What is filled in; those without a bias or gate are undefined.
    struct Gradients {
        Tensor up, gate, down, up_bias, gate_bias;
    };

    static void plain_gradients(const FeedForwardShape& s, const Tensor& x, const Tensor& dy, const Tensor& dx, const Tensor& up,
                                const Tensor& gate, const Tensor& down, const Tensor& g, const Tensor& u, const Gradients& to) {
        const auto dtype = x.scalar_type();
        bool more = false;
        for (const Group& group : s.groups) {
            const int64_t m = group.width;
            for (int64_t row = 0; row < group.rows; row += span) {
                const int64_t rows = std::min(span, group.rows - row), first = group.first + row, start = group.offset + row * m;
                const auto hidden = [&] { return at::empty({rows, m}, x.options()); };
                const Tensor h = hidden(), du = hidden(), dg = s.gated ? hidden() : Tensor(), dh = hidden();
                const Tensor part = x.narrow(0, first, rows);
                std::vector<Tensor> slopes;  // of each slab
                for (const Slab& slab : group.slabs) {
                    const Tensor slope = slopes.emplace_back(slab.streams == 1 ? dy.narrow(0, first, rows) : at::empty_like(part));
                    const auto from = [&](const Tensor& t, int64_t begin) {
                        return static_cast<char*>(t.data_ptr()) + begin * t.element_size();
                    };
                    share(slab.streams > 1 ? rows * s.width : 0, grain, [&](int64_t begin, int64_t end) {
                        cpu::table().sum_blocks[element(dtype)](from(dy, first * s.width), slope.data_ptr(), slab.streams,
                                                                group.rows * s.width, begin, end);
                    });
                    product(dh.narrow(1, slab.first, slab.size()), slope, down.narrow(1, slab.first, slab.size()), dtype);
                }
                share(rows * m, grain, [&](int64_t begin, int64_t end) {
                    const auto at_first = [&](const Tensor& t, int64_t offset) {
                        return t.defined() ? static_cast<char*>(t.data_ptr()) + (offset + begin) * t.element_size() : nullptr;
                    };
                    cpu::table().activate_backward[element(dtype)](s.activation, at_first(g, start), at_first(u, start), at_first(dh, 0),
                                                                   at_first(dg, 0), at_first(du, 0), at_first(h, 0), end - begin);
                });
                Tensor sum = floats({rows, s.width});
                product(sum, du, up.narrow(0, 0, m), dtype);
                if (s.gated) product(sum, dg, gate.narrow(0, 0, m), dtype, true);
                dx.narrow(0, first, rows).copy_(sum);
                product(to.up.narrow(0, 0, m), du.t(), part, dtype, more);
                if (s.gated) product(to.gate.narrow(0, 0, m), dg.t(), part, dtype, more);
                for (size_t k = 0; k < slopes.size(); k++) {
                    const Slab& slab = group.slabs[k];
                    product(to.down.narrow(1, slab.first, slab.size()), slopes[k].t(), h.narrow(1, slab.first, slab.size()), dtype, more);
                }
                if (to.up_bias.defined()) to.up_bias.narrow(0, 0, m).add_(column_sums(du));
                if (to.gate_bias.defined()) to.gate_bias.narrow(0, 0, m).add_(column_sums(dg));
                more = true;
            }
        }
    }

    // By spans of rows, in two passes. The first takes chunk after chunk through the layer, and packs what the gradients of the weights
    // multiply while it is in the cache; the second multiplies that.
    static void fused_gradients(const FeedForwardShape& s, const Tensor& x, const Tensor& dy, const Tensor& dx, const Tensor& up_weight,
                                const Tensor& gate_weight, const Tensor& down_weight, const Tensor& g, const Tensor& u,
                                const Gradients& to) {
        const cpu::Table& table = cpu::table();
        const auto dtype = x.scalar_type();
        const cpu::Element type = element(dtype);
        const int64_t size = x.element_size(), widest = s.groups[0].width, most = std::min(span, s.most_rows);
        const Packed up(dtype, up_weight.narrow(0, 0, widest));
        const Packed gate = s.gated ? Packed(dtype, gate_weight.narrow(0, 0, widest)) : up;
        const std::vector<Packed> down = s.packed(dtype, down_weight, false);
        const int64_t slabs = static_cast<int64_t>(down.size());
        const int64_t products = left_scratch(chunk, std::max(2 * widest, s.width)), hidden = chunk * widest * size;
        const int64_t slope = s.groups[0].alone() ? 0 : chunk * s.width * size;
        const Scratch scratch(products + 64 + 3 * hidden + slabs * slope);
        const int64_t deepest = table.word_count(type, most);
        const auto left_space = [&](int64_t rows) { return at::empty({cpu::tiles_of(rows) * cpu::tile_stride(deepest) * 4}, at::kByte); };
        const auto right_space = [&](int64_t count) { return at::empty({count * cpu::panel * deepest * 4}, at::kByte); };
        const Tensor du_left = left_space(widest), dg_left = s.gated ? left_space(widest) : Tensor();
        const Tensor x_right = right_space(cpu::panels_of(s.width)), h_right = right_space(cpu::panels_of(widest) + slabs);
        std::vector<Tensor> dy_left;
        for (int64_t k = 0; k < slabs; k++) dy_left.push_back(left_space(s.width));

        bool more = false;
        for (const Group& group : s.groups) {
            const int64_t m = group.width;
            for (int64_t row = 0; row < group.rows; row += span) {
                const int64_t total = std::min(span, group.rows - row), first = group.first + row, start = group.offset + row * m;
                const int64_t words = table.word_count(type, total), stride = cpu::tile_stride(words), chunks = (total + chunk - 1) / chunk;
                const auto sums_of = [&](const Tensor& bias) { return bias.defined() ? at::zeros({chunks, m}, at::kFloat) : Tensor(); };
                const Tensor up_sums = sums_of(to.up_bias), gate_sums = sums_of(to.gate_bias);
                std::vector<char*> right_of;  // each slab's part of h_right
                auto* right = static_cast<char*>(h_right.data_ptr());
                for (const Slab& slab : group.slabs) {
                    right_of.push_back(right);
                    right += cpu::panels_of(slab.size()) * cpu::panel * words * 4;
                }
                share(chunks, 1, [&](int64_t begin, int64_t end) {
                    char* space = static_cast<char*>(scratch.mine());
                    char* h = space + (products + 63) / 64 * 64;
                    char *du = h + hidden, *dg = du + hidden, *slopes = dg + hidden;
                    for (int64_t c = begin; c < end; c++) {
                        const int64_t begin_row = c * chunk, rows = std::min(chunk, total - begin_row);
                        const int64_t word = table.word_count(type, begin_row);
                        const auto part = [&](const Tensor& t) {
                            cpu::Matrix rows_of = matrix(t);
                            rows_of.data = static_cast<const char*>(rows_of.data) + (first + begin_row) * rows_of.row * size;
                            return rows_of;
                        };
                        const auto pack_left = [&](const cpu::Matrix& a, int64_t columns, const Tensor& to_space) {
                            table.pack_left(type, {a.data, type, 1, a.row}, columns, rows, to_space.data_ptr(), stride, word);
                        };
                        const auto pack_right = [&](const cpu::Matrix& b, int64_t columns, void* to_space) {
                            table.pack_right(type, b, rows, columns, static_cast<char*>(to_space) + word * cpu::panel * 4, words);
                        };
                        const auto kept = [&](const Tensor& t) {
                            return t.defined() ? static_cast<char*>(t.data_ptr()) + (start + begin_row * m) * size : nullptr;
                        };

                        // The gradient of what the activation gives makes place for that of what `up` gives.
                        for (size_t k = 0; k < group.slabs.size(); k++) {
                            const Slab& slab = group.slabs[k];
                            cpu::Matrix from = part(dy);
                            if (slab.streams > 1) {
                                char* sum = slopes + static_cast<int64_t>(k) * slope;
                                table.sum_blocks[type](from.data, sum, slab.streams, group.rows * s.width, 0, rows * s.width);
                                from.data = sum;
                            }
                            cpu::Term back = down[k].term(from, s.width);
                            if (slab.streams == 1) back.ahead = total - begin_row - rows;
                            table.multiply(type, &back, 1, 0, rows, slab.size(), {du + slab.first * size, type, m}, space);
                            pack_left(from, s.width, dy_left[k]);
                        }
                        table.activate_backward[type](s.activation, kept(g), kept(u), du, dg, du, h, rows * m);
                        const cpu::Term terms[2] = {up.term({du, type, m, 1}, m), gate.term({dg, type, m, 1}, m)};
                        table.multiply(type, terms, s.gated ? 2 : 1, 0, rows, s.width,
                                       {static_cast<char*>(dx.data_ptr()) + (first + begin_row) * s.width * size, type, s.width}, space);

                        pack_right(part(x), s.width, x_right.data_ptr());
                        pack_left({du, type, m, 1}, m, du_left);
                        if (s.gated) pack_left({dg, type, m, 1}, m, dg_left);
                        for (size_t k = 0; k < group.slabs.size(); k++) {
                            const Slab& slab = group.slabs[k];
                            pack_right({h + slab.first * size, type, m, 1}, slab.size(), right_of[k]);
                        }
                        if (up_sums.defined()) table.column_sums[type](du, up_sums.data_ptr<float>() + c * m, 0, rows, m);
                        if (gate_sums.defined()) table.column_sums[type](dg, gate_sums.data_ptr<float>() + c * m, 0, rows, m);
                    }
                });
                if (up_sums.defined()) to.up_bias.narrow(0, 0, m).add_(up_sums.sum(0));
                if (gate_sums.defined()) to.gate_bias.narrow(0, 0, m).add_(gate_sums.sum(0));

                const auto term = [&](const Tensor& left, const void* right) {
                    return cpu::Term{{}, total, right, words, left.data_ptr(), stride};
                };
                const auto target = [&](const Tensor& t) { return cpu::Target{t.data_ptr(), cpu::Float, t.stride(0), more}; };
                std::vector<Task> tasks{{term(du_left, x_right.data_ptr()), m, s.width, target(to.up)}};
                if (s.gated) tasks.push_back({term(dg_left, x_right.data_ptr()), m, s.width, target(to.gate)});
                for (size_t k = 0; k < group.slabs.size(); k++) {
                    const Slab& slab = group.slabs[k];
                    const Tensor part = to.down.narrow(1, slab.first, slab.size());
                    tasks.push_back({term(dy_left[k], right_of[k]), s.width, slab.size(), target(part)});
                }
                run(dtype, tasks);
                more = true;
            }
        }
    }
};

}  // namespace

Tensor feed_forward(const Tensor& x, const FeedForwardWeights& weights, FeedForwardKind kind, at::IntArrayRef widths,
                    at::IntArrayRef rows, bool parting) {
    const char* name = "FeedForward";
    check_activation(name, "x", x);
    const int64_t streams = static_cast<int64_t>(widths.size());
    TORCH_CHECK(streams > 0, "FeedForward: widths is empty, but must hold one width per stream");
    check_rank(name, "x", x, 3, parting ? "(B, T, W)" : "(N, T, W)");
    if (parting) {
        TORCH_CHECK(rows.empty(), "FeedForward: rows are ", rows, ", but streams that part all have those of x");
    } else {
        const Segments segments(name, x, streams, rows);
    }
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
    if (composed(x) || x.numel() == 0) return composite::feed_forward(x, weights, kind, widths, rows, parting);
    const Tensor in = x.contiguous();
    const auto& w = weights;
    if (differentiable({x, w.gate, w.gate_bias, w.up, w.up_bias, w.down, w.down_bias})) {
        return FeedForwardFunction::apply(in, w.up, w.down, optional(w.gate), optional(w.gate_bias), optional(w.up_bias),
                                          optional(w.down_bias), static_cast<int64_t>(kind), widths.vec(), rows.vec(), parting);
    }
    return FeedForwardFunction::compute(in, w, FeedForwardShape(in, widths, rows, parting, kind), {}, {});
}

}  // namespace mf::kernels
