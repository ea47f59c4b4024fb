using TorchSharp;

namespace MatFormer;

/// <summary>Creates decoding engines for models in memory.</summary>
public static unsafe class ModelDecoding
{
    internal static DecodingWeights WeightsOf(torch.ScalarType computeType) =>
        computeType == torch.ScalarType.BFloat16 ? DecodingWeights.BFloat16 : DecodingWeights.Float32;

    /// <summary>
    /// True for a weight that has fewer bits in an engine or file of fewer bits: a matrix, but not of a router, which is small, nor a table
    /// of positions, which is added.
    /// </summary>
    internal static bool IsRounded(string name, torch.Tensor weight) =>
        weight.dim() == 2 && !name.EndsWith("embed_positions.weight", StringComparison.Ordinal) && !CheckpointHeader.IsOfRouter(name);

    extension(DecodingOptions)
    {
        /// <summary>
        /// Returns options that decode a model in the dtype in which it computes: <see cref="MatFormerModel.ComputeType"/>.
        /// </summary>
        public static DecodingOptions For(MatFormerModel model)
        {
            ArgumentNullException.ThrowIfNull(model);
            return new DecodingOptions { Weights = WeightsOf(model.ComputeType) };
        }
    }

    extension(DecodingEngine)
    {
        /// <summary>Returns whether a model can be decoded by an engine: it must be generated and on the CPU.</summary>
        public static bool Supports(MatFormerModel model)
        {
            ArgumentNullException.ThrowIfNull(model);
            return model.Device.type == DeviceType.CPU && model.IsDecodable;
        }

        /// <summary>
        /// Creates an engine from the current weights of a universal model, a view or a slice. It does not see later changes.
        /// </summary>
        /// <exception cref="NotSupportedException">The model is not on the CPU, or is not a generated model.</exception>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        public static DecodingEngine Create(MatFormerModel model, DecodingOptions? options = null)
        {
            if (!Supports(model))
            {
                var why = model.IsDecodable ? $"on {model.Device}; a decoding engine runs only on the CPU" : "not a generated model";
                throw new NotSupportedException($"{model.Architecture.Name} is {why}.");
            }

            return DecodingEngine.Pack(
                model.Architecture, new ModelWeights(model), model.Pack, options ?? new DecodingOptions(), model.ProfileName,
                model.TokenizerFingerprint);
        }

        /// <summary>
        /// Rounds a model's matrices in place to the precision that an engine keeps, so that evaluation shows the loss of quality. (An
        /// engine of a slice computes its scales from the kept part of each row, so it loses no more.)
        /// </summary>
        public static void RoundWeights(MatFormerModel model, DecodingWeights weights)
        {
            ArgumentNullException.ThrowIfNull(model);
            using var scope = torch.NewDisposeScope();
            using var unrecorded = torch.no_grad();
            var source = new ModelWeights(model);
            foreach (var (name, parameter) in model.named_parameters())
            {
                if (!IsRounded(name, parameter)) continue;
                var (rows, columns) = ((int)parameter.shape[0], (int)parameter.shape[1]);
                using var row = new PackedMatrix(1, columns, weights, hasBias: false);
                var rounded = new float[columns];
                source.Read(name, rows, columns, (index, values) =>
                {
                    row.SetRow(0, values);
                    fixed (float* target = rounded) row.CopyRow(0, target, weights);
                    using var whole = torch.tensor(rounded);
                    using var kept = parameter.select(0, index);
                    kept.copy_(whole);
                });
            }
        }
    }
}
