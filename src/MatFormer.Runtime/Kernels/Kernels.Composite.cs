using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

public static partial class Kernels
{
    /// <summary>
    /// Operations composed of TorchSharp's, for any device. A half of a layer has two forms. On the CPU, memory and its page faults
    /// dominate the cost, so streams run one after the other, with a handwritten backward pass that keeps little. On other devices the
    /// number of calls dominates the cost, so all streams run at once, with libtorch's own gradients.
    /// </summary>
    internal static partial class Composite
    {
        /// <summary>Whether all streams are computed at once; null lets the device decide. For tests and measurements.</summary>
        public static bool? Stacks { get; set; }

        /// <summary>The most numbers of a matrix of a block on the CPU. More leave its cache; fewer cost calls. Tests set fewer.</summary>
        public static long BlockNumbers { get; set; } = 1L << 21;

        /// <summary>The most queries of a block on the CPU. More compute scores in vain; fewer mean more calls. Tests set fewer.</summary>
        public static long BlockQueries { get; set; } = 128;

        public static Tensor Embedding(Tensor weight, Tensor tokens, ScalarType dtype, long width)
        {
            using var scope = NewDisposeScope();
            var rows = First(weight, width).index_select(0, tokens.flatten()); // (B*T, W)
            return rows.to(dtype).view(tokens.shape[0], tokens.shape[1], width).MoveToOuterDisposeScope();
        }

        public static Tensor AddPositions(Tensor x, Tensor weight, long position)
        {
            using var scope = NewDisposeScope();
            var rows = First(weight.narrow(0, position, x.shape[1]), x.shape[2]); // (T, W)
            return x.add(rows, One).to(x.dtype).MoveToOuterDisposeScope(); // the sum is float32, like the rows
        }

        public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
        {
            if (!IsStacked(x)) return PlainRmsNorm(x, weight, epsilon);
            using var scope = NewDisposeScope();
            return TorchScript.RmsNorm(x, First(weight, x.shape[^1]).to(x.dtype), epsilon).MoveToOuterDisposeScope();
        }

        public static Tensor PlainRmsNorm(Tensor x, Tensor weight, double epsilon)
        {
            using var scope = NewDisposeScope();
            var wide = x.to(ScalarType.Float32);
            return wide.mul(InverseRoot(wide, epsilon)).mul(First(weight, x.shape[^1])).to(x.dtype).MoveToOuterDisposeScope();
        }

        public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon)
        {
            using var scope = NewDisposeScope();
            var (wide, width) = (x.to(ScalarType.Float32), x.shape[^1]);
            var normal = nn.functional.layer_norm(wide, [width], First(weight, width), First(bias, width), epsilon);
            return normal.to(x.dtype).MoveToOuterDisposeScope();
        }

        public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null)
        {
            using var scope = NewDisposeScope();
            var cast = First(weight, x.shape[^1]).to(x.dtype);
            return nn.functional.linear(x, cast, bias?.to(x.dtype)).MoveToOuterDisposeScope();
        }

        public static Tensor Attend(
            Tensor x, AttentionWeights w, Tensor? cos, Tensor? sin, Tensor? lengths, int[] heads, int[] rows, KeyValueCache? cache = null,
            int layer = 0)
        {
            // A cache takes the tokens of all its sequences at once.
            if (cache is not null || IsStacked(x) || ProductInputs.AreWanted || !Cpu.CanDifferentiate(w.All))
                return AttendAtOnce(x, w, cos, sin, lengths, heads, rows, cache, layer);
            return new AttentionInBlocks(x, w, cos, sin, lengths, heads, rows).Run();
        }

        public static Tensor FeedForward(Tensor x, FeedForwardWeights w, int[] widths, int[]? rows)
        {
            if (IsStacked(x) || ProductInputs.AreWanted || !Cpu.CanDifferentiate(w.All))
                return FeedForwardAtOnce(x, w, widths, rows);
            return new FeedForwardInBlocks(x, w, widths, rows).Run();
        }

        public static Tensor HiddenImportance(Tensor x, FeedForwardWeights w)
        {
            using var scope = NewDisposeScope();
            var hidden = Hidden(w.Norm.Apply(x), w, (int)w.Up.shape[0]); // (B, T, hidden)
            var mean = hidden.to(ScalarType.Float32).abs().mean([0, 1]); // (hidden)
            return mean.mul(Square(w.Down).sum([0L]).sqrt()).MoveToOuterDisposeScope();
        }

        public static Tensor LinearCrossEntropy(Tensor x, Tensor head, Tensor targets, int[] rows, bool isShared)
        {
            if (IsStacked(x) && x.shape[0] * x.shape[1] * head.shape[0] <= SmallMatrix)
                return CrossEntropyAtOnce(x, head, targets, rows, isShared);
            using var ids = targets.flatten();
            return new LossInBlocks(x, head, rows, 0) { Targets = ids, IsShared = isShared }.Run();
        }

        public static Tensor LinearDivergence(
            Tensor x, Tensor teacher, Tensor head, int[] rows, bool isShared, int student, double temperature)
        {
            using var taught = teacher.contiguous().detach();
            return new LossInBlocks(x, head, rows, student) { Teacher = taught, IsShared = isShared, Temperature = temperature }.Run();
        }

        public static void AdamW(
            Tensor parameters, Tensor gradients, Tensor firstMoments, Tensor secondMoments, double decay, double learningRate, double beta1,
            double beta2, double epsilon, long step)
        {
            using var unrecorded = no_grad();
            using var scope = NewDisposeScope();
            var count = full([], Number(step), ScalarType.Float32, parameters.device);
            if (TorchScript.TryAdamW(
                    parameters, gradients, firstMoments, secondMoments, count, learningRate, beta1, beta2, decay, epsilon))
                return;
            double correction1 = 1 - Math.Pow(beta1, step), correction2 = Math.Sqrt(1 - Math.Pow(beta2, step));
            parameters.mul_(Number(1 - (learningRate * decay)));
            firstMoments.mul_(Number(beta1)).add_(gradients, Number(1 - beta1));
            secondMoments.mul_(Number(beta2)).addcmul_(gradients, gradients, Number(1 - beta2));
            var denominator = secondMoments.sqrt().div_(Number(correction2)).add_(Number(epsilon), One);
            parameters.addcdiv_(firstMoments, denominator, Number(-learningRate / correction1));
        }

        public static double ClipGradientNorm(Tensor gradients, double max)
        {
            using var unrecorded = no_grad();
            using var length = gradients.norm();
            double norm = length.item<float>(), coefficient = max / (norm + 1e-6);
            if (double.IsFinite(norm) && coefficient < 1) gradients.mul_(Number(coefficient));
            return norm;
        }

        /// <summary>Applies a norm. It works with and without autograd.</summary>
        public static Tensor Norm(Tensor x, NormWeights norm) =>
            norm.Bias is null ? RmsNorm(x, norm.Weight, norm.Epsilon) : LayerNorm(x, norm.Weight, norm.Bias, norm.Epsilon);

        /// <summary>
        /// The backward pass of a norm over x (N, W), given the gradient (N, W) of the norm's output. Returns the gradient of x, float32,
        /// and adds the gradients of the norm's weights to their <c>grad</c>.
        /// </summary>
        public static Tensor NormBackward(Tensor x, NormWeights norm, Tensor gradient)
        {
            using var scope = NewDisposeScope();
            if (norm.Bias is not null)
            {
                // LayerNorm is rare, so libtorch's own gradient is good enough.
                var leaf = x.to(ScalarType.Float32, copy: true).requires_grad_();
                using (enable_grad())
                {
                    var normal = LayerNorm(leaf, norm.Weight, norm.Bias, norm.Epsilon);
                    autograd.backward([normal], [gradient.to(ScalarType.Float32)]);
                }

                return leaf.grad!.MoveToOuterDisposeScope();
            }

            var (wide, outer) = (x.to(ScalarType.Float32), gradient.to(ScalarType.Float32));
            var scale = InverseRoot(wide, norm.Epsilon);
            var unit = wide.mul(scale);
            var product = outer.mul(unit);
            WeightGradients.AddRows(norm.Weight, product);
            var weight = First(norm.Weight, x.shape[^1]);
            var mean = product.mul_(weight).mean([-1], keepdim: true);
            return outer.mul(weight).sub_(unit.mul_(mean)).mul_(scale).MoveToOuterDisposeScope();
        }

        // 1 / sqrt(mean of the squares + epsilon) over the last dimension: (..., W) to (..., 1).
        private static Tensor InverseRoot(Tensor wide, double epsilon) =>
            Square(wide).mean([-1], keepdim: true).add_(Number(epsilon), One).rsqrt_();

        /// <summary>
        /// Returns the first numbers of each row of a weight: the weight itself if it has no more, else a tensor of the caller's scope.
        /// </summary>
        public static Tensor First(Tensor weight, long width)
        {
            var last = weight.dim() - 1;
            return weight.shape[last] == width ? weight : weight.narrow(last, 0, width);
        }

        private static bool IsStacked(Tensor x) => Stacks ?? x.device_type != DeviceType.CPU;
    }
}
