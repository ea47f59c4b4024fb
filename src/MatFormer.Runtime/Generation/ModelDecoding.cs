using TorchSharp;

namespace MatFormer;

/// <summary>Decoding with a model in memory.</summary>
public static unsafe class ModelDecoding
{
    internal static DecodingWeights WeightsOf(torch.ScalarType computeType) =>
        computeType == torch.ScalarType.BFloat16 ? DecodingWeights.BFloat16 : DecodingWeights.Float32;

    extension(DecodingOptions)
    {
        /// <summary>
        /// Those of a model that is to be decoded in the dtype in which it computes: <see cref="MatFormerModel.ComputeType"/>.
        /// </summary>
        public static DecodingOptions For(MatFormerModel model)
        {
            ArgumentNullException.ThrowIfNull(model);
            return new DecodingOptions { Weights = WeightsOf(model.ComputeType) };
        }
    }

    extension(DecodingEngine)
    {
        /// <summary>Whether a model can be decoded this way: it is generated, and on the CPU.</summary>
        public static bool Supports(MatFormerModel model)
        {
            ArgumentNullException.ThrowIfNull(model);
            return model.Device.type == DeviceType.CPU && model.IsDecodable;
        }

        /// <summary>Packs the weights that a universal model, a view or a slice has now; later changes of them are not seen.</summary>
        /// <exception cref="NotSupportedException">The model is on another device than the CPU, or not a generated one.</exception>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        public static DecodingEngine Create(MatFormerModel model, DecodingOptions? options = null)
        {
            if (!Supports(model))
            {
                var why = model.IsDecodable ? $"on {model.Device}; a decoder computes on the CPU" : "not a generated model";
                throw new NotSupportedException($"{model.Architecture.Name} is {why}.");
            }

            return DecodingEngine.Pack(
                model.Architecture, new ModelWeights(model), model.Pack, options ?? new DecodingOptions(), model.ProfileName,
                model.TokenizerFingerprint);
        }

        /// <summary>
        /// Rounds a model's matrices in place to what an engine would keep of them, so that evaluation shows what that costs. (An engine of a
        /// slice has scales of its own for the rows of which it keeps less: it loses no more.)
        /// </summary>
        public static void RoundWeights(MatFormerModel model, DecodingWeights weights)
        {
            ArgumentNullException.ThrowIfNull(model);
            using var scope = torch.NewDisposeScope();
            using var unrecorded = torch.no_grad();
            var source = new ModelWeights(model);
            foreach (var (name, parameter) in model.named_parameters())
            {
                // As generated code packs them: positions are a table, which is added and stays as it is.
                if (parameter.dim() != 2 || name.EndsWith("embed_positions.weight", StringComparison.Ordinal)) continue;
                var (rows, columns) = ((int)parameter.shape[0], (int)parameter.shape[1]);
                using var row = new PackedMatrix(1, columns, weights, hasBias: false);
                var rounded = new float[columns];
                source.Read(name, rows, columns, (index, values) =>
                {
                    row.SetRow(0, values);
                    fixed (float* target = rounded) row.CopyRow(0, target);
                    using var whole = torch.tensor(rounded);
                    using var kept = parameter.select(0, index);
                    kept.copy_(whole);
                });
            }
        }
    }
}
