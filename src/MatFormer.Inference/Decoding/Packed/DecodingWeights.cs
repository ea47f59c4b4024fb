namespace MatFormer;

/// <summary>The format in which a decoder keeps a model's weights.</summary>
public enum DecodingWeights
{
    /// <summary>Weights, keys and values in float32, without rounding.</summary>
    Float32,

    /// <summary>Weights, keys and values rounded to bfloat16. Each token reads half as many bytes. Arithmetic is in float32.</summary>
    BFloat16,

    /// <summary>
    /// Matrices rounded to 8 bits, with one scale for each row (the largest magnitude of the row becomes 127). Keys and values are in
    /// bfloat16. Each token reads a quarter of the bytes. This costs some accuracy, which <c>eval</c> measures. Arithmetic is in float32.
    /// </summary>
    Int8,

    /// <summary>
    /// Matrices rounded to 8 bits in groups of 32 columns, each with a scale, so that their upper 4 and 2 bits are weights too (as in
    /// MatQuant, arXiv 2502.06786): sequences of one engine may run in 8, 4 or 2 bits. Products round their inputs to 8 bits and sum
    /// integers. Keys and values are in bfloat16. Each token reads 8.5 bits a weight.
    /// </summary>
    Nested8,

    /// <summary>The upper 4 bits of <see cref="Nested8"/>. Each token reads 4.5 bits a weight.</summary>
    Nested4,

    /// <summary>
    /// The upper 2 bits of <see cref="Nested8"/>. Each token reads 2.5 bits a weight. Only models that were trained for it are of use.
    /// </summary>
    Nested2,
}

/// <summary>What the formats of weights have in common.</summary>
internal static class DecodingWeightsExtensions
{
    extension(DecodingWeights weights)
    {
        /// <summary>The names of all formats on the command line.</summary>
        public static string[] ShortNames => [.. Enum.GetValues<DecodingWeights>().Select(weights => weights.ShortName)];

        /// <summary>The names of nested weights on the command line, from the most bits to the fewest.</summary>
        public static string[] NestedNames =>
            [.. Enum.GetValues<DecodingWeights>().Where(weights => weights.NestedBits > 0).Select(weights => weights.ShortName)];

        /// <summary>Returns the format of a name on the command line.</summary>
        public static DecodingWeights OfName(string name) => Enum.GetValues<DecodingWeights>().Single(weights => weights.ShortName == name);

        /// <summary>Returns the nested weights of 8, 4 or 2 bits.</summary>
        public static DecodingWeights OfBits(int bits) =>
            bits switch { 8 => DecodingWeights.Nested8, 4 => DecodingWeights.Nested4, _ => DecodingWeights.Nested2 };

        /// <summary>The bits of nested weights: 8, 4 or 2; 0 for the other formats.</summary>
        public int NestedBits => weights switch
        {
            DecodingWeights.Nested8 => 8,
            DecodingWeights.Nested4 => 4,
            DecodingWeights.Nested2 => 2,
            _ => 0,
        };

        /// <summary>The name on the command line.</summary>
        public string ShortName => weights switch
        {
            DecodingWeights.Float32 => "f32",
            DecodingWeights.BFloat16 => "bf16",
            _ => weights.ToString().ToLowerInvariant(),
        };

        /// <summary>Returns true if weights of this format contain those of another: the same, or nested weights of fewer bits.</summary>
        public bool Hold(DecodingWeights others) => weights == others || (others.NestedBits > 0 && others.NestedBits < weights.NestedBits);
    }
}
