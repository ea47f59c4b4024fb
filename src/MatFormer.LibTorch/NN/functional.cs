using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

public static partial class torch
{
    public static partial class nn
    {
        /// <summary>What a loss does with its elements.</summary>
        public enum Reduction : long
        {
            None = 0,
            Mean = 1,
            Sum = 2,
        }

        /// <summary>libtorch's neural network functions.</summary>
        public static class functional
        {
            /// <summary>input (..., in) times weights (out, in) transposed, plus bias (out).</summary>
            public static Tensor linear(Tensor input, Tensor weights, Tensor? bias = null) =>
                Tensor.Take(mf_linear(Tensor.H(input), Tensor.H(weights), Tensor.OptionalHandle(bias)), input, weights, bias);

            public static Tensor silu(Tensor x, bool inplace = false) => inplace ? x.silu_().alias() : x.silu();

            public static Tensor gelu(Tensor x) => x.gelu();

            public static Tensor gelu(Tensor x, Modules.GELU.Approximate approximate, bool inplace = false)
            {
                var result = x.gelu(approximate);
                if (!inplace)
                {
                    return result;
                }

                using (result)
                {
                    return x.copy_(result).alias();
                }
            }

            public static Tensor relu(Tensor x, bool inplace = false) => inplace ? x.relu_().alias() : x.relu();

            public static Tensor tanh(Tensor x, bool inplace = false) => inplace ? x.tanh_().alias() : x.tanh();

            public static Tensor sigmoid(Tensor x) => x.sigmoid();

            public static Tensor softmax(Tensor input, long dim, ScalarType? dtype = null) => input.softmax(dim, dtype);

            public static Tensor log_softmax(Tensor x, long dim) => x.log_softmax(dim);

            public static unsafe Tensor layer_norm(Tensor input, long[] normalized_shape, Tensor? weight = null, Tensor? bias = null,
                double eps = 1E-05)
            {
                fixed (long* shape = normalized_shape)
                {
                    return Tensor.Take(
                        mf_layer_norm(Tensor.H(input), shape, normalized_shape.Length, Tensor.OptionalHandle(weight),
                            Tensor.OptionalHandle(bias), eps),
                        input, weight, bias);
                }
            }

            /// <summary>softmax(query key^T / sqrt(E) + attn_mask) value, over (..., length, E); is_casual masks later positions.</summary>
            public static Tensor scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask = null,
                double p = 0, bool is_casual = false)
            {
                if (attn_mask is not null && is_casual)
                {
                    throw new ArgumentException("Give attn_mask or is_casual, not both.", nameof(attn_mask));
                }

                var made = mf_scaled_dot_product_attention(Tensor.H(query), Tensor.H(key), Tensor.H(value),
                    Tensor.OptionalHandle(attn_mask), p, is_casual ? 1 : 0);
                GC.KeepAlive(attn_mask);
                return Tensor.Take(made, query, key, value);
            }

            public static Tensor dropout(Tensor input, double p = 0.5, bool training = true, bool inplace = false)
            {
                if (!inplace)
                {
                    return Tensor.Take(mf_dropout(Tensor.H(input), p, training ? 1 : 0), input);
                }

                MatFormer.Torch.Native.Check(mf_dropout_(Tensor.H(input), p, training ? 1 : 0));
                return input.alias();
            }

            /// <summary>input: logits (N, C) or (N, C, d1, ...); target: class indices (N) or (N, d1, ...), int64.</summary>
            public static Tensor cross_entropy(Tensor input, Tensor target, Tensor? weight = null, long ignore_index = -100,
                Reduction reduction = Reduction.Mean, double label_smoothing = 0) =>
                Tensor.Take(
                    mf_cross_entropy(Tensor.H(input), Tensor.H(target), Tensor.OptionalHandle(weight), (long)reduction, ignore_index,
                        label_smoothing),
                    input, target, weight);

            public static Tensor mse_loss(Tensor input, Tensor target, Reduction reduction = Reduction.Mean) =>
                Tensor.Take(mf_mse_loss(Tensor.H(input), Tensor.H(target), (long)reduction), input, target);

            /// <summary>target (log target - input), input being logarithms; log_target: so is the target.</summary>
            public static Tensor kl_div(Tensor input, Tensor target, bool log_target = true, Reduction reduction = Reduction.Mean) =>
                Tensor.Take(mf_kl_div(Tensor.H(input), Tensor.H(target), (long)reduction, log_target ? 1 : 0), input, target);

            public static Tensor one_hot(Tensor x, long num_classes = -1) => Tensor.Take(mf_one_hot(Tensor.H(x), num_classes), x);
        }

        /// <summary>Initialization in place, without recording gradients.</summary>
        public static class init
        {
            public static Tensor zeros_(Tensor tensor) => constant_(tensor, 0);

            public static Tensor ones_(Tensor tensor) => constant_(tensor, 1);

            public static Tensor constant_(Tensor tensor, Scalar val)
            {
                using var noGrad = no_grad();
                return tensor.fill_(val);
            }

            public static Tensor normal_(Tensor tensor, double mean = 0, double std = 1, Generator? generator = null)
            {
                using var noGrad = no_grad();
                return tensor.normal_(mean, std, generator);
            }

            public static Tensor uniform_(Tensor tensor, double low = 0, double high = 1, Generator? generator = null)
            {
                using var noGrad = no_grad();
                return tensor.uniform_(low, high, generator);
            }
        }

        public static class utils
        {
            /// <summary>Scales the gradients so that their total norm is at most <paramref name="max_norm"/>.</summary>
            /// <returns>The total norm before.</returns>
            public static double clip_grad_norm_(IEnumerable<Modules.Parameter> tensors, double max_norm, double norm_type = 2)
            {
                using var scope = NewDisposeScope();
                using var noGrad = no_grad();
                var grads = tensors.Select(static p => p.grad).OfType<Tensor>().ToArray();
                if (grads.Length == 0)
                {
                    return 0;
                }

                // One reading of a device value, not one per parameter.
                var total = double.IsPositiveInfinity(norm_type)
                    ? stack(grads.Select(static g => g.abs().max().to(float32))).max().ToDouble()
                    : stack(grads.Select(g => g.norm((float)norm_type).to(float32))).norm((float)norm_type).ToDouble();
                var factor = max_norm / (total + 1e-6);
                if (factor < 1)
                {
                    foreach (var grad in grads)
                    {
                        grad.mul_(factor);
                    }
                }

                return total;
            }
        }
    }
}
