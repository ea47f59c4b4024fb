#include "kernels.h"

#include <cmath>

#include "kernels_common.h"

namespace mf::kernels {

namespace {

// ---- Embedding ----

struct EmbeddingFunction : Function<EmbeddingFunction> {
    static Tensor compute(const Tensor& weight, const Tensor& tokens, at::ScalarType dtype) {
        const int64_t vocabulary = weight.size(0), width = weight.size(1), count = tokens.numel();
        const Tensor ids = tokens.contiguous(), table = weight.contiguous();
        const auto* id = ids.data_ptr<int64_t>();
        for (int64_t i = 0; i < count; i++) {
            TORCH_CHECK_INDEX(id[i] >= 0 && id[i] < vocabulary, "Embedding: token ", id[i], " is outside 0..", vocabulary - 1);
        }
        Tensor y = at::empty({tokens.size(0), tokens.size(1), width}, table.options().dtype(dtype));
        const auto* in = table.data_ptr<float>();
        auto* out = static_cast<char*>(y.data_ptr());
        share(count, row_grain(width), [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                const float* row = in + id[i] * width;
                if (dtype == at::kFloat) {
                    std::copy_n(row, width, reinterpret_cast<float*>(out) + i * width);
                } else {
                    cpu::table().to_narrow(row, out + i * width * 2, width);
                }
            }
        });
        return y;
    }

    static Tensor forward(AutogradContext* context, const Tensor& weight, const Tensor& tokens, at::ScalarType dtype) {
        context->save_for_backward({tokens});
        context->saved_data["vocabulary"] = weight.size(0);
        return compute(weight, tokens, dtype);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("embedding.backward");
        const Tensor ids = context->get_saved_variables()[0].contiguous(), dy = rows_of(gradients[0]).to(at::kFloat);
        const int64_t width = dy.size(1), count = ids.numel();
        Tensor dweight = at::zeros({context->saved_data["vocabulary"].toInt(), width}, at::kFloat);
        const auto* id = ids.data_ptr<int64_t>();
        const auto* in = dy.data_ptr<float>();
        auto* out = dweight.data_ptr<float>();
        // Threads share the columns, so that each sum is taken in the order of the tokens.
        share(width, std::max<int64_t>(16, grain / std::max<int64_t>(1, count)), [&](int64_t first, int64_t last) {
            for (int64_t i = 0; i < count; i++) {
                for (int64_t j = first; j < last; j++) out[id[i] * width + j] += in[i * width + j];
            }
        });
        return {dweight, Tensor(), Tensor()};
    }
};

// ---- Positions ----

struct PositionsFunction : Function<PositionsFunction> {
    static Tensor compute(const Tensor& x, const Tensor& weight, int64_t position) {
        const Tensor in = x.contiguous(), rows = weight.contiguous();
        Tensor y = at::empty_like(in);
        const int64_t width = x.size(2);
        share(x.size(0) * x.size(1), row_grain(width), [&](int64_t first, int64_t last) {
            cpu::table().add_rows[element(x)](in.data_ptr(), rows.data_ptr<float>() + position * width, y.data_ptr(), first, last,
                                              x.size(1), width);
        });
        return y;
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, int64_t position) {
        context->saved_data["position"] = position;
        context->saved_data["context"] = weight.size(0);
        return compute(x, weight, position);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("positions.backward");
        const Tensor dy = gradients[0];
        Tensor dweight = at::zeros({context->saved_data["context"].toInt(), dy.size(2)}, at::kFloat);
        dweight.narrow(0, context->saved_data["position"].toInt(), dy.size(1)).copy_(dy.to(at::kFloat).sum(0));
        return {dy, dweight, Tensor()};
    }
};

// ---- Norms ----

struct RmsNormFunction : Function<RmsNormFunction> {
    static Tensor compute(const Tensor& x, const Tensor& weight, double epsilon, const Tensor& statistics) {
        const int64_t width = x.size(-1);
        Tensor y = at::empty_like(x);
        share(statistics.numel(), row_grain(width), [&](int64_t first, int64_t last) {
            cpu::table().rms_forward[element(x)](x.data_ptr(), weight.data_ptr<float>(), y.data_ptr(), statistics.data_ptr<float>(), first,
                                                 last, width, static_cast<float>(epsilon));
        });
        return y;
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, double epsilon) {
        Tensor statistics = floats({x.numel() / x.size(-1)});
        context->save_for_backward({x, weight, statistics});
        return compute(x, weight, epsilon, statistics);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("norm.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &weight = saved[1], &statistics = saved[2], dy = gradients[0].contiguous();
        const int64_t width = x.size(-1);
        Tensor dx = at::empty_like(x), dweight = floats({width});
        sum_rows(statistics.numel(), width, {dweight}, [&](int64_t first, int64_t last, float* sums) {
            cpu::table().rms_backward[element(x)](dy.data_ptr(), x.data_ptr(), weight.data_ptr<float>(), statistics.data_ptr<float>(),
                                                  dx.data_ptr(), sums, first, last, width);
        });
        return {dx, dweight, Tensor()};
    }
};

struct LayerNormFunction : Function<LayerNormFunction> {
    static Tensor compute(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon, const Tensor& statistics) {
        const int64_t width = x.size(-1);
        Tensor y = at::empty_like(x);
        share(statistics.size(0), row_grain(width), [&](int64_t first, int64_t last) {
            cpu::table().layer_forward[element(x)](x.data_ptr(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr(),
                                                   statistics.data_ptr<float>(), first, last, width, static_cast<float>(epsilon));
        });
        return y;
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
        Tensor statistics = floats({x.numel() / x.size(-1), 2});
        context->save_for_backward({x, weight, statistics});
        return compute(x, weight, bias, epsilon, statistics);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("norm.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &weight = saved[1], &statistics = saved[2], dy = gradients[0].contiguous();
        const int64_t width = x.size(-1);
        Tensor dx = at::empty_like(x), dweight = floats({width}), dbias = floats({width});
        sum_rows(statistics.size(0), width, {dweight, dbias}, [&](int64_t first, int64_t last, float* sums) {
            cpu::table().layer_backward[element(x)](dy.data_ptr(), x.data_ptr(), weight.data_ptr<float>(), statistics.data_ptr<float>(),
                                                    dx.data_ptr(), sums, sums + width, first, last, width);
        });
        return {dx, dweight, dbias, Tensor()};
    }
};

// ---- Linear ----

struct LinearFunction : Function<LinearFunction> {
    static Tensor compute(const Tensor& x, const Tensor& weight, const Tensor& bias) {
        auto shape = x.sizes().vec();
        shape.back() = weight.size(0);
        Tensor y = at::empty(shape, x.options());
        if (y.numel() > 0) project(y.view({-1, weight.size(0)}), rows_of(x), weight, rounded(bias, x.scalar_type()));
        return y;
    }

    static Tensor prefix(const Tensor& weight, int64_t rows, int64_t columns) { return weight.narrow(0, 0, rows).narrow(1, 0, columns); }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Optional& bias, int64_t rows) {
        context->save_for_backward({x, weight});
        context->saved_data["bias"] = bias.has_value();
        context->saved_data["rows"] = rows;
        return compute(x, prefix(weight, rows, x.size(-1)), value(bias));
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("linear.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &weight = saved[1], in = rows_of(x), dy = rows_of(gradients[0]);
        const auto dtype = x.scalar_type();
        const int64_t rows = context->saved_data["rows"].toInt(), columns = x.size(-1);
        Tensor dx = at::empty(x.sizes(), x.options()), dweight = floats(weight.sizes());
        product(dx.view({-1, columns}), dy, prefix(weight, rows, columns), dtype);
        product(prefix(dweight, rows, columns), dy.t(), in, dtype);
        if (rows < weight.size(0)) dweight.narrow(0, rows, weight.size(0) - rows).zero_();
        if (columns < weight.size(1)) dweight.narrow(1, columns, weight.size(1) - columns).zero_();
        return {dx, dweight, context->saved_data["bias"].toBool() ? column_sums(dy) : Tensor(), Tensor()};
    }
};

// Queries, keys and values of the same x: its gradient is one sum, and it is laid out once for the gradients of the weights.
struct ProjectionsFunction : Function<ProjectionsFunction> {
    static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& query, const Tensor& key, const Tensor& value,
                                 const Optional& query_bias, const Optional& key_bias, const Optional& value_bias) {
        context->save_for_backward({x, query, key, value});
        context->saved_data["bias"] = query_bias.has_value();
        return compute(x, {query, key, value}, {kernels::value(query_bias), kernels::value(key_bias), kernels::value(value_bias)});
    }

    static variable_list compute(const Tensor& x, const ProjectionWeights& weights, const ProjectionWeights& biases) {
        variable_list y;
        for (size_t i = 0; i < weights.size(); i++) y.push_back(LinearFunction::compute(x, weights[i], biases[i]));
        return y;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("linear.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], in = rows_of(x);
        const auto dtype = x.scalar_type();
        Tensor dx = at::empty(x.sizes(), x.options());
        const Tensor out = dx.view({-1, x.size(-1)});
        std::vector<Tensor> dy, turned, dweights, dbiases;
        for (size_t i = 0; i < gradients.size(); i++) {
            dy.push_back(rows_of(gradients[i]));
            turned.push_back(dy[i].t());
            dweights.push_back(floats(saved[i + 1].sizes()));
            dbiases.push_back(context->saved_data["bias"].toBool() ? column_sums(dy[i]) : Tensor());
        }
        if (own_product(dtype)) {
            const Packed query(dtype, saved[1]), key(dtype, saved[2]), value(dtype, saved[3]);
            const auto term = [&](const Packed& packed, size_t i) { return packed.term(matrix(dy[i]), dy[i].size(1)); };
            run(dtype, {term(query, 0), term(key, 1), term(value, 2)}, out.size(0), out.size(1),
                {out.data_ptr(), element(out), out.stride(0)});
        } else {
            const Tensor sum = floats(out.sizes());
            for (size_t i = 0; i < dy.size(); i++) product(sum, dy[i], saved[i + 1], dtype, i > 0);
            Tensor(out).copy_(sum);
        }
        products(dweights, turned, in, dtype);
        return {dx, dweights[0], dweights[1], dweights[2], dbiases[0], dbiases[1], dbiases[2]};
    }
};

// ---- Rotary positions ----

struct RotaryFunction : Function<RotaryFunction> {
    static Tensor compute(const Tensor& x, const Tensor& cos, const Tensor& sin, float direction) {
        const Tensor in = x.contiguous();
        Tensor y = at::empty_like(in);
        const int64_t heads = x.size(2), depth = x.size(3);
        share(x.size(0) * x.size(1), row_grain(heads * depth), [&](int64_t first, int64_t last) {
            cpu::table().rotary[element(x)](in.data_ptr(), cos.data_ptr<float>(), sin.data_ptr<float>(), y.data_ptr(), first, last,
                                            x.size(1), heads, depth, direction);
        });
        return y;
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& cos, const Tensor& sin) {
        context->save_for_backward({cos, sin});
        return compute(x, cos, sin, 1);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("rotary.backward");
        const auto saved = context->get_saved_variables();
        return {compute(gradients[0], saved[0], saved[1], -1), Tensor(), Tensor()};
    }
};

// ---- Attention ----

cpu::Heads heads_of(const Tensor& x) { return {x.data_ptr(), x.stride(0), x.stride(1), x.stride(2)}; }

// `window` is 0 where all queries see the same keys, of which there are `lengths` if that is defined.
cpu::Attention shape_of(const Tensor& query, const Tensor& key, const Tensor& value, int64_t window, const Tensor& lengths) {
    const bool causal = window > 0;
    return {query.size(0),
            query.size(2),
            key.size(2),
            query.size(1),
            key.size(1),
            query.size(3),
            causal ? window : key.size(1),
            static_cast<float>(1.0 / std::sqrt(static_cast<double>(query.size(3)))),
            heads_of(query),
            heads_of(key),
            heads_of(value),
            causal,
            lengths.defined() ? lengths.data_ptr<int64_t>() : nullptr,
            lengths.defined() ? lengths.size(0) : 0};
}

struct AttentionFunction : Function<AttentionFunction> {
    // `log_sum` (B, H, T), to the base 2, may be undefined: it is for the gradient.
    static Tensor compute(const Tensor& query, const Tensor& key, const Tensor& value, int64_t window, const Tensor& lengths,
                          const Tensor& log_sum) {
        const cpu::Attention a = shape_of(query, key, value, window, lengths);
        Tensor y = at::empty({a.batch, a.queries, a.heads * a.depth}, query.options());
        const Scratch scratch(cpu::attention_forward_scratch(a));
        auto* log = log_sum.defined() ? log_sum.data_ptr<float>() : nullptr;
        const int64_t each = std::max<int64_t>(1, a.queries * a.window * a.depth);
        share(a.batch * a.heads, std::max<int64_t>(1, grain * 4 / each), [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                cpu::table().attention_forward[element(query)](a, i / a.heads, i % a.heads, y.data_ptr(), log, scratch.mine());
            }
        });
        return y;
    }

    static Tensor forward(AutogradContext* context, const Tensor& query, const Tensor& key, const Tensor& value, int64_t window,
                          const Optional& lengths) {
        Tensor log_sum = floats({query.size(0), query.size(2), query.size(1)});
        Tensor y = compute(query, key, value, window, kernels::value(lengths), log_sum);
        context->saved_data["window"] = window;
        context->save_for_backward({query, key, value, y, log_sum, kernels::value(lengths)});
        return y;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("attention.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &query = saved[0], &key = saved[1], &value = saved[2], &y = saved[3], &log_sum = saved[4],
                     dy = gradients[0].contiguous();
        const cpu::Attention a = shape_of(query, key, value, context->saved_data["window"].toInt(), saved[5]);
        Tensor dquery = at::empty(query.sizes(), query.options()), dkey = at::empty(key.sizes(), key.options());
        Tensor dvalue = at::empty(value.sizes(), value.options());
        const Scratch scratch(cpu::attention_backward_scratch(a));
        share(a.batch * a.key_heads, 1, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i++) {
                cpu::table().attention_backward[element(query)](a, i / a.key_heads, i % a.key_heads, y.data_ptr(), dy.data_ptr(),
                                                                log_sum.data_ptr<float>(), dquery.data_ptr(), dkey.data_ptr(),
                                                                dvalue.data_ptr(), scratch.mine());
            }
        });
        return {dquery, dkey, dvalue, Tensor(), Tensor()};
    }
};

// ---- Loss ----

struct CrossEntropyFunction : Function<CrossEntropyFunction> {
    // (R) losses; `derivative` (R*B*T, V), softmax minus one-hot, is filled in if it is defined.
    static Tensor compute(const Tensor& x, const Tensor& head, const Tensor& targets, const Segments& s, const Tensor& derivative) {
        const Tensor in = rows_of(x), ids = targets.contiguous();
        const int64_t classes = head.size(0), width = head.size(1), time = x.size(1);
        const auto* id = ids.data_ptr<int64_t>();
        for (int64_t i = 0; i < ids.numel(); i++) {
            TORCH_CHECK_INDEX(id[i] >= 0 && id[i] < classes, "LinearCrossEntropy: target ", id[i], " is outside 0..", classes - 1);
        }

        // Logits live a block at a time.
        const auto dtype = x.scalar_type();
        const int64_t block = std::clamp<int64_t>(65536 / classes / 12 * 12, 12, 240), size = x.element_size();
        struct Block {
            int64_t row, rows, target;
            double loss;
        };
        std::vector<Block> blocks;
        std::vector<size_t> ends;  // of the blocks of a stream
        for (size_t r = 0; r < s.first.size(); r++) {
            const int64_t each = s.count[r] * time;
            for (int64_t row = 0; row < each; row += block) {
                blocks.push_back({s.first[r] * time + row, std::min(block, each - row), s.source(r) * time + row, 0});
            }
            ends.push_back(blocks.size());
        }
        const auto finish = [&](Block& b, const float* logits) {
            void* slope = derivative.defined() ? static_cast<char*>(derivative.data_ptr()) + b.row * classes * size : nullptr;
            b.loss = cpu::table().cross_entropy[element(dtype)](logits, id + b.target, slope, b.rows, classes);
        };
        const auto count = static_cast<int64_t>(blocks.size());
        if (own_product(dtype)) {
            const Packed packed(dtype, head.t());
            const int64_t products = (left_scratch(block, width) + 63) / 64 * 64;
            const Scratch scratch(products + block * classes * 4);
            const cpu::Term term = packed.term(matrix(in), width);
            share(count, 1, [&](int64_t first, int64_t last) {
                char* space = static_cast<char*>(scratch.mine());
                auto* logits = reinterpret_cast<float*>(space + products);
                for (int64_t i = first; i < last; i++) {
                    Block& b = blocks[static_cast<size_t>(i)];
                    table_multiply(dtype, term, b.row, b.rows, classes, logits, space);
                    finish(b, logits);
                }
            });
        } else {
            size_t begin = 0;
            for (size_t r = 0; r < ends.size(); begin = ends[r++]) {
                const int64_t start = s.first[r] * time, each = s.count[r] * time;
                Tensor logits = floats({each, classes});
                product(logits, in.narrow(0, start, each).to(at::kFloat), head.to(dtype).to(at::kFloat).t(), at::kFloat);
                share(static_cast<int64_t>(ends[r] - begin), 1, [&](int64_t first, int64_t last) {
                    for (int64_t i = first; i < last; i++) {
                        Block& b = blocks[begin + static_cast<size_t>(i)];
                        finish(b, logits.data_ptr<float>() + (b.row - start) * classes);
                    }
                });
            }
        }
        Tensor result = floats({static_cast<int64_t>(ends.size())});
        size_t b = 0;
        for (size_t r = 0; r < ends.size(); r++) {
            double sum = 0;
            for (; b < ends[r]; b++) sum += blocks[b].loss;
            result.data_ptr<float>()[r] = static_cast<float>(sum / static_cast<double>(s.count[r] * time));
        }
        return result;
    }

    static void table_multiply(at::ScalarType dtype, cpu::Term term, int64_t row, int64_t rows, int64_t classes, float* logits,
                               void* space) {
        term.a.data = static_cast<const char*>(term.a.data) + row * term.a.row * (dtype == at::kFloat ? 4 : 2);
        cpu::table().multiply(element(dtype), &term, 1, 0, rows, classes, {logits, cpu::Float, classes}, space);
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& head, const Tensor& targets, int64_t streams,
                          std::vector<int64_t> rows) {
        Tensor derivative = at::empty({x.size(0) * x.size(1), head.size(0)}, x.options());
        Tensor result = compute(x, head, targets, Segments("LinearCrossEntropy", x, streams, rows), derivative);
        context->save_for_backward({x, head, derivative});
        context->saved_data["streams"] = streams;
        context->saved_data["rows"] = std::move(rows);
        return result;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("cross_entropy.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &head = saved[1], &derivative = saved[2], in = rows_of(x), scales = gradients[0].contiguous();
        const Segments s("LinearCrossEntropy", x, context->saved_data["streams"].toInt(), context->saved_data["rows"].toIntVector());
        const auto dtype = x.scalar_type();
        Tensor dx = at::empty(x.sizes(), x.options()), dhead = floats(head.sizes()), out = dx.view({-1, x.size(-1)});
        for (size_t r = 0; r < s.first.size(); r++) {
            const int64_t start = s.first[r] * x.size(1), each = s.count[r] * x.size(1);
            const double scale = static_cast<double>(scales.data_ptr<float>()[r]) / static_cast<double>(each);
            const Tensor slope = derivative.narrow(0, start, each);
            product(out.narrow(0, start, each), slope, head, dtype, false, {}, scale);
            product(dhead, slope.t(), in.narrow(0, start, each), dtype, r > 0, {}, scale);
        }
        return {dx, dhead, Tensor(), Tensor(), Tensor()};
    }
};

// ---- Fork ----

struct ForkFunction : Function<ForkFunction> {
    static Tensor forward(AutogradContext* context, const Tensor& x, int64_t n) {
        context->saved_data["n"] = n;
        return x.repeat({n, 1, 1});
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("fork.backward");
        const Tensor dy = gradients[0].contiguous();
        const int64_t n = context->saved_data["n"].toInt(), stride = dy.numel() / n;
        Tensor dx = at::empty({dy.size(0) / n, dy.size(1), dy.size(2)}, dy.options());
        share(stride, grain, [&](int64_t first, int64_t last) {
            cpu::table().sum_blocks[element(dy)](dy.data_ptr(), dx.data_ptr(), n, stride, first, last);
        });
        return {dx, Tensor()};
    }
};

// Parameters in pieces of at most this many elements, so that threads share them evenly.
constexpr int64_t piece = 16384;

struct Piece {
    size_t parameter;
    int64_t first, count;
};

std::vector<Piece> pieces_of(at::TensorList tensors) {
    std::vector<Piece> pieces;
    for (size_t i = 0; i < tensors.size(); i++) {
        if (!tensors[i].defined()) continue;
        for (int64_t first = 0; first < tensors[i].numel(); first += piece) {
            pieces.push_back({i, first, std::min(piece, tensors[i].numel() - first)});
        }
    }
    return pieces;
}

// x times the first rows and columns of weight.
void check_linear(const char* operation, const Tensor& x, const char* name, const Tensor& weight, const char* bias_name,
                  const Tensor& bias) {
    TORCH_CHECK(weight.defined(), operation, ": ", name, " is missing");
    check_rank(operation, name, weight, 2, "(out, in)");
    TORCH_CHECK(x.dim() > 0 && x.size(-1) == weight.size(1), operation, ": x is ", x.sizes(), ", but its last dimension must be ",
                weight.size(1), " for ", name, " ", weight.sizes());
    check_weight(operation, name, weight, x, weight.sizes());
    if (bias.defined()) check_weight(operation, bias_name, bias, x, {weight.size(0)});
}

Tensor linear_prefix(const char* operation, const Tensor& x, const Tensor& weight, int64_t rows, int64_t columns) {
    if (rows == weight.size(0) && columns == weight.size(1)) return kernels::linear(x, weight, Tensor());
    check_activation(operation, "x", x);
    TORCH_CHECK(x.dim() > 0 && x.size(-1) == columns, operation, ": x is ", x.sizes(), ", but its last dimension must be ", columns,
                " for ", rows, " rows and ", columns, " columns of weight ", weight.sizes());
    check_weight(operation, "weight", weight, x, weight.sizes());
    // One layout for one product: elsewhere other strides may take other paths, and give other bits.
    if (composed(x) || x.numel() == 0) return composite::linear(x, LinearFunction::prefix(weight, rows, columns).contiguous(), Tensor());
    return differentiable({x, weight}) ? LinearFunction::apply(x, weight, Optional(), rows)
                                       : LinearFunction::compute(x, LinearFunction::prefix(weight, rows, columns), {});
}

bool plain(const Tensor& x) { return !composed(x) && x.scalar_type() == at::kFloat && x.is_contiguous(); }

}  // namespace

Segments::Segments(const char* operation, const Tensor& x, int64_t streams, at::IntArrayRef rows) : shared(rows.empty()) {
    TORCH_CHECK(streams > 0, operation, ": there is no stream");
    TORCH_CHECK(x.dim() == 3, operation, ": x is ", x.sizes(), ", but must be (", streams, "*B, T, W)");
    if (shared) {
        TORCH_CHECK(x.size(0) % streams == 0, operation, ": x is ", x.sizes(), ", but must be (", streams, "*B, T, W)");
        count.assign(static_cast<size_t>(streams), x.size(0) / streams);
    } else {
        count = rows.vec();
        const bool some = std::all_of(count.begin(), count.end(), [](int64_t n) { return n > 0; });
        TORCH_CHECK(some && static_cast<int64_t>(count.size()) == streams, operation, ": rows are ", rows,
                    ", but must be one number above 0 for each of ", streams, " streams");
    }
    int64_t sum = 0;
    for (int64_t n : count) {
        first.push_back(sum);
        sum += n;
    }
    TORCH_CHECK(sum == x.size(0), operation, ": rows are ", rows, ", but must add up to those of x ", x.sizes());
}

// ---- What is called ----

Tensor embedding(const Tensor& weight, const Tensor& tokens, at::ScalarType dtype) {
    check_rank("Embedding", "weight", weight, 2, "(V, W)");
    check_weight("Embedding", "weight", weight, weight, weight.sizes());
    check_integers("Embedding", "tokens", tokens, weight);
    check_rank("Embedding", "tokens", tokens, 2, "(B, T)");
    if (composed(weight)) return composite::embedding(weight, tokens, dtype);
    TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "Embedding: dtype is ", dtype, ", but must be float32 or bfloat16");
    return differentiable({weight}) ? EmbeddingFunction::apply(weight, tokens, dtype) : EmbeddingFunction::compute(weight, tokens, dtype);
}

Tensor add_positions(const Tensor& x, const Tensor& weight, int64_t position) {
    check_activation("AddPositions", "x", x);
    check_rank("AddPositions", "x", x, 3, "(B, T, W)");
    check_rank("AddPositions", "weight", weight, 2, "(Context, W)");
    check_weight("AddPositions", "weight", weight, x, {weight.size(0), x.size(2)});
    TORCH_CHECK(position >= 0 && position + x.size(1) <= weight.size(0), "AddPositions: positions ", position, "..",
                position + x.size(1) - 1, " are outside the context of ", weight.size(0));
    if (composed(x)) return composite::add_positions(x, weight, position);
    return differentiable({x, weight}) ? PositionsFunction::apply(x, weight, position) : PositionsFunction::compute(x, weight, position);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
    check_activation("RmsNorm", "x", x);
    TORCH_CHECK(x.dim() > 0, "RmsNorm: x is a scalar, but must have a last dimension");
    check_weight("RmsNorm", "weight", weight, x, {x.size(-1)});
    if (composed(x) || x.numel() == 0) return composite::rms_norm(x, weight, epsilon);
    const Tensor in = x.contiguous(), scale = weight.contiguous();
    return differentiable({x, weight}) ? RmsNormFunction::apply(in, scale, epsilon)
                                       : RmsNormFunction::compute(in, scale, epsilon, floats({x.numel() / x.size(-1)}));
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
    check_activation("LayerNorm", "x", x);
    TORCH_CHECK(x.dim() > 0, "LayerNorm: x is a scalar, but must have a last dimension");
    check_weight("LayerNorm", "weight", weight, x, {x.size(-1)});
    check_weight("LayerNorm", "bias", bias, x, {x.size(-1)});
    if (composed(x) || x.numel() == 0) return composite::layer_norm(x, weight, bias, epsilon);
    const Tensor in = x.contiguous(), scale = weight.contiguous(), shift = bias.contiguous();
    return differentiable({x, weight, bias}) ? LayerNormFunction::apply(in, scale, shift, epsilon)
                                             : LayerNormFunction::compute(in, scale, shift, epsilon, floats({x.numel() / x.size(-1), 2}));
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    check_activation("Linear", "x", x);
    check_linear("Linear", x, "weight", weight, "bias", bias);
    if (composed(x) || x.numel() == 0) return composite::linear(x, weight, bias);
    return differentiable({x, weight, bias}) ? LinearFunction::apply(x, weight, optional(bias), weight.size(0))
                                             : LinearFunction::compute(x, weight, bias);
}

std::vector<Tensor> projections(const Tensor& x, const ProjectionWeights& weights, const ProjectionWeights& biases) {
    const char* name = "Projections";
    check_activation(name, "x", x);
    const std::array<const char*, 3> names{"query", "key", "value"}, bias_names{"queryBias", "keyBias", "valueBias"};
    for (size_t i = 0; i < weights.size(); i++) {
        check_linear(name, x, names[i], weights[i], bias_names[i], biases[i]);
        TORCH_CHECK(biases[i].defined() == biases[0].defined(), name, ": ", bias_names[i], " is ",
                    biases[i].defined() ? "given" : "missing", ", but all three biases must be given, or none");
    }
    if (composed(x) || x.numel() == 0) {
        std::vector<Tensor> y;
        for (size_t i = 0; i < weights.size(); i++) y.push_back(composite::linear(x, weights[i], biases[i]));
        return y;
    }
    if (!differentiable({x, weights[0], weights[1], weights[2], biases[0], biases[1], biases[2]})) {
        return ProjectionsFunction::compute(x, weights, biases);
    }
    return ProjectionsFunction::apply(x, weights[0], weights[1], weights[2], optional(biases[0]), optional(biases[1]), optional(biases[2]));
}

Tensor linear_rows(const Tensor& x, const Tensor& weight, int64_t rows) {
    check_rank("LinearRows", "weight", weight, 2, "(out, in)");
    TORCH_CHECK(rows >= 1 && rows <= weight.size(0), "LinearRows: rows is ", rows, ", but must be in 1..", weight.size(0), " for weight ",
                weight.sizes());
    return linear_prefix("LinearRows", x, weight, rows, weight.size(1));
}

Tensor linear_columns(const Tensor& x, const Tensor& weight, int64_t columns) {
    check_rank("LinearColumns", "weight", weight, 2, "(out, in)");
    TORCH_CHECK(columns >= 1 && columns <= weight.size(1), "LinearColumns: columns is ", columns, ", but must be in 1..", weight.size(1),
                " for weight ", weight.sizes());
    return linear_prefix("LinearColumns", x, weight, weight.size(0), columns);
}

Tensor rotary(const Tensor& x, const Tensor& cos, const Tensor& sin) {
    check_activation("Rotary", "x", x);
    check_rank("Rotary", "x", x, 4, "(B, T, H, D)");
    TORCH_CHECK(x.size(3) % 2 == 0, "Rotary: x is ", x.sizes(), ", but its last dimension must be even");
    check_weight("Rotary", "cos", cos, x, {x.size(1), x.size(3) / 2});
    check_weight("Rotary", "sin", sin, x, {x.size(1), x.size(3) / 2});
    if (composed(x)) return composite::rotary(x, cos, sin);
    const Tensor c = cos.contiguous(), s = sin.contiguous();
    return differentiable({x}) ? RotaryFunction::apply(x, c, s) : RotaryFunction::compute(x, c, s, 1);
}

namespace {

void check_attention(const char* operation, const Tensor& query, const Tensor& key, const Tensor& value) {
    check_activation(operation, "query", query);
    check_rank(operation, "query", query, 4, "(B, T, H, D)");
    check_rank(operation, "key", key, 4, "(B, S, Hkv, D)");
    TORCH_CHECK(key.size(0) == query.size(0) && key.size(2) > 0 && query.size(2) % key.size(2) == 0 && key.size(3) == query.size(3),
                operation, ": key is ", key.sizes(), ", which does not fit query ", query.sizes(),
                ": (B, S, Hkv, D) with H a multiple of Hkv");
    TORCH_CHECK(value.sizes() == key.sizes(), operation, ": value is ", value.sizes(), ", but must be as key, ", key.sizes());
    TORCH_CHECK(key.scalar_type() == query.scalar_type() && value.scalar_type() == query.scalar_type(), operation,
                ": query, key and value are ", query.scalar_type(), ", ", key.scalar_type(), " and ", value.scalar_type(),
                ", but must be of one dtype");
    TORCH_CHECK(key.device() == query.device() && value.device() == query.device(), operation,
                ": query, key and value must be on one device");
}

// Strides are welcome (a slice of a cache), but for the last.
Tensor dense(const Tensor& x) { return x.stride(3) == 1 || x.size(3) == 1 ? x : x.contiguous(); }

Tensor attend(const Tensor& query, const Tensor& key, const Tensor& value, int64_t window, const Tensor& lengths) {
    const Tensor q = dense(query), k = dense(key), v = dense(value);
    return differentiable({query, key, value})
               ? AttentionFunction::apply(q, k, v, window, lengths.defined() ? Optional(lengths) : Optional())
               : AttentionFunction::compute(q, k, v, window, lengths, {});
}

}  // namespace

Tensor causal_attention(const Tensor& query, const Tensor& key, const Tensor& value, int64_t window) {
    check_attention("CausalAttention", query, key, value);
    TORCH_CHECK(key.size(1) >= query.size(1), "CausalAttention: key is ", key.sizes(), ", which does not fit query ", query.sizes(),
                ": (B, S, Hkv, D) with S >= T");
    TORCH_CHECK(window >= 0, "CausalAttention: window is ", window, ", but must be a number of keys, or 0 for all");
    // Keys before every query's window are left out; what is left may need no window.
    const int64_t queries = query.size(1), keys = key.size(1);
    if (window > 0 && window < keys - queries + 1) {
        const int64_t seen = queries + window - 1;
        return causal_attention(query, key.narrow(1, keys - seen, seen), value.narrow(1, keys - seen, seen), window);
    }
    if (window >= keys) window = 0;
    if (composed(query) || query.numel() == 0) return composite::causal_attention(query, key, value, window);
    return attend(query, key, value, window == 0 ? keys : window, {});
}

Tensor attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& lengths) {
    check_attention("Attention", query, key, value);
    Tensor counts;
    if (lengths.defined()) {
        check_integers("Attention", "lengths", lengths, query);
        TORCH_CHECK(lengths.dim() == 1 && lengths.size(0) > 0 && query.size(0) % lengths.size(0) == 0, "Attention: lengths is ",
                    lengths.sizes(), ", but must be (B), the ", query.size(0), " sequences being a multiple of B");
        counts = lengths.contiguous();
    }
    if (composed(query) || query.numel() == 0) return composite::attention(query, key, value, counts);
    for (int64_t i = 0; counts.defined() && i < counts.size(0); i++) {
        const int64_t count = counts.data_ptr<int64_t>()[i];
        TORCH_CHECK_INDEX(count >= 1 && count <= key.size(1), "Attention: length ", count, " is outside 1..", key.size(1));
    }
    return attend(query, key, value, 0, counts);
}

Tensor linear_cross_entropy(const Tensor& x, const Tensor& head, const Tensor& targets, int64_t streams, at::IntArrayRef rows) {
    check_activation("LinearCrossEntropy", "x", x);
    const Segments segments("LinearCrossEntropy", x, streams, rows);
    check_rank("LinearCrossEntropy", "head", head, 2, "(V, W)");
    check_weight("LinearCrossEntropy", "head", head, x, {head.size(0), x.size(2)});
    check_integers("LinearCrossEntropy", "targets", targets, x);
    const int64_t batch = segments.shared ? segments.count[0] : x.size(0);
    TORCH_CHECK(targets.dim() == 2 && targets.size(0) == batch && targets.size(1) == x.size(1), "LinearCrossEntropy: targets is ",
                targets.sizes(), ", but must be (", batch, ", ", x.size(1), ")");
    TORCH_CHECK(x.numel() > 0, "LinearCrossEntropy: x is empty");
    if (composed(x)) return composite::linear_cross_entropy(x, head, targets, streams, rows);
    return differentiable({x, head}) ? CrossEntropyFunction::apply(x, head, targets, streams, rows.vec())
                                     : CrossEntropyFunction::compute(x, head, targets, segments, {});
}

Tensor fork(const Tensor& x, int64_t n) {
    check_activation("Fork", "x", x);
    check_rank("Fork", "x", x, 3, "(B, T, W)");
    TORCH_CHECK(n >= 1, "Fork: n is ", n, ", but must be at least 1");
    if (n == 1) return x.alias();
    if (composed(x) || !differentiable({x})) return composite::fork(x, n);
    return ForkFunction::apply(x, n);
}

void adamw(at::TensorList parameters, at::TensorList first, at::TensorList second, at::ArrayRef<double> decay,
           const AdamWOptions& options) {
    TORCH_CHECK(first.size() == parameters.size() && second.size() == parameters.size() && decay.size() == parameters.size(),
                "AdamW: one first moment, second moment and decay is needed for each of the ", parameters.size(), " parameters");
    TORCH_CHECK(options.step >= 1, "AdamW: steps count from 1");
    at::NoGradGuard no_grad;
    std::vector<Tensor> gradients;
    bool ours = true;
    for (size_t i = 0; i < parameters.size(); i++) {
        TORCH_CHECK(first[i].sizes() == parameters[i].sizes() && second[i].sizes() == parameters[i].sizes(),
                    "AdamW: the moments of parameter ", i, " are ", first[i].sizes(), " and ", second[i].sizes(), ", but must be ",
                    parameters[i].sizes());
        const Tensor gradient = parameters[i].grad();
        gradients.push_back(gradient.defined() ? gradient.contiguous() : gradient);
        ours = ours && plain(parameters[i]) && plain(first[i]) && plain(second[i]) && (!gradient.defined() || plain(gradients.back()));
    }
    if (!ours) return composite::adamw(parameters, first, second, decay, options);

    const double correction1 = 1 - std::pow(options.beta1, static_cast<double>(options.step));
    const double correction2 = std::sqrt(1 - std::pow(options.beta2, static_cast<double>(options.step)));
    const auto pieces = pieces_of(gradients);
    share(static_cast<int64_t>(pieces.size()), 2, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; p++) {
            const auto& [i, start, count] = pieces[static_cast<size_t>(p)];
            const cpu::AdamW s{static_cast<float>(1 - options.learning_rate * decay[i]),
                               static_cast<float>(options.beta1),
                               static_cast<float>(options.beta2),
                               static_cast<float>(1 - options.beta1),
                               static_cast<float>(1 - options.beta2),
                               static_cast<float>(options.learning_rate / correction1),
                               static_cast<float>(correction2),
                               static_cast<float>(options.epsilon)};
            cpu::table().adamw(s, parameters[i].data_ptr<float>() + start, gradients[i].data_ptr<float>() + start,
                               first[i].data_ptr<float>() + start, second[i].data_ptr<float>() + start, count);
        }
    });
    // Autograd must notice that the values changed.
    for (size_t i = 0; i < parameters.size(); i++) {
        if (gradients[i].defined()) parameters[i].unsafeGetTensorImpl()->bump_version();
    }
}

double clip_gradient_norm(at::TensorList parameters, double max) {
    TORCH_CHECK(max > 0, "ClipGradientNorm: max is ", max, ", but must be positive");
    at::NoGradGuard no_grad;
    std::vector<Tensor> gradients;
    bool ours = true;
    for (const Tensor& parameter : parameters) {
        gradients.push_back(parameter.grad());
        ours = ours && (!gradients.back().defined() || plain(gradients.back()));
    }
    if (!ours) return composite::clip_gradient_norm(parameters, max);

    const auto pieces = pieces_of(gradients);
    const auto count = static_cast<int64_t>(pieces.size());
    std::vector<double> squares(pieces.size());
    const auto data = [&](const Piece& p) { return gradients[p.parameter].data_ptr<float>() + p.first; };
    share(count, 4, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; p++) squares[p] = cpu::table().sum_squares(data(pieces[p]), pieces[p].count);
    });
    double sum = 0;
    for (double square : squares) sum += square;
    const double norm = std::sqrt(sum), coefficient = max / (norm + 1e-6);
    if (std::isfinite(norm) && coefficient < 1) {
        share(count, 4, [&](int64_t begin, int64_t end) {
            for (int64_t p = begin; p < end; p++) cpu::table().scale(data(pieces[p]), static_cast<float>(coefficient), pieces[p].count);
        });
    }
    return norm;
}

}  // namespace mf::kernels
