// The losses. Logits exist for only one block of tokens at a time.
#include <stdexcept>

#include "kernels_common.h"

namespace mf::kernels {

namespace {

// A block of tokens of x that begins at `first`. Its targets begin at `target`.
struct LossBlock {
    int64_t first, count, target;
    double loss;
};

// The largest number of logits in a block of the divergence. The threads divide the rows of a block.
constexpr int64_t most_logits = 1 << 20;

// Computes the divergence of the streams that learn, block by block.
class Divergence {
public:
    explicit Divergence(const mf_divergence& p)
        : p_(p),
          element_(element_of(p)),
          segments_(p.batch, p.streams, p.rows),
          most_(std::clamp<int64_t>(most_logits / p.head.rows, 16, 4096)) {}

    // Calls body(stream, its tokens, first token of the block, tokens, logits of the teacher, logits of the stream).
    template <class Body>
    void blocks(const Body& body) const {
        const Scratch scratch;
        const int64_t classes = p_.head.rows;
        const Packed packed(scratch, element_, turned(matrix(p_.head)), std::max(p_.width, p_.teacher_width), classes);
        float *known = scratch.floats(most_ * classes), *learnt = scratch.floats(most_ * classes);
        const auto multiplied = [&](const void* x, int64_t width, int64_t first, int64_t rows, float* logits) {
            const Matrix part = from(rows_of(x, element_, width), first);
            run(element_, {packed.term(part, width)}, rows, classes, {logits, cpu::Float, classes});
        };
        const auto student = static_cast<size_t>(p_.student);
        for (size_t r = student; r < segments_.first.size(); r++) {
            const int64_t each = segments_.count[r] * p_.time, first = segments_.first[r] * p_.time;
            const int64_t source = (segments_.source(r) - segments_.source(student)) * p_.time;
            for (int64_t row = 0; row < each; row += most_) {
                const int64_t rows = std::min(most_, each - row);
                multiplied(p_.teacher, p_.teacher_width, source + row, rows, known);
                multiplied(p_.x, p_.width, first + row, rows, learnt);
                body(r, each, first + row, rows, known, learnt);
            }
        }
    }

    // Compares the rows of a block in parallel.
    void compare(const float* known, const float* learnt, double* losses, void* derivative, int64_t rows, double factor) const {
        const int64_t classes = p_.head.rows;
        share(rows, row_grain(classes * 4), [&](int64_t first, int64_t last) {
            const int64_t start = first * classes;
            cpu::table().divergence[element_](known + start, learnt + start, losses == nullptr ? losses : losses + first,
                                              at(derivative, element_, start), last - first, classes,
                                              static_cast<float>(1 / p_.temperature), static_cast<float>(factor));
        });
    }

    Element element() const { return element_; }
    int64_t most() const { return most_; }
    // The number of tokens of the streams before the student.
    int64_t skipped() const { return segments_.first[static_cast<size_t>(p_.student)] * p_.time; }

private:
    const mf_divergence& p_;
    Element element_;
    Segments segments_;
    int64_t most_;  // the largest number of tokens in a block
};

}  // namespace

// Softmax minus one-hot is kept for each token.
int64_t kept(const mf_cross_entropy& p) { return p.batch * p.time * p.head.rows * size_of(element_of(p)); }

void forward(const mf_cross_entropy& p) {
    const Timed timed("cross_entropy.forward");
    const Element element = element_of(p);
    const int64_t classes = p.head.rows;
    const Segments segments(p.batch, p.streams, p.rows);
    const int64_t targets = (segments.shared ? segments.count[0] : p.batch) * p.time;
    for (int64_t i = 0; i < targets; i++) {
        if (p.targets[i] < 0 || p.targets[i] >= classes) {
            throw std::out_of_range("LinearCrossEntropy: target " + std::to_string(p.targets[i]) + " is outside 0.."
                                    + std::to_string(classes - 1));
        }
    }

    const int64_t most = std::clamp<int64_t>(65536 / classes / cpu::tile * cpu::tile, cpu::tile, 240);
    std::vector<LossBlock> blocks;
    std::vector<size_t> ends;  // for each stream, where its blocks end
    for (size_t r = 0; r < segments.first.size(); r++) {
        const int64_t each = segments.count[r] * p.time;
        for (int64_t row = 0; row < each; row += most) {
            blocks.push_back({segments.first[r] * p.time + row, std::min(most, each - row), segments.source(r) * p.time + row, 0});
        }
        ends.push_back(blocks.size());
    }
    const Scratch scratch;
    const Packed packed(scratch, element, turned(matrix(p.head)), p.width, classes);
    share(static_cast<int64_t>(blocks.size()), 1, [&](int64_t first, int64_t last) {
        const Scratch own;
        void* space = own.bytes(left_scratch(most, p.width));
        float* logits = own.floats(most * classes);
        for (int64_t i = first; i < last; i++) {
            LossBlock& b = blocks[static_cast<size_t>(i)];
            const Term term = packed.term(from(rows_of(p.x, element, p.width), b.first), p.width);
            cpu::table().multiply(element, &term, 1, 0, b.count, classes, {logits, cpu::Float, classes}, space);
            b.loss = cpu::table().cross_entropy[element](logits, p.targets + b.target, at(p.kept, element, b.first * classes), b.count,
                                                         classes);
        }
    });
    size_t b = 0;
    for (size_t r = 0; r < ends.size(); r++) {
        double sum = 0;
        for (; b < ends[r]; b++) sum += blocks[b].loss;
        p.losses[r] = static_cast<float>(sum / static_cast<double>(segments.count[r] * p.time));
    }
}

void backward(const mf_cross_entropy& p) {
    const Timed timed("cross_entropy.backward");
    const Element element = element_of(p);
    const int64_t classes = p.head.rows;
    const Segments segments(p.batch, p.streams, p.rows);
    for (size_t r = 0; r < segments.first.size(); r++) {
        const int64_t first = segments.first[r] * p.time, each = segments.count[r] * p.time;
        const auto scale = static_cast<float>(static_cast<double>(p.dlosses[r]) / static_cast<double>(each));
        const Matrix slope = from(rows_of(p.kept, element, classes), first), x = from(rows_of(p.x, element, p.width), first);
        if (p.dx != nullptr) {
            const Target to{at(p.dx, element, first * p.width), element, p.width, false, nullptr, scale};
            multiply(element, {{slope, each, to}}, matrix(p.head), classes, p.width);
        }
        if (p.head.gradient != nullptr) {
            Target to = gradient_of(p.head);
            to.accumulate |= r > 0;
            to.scale = scale;
            multiply(element, {{turned(slope), classes, to}}, x, each, p.width);
        }
    }
    clear_rest(p.head, classes, p.width);
}

void forward(const mf_divergence& p) {
    const Timed timed("divergence.forward");
    const Divergence divergence(p);
    const Scratch scratch;
    auto* losses = static_cast<double*>(scratch.bytes(divergence.most() * 8));
    std::vector<double> sums(static_cast<size_t>(p.streams));
    divergence.blocks([&](size_t r, int64_t each, int64_t, int64_t rows, const float* known, const float* learnt) {
        divergence.compare(known, learnt, losses, nullptr, rows, 0);
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += losses[i];
        sums[r] += sum * p.temperature * p.temperature / static_cast<double>(each);
    });
    std::transform(sums.begin(), sums.end(), p.losses, [](double sum) { return static_cast<float>(sum); });
}

void backward(const mf_divergence& p) {
    const Timed timed("divergence.backward");
    const Divergence divergence(p);
    const Element element = divergence.element();
    const int64_t classes = p.head.rows;
    const Scratch scratch;
    const Packed head(scratch, element, matrix(p.head), classes, p.width);
    void* slope = scratch.bytes(divergence.most() * classes * size_of(element));
    std::fill_n(static_cast<char*>(p.dx), divergence.skipped() * p.width * size_of(element), static_cast<char>(0));
    bool more = p.head.add != 0;
    divergence.blocks([&](size_t r, int64_t each, int64_t first, int64_t rows, const float* known, const float* learnt) {
        divergence.compare(known, learnt, nullptr, slope, rows,
                           static_cast<double>(p.dlosses[r]) * p.temperature / static_cast<double>(each));
        const Matrix slopes = rows_of(slope, element, classes);
        run(element, {head.term(slopes, classes)}, rows, p.width, {at(p.dx, element, first * p.width), element, p.width});
        if (p.head.gradient == nullptr) return;
        Target to = gradient_of(p.head);
        to.accumulate = more;
        multiply(element, {{turned(slopes), classes, to}}, from(rows_of(p.x, element, p.width), first), rows, p.width);
        more = true;
    });
    clear_rest(p.head, classes, p.width);
}

}  // namespace mf::kernels
