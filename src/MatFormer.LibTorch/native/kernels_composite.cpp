// The operations out of ATen's, for devices that are not the CPU. Shapes were checked by the caller.
#include "kernels.h"

#include <torch/version.h>

#include <cmath>
#include <map>

namespace mf::kernels::composite {

using at::Tensor;

namespace {

Tensor cast(const Tensor& x, at::ScalarType dtype) { return x.defined() ? x.to(dtype) : x; }

Tensor rows(const Tensor& x, int64_t n) { return x.defined() ? x.narrow(0, 0, n) : x; }

Tensor activate(const Tensor& x, FeedForwardKind kind) {
    switch (kind) {
        case FeedForwardKind::SquaredRelu:
            return at::relu(x).square();
        case FeedForwardKind::SwiGlu:
            return at::silu(x);
        default:
            return at::gelu(x);
    }
}

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& tokens, at::ScalarType dtype) {
    return weight.index_select(0, tokens.flatten()).view({tokens.size(0), tokens.size(1), weight.size(1)}).to(dtype);
}

Tensor add_positions(const Tensor& x, const Tensor& weight, int64_t position) {
    return (x.to(at::kFloat) + weight.narrow(0, position, x.size(1))).to(x.scalar_type());
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
    Tensor wide = x.to(at::kFloat);
    return (wide * at::rsqrt(wide.square().mean({-1}, true) + epsilon) * weight).to(x.scalar_type());
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
    return at::layer_norm(x.to(at::kFloat), {x.size(-1)}, weight, bias, epsilon).to(x.scalar_type());
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    return at::linear(x, cast(weight, x.scalar_type()), cast(bias, x.scalar_type()));
}

Tensor rotary(const Tensor& x, const Tensor& cos, const Tensor& sin) {
    const int64_t half = x.size(3) / 2;
    Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1), wide = x.to(at::kFloat);
    Tensor a = wide.narrow(3, 0, half), b = wide.narrow(3, half, half);
    return at::cat({a * c - b * s, b * c + a * s}, -1).to(x.scalar_type());
}

Tensor causal_attention(const Tensor& query, const Tensor& key, const Tensor& value, int64_t window) {
    const int64_t time = query.size(1), length = key.size(1), groups = query.size(2) / key.size(2);
    Tensor q = query.transpose(1, 2);
    Tensor k = (groups == 1 ? key : key.repeat_interleave(groups, 2)).transpose(1, 2);
    Tensor v = (groups == 1 ? value : value.repeat_interleave(groups, 2)).transpose(1, 2);
    Tensor y;
    // (T, S): true where the key is later than the query, or before its window.
    const auto unseen = [&] {
        const Tensor all = at::ones({time, length}, query.options().dtype(at::kBool)), future = all.triu(length - time + 1);
        return window == 0 ? future : future.logical_or(all.tril(length - time - window));
    };
#if TORCH_VERSION_MAJOR >= 2
    // is_causal aligns at the start, so it serves only when nothing precedes the queries; a single query sees every key.
    if (window > 0) {
        y = at::scaled_dot_product_attention(q, k, v, unseen().logical_not());
    } else if (time == length || time == 1) {
        y = at::scaled_dot_product_attention(q, k, v, {}, 0.0, time == length && time > 1);
    }
#endif
    if (!y.defined()) {
        Tensor scores = q.matmul(k.transpose(2, 3)).to(at::kFloat) * (1.0 / std::sqrt(static_cast<double>(query.size(3))));
        y = scores.masked_fill(unseen(), -INFINITY).softmax(-1).to(query.scalar_type()).matmul(v);
    }
    return y.transpose(1, 2).reshape({query.size(0), time, query.size(2) * query.size(3)});
}

Tensor attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& lengths) {
    const int64_t time = query.size(1), length = key.size(1), groups = query.size(2) / key.size(2);
    const Tensor q = query.transpose(1, 2);
    const Tensor k = (groups == 1 ? key : key.repeat_interleave(groups, 2)).transpose(1, 2);
    const Tensor v = (groups == 1 ? value : value.repeat_interleave(groups, 2)).transpose(1, 2);
    // (N, 1, 1, S): true where a key is seen.
    Tensor seen;
    if (lengths.defined()) {
        seen = at::arange(length, lengths.options()).lt(lengths.unsqueeze(1)).repeat({query.size(0) / lengths.size(0), 1});
        seen = seen.unsqueeze(1).unsqueeze(1);
    }
#if TORCH_VERSION_MAJOR >= 2
    Tensor y = seen.defined() ? at::scaled_dot_product_attention(q, k, v, seen) : at::scaled_dot_product_attention(q, k, v);
#else
    Tensor scores = q.matmul(k.transpose(2, 3)).to(at::kFloat) * (1.0 / std::sqrt(static_cast<double>(query.size(3))));
    if (seen.defined()) scores = scores.masked_fill(seen.logical_not(), -INFINITY);
    Tensor y = scores.softmax(-1).to(query.scalar_type()).matmul(v);
#endif
    return y.transpose(1, 2).reshape({query.size(0), time, query.size(2) * query.size(3)});
}

Tensor feed_forward(const Tensor& x, const FeedForwardWeights& weights, FeedForwardKind kind, at::IntArrayRef widths,
                    at::IntArrayRef rows_of_streams, bool parting) {
    const auto dtype = x.scalar_type();
    const int64_t widest = widths[0];
    // One cast serves every stream.
    const Tensor gate = cast(rows(weights.gate, widest), dtype), gate_bias = cast(rows(weights.gate_bias, widest), dtype);
    const Tensor up = cast(rows(weights.up, widest), dtype), up_bias = cast(rows(weights.up_bias, widest), dtype);
    const Tensor down = cast(weights.down.narrow(1, 0, widest), dtype), down_bias = cast(weights.down_bias, dtype);
    const auto hidden = [&](const Tensor& stream, int64_t m) {
        Tensor u = at::linear(stream, up.narrow(0, 0, m), rows(up_bias, m)).to(at::kFloat);
        Tensor h = gated(kind) ? activate(at::linear(stream, gate.narrow(0, 0, m), rows(gate_bias, m)).to(at::kFloat), kind) * u
                               : activate(u, kind);
        return h.to(dtype);
    };
    std::vector<Tensor> results;
    if (parting) {
        const Tensor all = hidden(x, widest);
        for (int64_t m : widths) results.push_back(at::linear(all.narrow(2, 0, m), down.narrow(1, 0, m), down_bias));
    } else {
        const Segments segments("FeedForward", x, static_cast<int64_t>(widths.size()), rows_of_streams);
        for (size_t r = 0; r < widths.size(); r++) {
            const int64_t m = widths[r];
            results.push_back(at::linear(hidden(x.narrow(0, segments.first[r], segments.count[r]), m), down.narrow(1, 0, m), down_bias));
        }
    }
    return results.size() == 1 ? results[0] : at::cat(results, 0);
}

Tensor linear_cross_entropy(const Tensor& x, const Tensor& head, const Tensor& targets, int64_t streams, at::IntArrayRef rows) {
    const Segments segments("LinearCrossEntropy", x, streams, rows);
    Tensor logits = at::linear(x, head.to(x.scalar_type())).to(at::kFloat);
    Tensor all = segments.shared ? targets.repeat({streams, 1}) : targets;
    Tensor each = at::cross_entropy_loss(logits.view({-1, head.size(0)}), all.reshape(-1), {}, at::Reduction::None).view({x.size(0), -1});
    std::vector<Tensor> means;
    for (size_t r = 0; r < segments.first.size(); r++) means.push_back(each.narrow(0, segments.first[r], segments.count[r]).mean());
    return at::stack(means);
}

Tensor fork(const Tensor& x, int64_t n) { return x.repeat({n, 1, 1}); }

void adamw(at::TensorList parameters, at::TensorList first, at::TensorList second, at::ArrayRef<double> decay,
           const AdamWOptions& options) {
    const double correction1 = 1 - std::pow(options.beta1, static_cast<double>(options.step));
    const double correction2 = std::sqrt(1 - std::pow(options.beta2, static_cast<double>(options.step)));
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 1)
    // One fused launch for each weight decay.
    struct Group {
        std::vector<Tensor> parameters, gradients, first, second, steps;
    };
    std::map<double, Group> groups;
    for (size_t i = 0; i < parameters.size(); i++) {
        if (!parameters[i].grad().defined()) continue;
        Group& group = groups[decay[i]];
        if (group.steps.empty()) {
            group.steps.push_back(at::full({}, static_cast<double>(options.step), parameters[i].options().dtype(at::kFloat)));
        } else {
            group.steps.push_back(group.steps[0]);
        }
        group.parameters.push_back(parameters[i]);
        group.gradients.push_back(parameters[i].grad());
        group.first.push_back(first[i]);
        group.second.push_back(second[i]);
    }
    for (auto& [weight_decay, group] : groups) {
        at::_fused_adamw_(group.parameters, group.gradients, group.first, group.second, {}, group.steps, options.learning_rate,
                          options.beta1, options.beta2, weight_decay, options.epsilon, false, false);
    }
    (void)correction1;
    (void)correction2;
#else
    for (size_t i = 0; i < parameters.size(); i++) {
        const Tensor gradient = parameters[i].grad();
        if (!gradient.defined()) continue;
        parameters[i].mul_(1 - options.learning_rate * decay[i]);
        first[i].mul_(options.beta1).add_(gradient, 1 - options.beta1);
        second[i].mul_(options.beta2).addcmul_(gradient, gradient, 1 - options.beta2);
        parameters[i].addcdiv_(first[i], second[i].sqrt().div_(correction2).add_(options.epsilon), -options.learning_rate / correction1);
    }
#endif
}

double clip_gradient_norm(at::TensorList parameters, double max) {
    std::vector<Tensor> gradients, norms;
    for (const Tensor& parameter : parameters) {
        if (!parameter.grad().defined()) continue;
        gradients.push_back(parameter.grad());
        norms.push_back(parameter.grad().norm());
    }
    if (gradients.empty()) return 0;
    const double norm = at::stack(norms).norm().item<double>();
    const double coefficient = max / (norm + 1e-6);
    if (std::isfinite(norm) && coefficient < 1) {
        for (Tensor& gradient : gradients) gradient.mul_(coefficient);
    }
    return norm;
}

}  // namespace mf::kernels::composite
