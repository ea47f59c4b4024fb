namespace MatFormer;

/// <summary>The format in which a decoder keeps a model's weights. Arithmetic is in float32 in every case.</summary>
public enum DecodingWeights
{
    /// <summary>Weights, keys and values in float32, without rounding.</summary>
    Float32,

    /// <summary>Weights, keys and values rounded to bfloat16. Each token reads half as many bytes.</summary>
    BFloat16,

    /// <summary>
    /// Matrices rounded to 8 bits, with one scale for each row (the largest magnitude of the row becomes 127). Keys and values are in
    /// bfloat16. Each token reads a quarter of the bytes. This costs some accuracy, which <c>eval</c> measures.
    /// </summary>
    Int8,
}
