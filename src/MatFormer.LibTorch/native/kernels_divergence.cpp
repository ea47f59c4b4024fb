// The divergence of streams from a teacher. Logits live a block at a time: the gradients compute them anew.
#include "kernels_common.h"

namespace mf::kernels {

namespace {

// Logits of one block.
constexpr int64_t most_logits = 1 << 20;

void multiply(const Tensor& c, const Tensor& a, const Tensor& b, at::ScalarType compute, bool accumulate) {
    if (!composed(c)) {
        product(c, a, b, compute, accumulate);
        return;
    }
    const Tensor y = at::mm(a.to(compute), b.to(compute));
    if (accumulate) {
        Tensor(c).add_(y);
    } else {
        Tensor(c).copy_(y);
    }
}

struct DivergenceFunction : Function<DivergenceFunction> {
    // log softmax(x head^T / temperature), (rows, V) float32; the head is rounded to x's dtype.
    static Tensor log_probabilities(const Tensor& x, const Tensor& head, double temperature) {
        Tensor logits = at::empty({x.size(0), head.size(0)}, x.options().dtype(at::kFloat));
        if (!composed(x) && own_product(x.scalar_type())) {
            product(logits, x, head.t(), x.scalar_type());
        } else {
            multiply(logits, x.to(at::kFloat), head.to(x.scalar_type()).to(at::kFloat).t(), at::kFloat, false);
        }
        return at::log_softmax(logits.div_(temperature), -1);
    }

    // Calls body(stream, its tokens, first token of the block in x, and in the teacher, tokens) for each block of the streams that learn.
    template <class Body>
    static void blocks(const Tensor& x, const Segments& s, int64_t classes, int64_t student, const Body& body) {
        const int64_t time = x.size(1), most = std::clamp<int64_t>(most_logits / classes, 16, 4096);
        for (auto r = static_cast<size_t>(student); r < s.first.size(); r++) {
            const int64_t each = s.count[r] * time, first = s.first[r] * time;
            const int64_t source = (s.source(r) - s.source(static_cast<size_t>(student))) * time;
            for (int64_t row = 0; row < each; row += most) body(r, each, first + row, source + row, std::min(most, each - row));
        }
    }

    static Tensor compute(const Tensor& x, const Tensor& teacher, const Tensor& head, const Segments& s, int64_t student,
                          double temperature) {
        const Tensor in = rows_of(x), taught = rows_of(teacher);
        Tensor result = at::zeros({static_cast<int64_t>(s.first.size())}, x.options().dtype(at::kDouble));
        blocks(x, s, head.size(0), student, [&](size_t r, int64_t each, int64_t row, int64_t source, int64_t rows) {
            const Tensor known = log_probabilities(taught.narrow(0, source, rows), head, temperature);
            const Tensor learnt = log_probabilities(in.narrow(0, row, rows), head, temperature);
            const Tensor sum = known.exp().mul_(known - learnt).sum(at::kDouble);
            result.select(0, static_cast<int64_t>(r)).add_(sum, temperature * temperature / static_cast<double>(each));
        });
        return result.to(at::kFloat);
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& teacher, const Tensor& head, int64_t streams,
                          std::vector<int64_t> rows, int64_t student, double temperature) {
        context->save_for_backward({x, teacher, head});
        Tensor result = compute(x, teacher, head, Segments("LinearDivergence", x, streams, rows), student, temperature);
        context->saved_data["streams"] = streams;
        context->saved_data["rows"] = std::move(rows);
        context->saved_data["student"] = student;
        context->saved_data["temperature"] = temperature;
        return result;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Timed timed("divergence.backward");
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &head = saved[2], in = rows_of(x), taught = rows_of(saved[1]), scales = gradients[0];
        const Segments s("LinearDivergence", x, context->saved_data["streams"].toInt(), context->saved_data["rows"].toIntVector());
        const int64_t student = context->saved_data["student"].toInt();
        const double temperature = context->saved_data["temperature"].toDouble();
        const auto dtype = x.scalar_type();
        Tensor dx = at::zeros(x.sizes(), x.options()), dhead = at::zeros(head.sizes(), head.options()), out = dx.view({-1, x.size(-1)});
        blocks(x, s, head.size(0), student, [&](size_t r, int64_t each, int64_t row, int64_t source, int64_t rows) {
            const Tensor part = in.narrow(0, row, rows);
            Tensor slope = log_probabilities(part, head, temperature).exp_();
            slope.sub_(log_probabilities(taught.narrow(0, source, rows), head, temperature).exp_());
            slope.mul_(scales.select(0, static_cast<int64_t>(r)) * (temperature / static_cast<double>(each)));
            slope = slope.to(dtype);
            multiply(out.narrow(0, row, rows), slope, head, dtype, false);
            multiply(dhead, slope.t(), part, dtype, true);
        });
        return {dx, Tensor(), dhead, Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

}  // namespace

Tensor linear_divergence(const Tensor& x, const Tensor& teacher, const Tensor& head, int64_t streams, at::IntArrayRef rows, int64_t student,
                         double temperature) {
    const char* name = "LinearDivergence";
    check_activation(name, "x", x);
    const Segments segments(name, x, streams, rows);
    check_activation(name, "teacher", teacher);
    check_rank(name, "head", head, 2, "(V, W)");
    check_weight(name, "head", head, x, {head.size(0), x.size(2)});
    TORCH_CHECK(student >= 0 && student < streams, name, ": student is ", student, ", but must be in 0..", streams - 1);
    TORCH_CHECK(temperature > 0, name, ": temperature is ", temperature, ", but must be positive");
    const int64_t batch = segments.shared ? segments.count[0] : x.size(0) - segments.first[static_cast<size_t>(student)];
    TORCH_CHECK(teacher.dim() == 3 && teacher.size(0) == batch && teacher.size(1) == x.size(1) && teacher.size(2) == x.size(2), name,
                ": teacher is ", teacher.sizes(), ", but must be (", batch, ", ", x.size(1), ", ", x.size(2), ")");
    TORCH_CHECK(teacher.scalar_type() == x.scalar_type() && teacher.device() == x.device(), name, ": teacher is ", teacher.scalar_type(),
                " on ", teacher.device(), ", but must be as x, ", x.scalar_type(), " on ", x.device());
    TORCH_CHECK(x.numel() > 0, name, ": x is empty");
    const Tensor in = x.contiguous(), taught = teacher.detach();
    return differentiable({x, head}) ? DivergenceFunction::apply(in, taught, head, streams, rows.vec(), student, temperature)
                                     : DivergenceFunction::compute(in, taught, head, segments, student, temperature);
}

}  // namespace mf::kernels
