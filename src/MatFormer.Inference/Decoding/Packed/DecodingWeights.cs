namespace MatFormer;

/// <summary>How a decoder keeps a model's weights. It computes in float32 whichever it is.</summary>
public enum DecodingWeights
{
    /// <summary>As they were trained; keys and values too.</summary>
    Float32,

    /// <summary>Rounded to bfloat16, half as much to read for each token; keys and values too.</summary>
    BFloat16,

    /// <summary>
    /// Matrices rounded to 8 bits, each row by a scale of its own (the largest magnitude in it becomes 127), a quarter to read; keys and
    /// values in bfloat16. Costs some accuracy: <c>eval</c> measures it.
    /// </summary>
    Int8,
}
